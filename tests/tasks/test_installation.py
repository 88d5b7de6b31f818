"""What tells two Airflow installations apart, on a database of their own and several workers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.tasks.installation import installation

if TYPE_CHECKING:
    from pathlib import Path

# The task says which installation it is in.
DAG_FILE = """
from airflow.providers.common.compat.sdk import DAG, task
from airflow_gemini_batch.tasks.installation import installation
for name in ("one", "two"):
    with DAG(name, schedule=None):
        @task
        def say():
            print("installation:", installation())
        say()
"""


_DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"


@pytest.fixture(autouse=True)
def not_configured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AIRFLOW__GEMINI_BATCH__INSTALLATION")


def home(path: Path, dags: Path) -> dict[str, str]:
    """An Airflow with a database of its own; configuration and keys are the same everywhere."""
    return {
        **os.environ,
        "AIRFLOW_HOME": str(path),
        "AIRFLOW__CORE__FERNET_KEY": "",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        _DATABASE: f"sqlite:///{path}/airflow.db",
    }


def run(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, env=environment, text=True, stdout=pipe, stderr=subprocess.STDOUT)


def finish(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        output, _ = process.communicate(timeout=300)
        assert not process.returncode, output


def begin(environment: dict[str, str], *arguments: str) -> subprocess.Popen[str]:
    """Run a command of ``airflow`` on a database that it makes first; it takes seconds to import Airflow."""
    code = "from airflow.utils.db import initdb; initdb(); from airflow.__main__ import main; main()"
    return run(environment, "-c", code, *arguments)


def work(environment: dict[str, str], dag_id: str) -> subprocess.Popen[str]:
    """Run a DAG as a worker process does."""
    return run(environment, "-m", "airflow", "dags", "test", dag_id)


def said(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=300)
    found = re.search(r"installation: ([0-9a-f]{24,32})\b", output)
    assert found, output
    return found[1]


@pytest.mark.variant
def test_workers_of_one_airflow_agree_and_another_airflow_differs(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "say.py").write_text(DAG_FILE)
    prod, dev = (home(tmp_path / name, dags) for name in ("prod", "dev"))
    # Otherwise both workers would add the same DAGs to the database.
    finish(begin(prod, "dags", "reserialize"))
    # Each worker has a home of its own, as on several hosts. Both need the variable for the first time.
    on_hosts = [{**home(tmp_path / name, dags), _DATABASE: prod[_DATABASE]} for name in ("host1", "host2")]
    workers = [work(host, dag_id) for host, dag_id in zip(on_hosts, ("one", "two"), strict=True)]
    first, second = [said(worker) for worker in workers]
    assert first == second
    assert said(work(prod, "one")) == first
    other = said(begin(dev, "dags", "test", "one"))
    assert len(first) == len(other) == 32
    assert other != first


def test_the_option_takes_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__GEMINI_BATCH__INSTALLATION", " prod ")
    assert installation() == "prod"


def test_outside_airflow_the_configuration_decides(tmp_path: Path) -> None:
    module = "airflow_gemini_batch.tasks.installation"
    code = f"from {module} import installation; print('installation:', installation())"
    values = [said(run(home(tmp_path / name, tmp_path), "-c", code)) for name in ("a", "a", "b")]
    assert values[0] == values[1] != values[2]

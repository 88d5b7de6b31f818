from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.local_stack import watchdog
from airflow_gemini_batch.local_stack.service import Service, StackError
from airflow_gemini_batch.local_stack.stack import LocalStack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from google.cloud import bigquery, storage

NOBODY = "http://127.0.0.1:1"


def eventually(condition: Callable[[], bool], seconds: float = 15) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_an_object_loads_into_a_table(
    bucket: str, dataset: str, storage_client: storage.Client, bigquery_client: bigquery.Client
) -> None:
    from google.cloud.bigquery import LoadJobConfig, SchemaField

    storage_client.bucket(bucket).blob("a/rows.jsonl").upload_from_string('{"n": 1}\n{"n": 2}\n')
    config = LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", schema=[SchemaField("n", "INT64")])
    load = bigquery_client.load_table_from_uri(f"gs://{bucket}/a/*.jsonl", f"{dataset}.t", job_config=config)
    load.result()
    assert sorted(row.n for row in bigquery_client.list_rows(f"{dataset}.t")) == [1, 2]


def test_one_of_several_jobs_with_the_same_id_is_accepted(bigquery_client: bigquery.Client) -> None:
    from google.api_core.exceptions import Conflict

    def send(job_id: str) -> str:
        try:
            bigquery_client.query("SELECT 1", job_id=job_id, job_retry=None)
        except Conflict:
            return "409"
        return "taken"

    with ThreadPoolExecutor(8) as pool:
        for number in range(5):
            answers = sorted(pool.map(send, [f"twice-{number}-{uuid.uuid4().hex}"] * 8))
            assert answers == ["409"] * 7 + ["taken"]


def test_a_service_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the parent also ends its servers and their child processes."""
    script = textwrap.dedent(
        """
        import os, sys, time
        from pathlib import Path
        from airflow_gemini_batch.local_stack.service import Service
        child = "import subprocess as s, sys; p = s.Popen(['sleep', '600'], start_new_session=NEW); "
        child = child.replace("NEW", str(sys.platform == "linux"))  # where orphans can be adopted
        command = [sys.executable, "-uc", child + "print('up http://127.0.0.1:1', p.pid); p.wait()"]
        service = Service("sleeper", command, Path(sys.argv[1]))
        service.start()
        service.wait_for("up")
        print("ready", flush=True)
        time.sleep(600)
        """
    )
    log = tmp_path / "log"
    parent = subprocess.Popen([sys.executable, "-c", script, str(log)], stdout=subprocess.PIPE)
    with parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ready\n"
        grandchild = int(log.read_text().split()[-1])
        assert is_alive(grandchild)
        parent.send_signal(signal.SIGKILL)
    assert eventually(lambda: not is_alive(grandchild))


def test_a_service_that_ignores_sigterm_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = watchdog.__file__
    impatient = tmp_path / "watchdog.py"
    with open(source) as original:
        impatient.write_text(original.read().replace("GRACE_SECONDS = 8.0", "GRACE_SECONDS = 0.2"))
    monkeypatch.setattr(watchdog, "__file__", str(impatient))
    stubborn = "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    tell = "print('up http://127.0.0.1:1', os.getpid(), flush=True); time.sleep(600)"
    service = Service("stubborn", [sys.executable, "-c", f"{stubborn}; {tell}"], tmp_path / "log")
    service.start()
    service.wait_for("up")
    pid = int((tmp_path / "log").read_text().split()[-1])
    service.stop()
    assert not is_alive(pid)


def test_a_failed_start_reports_the_output(tmp_path: Path) -> None:
    service = Service("Broken", [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path / "log")
    service.start()
    with pytest.raises(StackError, match=r"(?s)Broken ended while it was starting.*no such thing"):
        service.wait_for("up")
    service.stop()


def test_the_exit_code_of_a_service_that_ends_at_once_is_not_lost(tmp_path: Path) -> None:
    codes = list(range(30))
    services = [Service("Brief", ["/bin/sh", "-c", f"exit {code}"], tmp_path / f"{code}") for code in codes]
    for service in services:
        service.start()
    assert [service.wait() for service in services] == codes


def test_a_missing_bigquery_python_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINI_BATCH_BIGQUERY_PYTHON", str(tmp_path / "nowhere"))
    with pytest.raises(StackError, match=r"GEMINI_BATCH_BIGQUERY_PYTHON=.*nowhere does not exist"):
        LocalStack(tmp_path / "stack", vertex_url=NOBODY).start()


def test_a_part_that_cannot_start_stops_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "python"
    broken.write_text('#!/bin/sh\n[ "$1" = -c ] && echo True && exit\necho no DuckDB here\nexit 3\n')
    broken.chmod(0o755)
    monkeypatch.setenv("GEMINI_BATCH_BIGQUERY_PYTHON", str(broken))
    started: list[Service] = []
    start = Service.start
    monkeypatch.setattr(Service, "start", lambda self: (started.append(self), start(self))[1])
    with pytest.raises(StackError, match="no DuckDB here"):
        LocalStack(tmp_path / "stack", vertex_url=NOBODY).start()
    assert [service.name for service in started] == ["Cloud Storage", "BigQuery"]
    assert not any(service.is_running for service in started)


def test_google_auth_still_has_the_lookup_that_the_stack_turns_off() -> None:
    import google.auth
    from google.auth import credentials

    boundary = getattr(credentials, "CredentialsWithRegionalAccessBoundary", None)
    assert boundary is None or hasattr(boundary, "_is_regional_access_boundary_lookup_required"), (
        f"google-auth {google.auth.__version__} no longer has the method that stay_on_loopback() replaces: "
        "find out how it decides now whether to look up a regional access boundary at a Google host."
    )

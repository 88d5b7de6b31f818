"""``gemini-batch jobs`` and ``gemini-batch cancel``."""

from __future__ import annotations

import json
import re
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.jobs.identity import (
    DAG_LABEL,
    ESTIMATE_LABEL,
    INSTALLATION_LABEL,
    RUN_LABEL,
    TASK_LABEL,
    label_value,
)
from airflow_gemini_batch.jobs.spec import job_spec
from tests.waits import replace_sleep

if TYPE_CHECKING:
    from pathlib import Path

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.conftest import RunningStack

SLOW = {"emulator-pace": "reads-100000"}


@pytest.fixture
def place(
    stack: RunningStack, vertex: Emulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> list[str]:
    """The arguments for the stack. The machine has no credentials."""
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "no-such-key.json"))
    return ["--project", stack.project]


def create(stack: RunningStack, dag: str, *, of: str = "tests", task: str = "submit", **labels: str) -> str:
    """Create a job as a task of a DAG does; it ends only when it is cancelled."""
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

    identity = {
        RUN_LABEL: "a" * 24,
        INSTALLATION_LABEL: label_value(of),
        DAG_LABEL: label_value(dag),
        TASK_LABEL: label_value(task),
    }
    spec = job_spec(
        project=stack.project,
        location="global",
        model="gemini-3.5-flash",
        input_uri="gs://no-such-bucket/in.jsonl",
        output_uri="gs://no-such-bucket/out",
        display_name=f"{dag}.{task}",
    )
    return str(GeminiBatchHook().create_job(replace(spec, labels={**identity, **SLOW, **labels})).name)


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[dict[str, Any]]:
    # Airflow 2 logs there when a test makes a job.
    capsys.readouterr()
    assert main(["jobs", *arguments, "--json"]) == 0
    found: list[dict[str, Any]] = json.loads(capsys.readouterr().out)["jobs"]
    return found


def test_jobs_on_a_terminal(
    place: list[str], stack: RunningStack, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", *place]) == 0
    assert capsys.readouterr().out == f"{stack.project} · global · no jobs\n"
    name = create(stack, "Etl.V2", **{ESTIMATE_LABEL: "40000000-55000000"})
    assert main(["jobs", *place]) == 0
    out = capsys.readouterr().out
    assert "1 queued" in out
    assert "$40.00 to $55.00, estimated" in out
    assert "  for " in out
    assert "Etl.V2.submit" in out
    assert name.rpartition("/")[2] in out


def test_filters(place: list[str], stack: RunningStack, capsys: pytest.CaptureFixture[str]) -> None:
    one = create(stack, "Etl.V2")
    two = create(stack, "other", task="retry")
    theirs = create(stack, "Etl.V2", of="development")

    def names(*arguments: str) -> set[str]:
        return {row["job_name"] for row in listed(capsys, *place, *arguments)}

    assert names() == {one, two}
    assert names("--all-installations") == {one, two, theirs}
    assert names("--installation", "development") == {theirs}
    assert names("--dag", "Etl.V2") == {one}
    assert names("--task", "retry") == {two}
    assert names("--state", "active") == {one, two}
    assert names("--state", "FAILED") == set()
    assert listed(capsys, *place, "--dag", "Etl.V2")[0]["dag_id"] == "Etl.V2"


def test_watching_lists_again_and_asks_once_an_interval(
    place: list[str],
    stack: RunningStack,
    vertex: Emulator,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    create(stack, "etl")
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 3:
            raise KeyboardInterrupt

    replace_sleep(monkeypatch, sleep)
    capsys.readouterr()
    assert main(["jobs", *place, "--watch", "--json"]) == 130
    lines = capsys.readouterr().out.splitlines()
    assert [len(json.loads(line)["jobs"]) for line in lines] == [1, 1, 1]
    assert waits == [60.0] * 3
    lists = [each for each in vertex.requests if each.method == "GET"]
    assert len(lists) == 3


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--interval", "1"], "--interval=1.0: give 5 to 86400 seconds"),
        (["--interval", "nan"], "--interval=nan: give 5 to 86400 seconds"),
        (["--days", "0"], "--days=0.0: give a number of days, greater than 0 and up to 3650"),
        (["--gcp-conn-id", "nobody"], "found no credentials to list the jobs"),
    ],
)
def test_wrong_usage(
    place: list[str], arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["jobs", *place, *arguments]) == 2
    assert problem in capsys.readouterr().err


def test_an_unknown_installation_is_asked_for(
    place: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow_gemini_batch.tasks import installation

    monkeypatch.delenv("AIRFLOW__GEMINI_BATCH__INSTALLATION")
    monkeypatch.setattr(installation, "_has_database", lambda: False)
    assert main(["jobs", *place]) == 2
    assert "or give --all-installations" in capsys.readouterr().err


def test_cancelling(
    place: list[str], stack: RunningStack, vertex: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = create(stack, "etl"), create(stack, "etl")
    assert main(["cancel", one, two.rpartition("/")[2], *place, "--yes"]) == 0
    out = capsys.readouterr().out
    assert "Requested cancellation of 2 jobs." in out
    assert "etl.submit" in out
    assert {job["state"] for job in vertex.jobs} <= {"JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"}
    assert main(["cancel", one, *place, "--yes"]) == 0
    assert "Nothing to cancel" in capsys.readouterr().out


def test_a_job_that_does_not_exist_is_not_passed_over(
    place: list[str], stack: RunningStack, vertex: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may run in another place, and cost money."""
    one = create(stack, "etl")
    assert main(["cancel", one, "12", *place, "--yes"]) == 1
    printed = capsys.readouterr()
    assert re.search(r"There is no job projects/\S+/12\. Nothing was cancelled\.", printed.err)
    assert "does not exist" not in printed.out + printed.err
    assert not [each for each in vertex.requests if each.path.endswith(":cancel")]


def test_cancelling_asks(
    place: list[str], stack: RunningStack, vertex: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = create(stack, "etl")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, code in (("", 1), ("n", 1), ("Yes", 0)):
        monkeypatch.setattr("builtins.input", lambda _, answer=answer: answer)
        assert not [each for each in vertex.requests if each.path.endswith(":cancel")]
        assert main(["cancel", name, *place]) == code
    assert [each for each in vertex.requests if each.path.endswith(":cancel")]


def test_nobody_is_asked_without_a_terminal(place: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cancel", "12", *place]) == 2
    assert "nobody can be asked here; give --yes" in capsys.readouterr().err


def test_a_job_of_another_installation_is_not_cancelled(
    place: list[str], stack: RunningStack, vertex: Emulator, capsys: pytest.CaptureFixture[str]
) -> None:
    name = create(stack, "etl", of="development")
    assert main(["cancel", name, *place, "--yes"]) == 1
    error = capsys.readouterr().err
    assert "belongs to another Airflow installation. If you mean it, give --all-installations." in error
    assert not [each for each in vertex.requests if each.path.endswith(":cancel")]
    assert main(["cancel", name, *place, "--yes", "--all-installations"]) == 0


def test_a_local_stack_that_is_not_running(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", f"http://127.0.0.1:{port}/secret")
    assert main(["jobs", "--all-installations", "--project", "p"]) == 1
    error = capsys.readouterr().err
    assert f"cannot connect to 127.0.0.1:{port}. The local stack is not running there: start it with" in error
    assert "Pool" not in error
    assert "secret" not in error

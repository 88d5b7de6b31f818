"""The probe against the local stack: as assumed, and with each assumption broken on purpose."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.doctor.probe.assumptions import ASSUMPTIONS, BY_NAME
from airflow_gemini_batch.doctor.probe.steps import LABEL
from airflow_gemini_batch.emulator.access.cloud import with_all_roles
from airflow_gemini_batch.emulator.behaviour import Behaviour
from airflow_gemini_batch.emulator.faults.plan import FaultPlan, JobFault
from airflow_gemini_batch.emulator.running.job_clock import Pace
from airflow_gemini_batch.emulator.running.rows import Habits
from airflow_gemini_batch.emulator.server import Emulator
from airflow_gemini_batch.local_stack.stack import stay_on_loopback
from tests.waits import replace_sleep

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.local_stack.stack import StackAddresses

# By assumption: the emulator that breaks it, and what the probe must say that it saw.
BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "key_echo": ({"habits": Habits(passes_fields=False)}, "no"),
    "several_uris": ({"behaviour": Behaviour(reads_all_uris=False)}, "1"),
    "wildcard_star": ({"behaviour": Behaviour(star_crosses=True)}, "star/a.jsonl, star/deep/b.jsonl"),
    "wildcard_double_star": ({"behaviour": Behaviour(double_star_crosses=False)}, "star/a.jsonl"),
    "gzip": ({"behaviour": Behaviour(reads_gzip=True)}, "read"),
    "job_labels": ({"behaviour": Behaviour(keeps_labels=False)}, "no"),
    **{
        f"filter_{form}": ({"behaviour": Behaviour(refused_filters=(form,))}, "refused")
        for form in ("label", "label_exists", "state", "create_time", "display_name")
    },
    "filter_hyphen": ({"behaviour": Behaviour(filters_hyphens=True)}, "accepted, and finds the job"),
    "end_all_rows_failed": ({"behaviour": Behaviour(ends_all_failed=JobState.FAILED)}, "FAILED"),
    "end_cancelled": ({"behaviour": Behaviour(ends_cancelled=JobState.FAILED)}, "FAILED with code 1"),
    "end_bad_line": ({"behaviour": Behaviour(skips_bad_lines=True)}, "SUCCEEDED"),
    "table_columns": ({"behaviour": Behaviour(unites_columns=False)}, "FAILED with code 13"),
    "multi_region_table": ({"behaviour": Behaviour(reads_tables_inside=False)}, "no: FAILED with code 3"),
    "upper_case_location": ({"behaviour": Behaviour(takes_upper_case=True)}, "accepted"),
}
PACE = Pace(reads=2)


@pytest.fixture
def probe(
    servers: StackAddresses,
    bucket: str,
    regional: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., dict[str, dict[str, Any]]]:
    """Return a function that runs the probe against an emulator and returns the verdicts by name."""
    stay_on_loopback()
    file = tmp_path / "probe.json"

    def run(emulator: Emulator, *only: str, code: int | None = None) -> dict[str, dict[str, Any]]:
        with emulator:
            monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", emulator.url)
            monkeypatch.setenv("GEMINI_BATCH_APIS_URL", emulator.apis_url)
            some = ("--only", ",".join(only)) if only else ()
            found = main([*arguments(servers.project, bucket, regional), "--probe-file", str(file), *some])
            assert code in (None, found), capsys.readouterr().out
            run.jobs = emulator.jobs  # type: ignore[attr-defined]
        document = json.loads(file.read_text())
        return {each["name"]: each for each in document["assumptions"]}

    return run


def arguments(project: str, bucket: str, dataset: str) -> list[str]:
    return [
        *("doctor", "--project", project, "--location", "global", "--bucket", bucket),
        *("--dataset", dataset, "--model", "gemini-3.5-flash"),
        *("--probe", "--yes", "--poll-seconds", "0"),
    ]


def emulator(**settings: Any) -> Emulator:
    return Emulator(pace=PACE, cloud=with_all_roles("local-project"), **settings)


def test_every_assumption_has_a_broken_case() -> None:
    assert list(BROKEN) == [assumption.name for assumption in ASSUMPTIONS]


def test_each_field_of_the_behaviour_breaks_one() -> None:
    used = {
        name
        for settings, _ in BROKEN.values()
        for name, value in vars(settings.get("behaviour", Behaviour())).items()
        if value != vars(Behaviour())[name]
    }
    assert used == set(vars(Behaviour()))


def test_all_as_assumed(
    probe: Callable[..., dict[str, dict[str, Any]]],
    bucket: str,
    regional: str,
    storage_client: storage.Client,
    bigquery_client: bigquery.Client,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    found = probe(emulator(), code=0)
    assert {name: each["outcome"] for name, each in found.items()} == dict.fromkeys(BY_NAME, "agrees"), found
    assert all(each["saw"] == each["assumed"] for each in found.values())
    # Nothing is left, in any of the services.
    assert probe.jobs == ()  # type: ignore[attr-defined]
    assert list(storage_client.list_blobs(bucket)) == []
    assert list(bigquery_client.list_tables(regional)) == []
    out, err = capsys.readouterr()
    assert "Left behind" not in out + err
    assert "They cost $0." in err
    written = (tmp_path / "probe.json").read_text()
    for secret in ("emulator@", "local-project", bucket, regional.rpartition(".")[2], "Reply with"):
        assert secret not in written


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_assumption_is_noticed(
    name: str, probe: Callable[..., dict[str, dict[str, Any]]], capsys: pytest.CaptureFixture[str]
) -> None:
    settings, saw = BROKEN[name]
    found = probe(emulator(**settings), name, code=1)
    assert found == {name: {**found[name], "outcome": "differs", "saw": saw}}
    assert BY_NAME[name].if_not in capsys.readouterr().out


def refusal(
    probe_arguments: list[str], capsys: pytest.CaptureFixture[str], running: Emulator
) -> tuple[int, str]:
    """Return the exit code and why the probe did not start; it has created nothing."""
    code = main(probe_arguments)
    assert running.jobs == ()
    assert not [e for e in running.requests if (e.method, e.path[-19:]) == ("POST", "batchPredictionJobs")]
    return code, capsys.readouterr().err.splitlines()[-1]


@pytest.fixture
def emulators(servers: StackAddresses, monkeypatch: pytest.MonkeyPatch) -> Iterator[Emulator]:
    stay_on_loopback()
    with emulator() as started:
        monkeypatch.setenv("GOOGLE_VERTEX_BASE_URL", started.url)
        monkeypatch.setenv("GEMINI_BATCH_APIS_URL", started.apis_url)
        yield started


def test_nobody_is_there_to_be_asked(
    emulators: Emulator, bucket: str, regional: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [each for each in arguments("local-project", bucket, regional) if each != "--yes"]
    code, reason = refusal(words, capsys, emulators)
    assert code == 1
    assert reason == "gemini-batch doctor: The probe does not start: nobody can be asked here. Give --yes."


@pytest.mark.parametrize("answer", ["n", "", "maybe"])
def test_the_answer_is_no(
    answer: str,
    emulators: Emulator,
    bucket: str,
    regional: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    words = [each for each in arguments("local-project", bucket, regional) if each != "--yes"]
    assert refusal(words, capsys, emulators) == (1, "gemini-batch doctor: The probe does not start.")


def test_the_answer_is_yes(
    emulators: Emulator,
    bucket: str,
    regional: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("sys.stdin", Terminal("y\n"))
    words = [each for each in arguments("local-project", bucket, regional) if each != "--yes"]
    file = str(tmp_path / "probe.json")
    assert main([*words, "--only", "gzip", "--probe-file", file]) == 0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_model_whose_price_is_not_known(
    emulators: Emulator, bucket: str, regional: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [*arguments("local-project", bucket, regional), "--model", "gemini-9-flash"]
    code, reason = refusal(words, capsys, emulators)
    assert code == 1
    assert "the price of gemini-9-flash is not known. Give another --model." in reason


def test_a_bucket_that_does_not_exist(
    emulators: Emulator, regional: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, reason = refusal(arguments("local-project", "no-such-bucket", regional), capsys, emulators)
    assert code == 1
    assert reason == "gemini-batch doctor: The probe does not start: the bucket does not exist."


def test_ctrl_c_cancels_the_jobs(
    emulators: Emulator,
    bucket: str,
    regional: str,
    storage_client: storage.Client,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """At the first pause, when all jobs exist."""

    def interrupt(_seconds: float) -> None:
        raise KeyboardInterrupt

    replace_sleep(monkeypatch, interrupt)
    file = tmp_path / "probe.json"
    assert main([*arguments("local-project", bucket, regional), "--probe-file", str(file)]) == 130
    monkeypatch.undo()
    states = {job["state"] for job in emulators.jobs}
    assert emulators.jobs
    assert states <= {"JOB_STATE_CANCELLING", "JOB_STATE_CANCELLED"}, states
    assert list(storage_client.list_blobs(bucket)) == []
    # Jobs that have not ended yet cannot be deleted, so they are named.
    left = capsys.readouterr().err
    assert all(job["name"] in left for job in emulators.jobs)
    assert all(LABEL in job["labels"] for job in emulators.jobs)
    assert not file.exists()


def test_what_a_killed_probe_has_left_can_be_cancelled(
    emulators: Emulator, bucket: str, regional: str, storage_client: storage.Client, tmp_path: Path
) -> None:
    """The process is killed as soon as it has created jobs; its jobs are found by their label."""
    words = [*arguments("local-project", bucket, regional)[:-1], "1000"]
    command = [sys.executable, "-m", "airflow_gemini_batch.cli", *words]
    emulators.faults = FaultPlan(jobs=[JobFault(path=(JobState.PENDING,))])
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr
        next(line for line in process.stderr if line.startswith("Created "))
        process.kill()
    assert emulators.jobs
    assert main([*words, "--cancel-probes"]) == 0
    assert all(job["state"].startswith("JOB_STATE_CANCEL") for job in emulators.jobs)


def test_a_file_that_cannot_be_written_costs_nothing(
    emulators: Emulator, bucket: str, regional: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (tmp_path, tmp_path / "no folder" / "x.json"):
        words = [*arguments("local-project", bucket, regional), "--probe-file", str(file)]
        code, reason = refusal(words, capsys, emulators)
        assert code == 1
        assert f"{file} cannot be written: give --probe-file" in reason


def test_only_takes_known_names(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments("p", "my-bucket", "p.d"), "--only", "gzip,colour"]) == 2
    assert "--only='gzip,colour': give some of key_echo, " in capsys.readouterr().err


def test_one_json_document(
    emulators: Emulator, bucket: str, regional: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "probe.json"
    words = [*arguments("local-project", bucket, regional), "--only", "gzip", "--json"]
    assert main([*words, "--probe-file", str(file)]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["probe"] == json.loads(file.read_text())
    assert document["probe"]["version"] == 1

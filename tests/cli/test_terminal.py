"""What the command line prints on a terminal and elsewhere."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.batch_job import BatchJob, JobError, JobName, JobState
from airflow_gemini_batch.cli import report, up
from airflow_gemini_batch.cli.escaping import escaped_output
from airflow_gemini_batch.cli.main import _run, main
from airflow_gemini_batch.cli.terminal import Steps, Terminal
from airflow_gemini_batch.exceptions import ReportError
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.local_stack.progress import Step
from airflow_gemini_batch.local_stack.service import StackError
from airflow_gemini_batch.local_stack.standalone import Running
from airflow_gemini_batch.results.cost import Tokens
from airflow_gemini_batch.results.report.facts import ErrorKind, ReportFacts
from airflow_gemini_batch.results.row_status import RowStatus
from tests.cli.test_validate import GOOD

if TYPE_CHECKING:
    from pathlib import Path


class Screen(io.StringIO):
    """A file that is a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    return Screen()


def test_text_is_not_markup() -> None:
    output = io.StringIO()
    terminal = Terminal(output)
    text = "[bold]a[/bold] [/] :smile: [0]"
    terminal.line(text)
    terminal.paragraph(text)
    terminal.table(("[red]key", "[b]"), [(text, text)])
    with Steps(terminal, ["[step]"]) as steps:
        steps.update(Step("[step]", "done", text))
    assert output.getvalue().count(text) == 5
    assert "✓ [step]" in output.getvalue()
    assert "[red]key" in output.getvalue()


def test_elsewhere_each_step_is_one_line_when_it_ends() -> None:
    output = io.StringIO()
    with contextlib.suppress(KeyboardInterrupt), Steps(Terminal(output), ["a", "b", "c"]) as steps:
        steps.update(Step("a", "running", "first"))
        steps.update(Step("a", "running", "second"))
        steps.update(Step("a", "done", "third", seconds=61.25))
        steps.update(Step("b", "running", "x" * 300))
        raise KeyboardInterrupt
    first, second = output.getvalue().splitlines()
    assert first.split() == ["✓", "a", "third", "61.2", "s"]
    assert second.split()[:2] == ["✗", "b"]
    assert "…" in second
    assert len(second) <= 110


def test_a_terminal_shows_all_steps(screen: Screen) -> None:
    with Steps(Terminal(screen), ["a", "b"]) as steps:
        steps.update(Step("a", "done", "ready"))
    last = screen.getvalue().rpartition("ready")
    assert "✓" in last[0]
    assert "·" in last[2]


def test_no_color_is_respected(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    Terminal(screen).line(("red text", "red"))
    assert "\033[31m" in screen.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = Screen()
    Terminal(plain).line(("red text", "red"))
    assert plain.getvalue() == "red text\n"


HOSTILE = "\x1b]0;title\x07 \x1b[2J \x9b31m \u202eevil\u2066 \b\r \udcff \u2028"


def test_control_characters_are_escaped_everywhere() -> None:
    output = io.StringIO()
    terminal = Terminal(output)
    terminal.line(HOSTILE, (HOSTILE, "bold"))
    terminal.heading(HOSTILE)
    terminal.paragraph(HOSTILE)
    terminal.pairs([(HOSTILE, HOSTILE)])
    terminal.numbers({HOSTILE: 1})
    terminal.table((HOSTILE, HOSTILE), [(HOSTILE, HOSTILE)])
    with Steps(terminal, [HOSTILE]) as steps:
        steps.update(Step(HOSTILE, "done", HOSTILE))
    assert output.getvalue().count(r"\u001b]0;title\u0007") >= 9
    assert not set(output.getvalue()) & set(HOSTILE) - set("]0;title [2J31mev")


def test_styles_still_reach_a_terminal(screen: Screen) -> None:
    Terminal(screen).line((HOSTILE, "bold"))
    assert screen.getvalue().startswith("\x1b[1m\\u001b]0;title")


@pytest.mark.parametrize(
    "arguments",
    [
        ["validate", f"no-such-file-{HOSTILE}"],
        ["validate", "no-such-file", "--format", HOSTILE],
        ["validate", f"bq://{HOSTILE}"],
        ["estimate", str(GOOD), "--model", HOSTILE],
        ["estimate", "no-such-file", "--model", "x", "--prices", HOSTILE],
        ["report", HOSTILE, "--table", "d.t"],
        ["emulator", "--pace", HOSTILE],
        ["emulator", "--port", HOSTILE],
        ["emulator", "--faults", HOSTILE],
        ["up", "--dags", HOSTILE],
        [HOSTILE],
    ],
)
def test_errors_are_escaped(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with contextlib.suppress(SystemExit):
        main(arguments)
    printed = "".join(capsys.readouterr())
    assert "title" in printed
    assert not set(printed) & set("\x1b\x07\x9b\u202e\u2066\b\r\udcff\u2028")


def test_a_traceback_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: object) -> int:
        raise RuntimeError(HOSTILE)

    with escaped_output():
        assert _run(argparse.Namespace(run=fail)) == 1
    printed = capsys.readouterr().err
    assert r"RuntimeError: \u001b]0;title" in printed
    assert "Traceback" in printed


BREAKS = f"{HOSTILE}\nNo problems found.\t"


def check_escaped(printed: str) -> None:
    assert r"\u001b]0;title" in printed
    assert not set(printed) & set("\x1b\x07\x9b\u202e\u2066\b\r\udcff\u2028")


def test_names_of_files_members_and_keys_are_escaped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line break in a name does not begin a line that seems to be ours."""
    path = tmp_path / BREAKS.replace("/", "")
    name = BREAKS.replace("\udcff", "")  # The import refuses it before anything else.
    request = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}], name: 1}
    path.write_text((json.dumps({"key": name, "request": request}) + "\n") * 2)
    assert main(["validate", str(path)]) == 1
    printed = capsys.readouterr().out
    check_escaped(printed)
    assert printed.count("key \\u001b]0;title") >= 1
    assert "No problems found." not in [line.strip() for line in printed.splitlines()]
    assert main(["estimate", str(path), "--model", BREAKS]) == 0
    check_escaped(capsys.readouterr().out)
    assert main(["validate", str(tmp_path / f"no{BREAKS}")]) == 2
    error = capsys.readouterr().err
    check_escaped(error)
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("kind", [StackError, ReportError, OSError, RuntimeError])
def test_messages_of_services_and_logs_are_escaped(
    kind: type[Exception], capsys: pytest.CaptureFixture[str]
) -> None:
    """For example the last line of a log, or what BigQuery answers."""

    def fail(_: object) -> int:
        raise kind(HOSTILE)

    with escaped_output():
        assert _run(argparse.Namespace(run=fail)) == 1
    check_escaped(capsys.readouterr().err)


def test_what_a_job_and_its_tables_say_is_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    """Error messages, keys, names of errors, labels and display names in a report."""
    error = ErrorKind("failed", 400, HOSTILE, BREAKS, 1, 0, (BREAKS,))
    name = JobName("p", "global", "1")
    job = BatchJob(
        name, JobState.FAILED, display_name=HOSTILE, error=JobError(13, HOSTILE), labels={"a": HOSTILE}
    )
    facts = ReportFacts(
        job_name=name,
        results=TableName.parse("p.d.t"),
        error_table=TableName.parse("p.d.t_errors"),
        job=job,
        manifest=None,
        counts={RowStatus.FAILED: 1, RowStatus.SUCCEEDED: 0},
        finish_reasons={HOSTILE: 1},
        tokens=Tokens(),
        token_counts={"prompt": {}, "response": {}},
        errors=(error,),
        error_kinds=1,
        model=HOSTILE,
        task=HOSTILE,
        run=HOSTILE,
        landed_at=datetime(2026, 11, 1, tzinfo=UTC),
    )
    report._print(facts)
    printed = capsys.readouterr().out
    check_escaped(printed)
    assert "No problems found." not in [line.strip() for line in printed.splitlines()]


def test_places_of_the_local_stack_are_escaped(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    running = Running(1, "http://127.0.0.1:1", None, BREAKS, "seconds:3")
    up._print_addresses(Terminal(), running, tmp_path / BREAKS)
    printed = capsys.readouterr().out
    check_escaped(printed)
    assert r"\u000aNo problems found.\u0009" in printed

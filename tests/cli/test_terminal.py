"""What the command line prints on a terminal and elsewhere."""

from __future__ import annotations

import argparse
import contextlib
import io

import pytest

from airflow_gemini_batch.cli.escaping import escaped_output
from airflow_gemini_batch.cli.main import _run, main
from airflow_gemini_batch.cli.terminal import Steps, Terminal
from airflow_gemini_batch.local_stack.progress import Step


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
        ["estimate", __file__, "--model", HOSTILE],
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

"""What the command line prints on a terminal and elsewhere."""

from __future__ import annotations

import contextlib
import io

import pytest

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

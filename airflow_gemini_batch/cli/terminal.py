"""Progress and tables for people: redrawn in place on a terminal, one line an event elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_TICK_SECONDS = 0.1
_SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_CODES = {"bold": 1, "dim": 2, "red": 31, "green": 32, "yellow": 33, "cyan": 36}


def width(limit: int = 110) -> int:
    """Columns to use."""
    return min(shutil.get_terminal_size((limit, 24)).columns, limit)


def clip(text: str, columns: int) -> str:
    """Cut ``text`` to one line of ``columns``."""
    text = " ".join(text.split())
    return text if len(text) <= columns else text[: max(columns - 1, 0)] + "…"


class Terminal:
    """Where the demo prints.

    :param output: colours and redrawing are used only when this is a terminal
    """

    def __init__(self, output: TextIO = sys.stdout) -> None:
        self._output = output
        self.is_live = output.isatty() and os.environ.get("TERM") != "dumb"
        self._has_colours = self.is_live and "NO_COLOR" not in os.environ

    def style(self, text: str, *styles: str) -> str:
        """Return ``text`` in bold, dim, red, green, yellow or cyan."""
        if not self._has_colours or not styles:
            return text
        return "".join(f"\033[{_CODES[name]}m" for name in styles) + text + "\033[0m"

    def say(self, text: str = "") -> None:
        """Print a line."""
        print(text, file=self._output, flush=True)

    def draw(self, text: str) -> None:
        """Write without ending the line."""
        self._output.write(text)
        self._output.flush()

    def heading(self, text: str) -> None:
        """Print a heading with an empty line before it."""
        self.say()
        self.say(self.style(text, "bold"))

    def text(self, text: str) -> None:
        """Print a paragraph."""
        self.say(textwrap.fill(text, min(width(), 100), initial_indent="  ", subsequent_indent="  "))

    def pairs(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print names and values in two columns."""
        columns = max(len(name) for name, _ in rows)
        for name, value in rows:
            self.say(f"  {name.ljust(columns)}  {value}")

    def numbers(self, numbers: Mapping[str, int]) -> None:
        """Print numbers in one line, under their names."""
        cells = {name: f"{number:,}" for name, number in numbers.items()}
        widths = {name: max(len(name), len(cell)) for name, cell in cells.items()}
        self.say(self.style("  " + "  ".join(name.rjust(widths[name]) for name in cells), "dim"))
        self.say("  " + "  ".join(cell.rjust(widths[name]) for name, cell in cells.items()))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print a table that is as wide as the terminal; the last column gives way."""
        widths = [max(len(row[n]) for row in (header, *rows)) for n in range(len(header))]
        gaps = 2 * len(header)
        widths[-1] = max(20, min(widths[-1], width() - sum(widths[:-1]) - gaps))

        def line(cells: Sequence[str]) -> str:
            cut = (clip(cell, columns).ljust(columns) for cell, columns in zip(cells, widths, strict=True))
            return "  " + "  ".join(cut).rstrip()

        self.say(self.style(line(header), "dim"))
        for row in rows:
            self.say(line(row))


@dataclass
class Step:
    """One line of the progress: what it is, how far it is, and since when."""

    name: str
    note: str = ""
    state: str = "waiting"
    seconds: float = 0.0
    began: float = field(default=0.0, repr=False)

    def begin(self, note: str = "") -> None:
        """Mark as running from now on; more than once does no harm."""
        if self.state == "waiting":
            self.state, self.began, self.note = "running", time.monotonic(), note

    def end(self, *, well: bool, seconds: float | None = None) -> None:
        """Mark as ended; ``seconds`` where somebody measured better than we can see."""
        elapsed = time.monotonic() - self.began if self.began else 0.0
        self.state, self.seconds = ("done" if well else "failed"), elapsed if seconds is None else seconds


class Progress:
    """A list of steps: on a terminal all of them, again and again; elsewhere each when it ends.

    A context manager. A step that runs when it is left by an error is shown as failed.
    """

    def __init__(self, terminal: Terminal, steps: Sequence[Step]) -> None:
        self._terminal = terminal
        self._steps = list(steps)
        self._drawn = 0
        self._told: set[str] = set()
        self._names = max(len(step.name) for step in steps)
        self._ended = threading.Event()
        # Whoever works need not think of drawing.
        self._painter = threading.Thread(target=self._paint, daemon=True)

    def __enter__(self) -> Progress:
        self._painter.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._painter.join()
        for step in self._steps:
            if error and step.state == "running":
                step.end(well=False)
        self._show()

    def _paint(self) -> None:
        while not self._ended.wait(_TICK_SECONDS):
            self._show()

    def _show(self) -> None:
        if self._terminal.is_live:
            up = f"\033[{self._drawn}A" if self._drawn else ""
            self._terminal.draw(up + "".join(f"\r\033[K{self._line(step)}\n" for step in self._steps))
            self._drawn = len(self._steps)
            return
        for step in self._steps:
            if step.state in ("done", "failed") and step.name not in self._told:
                self._told.add(step.name)
                self._terminal.say(self._line(step))

    def _line(self, step: Step) -> str:
        mark, colour = {
            "waiting": ("·", "dim"),
            "running": (_SPINNER[int(time.monotonic() * 10) % len(_SPINNER)], "cyan"),
            "done": ("✓", "green"),
            "failed": ("✗", "red"),
        }[step.state]
        seconds = time.monotonic() - step.began if step.state == "running" else step.seconds
        clock = "" if step.state == "waiting" else f"{seconds:6.1f} s"
        room = width() - self._names - 16
        name = self._terminal.style(
            step.name.ljust(self._names), *(["dim"] if step.state == "waiting" else [])
        )
        return f"  {self._terminal.style(mark, colour)} {name}  {clip(step.note, room).ljust(room)} {clock}"

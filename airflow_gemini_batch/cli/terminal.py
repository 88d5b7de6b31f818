"""Text, tables and progress: redrawn in place on a terminal, one line per event elsewhere.

Everything is printed as :class:`rich.text.Text`, so that brackets in files and in error messages are not
read as markup, with control characters escaped.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from airflow_gemini_batch.cli.escaping import escaped, in_one_line
from airflow_gemini_batch.local_stack.progress import Step

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from rich.console import RenderableType

_WIDTH = 110
_INDENT = (0, 0, 0, 2)
_MARKS = {"waiting": ("·", "dim"), "done": ("✓", "green"), "failed": ("✗", "red")}


def console(output: TextIO | None = None) -> Console:
    """Return a console for ``output``, standard output by default, at most 110 columns wide.

    It styles text with escape sequences of its own, so whoever prints to it must escape the text.
    """
    stream: Any = output or sys.stdout
    width = min(shutil.get_terminal_size((_WIDTH, 24)).columns, _WIDTH)
    file = getattr(stream, "unescaped", stream)
    return Console(file=file, width=width, highlight=False, markup=False, emoji=False)


def _text(text: str, style: str = "") -> Text:
    return Text(escaped(text), style)


def _cells(row: Sequence[str]) -> list[str]:
    return [in_one_line(cell) for cell in row]


def _cell(text: str) -> Text:
    return Text(escaped(" ".join(text.split())), overflow="ellipsis", no_wrap=True)


class Terminal:
    """Prints paragraphs and tables; colours only on a terminal, and never with ``NO_COLOR``."""

    def __init__(self, output: TextIO | None = None) -> None:
        self.console = console(output)

    @property
    def is_live(self) -> bool:
        """Whether lines can be redrawn."""
        return self.console.is_terminal and not self.console.is_dumb_terminal

    def line(self, *pieces: str | tuple[str, str]) -> None:
        """Print one line, however long; a piece is text, or text with a style such as ``bold red``."""
        texts = (_text(piece) if isinstance(piece, str) else _text(*piece) for piece in pieces)
        self.console.print(Text.assemble(*texts), soft_wrap=True)

    def heading(self, text: str) -> None:
        """Print a heading with an empty line before it."""
        self.line()
        self.line((text, "bold"))

    def paragraph(self, text: str, indent: int = 2) -> None:
        """Print text that wraps at the width of the terminal."""
        margin = " " * indent
        width = min(self.console.width, 100)
        self.line(
            textwrap.fill(
                escaped(text), width, initial_indent=margin, subsequent_indent=margin, break_on_hyphens=False
            )
        )

    def pairs(self, rows: Sequence[tuple[str, str]]) -> None:
        """Print names and values in two columns."""
        self.aligned(rows)

    def aligned(self, rows: Sequence[Sequence[str]], header: Sequence[str] = ()) -> None:
        """Print columns of text; a line is as long as it needs to be, and nothing is cut."""
        header, rows = _cells(header), [_cells(row) for row in rows]
        widths = [max(map(len, column)) for column in zip(*(header, *rows) if header else rows, strict=True)]

        def joined(row: Sequence[str]) -> str:
            return "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()

        if header:
            self.line("  ", (joined(header), "dim"))
        for row in rows:
            self.line(f"  {joined(row)}")

    def numbers(self, numbers: Mapping[str, int]) -> None:
        """Print numbers in one line, under their names."""
        table = _table()
        for name in numbers:
            table.add_column(_text(name), justify="right")
        table.add_row(*(f"{number:,}" for number in numbers.values()))
        self.console.print(Padding(table, _INDENT, expand=False))

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print one line per row; the last column is cut to the width of the terminal."""
        table = _table()
        for name in header:
            table.add_column(_text(name), no_wrap=name != header[-1])
        for row in rows:
            table.add_row(*map(_cell, row))
        self.console.print(Padding(table, _INDENT, expand=False))


def _table() -> Table:
    return Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="dim")


class Steps:
    """The progress of named steps; a context manager.

    On a terminal it shows all steps and redraws them. Elsewhere it prints each step when it ends. Steps that
    are running when an exception leaves the block are shown as failed.
    """

    def __init__(self, terminal: Terminal, names: Sequence[str]) -> None:
        self._console = terminal.console
        self._steps = {name: Step(name) for name in names}
        self._begun: dict[str, float] = {}
        self._spinner = Spinner("dots", style="cyan")
        # Calls __rich__ ten times a second, on a thread.
        self._live = Live(self, console=self._console, refresh_per_second=10) if terminal.is_live else None

    def __enter__(self) -> Steps:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for step in list(self._steps.values()):
            if error and step.state == "running":
                self.update(replace(step, state="failed"))
        if self._live:
            self._live.stop()

    def update(self, step: Step) -> None:
        """Show a new state of a step; time is measured from its first update."""
        earlier = self._steps[step.name]
        elapsed = time.monotonic() - self._begun.setdefault(step.name, time.monotonic())
        has_ended = step.state in ("done", "failed")
        if has_ended and step.seconds is None:
            step = replace(step, seconds=elapsed if earlier.seconds is None else earlier.seconds)
        self._steps[step.name] = step
        if has_ended and earlier.state != step.state and not self._live:
            self._console.print(self._grid([step]))

    def __rich__(self) -> RenderableType:
        return self._grid(list(self._steps.values()))

    def _grid(self, steps: Sequence[Step]) -> Table:
        grid = Table.grid(padding=(0, 1), expand=True)
        grid.add_column(width=3, justify="right")
        grid.add_column(width=max(map(len, self._steps)) + 1, no_wrap=True)
        grid.add_column(ratio=1)
        grid.add_column(width=9, justify="right")
        for step in steps:
            mark = self._spinner if step.state == "running" else Text(*_MARKS[step.state])
            note = _cell(step.note)
            elapsed = time.monotonic() - self._begun.get(step.name, time.monotonic())
            clock = f"{elapsed if step.seconds is None else step.seconds:.1f} s"
            is_waiting = step.state == "waiting"
            grid.add_row(
                mark, _text(step.name, "dim" if is_waiting else ""), note, "" if is_waiting else clock
            )
        return grid

"""The tables of docs/scaling.md. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_gemini_batch.service import TABLE_MODIFICATIONS_A_DAY
from tests.scaling.model import SIZES, Assumptions, Load, Row, load, walls

if TYPE_CHECKING:
    from collections.abc import Callable

BEGIN, END = "<!-- scaling: begin -->", "<!-- scaling: end -->"


def tables(row: Row, given: Assumptions) -> str:
    """Return what stands between the marks of the page."""
    needs = [load(rows, row, given) for rows in SIZES]
    head = "| | " + " | ".join(f"{rows:,} rows a day" for rows in SIZES) + " |"
    lines = [head, "| --- |" + " ---: |" * len(SIZES)]
    lines += [f"| {name} | {' | '.join(map(show, needs))} |" for name, show in _ROWS.items()]
    for need in needs:
        found = walls(need, row, given)
        first = found[0]
        reached = [wall for wall in found if wall.share > 1]
        lines += ["", f"### {need.rows:,} rows a day", ""]
        if not reached:
            lines.append(f"No wall. The nearest is {first.name}, of which {_share(first.share)} is used.")
            continue
        lines += [f"The first wall is **{first.name}**: {_share(first.share)} of it is needed.", ""]
        lines += ["| wall | needed | way around |", "| --- | ---: | --- |"]
        lines += [f"| {wall.name} | {_share(wall.share)} | {wall.way} |" for wall in reached]
    lines += [
        "",
        f"The {TABLE_MODIFICATIONS_A_DAY:,} loads a day that a table takes are no wall: a landing loads into "
        "staging tables of its own, and writes rows with statements, which do not count.",
    ]
    return "\n".join([BEGIN, *lines, END])


def replaced(page: str, text: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """Return the page with the tables replaced.

    :param text: the new tables, with the marks
    :param marks: the lines before and after the tables
    :raises ValueError: the page has no marks
    """
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not (begin and end):
        raise ValueError(f"the page has no {marks[0]} and {marks[1]}")
    return f"{before}{text}{after}"


def _share(share: float) -> str:
    return f"{share:.1%}" if share < 0.1 else f"{share:,.0%}"


def _dollars(value: float) -> str:
    return f"${value:,.0f}" if value >= 10 else f"${value:.2f}"


def _small(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


_ROWS: dict[str, Callable[[Load], str]] = {
    "jobs a day": lambda need: f"{need.jobs:,}",
    "jobs that wait at the same time, if spread over the day": lambda need: f"{need.waiting:,}",
    "triggerers": lambda need: f"{need.triggerers:,}",
    "submissions a minute, over the day": lambda need: _small(need.submissions),
    "reads a minute: lists for all triggers of a process, and a look-up a submission": lambda need: _small(
        need.reads
    ),
    "reads a minute, if each trigger read its own job": lambda need: _small(need.reads_alone),
    "slots to land, on average": lambda need: _small(need.slots),
    "TB billed by BigQuery a day": lambda need: _small(need.bytes_billed / 10**12),
    "BigQuery a day, on demand": lambda need: _dollars(need.bigquery_cost),
    "Gemini a day": lambda need: _dollars(need.model_cost),
}

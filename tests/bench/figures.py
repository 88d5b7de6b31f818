"""What a benchmark hands back, and the page that is written from it. Pure, except for ``profile``."""

from __future__ import annotations

import cProfile
import pstats
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


@dataclass(frozen=True)
class Figure:
    """One measured value.

    :param unit: of ``value``, ``target`` and ``peer_value``
    :param target: the value to reach; ``None``: there is none
    :param more_is_better: whether a larger value is better, as of a rate
    :param peer: what the value stands beside, measured in the same run; empty: nothing
    :param profile: where the time goes, if the value is worse than that of the peer
    """

    name: str
    value: float
    unit: str
    target: float | None = None
    more_is_better: bool = False
    peer: str = ""
    peer_value: float | None = None
    profile: str = ""

    @property
    def meets_target(self) -> bool:
        """Whether the value is at least as good as its target; true if it has none."""
        return self.target is None or self._is_as_good(self.target)

    @property
    def is_worse_than_peer(self) -> bool:
        """Whether the peer is better."""
        return self.peer_value is not None and not self._is_as_good(self.peer_value)

    @property
    def ratio(self) -> float | None:
        """How many times better than the peer; below 1: worse. ``None`` without a peer, or with a zero."""
        if not self.peer_value or not self.value:
            return None
        ratio = self.value / self.peer_value
        return ratio if self.more_is_better else 1 / ratio

    def explained_by(self, run: Callable[[], object]) -> Figure:
        """Return the figure with the profile of a run, if it is worse than its peer."""
        return replace(self, profile=profile(run)) if self.is_worse_than_peer else self

    def _is_as_good(self, other: float) -> bool:
        return self.value >= other if self.more_is_better else self.value <= other


@dataclass(frozen=True)
class Growth:
    """How a value grows with the rows: a picture with one line for each way.

    :param name: the name of the file, without its ending
    :param lines: of each way, the points (rows, value); all values are above zero
    """

    name: str
    title: str
    unit: str
    lines: dict[str, list[tuple[float, float]]]


@dataclass(frozen=True)
class Report:
    """What one script has measured."""

    title: str
    figures: list[Figure]
    growths: list[Growth]
    note: str = ""


def profile(run: Callable[[], object], lines: int = 8) -> str:
    """Return the functions that take the most time of their own: seconds, calls, and where they are."""
    profiler = cProfile.Profile()
    profiler.runcall(run)
    stats = pstats.Stats(profiler).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in stats.values())
    slowest = sorted(stats.items(), key=lambda item: -item[1][2])[:lines]
    return "\n".join(
        f"{own / total:5.0%} {calls:>10,} calls  {_short(place)}" for place, (_, calls, own, _, _) in slowest
    )


def _short(place: tuple[str, int, str]) -> str:
    file, _, function = place
    if file == "~":
        return function
    folders = file.replace("\\", "/").split("/")
    for start in ("airflow_gemini_batch", "site-packages"):
        if start in folders:
            kept = folders[folders.index(start) + (start == "site-packages") :]
            return f"{'/'.join(kept)} {function}"
    return f"{folders[-1]} {function}"


def is_good(reports: Iterable[Report]) -> bool:
    """Whether all figures meet their targets."""
    return all(figure.meets_target for report in reports for figure in report.figures)


def table(figures: Iterable[Figure]) -> list[str]:
    """Return a Markdown table of figures."""
    rows = [
        "| what | value | target | beside | its value | times better |",
        "| --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for figure in figures:
        target = "" if figure.target is None else _with_unit(figure.target, figure.unit)
        missed = "" if figure.meets_target else " **missed**"
        peer = "" if figure.peer_value is None else _with_unit(figure.peer_value, figure.unit)
        ratio = (
            ""
            if figure.ratio is None
            else f"{figure.ratio:.2g}"
            if figure.ratio < 10
            else f"{figure.ratio:,.0f}"
        )
        value = _with_unit(figure.value, figure.unit)
        rows.append(f"| {figure.name} | {value} | {target}{missed} | {figure.peer} | {peer} | {ratio} |")
    return rows


def page(reports: Iterable[Report], facts: Iterable[str]) -> str:
    """Return the page: what is worse than a peer, what misses its target, and all figures by script.

    :param facts: about the machine and the versions, one a line
    """
    reports = list(reports)
    worse = [figure for report in reports for figure in report.figures if figure.is_worse_than_peer]
    missed = [figure for report in reports for figure in report.figures if not figure.meets_target]
    lines = [
        "# Benchmarks",
        "",
        "`make bench` writes this page. Each figure stands beside its peers in the same run;",
    ]
    lines += ["*times better* below 1 means that the peer is faster or smaller.", "", *facts, ""]
    lines += ["## Worse than a peer", ""]
    if not worse:
        lines += ["Nothing in this run.", ""]
    else:
        lines += [*table(worse), ""]
        for figure in worse:
            if figure.profile:
                lines += [
                    f"Where the time of *{figure.name}* goes:",
                    "",
                    "```text",
                    figure.profile,
                    "```",
                    "",
                ]
    lines += ["## Targets that are missed", ""]
    lines += [*table(missed), ""] if missed else ["None in this run.", ""]
    for report in reports:
        lines += [f"## {report.title}", ""]
        if report.note:
            lines += [report.note, ""]
        if report.figures:
            lines += [*table(report.figures), ""]
        for growth in report.growths:
            lines += [f"![{growth.title}](benchmarks/{growth.name}.svg)", "", *growth_table(growth), ""]
    return "\n".join(lines).rstrip() + "\n"


def growth_table(growth: Growth) -> list[str]:
    """Return the points of a picture as a Markdown table, a column for each way."""
    rows = sorted({x for points in growth.lines.values() for x, _ in points})
    names = list(growth.lines)
    lines = [f"| rows | {' | '.join(names)} |", f"| ---: |{' ---: |' * len(names)}"]
    for x in rows:
        values = [dict(growth.lines[name]).get(x) for name in names]
        cells = ["" if value is None else _with_unit(value, growth.unit) for value in values]
        lines.append(f"| {x:,.0f} | {' | '.join(cells)} |")
    return lines


def _with_unit(value: float, unit: str) -> str:
    return f"{number(value)} {unit}"


def number(value: float) -> str:
    """Return a number with three digits that count."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"

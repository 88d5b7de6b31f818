"""The report of a job: one HTML page that needs no network, light and dark. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobState, duration
from airflow_gemini_batch.results.report.tokens import Histogram, histogram, short
from airflow_gemini_batch.results.row_status import RowStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from jinja2 import Template

    from airflow_gemini_batch.results.report.facts import ReportFacts

_MEANINGS = {
    RowStatus.SUCCEEDED: "a good answer",
    RowStatus.FAILED: "the service answered with an error",
    RowStatus.BLOCKED: "a filter stopped prompt or answer",
    RowStatus.TRUNCATED: "stopped at a limit of tokens",
    RowStatus.INVALID: "does not fit the response schema",
    RowStatus.MALFORMED: "the output line is not JSON",
    RowStatus.MISSING: "the output has no line",
}
# A job that ends in its queue has no start, one that expires perhaps no end.
_PHASES = {
    ("created", "started"): "queued",
    ("created", "ended"): "queued or running",
    ("started", "ended"): "running",
}


@dataclass(frozen=True)
class Bar:
    """A labelled share of a whole.

    :param start: where it begins when the bars are laid end to end, in percent
    :param width: in percent
    """

    label: str
    note: str
    value: str
    share: str
    start: float
    width: float


def render(facts: ReportFacts) -> str:
    """Return the page. All that comes from outside is escaped; there are no prompts and no answers in it."""
    buckets = [(bucket.value, _MEANINGS[bucket], count) for bucket, count in facts.counts.items() if count]
    reasons = [(reason, "", count) for reason, count in facts.finish_reasons.items()]
    return _template().render(
        facts=facts,
        sentence=sentence(facts),
        remark=remark(facts),
        state=facts.job.state.name if facts.job else None,
        model=facts.model or (facts.job.model.rpartition("/")[2] if facts.job else ""),
        phases=phases(facts),
        moments=moments(facts),
        counts=bars(buckets, facts.rows),
        reasons=bars(reasons, facts.rows),
        histograms=histograms(facts),
        manifest=facts.manifest,
        errors=[(each, share(each.rows, facts.rows)) for each in facts.errors],
    )


def sentence(facts: ReportFacts) -> str:
    """Say what happened."""
    good = facts.counts[RowStatus.SUCCEEDED]
    if good == facts.rows:
        return f"All {facts.rows:,} rows succeeded." if facts.rows > 1 else "The only row succeeded."
    again = sum(each.retryable for each in facts.errors)
    least = "at least " if facts.error_kinds > len(facts.errors) else ""
    others = facts.rows - good
    hope = f"{least}{again:,} of the other {others:,} may succeed when asked again."
    if not again:
        hope = f"the other {others:,} would end the same way if asked again."
    return f"{good:,} of {facts.rows:,} rows succeeded ({share(good, facts.rows)}); {hope}"


def remark(facts: ReportFacts) -> str:
    """Say what is unusual about the job or its rows; empty when nothing is."""
    said = []
    job, manifest = facts.job, facts.manifest
    if job and not job.state.is_success:
        why = f": {job.error.message}" if job.error else "."
        said.append(f"The job ended {job.state.name}, and what it had completed is landed{why}")
    elif job and job.state is JobState.PARTIALLY_SUCCEEDED:
        said.append("The service says that the job succeeded in part.")
    if manifest and manifest.input_rows is None:
        said.append("The input has changed or is gone: rows without an answer could not be found.")
    if manifest and manifest.unmatched:
        said.append(f"{manifest.unmatched:,} rows of the output answer nothing that was asked.")
    if manifest and manifest.duplicates:
        said.append(f"{manifest.duplicates:,} duplicates in the output were left out.")
    return " ".join(said)


def moments(facts: ReportFacts) -> list[tuple[str, datetime]]:
    """The times that are known, in order."""
    job = facts.job
    known = (
        ("created", job and job.create_time),
        ("started", job and job.start_time),
        ("ended", job and job.end_time),
        ("landed", facts.landed_at),
    )
    return [(what, when) for what, when in known if when]


def phases(facts: ReportFacts) -> list[Bar]:
    """What the job did between two of its moments, on a common scale."""
    known = moments(facts)
    whole = (known[-1][1] - known[0][1]).total_seconds()
    found = []
    for (first, begun), (last, ended) in pairwise(known):
        seconds = (ended - begun).total_seconds()
        if seconds < 0 or whole <= 0:
            continue
        start = (begun - known[0][1]).total_seconds() / whole * 100
        found.append(
            Bar(
                _PHASES.get((first, last), "until landed"),
                "",
                duration(ended - begun),
                "",
                start,
                seconds / whole * 100,
            )
        )
    return found


def bars(counts: Sequence[tuple[str, str, int]], whole: int) -> list[Bar]:
    """Lay counts end to end.

    :param counts: label, note and count of each
    """
    found, start = [], 0.0
    for label, note, count in counts:
        width = count / whole * 100 if whole else 0.0
        found.append(Bar(label, note, f"{count:,}", share(count, whole), start, width))
        start += width
    return found


def histograms(facts: ReportFacts) -> list[tuple[str, str, Histogram]]:
    """How many rows have how many tokens: heading, what is counted, the histogram."""
    kinds = {"prompt": ("Prompt", "with what was cached"), "answer": ("Answer", "with its thoughts")}
    return [(*kinds[kind], found) for kind in kinds if (found := histogram(facts.token_counts.get(kind, {})))]


def share(count: int, whole: int) -> str:
    """A percentage that says neither 0 % of something nor 100 % of less than all."""
    if not whole or count in (0, whole):
        return "100 %" if count else "0 %"
    percent = count / whole * 100
    if percent < 0.1:
        return "< 0.1 %"
    return "> 99.9 %" if percent > 99.9 else f"{percent:.1f} %"


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {
        "number": "{:,}".format,
        "short": short,
        "time": lambda when: when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "usd": lambda value: f"${value:,.2f}" if value >= 1 else f"${value:.4f}",
    }
    environment.filters.update(filters)
    return environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))

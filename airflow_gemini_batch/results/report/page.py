"""The report of a job: one self-contained HTML page for light and dark mode. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.formats import counted, dollars, duration
from airflow_gemini_batch.results.report.tokens import Histogram, histogram, short
from airflow_gemini_batch.results.row_status import RowStatus

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from jinja2 import Template

    from airflow_gemini_batch.results.report.facts import ReportFacts

_MEANINGS = {
    RowStatus.SUCCEEDED: "a good response",
    RowStatus.FAILED: "the service returned an error",
    RowStatus.BLOCKED: "a filter blocked the prompt or the response",
    RowStatus.TRUNCATED: "cut off at a token limit",
    RowStatus.INVALID: "does not match the response schema",
    RowStatus.MALFORMED: "the output line is not JSON",
    RowStatus.MISSING: "the output has no line for the request",
}
# A job that ends while queued has no start time, and one that expires may have no end time.
_PHASES = {
    ("created", "started"): "queued",
    ("created", "ended"): "queued or running",
    ("started", "ended"): "running",
}


@dataclass(frozen=True)
class Bar:
    """A labeled part of a whole.

    :param value: formatted count or duration
    :param share: formatted percentage
    :param start: sum of the widths before it, in percent
    :param width: in percent
    """

    label: str
    note: str
    value: str
    share: str
    start: float
    width: float


def render(facts: ReportFacts) -> str:
    """Return the page. All values are escaped; it contains no prompts and no responses."""
    statuses = [(status.value, _MEANINGS[status], count) for status, count in facts.counts.items() if count]
    reasons = [(reason, "", count) for reason, count in facts.finish_reasons.items()]
    return _template().render(
        facts=facts,
        sentence=sentence(facts),
        remark=remark(facts),
        state=facts.job.state.name if facts.job else None,
        model=facts.model or (facts.job.model.rpartition("/")[2] if facts.job else ""),
        phases=phases(facts),
        moments=moments(facts),
        statuses=bars(statuses, facts.rows),
        reasons=bars(reasons, facts.rows),
        histograms=histograms(facts),
        manifest=facts.manifest,
        errors=[(each, share(each.rows, facts.rows)) for each in facts.errors],
    )


def sentence(facts: ReportFacts) -> str:
    """Summarize the job in one sentence."""
    good = facts.counts[RowStatus.SUCCEEDED]
    if good == facts.rows:
        return f"All {facts.rows:,} rows succeeded." if facts.rows > 1 else "The only row succeeded."
    start = f"{good:,} of {facts.rows:,} rows succeeded ({share(good, facts.rows)})"
    if facts.rows == 1:
        start = "The only row did not succeed"
    return f"{start}; {_outlook(facts, facts.rows - good)}"


def _outlook(facts: ReportFacts, failed: int) -> str:
    """Say how many of the rows that did not succeed may do so if they are resubmitted."""
    retryable = sum(each.retryable for each in facts.errors)
    others = f"the other {failed:,}" if failed > 1 else "the other row"
    if failed == facts.rows:
        others = "them" if failed > 1 else "it"
    if not retryable:
        return f"resubmitting {others} would not help."
    if retryable == failed:
        return f"{'all of them' if others == 'them' else others} may succeed if resubmitted."
    least = "at least " if facts.error_kinds > len(facts.errors) else ""
    return f"{least}{retryable:,} of {others} may succeed if resubmitted."


def remark(facts: ReportFacts) -> str:
    """Describe what is unusual about the job or its rows; empty if nothing is."""
    notes = []
    job, manifest = facts.job, facts.manifest
    if job and not job.state.is_success:
        why = f": {job.error.message}" if job.error else "."
        notes.append(f"The job ended as {job.state.name}; the rows it had completed are landed{why}")
    elif job and job.state is JobState.PARTIALLY_SUCCEEDED:
        notes.append("The job ended as PARTIALLY_SUCCEEDED.")
    if manifest and not manifest.input_known:
        notes.append(f"The input has changed or no longer exists. {manifest.unknown_input}")
    if manifest and manifest.unmatched:
        notes.append(f"Output rows that match no input row: {manifest.unmatched:,}.")
    if manifest and manifest.duplicates:
        notes.append(f"Duplicates in the output, which were not landed: {manifest.duplicates:,}.")
    return " ".join(notes)


def moments(facts: ReportFacts) -> list[tuple[str, datetime]]:
    """Return the known times of the job, in order."""
    job = facts.job
    known = (
        ("created", job and job.create_time),
        ("started", job and job.start_time),
        ("ended", job and job.end_time),
        ("landed", facts.landed_at),
    )
    return [(what, when) for what, when in known if when]


def phases(facts: ReportFacts) -> list[Bar]:
    """Return the phases between two consecutive times, on a common scale."""
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
    """Place counts end to end.

    :param counts: label, note and count of each bar
    """
    found, start = [], 0.0
    for label, note, count in counts:
        width = count / whole * 100 if whole else 0.0
        found.append(Bar(label, note, f"{count:,}", share(count, whole), start, width))
        start += width
    return found


def histograms(facts: ReportFacts) -> list[tuple[str, str, Histogram]]:
    """Return heading, note and histogram of the tokens per row, for prompts and responses."""
    kinds = {"prompt": ("Prompt", "cached tokens included"), "response": ("Response", "thoughts included")}
    return [(*kinds[kind], found) for kind in kinds if (found := histogram(facts.token_counts.get(kind, {})))]


def share(count: int, whole: int) -> str:
    """Format a percentage. Only zero rows are 0%, and only all rows are 100%."""
    if not whole or count in (0, whole):
        return "100%" if count else "0%"
    percent = count / whole * 100
    if percent < 0.1:
        return "< 0.1%"
    return "> 99.9%" if percent > 99.9 else f"{percent:.1f}%"


@cache
def _template() -> Template:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    filters: dict[str, Any] = {
        "number": "{:,}".format,
        "counted": counted,
        "short": short,
        "time": lambda when: when.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "usd": dollars,
    }
    environment.filters.update(filters)
    return environment.from_string(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))

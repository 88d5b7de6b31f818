"""From what was seen to verdicts, one for each assumption. Pure."""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import BatchJob, JobState
from airflow_gemini_batch.doctor.probe.assumptions import (
    ASSUMPTIONS,
    DEEP,
    FOUND,
    NOT_READ,
    NOTHING,
    READ,
    REFUSED,
    SHALLOW,
    Assumption,
    ended,
)
from airflow_gemini_batch.doctor.probe.steps import LABEL

if TYPE_CHECKING:
    from collections.abc import Callable, Collection


class Outcome(StrEnum):
    """How an assumption came out."""

    AGREES = "agrees"
    DIFFERS = "differs"
    UNSETTLED = "unsettled"


@dataclass(frozen=True)
class Seen:
    """What was seen of one job.

    :param job: ``None`` if it could not be created, or had not ended
    :param keys: the keys in its output
    :param rows: number of rows in its output
    :param columns: of its output table
    :param problem: why something is not known
    """

    job: BatchJob | None = None
    keys: tuple[str, ...] = ()
    rows: int = 0
    columns: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class Observations:
    """All that a probe saw.

    :param steps: by the name of the step
    :param filters: by the end of the name of the assumption: what a list with the filter gave
    :param upper_case: whether BigQuery took an upper-case location; ``None`` if that was not tried
    """

    run: str
    steps: Mapping[str, Seen]
    filters: Mapping[str, str] = field(default_factory=dict)
    upper_case: bool | None = None


@dataclass(frozen=True)
class Verdict:
    """What the service does, beside what the package assumes.

    :param saw: the answer; the reason if the assumption is unsettled
    """

    assumption: Assumption
    outcome: Outcome
    saw: str

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types."""
        differs = self.outcome is Outcome.DIFFERS
        return {
            "name": self.assumption.name,
            "question": self.assumption.question,
            "assumed": self.assumption.assumed,
            "saw": self.saw,
            "outcome": self.outcome.value,
            "if_not": self.assumption.if_not if differs else None,
        }


class _Unsettled(Exception):  # noqa: N818
    pass


def verdicts(seen: Observations, wanted: Collection[str]) -> tuple[Verdict, ...]:
    """Return a verdict for each assumption with one of these names."""
    return tuple(_verdict(each, seen) for each in ASSUMPTIONS if each.name in wanted)


def _verdict(assumption: Assumption, seen: Observations) -> Verdict:
    try:
        answer = _ANSWERS[assumption.name](seen)
    except _Unsettled as reason:
        return Verdict(assumption, Outcome.UNSETTLED, str(reason))
    outcome = Outcome.AGREES if answer == assumption.assumed else Outcome.DIFFERS
    return Verdict(assumption, outcome, answer)


def _step(seen: Observations, name: str) -> Seen:
    """Return what was seen of a job that ended."""
    found = seen.steps.get(name)
    if found is None:
        raise _Unsettled("not tried here")
    if found.job is None or found.problem:
        raise _Unsettled(found.problem or "the job has not ended")
    return found


def _good(seen: Observations, name: str) -> Seen:
    """Return what was seen of a job that succeeded."""
    found = _step(seen, name)
    assert found.job  # noqa: S101  # for mypy
    if not found.job.state.is_success:
        raise _Unsettled(f"the job ended as {_ended(found.job)}")
    return found


def _ended(job: BatchJob) -> str:
    return ended(job.state, job.error.code if job.error and job.state is JobState.FAILED else None)


def _end(step: str) -> Callable[[Observations], str]:
    def answer(seen: Observations) -> str:
        found = _step(seen, step)
        assert found.job  # noqa: S101  # for mypy
        return _ended(found.job)

    return answer


def _key_echo(seen: Observations) -> str:
    return "yes" if _good(seen, "plain").keys else "no"


def _several_uris(seen: Observations) -> str:
    return str(_good(seen, "plain").rows)


def _matched(step: str) -> Callable[[Observations], str]:
    def answer(seen: Observations) -> str:
        found = _good(seen, step)
        # The keys are the names of the objects. Without them, the number of rows tells.
        names = found.keys or (SHALLOW, DEEP)[: found.rows]
        return ", ".join(sorted(names))

    return answer


def _gzip(seen: Observations) -> str:
    found = _step(seen, "gzip")
    assert found.job  # noqa: S101  # for mypy
    return READ if found.job.state.is_success and found.rows else NOT_READ


def _job_labels(seen: Observations) -> str:
    found = _step(seen, "plain")
    assert found.job  # noqa: S101  # for mypy
    return "yes" if found.job.labels.get(LABEL) == seen.run else "no"


def _filter(form: str) -> Callable[[Observations], str]:
    def answer(seen: Observations) -> str:
        if form not in seen.filters:
            raise _Unsettled("not tried here")
        given = seen.filters[form]
        if given not in (FOUND, REFUSED, NOTHING):
            raise _Unsettled(given)
        if given == NOTHING and form in ("label", "label_exists", "hyphen") and _job_labels(seen) == "no":
            raise _Unsettled("the job has lost its labels, so a filter by label finds nothing")
        return given

    return answer


def _table_columns(seen: Observations) -> str:
    found = _step(seen, "columns")
    assert found.job  # noqa: S101  # for mypy
    return ", ".join(sorted(found.columns)) if found.job.state.is_success else _ended(found.job)


def _multi_region(seen: Observations) -> str:
    found = _step(seen, "multi_region")
    assert found.job  # noqa: S101  # for mypy
    return "yes" if found.job.state.is_success else f"no: {_ended(found.job)}"


def _upper_case(seen: Observations) -> str:
    if seen.upper_case is None:
        raise _Unsettled("not tried here")
    return "accepted" if seen.upper_case else REFUSED


_ANSWERS: dict[str, Callable[[Observations], str]] = {
    "key_echo": _key_echo,
    "several_uris": _several_uris,
    "wildcard_star": _matched("wildcard_star"),
    "wildcard_double_star": _matched("wildcard_double_star"),
    "gzip": _gzip,
    "job_labels": _job_labels,
    **{
        f"filter_{form}": _filter(form)
        for form in ("label", "label_exists", "state", "create_time", "display_name", "hyphen")
    },
    "end_all_rows_failed": _end("all_rows_failed"),
    "end_cancelled": _end("cancelled"),
    "end_bad_line": _end("bad_line"),
    "table_columns": _table_columns,
    "multi_region_table": _multi_region,
    "upper_case_location": _upper_case,
}

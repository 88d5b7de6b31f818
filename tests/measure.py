"""The measure of the guarantee: what is asked for is paid once, and no landed row is lost. Pure.

The random plans, the crash matrix and the load test all use it. A completed row is charged however its job
ends, so every job counts, whatever its state. A job belongs to the task run whose call created it: in these
tests each task run gives its jobs a label of its own, so that a wrong mark of the package hides no payment.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ASKED_BY = "asked_by"
"""Label of a job: the task run that asked for it."""
INSTALLATION = "asked_in"
"""Label of a job: the Airflow installation of that task run."""


@dataclass(frozen=True)
class Charge:
    """A job as it is on the bill.

    :param rows: completed rows
    """

    asked_by: str
    installation: str
    job: str
    state: str
    rows: int

    def __str__(self) -> str:
        return f"{self.rows} of {self.job.rpartition('/')[2]} ({self.state})"


def charges(jobs: Iterable[Mapping[str, Any]], completed: Mapping[str, int] | None = None) -> list[Charge]:
    """Return what is on the bill.

    :param jobs: REST resources of all jobs
    :param completed: completed rows by the name of the job; default: the counts in the resources
    """
    return [
        Charge(
            asked_by=job.get("labels", {}).get(ASKED_BY, ""),
            installation=job.get("labels", {}).get(INSTALLATION, ""),
            job=job["name"],
            state=job["state"].removeprefix("JOB_STATE_"),
            rows=completed[job["name"]] if completed is not None else successful(job),
        )
        for job in jobs
    ]


def successful(job: Mapping[str, Any]) -> int:
    """Return the completed rows of a job resource; unknown counts are zero."""
    return max(int(job.get("completionStats", {}).get("successfulCount") or 0), 0)


def overpaid(bill: Iterable[Charge], asked: Mapping[str, int]) -> list[str]:
    """Return the task runs that were charged for more rows than they asked for.

    :param asked: rows by task run. A user who asks again, with another input or a new ``force_new`` token,
        asks for that many rows more; a retry asks for the rows that failed
    """
    by_run: dict[str, list[Charge]] = defaultdict(list)
    for charge in bill:
        by_run[charge.asked_by].append(charge)
    wrong = []
    for run, found in by_run.items():
        paid = sum(charge.rows for charge in found)
        if paid > asked.get(run, 0):
            rows = " + ".join(str(charge) for charge in found if charge.rows)
            wrong.append(f"{paid} rows charged for {asked.get(run, 0)} of {run or 'nobody'}: {rows}")
    return wrong


def made_again(before: Iterable[Charge], after: Iterable[Charge], cancelled: Iterable[str]) -> list[str]:
    """Return the jobs that were created although a person had cancelled the task run's job.

    :param before: the bill when the person cancelled
    :param after: the bill later, without new requests of a user in between
    :param cancelled: names of the jobs that the person cancelled
    """
    known, not_wanted = {charge.job for charge in before}, set(cancelled)
    runs = {charge.asked_by for charge in before if charge.job in not_wanted}
    return [
        f"a person cancelled the job of {charge.asked_by}, which was made again: {charge}"
        for charge in after
        if charge.asked_by in runs and charge.job not in known
    ]


def meddled(bill: Iterable[Charge], used: Mapping[str, Iterable[str]], how: str) -> list[str]:
    """Return the jobs that an installation has attached to, cancelled or landed, and that are not its own.

    :param used: names of jobs by installation
    :param how: what was done to them, for the message
    """
    owner = {charge.job: charge.installation for charge in bill}
    return [
        f"{installation} has {how} {job.rpartition('/')[2]}, a job of {owner[job]}"
        for installation, jobs in used.items()
        for job in jobs
        if owner[job] != installation
    ]


def wrong_rows(found: Iterable[str], expected: Iterable[str]) -> list[str]:
    """Return what is wrong with a table that must have one row for each request of each landed job.

    :param found: what identifies the request of each row; a retry's row stands for the request that failed
    :param expected: the same of each request
    """
    rows, requests = Counter(found), Counter(expected)
    wrong = [
        f"{key!r} is {count} times in the table, requested {requests[key]} times"
        for key, count in (rows - requests).items()
        for count in [rows[key]]
    ]
    if gone := sorted((requests - rows).elements()):
        wrong.append(f"not in the table: {', '.join(map(repr, gone))}")
    return wrong


def gone(before: Iterable[tuple[str, str]], after: Iterable[tuple[str, str]]) -> list[str]:
    """Return the answers that were in the table and no longer are.

    :param before: identity and answer of each row that had succeeded
    """
    lost = Counter(before) - Counter(after)
    return [f"the answer to {key!r} is gone" for key, _ in sorted(lost.elements())]

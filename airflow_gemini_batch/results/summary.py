"""The manifest: a summary of a landing, small enough for XCom."""

from __future__ import annotations

import json
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cost.ranges import CostSpan
from airflow_gemini_batch.exceptions import RowCountError
from airflow_gemini_batch.formats import counted, dollars
from airflow_gemini_batch.jobs.identity import estimate_label
from airflow_gemini_batch.results.cost import Tokens
from airflow_gemini_batch.results.outputs import asked_rows
from airflow_gemini_batch.results.row_status import RowStatus
from airflow_gemini_batch.results.token_kinds import ALL_KINDS

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.response_schema import Column

WAYS = ("key", "label", "number", "request", "count")
"""How an output row was joined to its input row: by its key; by the label in the request that the output
repeats; by a key that came back as a number; by the canonical request; if it has none of these, by count."""

MAX_BYTES = 4096
# Names have up to 1,024 bytes each, and JSON takes six for a character outside ASCII. A manifest that would
# be too large leaves them out in this order: the first is in the job, the others are in the DAG and the log.
_LONG = ("output_location", "error_table", "destination_table")


@dataclass(frozen=True)
class Manifest:
    """The outcome of one job's rows.

    :param counts: rows by status; they add up to ``input_rows``, plus any ``unmatched`` rows
    :param input_rows: if the input has changed or no longer exists, the number that the service reports, or
        ``None``
    :param input_known: whether the input still exists unchanged; if not, rows without output have no key
    :param output_rows: lines, or rows of the output table, including duplicates
    :param duplicates: output rows not landed because their request already has a response
    :param unmatched: landed output rows that match no input row
    :param joined_by: rows by how they were joined, see :data:`WAYS`
    :param search_queries: queries to a search tool, of all rows
    :param cost_usd: sum over the rows; ``None`` if the model's price is unknown
    :param estimated_cost_usd: the estimate made before the job was created, if any
    :param typed_columns: of the results table, beside the fixed ones; not in :meth:`to_dict`
    """

    job_name: str
    state: str
    destination_table: str
    error_table: str
    output_location: str
    counts: Mapping[RowStatus, int]
    input_rows: int | None
    output_rows: int
    duplicates: int
    unmatched: int
    joined_by: Mapping[str, int]
    tokens: Tokens
    cost_usd: Decimal | None
    landed_at: datetime
    create_time: datetime | None = None
    start_time: datetime | None = None
    end_time: datetime | None = None
    estimated_cost_usd: CostSpan | None = None
    input_known: bool = True
    search_queries: int = 0
    typed_columns: tuple[Column, ...] = ()

    @property
    def unknown_input(self) -> str:
        """What an unknown input means for the rows, as a sentence."""
        if self.input_rows is None:
            return "It is unknown whether rows are missing."
        missing = self.counts[RowStatus.MISSING]
        return f"The service reports {counted(self.input_rows, 'row')}; missing in the output: {missing:,}."

    @property
    def remedy(self) -> str:
        """How more rows may succeed, as a sentence."""
        return "GeminiBatchRetryFailedOperator resubmits the rows that may succeed, and pays only for those."

    @property
    def rows(self) -> int:
        """Rows of every status."""
        return sum(self.counts.values())

    def check_rows(self) -> None:
        """Check that the counts add up to the rows of the input.

        :raises RowCountError: the output has rows that match no input row; all rows are landed anyway
        """
        if self.input_rows is None or self.rows == self.input_rows:
            return
        raise RowCountError(
            f"The input of {self.job_name} has {counted(self.input_rows, 'row')}, but {self.rows:,} were "
            f"landed. Output rows that match no input row: {self.unmatched:,}. No row is lost: all are in "
            f"{self.destination_table}. Check whether the input was replaced after the job was submitted.",
            self.to_dict(),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON types: times in ISO 8601, cost in US dollars.

        As JSON it has at most :data:`MAX_BYTES` bytes; names that do not fit are ``None``.
        """
        facts = {
            "job_name": self.job_name,
            "state": self.state,
            "destination_table": self.destination_table,
            "error_table": self.error_table,
            "output_location": self.output_location,
            "input_rows": self.input_rows,
            "input_known": self.input_known,
            "output_rows": self.output_rows,
            "counts": {status.value: count for status, count in self.counts.items()},
            "duplicates": self.duplicates,
            "unmatched": self.unmatched,
            "joined_by": {way: count for way, count in self.joined_by.items() if count},
            "tokens": self.tokens.to_dict(),
            "search_queries": self.search_queries,
            "cost_usd": None if self.cost_usd is None else float(self.cost_usd),
            "estimated_cost_usd": self.estimated_cost_usd and self.estimated_cost_usd.to_dict(),
            "landed_at": self.landed_at.isoformat(),
            "create_time": self.create_time and self.create_time.isoformat(),
            "start_time": self.start_time and self.start_time.isoformat(),
            "end_time": self.end_time and self.end_time.isoformat(),
        }
        for name in _LONG:
            if len(json.dumps(facts)) > MAX_BYTES:
                facts[name] = None
        return facts

    def __str__(self) -> str:
        return _landed(self.counts, self.cost_usd, self.search_queries, self.tokens.total)


@dataclass(frozen=True)
class LandedJobs:
    """The outcome of several jobs that were landed together.

    :param manifests: of each job
    """

    manifests: tuple[Manifest, ...]

    @property
    def job_name(self) -> str:
        """What stands for the names of the jobs in a message."""
        return counted(len(self.manifests), "batch job")

    @property
    def destination_table(self) -> str:
        """The results table of all jobs."""
        return self.manifests[0].destination_table

    @property
    def error_table(self) -> str:
        """The error table of all jobs."""
        return self.manifests[0].error_table

    @property
    def remedy(self) -> str:
        """How more rows may succeed, as a sentence."""
        return self.manifests[0].remedy

    @property
    def counts(self) -> dict[RowStatus, int]:
        """Rows by status."""
        return {status: sum(each.counts[status] for each in self.manifests) for status in RowStatus}

    @property
    def rows(self) -> int:
        """Rows of every status."""
        return sum(self.counts.values())

    @property
    def cost_usd(self) -> Decimal | None:
        """Sum over the jobs whose cost is known; ``None`` if that of none is."""
        known = [each.cost_usd for each in self.manifests if each.cost_usd is not None]
        return sum(known[1:], known[0]) if known else None

    @property
    def estimated_cost_usd(self) -> CostSpan | None:
        """Sum of the estimates; ``None`` if one of the jobs has none."""
        total = CostSpan(Decimal(0), Decimal(0))
        for each in self.manifests:
            if each.estimated_cost_usd is None:
                return None
            total = total.plus(each.estimated_cost_usd)
        return total

    def check_rows(self) -> None:
        """Check that the counts of each job add up to the rows of its input.

        :raises RowCountError: those of a job do not; all rows are landed anyway
        """
        failed = []
        for each in self.manifests:
            try:
                each.check_rows()
            except RowCountError as error:
                failed.append(str(error))
        if len(failed) > 1:
            failed[0] += f" The same is true of {counted(len(failed) - 1, 'more job')}."
        if failed:
            raise RowCountError(failed[0], self.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the sums as JSON types, like :meth:`Manifest.to_dict`, and in ``jobs`` what differs."""
        each_of = [each.to_dict() for each in self.manifests]
        shared = ("destination_table", "error_table", "landed_at")
        tokens = [each.tokens for each in self.manifests]
        inputs = [each.input_rows for each in self.manifests if each.input_rows is not None]
        return {
            **{name: each_of[0][name] for name in shared},
            "input_rows": sum(inputs) if len(inputs) == len(each_of) else None,
            "input_known": all(each.input_known for each in self.manifests),
            "counts": {status.value: count for status, count in self.counts.items()},
            **{
                name: sum(each[name] for each in each_of)
                for name in ("output_rows", "duplicates", "unmatched", "search_queries")
            },
            "tokens": {kind: sum(getattr(each, kind) for each in tokens) for kind in ALL_KINDS},
            "cost_usd": None if self.cost_usd is None else float(self.cost_usd),
            "estimated_cost_usd": self.estimated_cost_usd and self.estimated_cost_usd.to_dict(),
            "jobs": [{name: value for name, value in each.items() if name not in shared} for each in each_of],
        }

    def __str__(self) -> str:
        total = sum(each.tokens.total for each in self.manifests)
        searches = sum(each.search_queries for each in self.manifests)
        return f"{_landed(self.counts, self.cost_usd, searches, total)}, of {self.job_name}"


def _landed(counts: Mapping[RowStatus, int], cost: Decimal | None, searches: int, tokens: int) -> str:
    found = ", ".join(f"{count:,} {status}" for status, count in counts.items() if count)
    costs = "cost unknown" if cost is None else f"about {dollars(cost)}"
    searched = f"{searches:,} {'search' if searches == 1 else 'searches'}, " if searches else ""
    return (
        f"Landed {counted(sum(counts.values()), 'row')}: {found or 'none'}; "
        f"{costs}, {searched}{counted(tokens, 'token')}"
    )


def manifest(
    job: BatchJob,
    counts: Mapping[str, Any],
    *,
    destination: TableName,
    errors: TableName,
    input_known: bool,
    typed_columns: tuple[Column, ...] = (),
) -> Manifest:
    """Build the manifest of a landing.

    :param counts: the row of counts that the landing script returns
    :param input_known: whether the job's input still exists unchanged
    :param typed_columns: of the results table, beside the fixed ones
    """
    return Manifest(
        job_name=str(job.name),
        state=job.state.value,
        destination_table=str(destination),
        error_table=str(errors),
        output_location=job.output_location or job.output_uri or "",
        counts={status: counts[status.value] for status in RowStatus},
        input_rows=_input_rows(job, counts, input_known=input_known),
        input_known=input_known,
        output_rows=counts["output_rows"],
        duplicates=counts["duplicates"],
        unmatched=counts["unmatched"],
        joined_by={way: counts[f"joined_by_{way}"] for way in WAYS},
        tokens=Tokens.of(counts),
        search_queries=counts["search_queries"],
        cost_usd=counts["cost_usd"],
        estimated_cost_usd=CostSpan.from_label(estimate_label(job.labels)),
        landed_at=counts["landed_at"],
        create_time=job.create_time,
        start_time=job.start_time,
        end_time=job.end_time,
        typed_columns=typed_columns,
    )


def _input_rows(job: BatchJob, counts: Mapping[str, Any], *, input_known: bool) -> int | None:
    if input_known:
        return int(counts["input_rows"])
    rows = sum(counts[status.value] for status in RowStatus)
    # The service counts rows that it has read. If the output has more, the number is of no use.
    return rows if rows == asked_rows(job) else None

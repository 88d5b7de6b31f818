"""A job is landed again after its failures were resubmitted: each request still has one row, the newest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.faults.plan import RowFaultKind
from airflow_gemini_batch.operators.gemini_batch import (
    GeminiBatchResultsToBigQueryOperator,
    GeminiBatchSubmitOperator,
)
from tests.task_instance import TaskInstance
from tests.tasks.landed import NOTHING, ROWS, Landed, expected, rows
from tests.variants import variant

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.any_airflow

# Of the three requests that the first round resubmits, one fails; the second round has only that one.
ONE_FAILS = rows((RowFaultKind.EXHAUSTED, (1,)))


def land_again(landed: Landed, job_name: str, **options: Any) -> dict[str, Any]:
    """Run the task that landed the first job again, as after a clear."""
    operator = GeminiBatchResultsToBigQueryOperator(
        task_id="submit", job_name=job_name, destination_table=landed.table, **options
    )
    return operator.execute({"ti": TaskInstance()})  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("write_mode", "rounds", "named"),
    [
        variant("append", 2, True),
        ("append", 1, False),
        variant("truncate", 2, False),
        ("merge", 2, True),
    ],
)
def test_what_was_resubmitted_has_one_row(
    land: Callable[..., Landed], write_mode: str, rounds: int, named: bool
) -> None:
    landed = land()
    changes = {"max_rounds": rounds} | ({} if named else {"job_name": None})
    landed.run(ONE_FAILS, NOTHING, **changes)
    statuses, errors = landed.statuses(), landed.errors()
    assert len(errors) == 3 - rounds

    again = land_again(landed, landed.job_name, write_mode=write_mode)

    assert (landed.statuses(), landed.errors()) == (statuses, errors)
    assert (again["input_rows"], again["counts"]["succeeded"]) == (ROWS, 6)
    # The rounds are landed again too when their task is cleared, the first one in the middle of the chain.
    landed.run(NOTHING, **changes)
    assert (landed.statuses(), landed.errors()) == (statuses, errors)
    assert len(landed.jobs) == 1 + rounds


def test_failures_come_back_when_their_newer_rows_are_gone(land: Callable[..., Landed]) -> None:
    landed = land()
    landed.run(NOTHING)
    landed.bigquery.query_and_wait(f"DELETE FROM `{landed.table}` WHERE job_name != '{landed.job_name}'")
    land_again(landed, landed.job_name)
    assert landed.statuses() == expected(row_0="failed", row_1="failed", row_2="failed", row_3="missing")
    assert len(landed.errors()) == 4


def test_truncate_replaces_what_was_resubmitted_of_an_earlier_job(land: Callable[..., Landed]) -> None:
    """The submit task has a new ``force_new``: rows that a retry added to its first job go with that job."""
    landed = land()
    landed.run(ONE_FAILS, NOTHING, max_rounds=2)
    first = next(job for job in landed.jobs if job["name"] == landed.job_name)
    second: Any = GeminiBatchSubmitOperator(
        task_id="submit",
        model="gemini-3.5-flash",
        input_uri=first["inputConfig"]["gcsSource"]["uris"][0],
        output_uri=first["outputConfig"]["gcsDestination"]["outputUriPrefix"],
        location="global",
        force_new="again",
        wait_for_completion=True,
        deferrable=False,
        poll_interval=0.1,
    ).execute({"ti": TaskInstance()})
    assert second != landed.job_name
    land_again(landed, second, write_mode="truncate")
    assert landed.statuses() == expected()
    assert landed.errors() == {}

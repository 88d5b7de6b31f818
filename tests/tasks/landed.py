"""A job of ten rows, landed, whose failures a task resubmits."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import TaskDeferred

from airflow_gemini_batch.emulator.faults.plan import FaultPlan, RowFault, RowFaultKind
from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from google.cloud import bigquery, storage

    from airflow_gemini_batch.emulator.server import Emulator

Context = Any
ROWS = 10
NOTHING = FaultPlan()


def rows(*faults: tuple[RowFaultKind, tuple[int, ...]]) -> FaultPlan:
    return FaultPlan(rows=[RowFault(kind=kind, nth=numbers) for kind, numbers in faults])


# A fifth of the rows and more, in three ways: one may never succeed.
FIRST = rows((RowFaultKind.REFUSED, (1,)), (RowFaultKind.EXHAUSTED, (2, 3)), (RowFaultKind.DROPPED, (4,)))


class Killed(Exception):  # noqa: N818
    """The process of a task is gone."""


def add_image(vertex: Emulator, storage_client: storage.Client, bucket: str) -> None:
    """Let the only job have answered ``row-1`` with an image."""
    (job,) = vertex.jobs
    directory = job["outputInfo"]["gcsOutputDirectory"].removeprefix(f"gs://{bucket}/")
    image = {"inlineData": {"mimeType": "image/png", "data": "iVBORw=="}}
    answer = {"candidates": [{"content": {"parts": [image]}, "finishReason": "STOP"}]}
    line = json.dumps({"key": "row-1", "request": {}, "status": "", "response": answer})
    storage_client.bucket(bucket).blob(f"{directory}/predictions.jsonl-1").upload_from_string(line)


@dataclass
class Landed:
    """A job of ten rows, landed, and the task that asks its failures again."""

    vertex: Emulator
    bigquery: bigquery.Client
    context: Context
    table: str
    job_name: str
    settings: dict[str, Any] = field(default_factory=dict)

    def make(self, **changes: Any) -> GeminiBatchRetryFailedOperator:
        settings = {"results_table": self.table, "job_name": self.job_name, **self.settings, **changes}
        return GeminiBatchRetryFailedOperator(task_id="retry", poll_interval=0.1, **settings)

    def run(self, *plans: FaultPlan, **changes: Any) -> dict[str, Any]:
        """Run the task, each round under its plan, each step in an operator of its own."""
        return self.finish(lambda: self.make(**changes).execute(self.context), iter(plans), **changes)

    def finish(self, step: Callable[[], Any], plans: Iterator[FaultPlan], **changes: Any) -> dict[str, Any]:
        while True:
            self.vertex.faults = next(plans, NOTHING)
            try:
                result: dict[str, Any] = step()
            except TaskDeferred as deferred:
                step = self.resumed(deferred, **changes)
            else:
                return result

    def resumed(self, deferred: TaskDeferred, **changes: Any) -> Callable[[], Any]:
        event = asyncio.run(fired(deferred.trigger))
        kwargs = json.loads(json.dumps(deferred.kwargs or {}))
        method = deferred.method_name
        return lambda: getattr(self.make(**changes), method)(self.context, event=event, **kwargs)

    def statuses(self) -> dict[str, str]:
        """Status by key; a key has one row."""
        found = list(self.bigquery.query(f"SELECT key, status FROM `{self.table}`").result())
        assert len({row["key"] for row in found}) == len(found)
        return {row["key"]: row["status"] for row in found}

    def errors(self) -> dict[str, bool]:
        """Whether it may be asked again, by key."""
        found = list(self.bigquery.query(f"SELECT key, retryable FROM `{self.table}_errors`").result())
        assert len({row["key"] for row in found}) == len(found)
        return {row["key"]: row["retryable"] for row in found}

    @property
    def jobs(self) -> list[dict[str, Any]]:
        """What was paid for, in the order of creation."""
        return sorted(self.vertex.jobs, key=lambda job: job["createTime"])


async def fired(trigger: Any) -> dict[str, Any]:
    _, kwargs = trigger.serialize()
    async for event in type(trigger)(**kwargs).run():
        return event.payload  # type: ignore[no-any-return]
    raise AssertionError("the trigger ended without an event")


def request(number: int) -> dict[str, Any]:
    parts = [{"text": f"Hello {number}"}]
    return {"contents": [{"role": "user", "parts": parts}], "generationConfig": {"maxOutputTokens": 1000}}


def expected(**others: str) -> dict[str, str]:
    return {f"row-{n}": "succeeded" for n in range(ROWS)} | {
        name.replace("_", "-"): status for name, status in others.items()
    }

"""Who asked for a job, and what was asked: carried by the job itself, so no state store can be lost.

Vertex AI has no idempotency key on create. The identity of the task run and a fingerprint of the request
go into the job's display name and labels, and are looked up on the server before a job is created.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.spec import MAX_DISPLAY_NAME, MAX_LABELS, MAX_OWN_LABELS, JobSpec

if TYPE_CHECKING:
    from airflow_gemini_batch.batch_job import BatchJob

LABEL_PREFIX = "airflow-gemini-batch-"
RUN_LABEL = f"{LABEL_PREFIX}run"
REQUEST_LABEL = f"{LABEL_PREFIX}request"
ESTIMATE_LABEL = f"{LABEL_PREFIX}estimate"
"""What the job was estimated to cost, in millionths of a dollar: ``LOW-HIGH``."""

_MARK = re.compile(r"\[([0-9a-f]{24})\.([0-9a-f]{16})\]$")
_MARK_LENGTH = 1 + 1 + 24 + 1 + 16 + 1  # " [run.request]"


@dataclass(frozen=True)
class RunIdentity:
    """One run of one task, the same on every try.

    :param map_index: ``-1`` for a task that is not mapped
    :param part: which of its jobs, where a run makes several, one after the other
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    part: str = ""

    @property
    def key(self) -> str:
        """24 hex digits that stand for this run. The try number is never part of it."""
        parts = [self.dag_id, self.task_id, self.run_id, str(self.map_index)]
        parts += [self.part] if self.part else []
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Mark:
    """The identity and the fingerprint that a job carries."""

    run: str
    request: str

    @classmethod
    def of(cls, run: RunIdentity, spec: JobSpec) -> Mark:
        """Compute the mark that the job of this run and this request carries."""
        return cls(run=run.key, request=fingerprint(spec))

    @classmethod
    def read(cls, job: BatchJob) -> Mark | None:
        """Read the mark off a job, or ``None`` for a job that is not ours."""
        match = _MARK.search(job.display_name)
        return cls(*match.groups()) if match else None

    @property
    def list_filter(self) -> str:
        """A list filter that finds every job of this run, by label and, should labels be lost, by name."""
        return f'labels.{RUN_LABEL}={self.run} OR display_name:"*{self.run}*"'

    def put_on(self, spec: JobSpec) -> JobSpec:
        """Write the mark into the display name (behind the user's, cut if needed) and the labels."""
        labels = {**spec.labels, RUN_LABEL: self.run, REQUEST_LABEL: self.request}
        if len(labels) > MAX_LABELS:
            raise InvalidParameterError(
                "labels",
                sorted(spec.labels),
                f"at most {MAX_OWN_LABELS}: two more mark the job as this run's",
            )
        name = spec.display_name[: MAX_DISPLAY_NAME - _MARK_LENGTH].rstrip()
        mark = f"[{self.run}.{self.request}]"
        return replace(spec, display_name=f"{name} {mark}".strip(), labels=labels)


def fingerprint(spec: JobSpec) -> str:
    """16 hex digits that stand for what is asked: place, model, input with its content, and output."""
    inputs = [sorted(spec.input_uris), sorted(spec.input_content)]
    asked = [spec.project, spec.location, spec.model, inputs, spec.output_uri]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]

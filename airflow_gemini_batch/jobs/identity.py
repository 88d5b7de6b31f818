"""Which task run created a job, for which request. Stored on the job itself, so no state store can lose it.

Vertex AI has no idempotency key for creating jobs. Instead, the identity of the task run and a fingerprint of
the request are written into the job's display name and labels, and looked up there before a job is created.
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
"""Label with the estimated cost in millionths of a US dollar: ``LOW-HIGH``."""

_MARK = re.compile(r"\[([0-9a-f]{24})\.([0-9a-f]{16})\]$")
_MARK_LENGTH = 1 + 1 + 24 + 1 + 16 + 1  # " [run.request]"


@dataclass(frozen=True)
class RunIdentity:
    """One run of one task; the same for every try.

    :param map_index: ``-1`` for a task that is not mapped
    :param part: distinguishes the jobs of a run that creates several, one after the other
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    part: str = ""

    @property
    def key(self) -> str:
        """Hash of this run, 24 hex digits. The try number is not part of it."""
        parts = [self.dag_id, self.task_id, self.run_id, str(self.map_index)]
        parts += [self.part] if self.part else []
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Mark:
    """The run and the request that a job belongs to, as written on the job.

    :param run: see :attr:`RunIdentity.key`
    :param request: see :func:`fingerprint`
    """

    run: str
    request: str

    @classmethod
    def of(cls, run: RunIdentity, spec: JobSpec) -> Mark:
        """Return the mark of the job for this run and request."""
        return cls(run=run.key, request=fingerprint(spec))

    @classmethod
    def read(cls, job: BatchJob) -> Mark | None:
        """Read the mark from a job's display name; ``None`` if the job was not created by this package."""
        match = _MARK.search(job.display_name)
        return cls(*match.groups()) if match else None

    @property
    def list_filter(self) -> str:
        """A list filter for the jobs of this run, by label or, if labels are lost, by display name."""
        return f'labels.{RUN_LABEL}={self.run} OR display_name:"*{self.run}*"'

    def put_on(self, spec: JobSpec) -> JobSpec:
        """Append the mark to the display name, truncated if needed, and add the labels.

        :raises InvalidParameterError: ``spec`` has too many labels
        """
        labels = {**spec.labels, RUN_LABEL: self.run, REQUEST_LABEL: self.request}
        if len(labels) > MAX_LABELS:
            raise InvalidParameterError(
                "labels",
                sorted(spec.labels),
                f"at most {MAX_OWN_LABELS} labels are allowed: two more identify the task run",
            )
        name = spec.display_name[: MAX_DISPLAY_NAME - _MARK_LENGTH].rstrip()
        mark = f"[{self.run}.{self.request}]"
        return replace(spec, display_name=f"{name} {mark}".strip(), labels=labels)


def fingerprint(spec: JobSpec) -> str:
    """Hash of the request, 16 hex digits: project, location, model, input with its content, and output."""
    inputs = [sorted(spec.input_uris), sorted(spec.input_content)]
    parts = [spec.project, spec.location, spec.model, inputs, spec.output_uri]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

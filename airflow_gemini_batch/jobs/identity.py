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

from airflow_gemini_batch.jobs.spec import LABEL_PREFIX, LEGACY_LABEL_PREFIX, MAX_DISPLAY_NAME, JobSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from airflow_gemini_batch.batch_job import BatchJob

RUN_LABEL = f"{LABEL_PREFIX}run"
REQUEST_LABEL = f"{LABEL_PREFIX}request"
MAPPED_LABEL = f"{LABEL_PREFIX}mapped"
OUTPUT_LABEL = f"{LABEL_PREFIX}output"
TRIES_LABEL = f"{LABEL_PREFIX}max_tries"
"""Label with the ``max_tries`` of the task run when it created the job; clearing the task raises them."""
INSTALLATION_LABEL = f"{LABEL_PREFIX}installation"
DAG_LABEL = f"{LABEL_PREFIX}dag"
TASK_LABEL = f"{LABEL_PREFIX}task"
"""These three say whose job it is. Their values are made by :func:`label_value`."""
ESTIMATE_LABEL = f"{LABEL_PREFIX}estimate"
"""Label with the estimated cost in millionths of a US dollar: ``LOW-HIGH``."""

_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_WITH_HASH = re.compile(r"-[0-9a-f]{12}$")
_READABLE = 50
_UNKNOWN = "0" * 12
_MARK = re.compile(r"\[([0-9a-f]{24})\.([0-9a-f]{12})([0-9a-f]{12})\]$")
_LEGACY_MARK = re.compile(r"\[([0-9a-f]{24})\.([0-9a-f]{16})\]$")
_MARK_LENGTH = 1 + 1 + 24 + 1 + 24 + 1  # " [run.request]"


@dataclass(frozen=True)
class RunIdentity:
    """One run of one task of one Airflow installation; the same for every try.

    :param map_index: ``-1`` for a task that is not mapped
    :param part: distinguishes the jobs of a run that creates several, one after the other
    :param installation: tells installations apart that run the same DAGs
    :param token: a request of the user to pay again; each token is paid once
    """

    dag_id: str
    task_id: str
    run_id: str
    map_index: int = -1
    part: str = ""
    installation: str = ""
    token: str = ""

    @property
    def key(self) -> str:
        """Hash of this run, 24 hex digits. The try number is not part of it."""
        return _hash([*self._shared, self.map_index], 24)

    @property
    def mapped_key(self) -> str:
        """Hash that the map indexes of this run share, 24 hex digits; empty if the task is not mapped."""
        return _hash(self._shared, 24) if self.map_index >= 0 else ""

    @property
    def legacy_key(self) -> str:
        """The hash that earlier versions wrote, which leaves out the installation."""
        parts = [self.dag_id, self.task_id, self.run_id, str(self.map_index)]
        parts += [self.part] if self.part else []
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:24]

    @property
    def _shared(self) -> list[object]:
        return [self.installation, self.dag_id, self.task_id, self.run_id, self.part, self.token]


@dataclass(frozen=True)
class Mark:
    """The run and the request that a job belongs to, as written on the job.

    :param run: see :attr:`RunIdentity.key`
    :param asked: hash of project, location, model, the names of the input, and the output; 12 hex digits, or
        16 that cover the content as well if an earlier version wrote it
    :param content: hash of the input's content, 12 hex digits; ``None`` if it was not known
    """

    run: str
    asked: str
    content: str | None = None

    @classmethod
    def of(cls, run: RunIdentity, spec: JobSpec) -> Mark:
        """Return the mark of the job for this run and request."""
        asked = [
            spec.project,
            spec.location,
            spec.model,
            sorted(spec.input_uris),
            spec.output_uri.rstrip("/"),
        ]
        content = spec.input.content
        return cls(run.key, _hash(asked, 12), None if content is None else content_key(content))

    @classmethod
    def legacy(cls, run: RunIdentity, spec: JobSpec) -> Mark:
        """Return the mark that earlier versions put on the job for this run and request."""
        inputs = [sorted(spec.input_uris), sorted(spec.input.metadata or ())]
        return cls(
            run.legacy_key, _hash([spec.project, spec.location, spec.model, inputs, spec.output_uri], 16)
        )

    @classmethod
    def read(cls, job: BatchJob) -> Mark | None:
        """Read the mark from a job's display name; ``None`` if the job was not created by this package."""
        if match := _MARK.search(job.display_name):
            run, asked, content = match.groups()
            return cls(run, asked, None if content == _UNKNOWN else content)
        match = _LEGACY_MARK.search(job.display_name)
        return cls(*match.groups()) if match else None

    @property
    def is_legacy(self) -> bool:
        """Whether an earlier version wrote it."""
        return len(self.asked) == 16

    @property
    def text(self) -> str:
        """How it stands at the end of a display name."""
        return f"[{self.run}.{self.asked}{self.content or _UNKNOWN}]"


def marked(spec: JobSpec, run: RunIdentity) -> JobSpec:
    """Append the mark to the display name, truncated if needed, and add the labels."""
    mark = Mark.of(run, spec)
    labels = {
        **spec.labels,
        RUN_LABEL: mark.run,
        REQUEST_LABEL: mark.asked,
        INSTALLATION_LABEL: label_value(run.installation),
        DAG_LABEL: label_value(run.dag_id),
        TASK_LABEL: label_value(run.task_id),
    }
    if run.mapped_key:
        labels[MAPPED_LABEL] = shared_key(run, spec)
    if spec.has_output_table:
        labels[OUTPUT_LABEL] = output_key(spec)
    name = f"{title(spec)} {mark.text}".strip()
    return replace(spec, display_name=name, labels=labels)


def shared_key(run: RunIdentity, spec: JobSpec) -> str:
    """Hash of what a mapped task asks, whichever map index asks and wherever it wants the output.

    24 hex digits; empty if the task is not mapped.
    """
    asked = [run.mapped_key, spec.project, spec.location, spec.model, sorted(spec.input_uris)]
    return _hash(asked, 24) if run.mapped_key else ""


def title(spec: JobSpec) -> str:
    """The part of the display name before the mark."""
    return spec.display_name[: MAX_DISPLAY_NAME - _MARK_LENGTH].rstrip()


def title_of(job: BatchJob) -> str:
    """The part of a job's display name before the mark."""
    return _LEGACY_MARK.sub("", _MARK.sub("", job.display_name)).rstrip()


def output_key(spec: JobSpec) -> str:
    """Hash of the output table, 24 hex digits."""
    return _hash([spec.output_uri], 24)


def content_key(content: Collection[str]) -> str:
    """Hash of what identifies the content of an input, 12 hex digits."""
    return _hash(sorted(content), 12)


def label_value(text: str) -> str:
    """Return text as the value of a label, at most 63 characters.

    Text that a label cannot hold becomes a readable beginning and a hash, so two texts never share a value.
    """
    if _LABEL_VALUE.fullmatch(text) and not _WITH_HASH.search(text):
        return text
    readable = re.sub("[^a-z0-9_-]+", "-", text.lower())[:_READABLE].strip("-")
    return f"{readable}-{_hash([text], 12)}"


def estimate_label(labels: Mapping[str, str]) -> str | None:
    """Return the estimate in a job's labels; earlier versions had another key for it."""
    return labels.get(ESTIMATE_LABEL) or labels.get(f"{LEGACY_LABEL_PREFIX}estimate")


def _hash(parts: object, digits: int) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:digits]

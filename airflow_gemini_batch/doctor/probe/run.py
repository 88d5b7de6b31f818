"""Runs the jobs of a probe, looks at what they leave, and removes it."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from airflow_gemini_batch.doctor.facts import Problem
from airflow_gemini_batch.doctor.probe.assumptions import FOUND, NOTHING, REFUSED
from airflow_gemini_batch.doctor.probe.steps import HYPHEN_LABEL, LABEL, Place, Step
from airflow_gemini_batch.doctor.probe.verdicts import Observations, Seen
from airflow_gemini_batch.exceptions import ApiError, GeminiBatchError, JobNotFoundError
from airflow_gemini_batch.gcp.gcs_uri import split_folder
from airflow_gemini_batch.jobs.creation import created
from airflow_gemini_batch.jobs.spec import JobSpec, job_spec
from airflow_gemini_batch.results.outputs import is_predictions
from airflow_gemini_batch.service import MAX_QUEUED, MAX_RUNNING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from google.cloud import bigquery as bq
    from google.cloud import storage as gcs

    from airflow_gemini_batch.batch_job import BatchJob, JobName
    from airflow_gemini_batch.doctor.google_api import GoogleApi

# Jobs and their objects get their times from different clocks.
_SLACK = timedelta(minutes=10)


class Jobs(Protocol):
    """The calls to Vertex AI that a probe needs; :class:`GeminiBatchHook` implements them."""

    def create_job(self, spec: JobSpec) -> BatchJob:
        """Create a job with a single request."""
        ...

    def get_job(self, name: JobName) -> BatchJob:
        """Read a job."""
        ...

    def list_jobs(self, project: str, location: str, filter_: str) -> list[BatchJob]:
        """List jobs, newest first; reads all pages."""
        ...

    def cancel_job(self, name: JobName) -> bool:
        """Request cancellation of a job; ``False`` if it has ended."""
        ...

    def delete_job(self, name: JobName) -> None:
        """Delete a job that has ended."""
        ...


def cancel_probes(jobs: Jobs, project: str, location: str, run: str | None = None) -> list[JobName]:
    """Cancel the jobs of a probe that have not ended; return their names.

    They are looked for by display name, which a job has even if it has lost its labels.

    :param run: ID of the probe; ``None`` for all probes in the project
    :raises GeminiBatchError: the jobs could not be listed, or one not cancelled
    """
    title = _title(run or "")
    try:
        listed = jobs.list_jobs(project, location, f'displayName:"{title}*"')
    except ApiError as error:
        if error.code != 400:
            raise
        since = datetime.now(UTC) - MAX_QUEUED - MAX_RUNNING
        listed = jobs.list_jobs(project, location, created(">=", since))
    found = [each for each in listed if each.display_name.startswith(title) and not each.state.is_terminal]
    return [each.name for each in found if jobs.cancel_job(each.name)]


def _title(run: str) -> str:
    return f"gemini-batch probe {run}"


@dataclass
class Probe:
    """One run of the probe.

    :param pause: waits between two looks at the jobs
    :param say: is called with what happens
    """

    place: Place
    jobs: Jobs
    storage: gcs.Client
    bigquery: bq.Client
    api: GoogleApi
    pause: Callable[[], None]
    say: Callable[[str], None]
    _steps: tuple[Step, ...] = ()
    _created: dict[str, BatchJob] = field(default_factory=dict)
    _problems: dict[str, str] = field(default_factory=dict)
    _tables: list[str] = field(default_factory=list)

    def run(self, steps: Sequence[Step], wanted: Iterable[str]) -> Observations:
        """Create the jobs, wait until they have ended, and look.

        :param wanted: names of the assumptions to settle
        """
        self._steps = tuple(steps)
        for step in steps:
            self._start(step)
        self._wait()
        names = set(wanted)
        filters = {
            form: self._listed(text, self._created["plain"])
            for form, text in (self._filters().items() if "plain" in self._created else ())
            if f"filter_{form}" in names
        }
        upper = self._takes_upper_case() if "upper_case_location" in names else None
        return Observations(self.place.run, {step.name: self._seen(step) for step in steps}, filters, upper)

    def cancel(self) -> None:
        """Request cancellation of every job that has not ended, also of one whose create had no answer."""
        for location in sorted({step.location for step in self._steps}):
            try:
                for name in cancel_probes(self.jobs, self.place.project, location, self.place.run):
                    self.say(f"Cancelled {name}")
            except GeminiBatchError as error:
                self.say(f"Jobs of the probe may still run in {location}: {error}")

    def clean_up(self) -> tuple[str, ...]:
        """Delete the objects, tables and jobs of the probe; return what could not be deleted."""
        from google.api_core.exceptions import GoogleAPICallError, NotFound

        left: list[str] = []
        try:
            for blob in list(self.storage.list_blobs(self.place.bucket, prefix=f"{self.place.folder}/")):
                with suppress(NotFound):
                    blob.delete()
        except (GoogleAPICallError, OSError):
            left.append(self.place.uri(""))
        for table in self._tables:
            try:
                self.bigquery.delete_table(table, not_found_ok=True)
            except (GoogleAPICallError, OSError):
                left.append(f"table {table}")
        for job in self._created.values():
            try:
                self.jobs.delete_job(job.name)
            except GeminiBatchError:  # One that has not ended cannot be deleted.
                left.append(str(job.name))
        return tuple(left)

    def _start(self, step: Step) -> None:
        from google.api_core.exceptions import GoogleAPICallError

        try:
            for name, content in step.objects.items():
                blob = self.storage.bucket(self.place.bucket).blob(f"{self.place.folder}/{name}")
                blob.upload_from_string(content, content_type="application/octet-stream")
            if step.rows:
                self._fill(step)
            if step.output.startswith("bq://"):
                self._tables.append(step.output.removeprefix("bq://"))
            job = self.jobs.create_job(self._spec(step))
            self._created[step.name] = job
            if step.cancels and not self.jobs.cancel_job(job.name):
                self._problems[step.name] = "the job had ended before it could be cancelled"
        except (GeminiBatchError, GoogleAPICallError, OSError) as error:
            self._problems[step.name] = f"could not be tried: {type(error).__name__}: {error}"
        else:
            self.say(f"Created {job.name} ({step.name})")

    def _spec(self, step: Step) -> JobSpec:
        run = self.place.run
        return job_spec(
            project=self.place.project,
            location=step.location,
            model=self.place.model,
            input_uri=step.inputs,
            output_uri=step.output,
            display_name=f"{_title(run)} {step.name}",
            labels={LABEL: run, HYPHEN_LABEL: run},
        )

    def _fill(self, step: Step) -> None:
        from google.cloud.bigquery import LoadJobConfig, SchemaField, SourceFormat

        table = step.inputs[0].removeprefix("bq://")
        self._tables.append(table)
        config = LoadJobConfig(
            schema=[SchemaField("key", "STRING"), SchemaField("request", "STRING")],
            source_format=SourceFormat.NEWLINE_DELIMITED_JSON,
        )
        location = self.place.dataset_location
        self.bigquery.load_table_from_json(
            [dict(row) for row in step.rows], table, job_config=config, location=location
        ).result()

    def _wait(self) -> None:
        while running := [name for name, job in self._created.items() if not job.state.is_terminal]:
            for name in running:
                self._look(name)
            if any(name in self._created and not self._created[name].state.is_terminal for name in running):
                self.pause()

    def _look(self, name: str) -> None:
        try:
            job = self.jobs.get_job(self._created[name].name)
        except JobNotFoundError:
            del self._created[name]
            self._problems[name] = "somebody has deleted the job"
        except GeminiBatchError as error:
            self.say(f"{name} could not be read: {error}")
        else:
            self._created[name] = job
            if job.state.is_terminal:
                self.say(f"{name} has ended: {job.state.name}")

    def _seen(self, step: Step) -> Seen:
        from google.api_core.exceptions import GoogleAPICallError

        job = self._created.get(step.name)
        if job is None or step.name in self._problems:
            return Seen(job, problem=self._problems.get(step.name, ""))
        try:
            if step.output.startswith("bq://"):
                columns = self._columns(step) if job.state.is_success else ()
                return Seen(job, columns=columns)
            lines = self._lines(job)
        except (GoogleAPICallError, OSError, ValueError) as error:
            return Seen(job, problem=f"the output could not be read: {type(error).__name__}")
        keys = tuple(str(line["key"]) for line in lines if isinstance(line.get("key"), str))
        return Seen(job, keys, len(lines))

    def _columns(self, step: Step) -> tuple[str, ...]:
        table = self.bigquery.get_table(step.output.removeprefix("bq://"))
        return tuple(each.name for each in table.schema)

    def _lines(self, job: BatchJob) -> list[Mapping[str, object]]:
        if not (job.output_location or "").startswith("gs://"):
            return []
        bucket, prefix = split_folder(str(job.output_location))
        return [
            json.loads(line)
            for blob in self.storage.list_blobs(bucket, prefix=prefix)
            if is_predictions(str(blob.name))
            for line in blob.download_as_bytes().split(b"\n")
            if line.strip()
        ]

    def _filters(self) -> dict[str, str]:
        job = self._created["plain"]
        since = (job.create_time or datetime.now(UTC)) - _SLACK
        run = self.place.run
        return {
            "label": f'labels.{LABEL}="{run}"',
            "label_exists": f"labels.{LABEL}:*",
            "state": f'state="{job.state}"',
            "create_time": created(">=", since),
            "display_name": f'displayName:"{_title(run)} plain*"',
            "hyphen": f'labels.{HYPHEN_LABEL}="{run}"',
        }

    def _listed(self, filter_: str, job: BatchJob) -> str:
        try:
            found = self.jobs.list_jobs(self.place.project, self.place.location, filter_)
        except ApiError as error:
            return REFUSED if error.code == 400 else f"Vertex AI returned {error.code}"
        except GeminiBatchError as error:
            return f"no answer: {type(error).__name__}"
        return FOUND if job.name in [each.name for each in found] else NOTHING

    def _takes_upper_case(self) -> bool | None:
        location = (self.place.dataset_location or "").lower()
        if "-" not in location:
            return None
        path = f"bigquery/v2/projects/{self.place.project}/queries"
        body = {"query": "SELECT 1", "useLegacySql": False, "dryRun": True}
        as_spelled = self.api.ask("bigquery.googleapis.com", path, {**body, "location": location})
        if isinstance(as_spelled, Problem):
            return None
        upper = self.api.ask("bigquery.googleapis.com", path, {**body, "location": location.upper()})
        return not isinstance(upper, Problem)

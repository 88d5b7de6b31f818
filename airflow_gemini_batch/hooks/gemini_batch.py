"""The hook: batch prediction jobs of Gemini Enterprise Agent Platform (Vertex AI), through google-genai."""

from __future__ import annotations

import os
import weakref
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.providers.google.common.hooks.base_google import GoogleBaseAsyncHook, GoogleBaseHook

from airflow_gemini_batch.batch_job import BatchJob, JobName, JobPage, check_place, check_project
from airflow_gemini_batch.exceptions import (
    ApiError,
    GeminiBatchError,
    InvalidParameterError,
    PermissionDeniedError,
    UnreadableResponseError,
)
from airflow_gemini_batch.gcp.discovery import snake_case
from airflow_gemini_batch.gcp.table_name import TableName
from airflow_gemini_batch.hooks.errors import from_sdk, reading_credentials
from airflow_gemini_batch.hooks.lineage import report_job
from airflow_gemini_batch.hooks.sdk import (
    batch_job_source,
    count_tokens,
    get_resource,
    without_request_logging,
)
from airflow_gemini_batch.hooks.threads import connection_key, in_thread
from airflow_gemini_batch.jobs.input_facts import checksum, inspect_input
from airflow_gemini_batch.requests.request_fields import is_embedding
from airflow_gemini_batch.service import PAGE_ROWS
from airflow_gemini_batch.settings import PROJECT_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from google import genai
    from google.cloud import bigquery
    from google.cloud.storage import Client as StorageClient

    from airflow_gemini_batch.jobs.spec import InputFacts, JobSpec

_TIMEOUT_MS = 60_000
_READ_TRIES = 4
# Seconds before the second try of a read; doubled before each further one, and randomized.
_READ_WAIT = 1.0
# The quota of reads has room again within a minute, and many tasks wait for it: ten times as long, so about
# two minutes in all.
_READ_TRIES_OVER_QUOTA = 7
_LONGER_OVER_QUOTA = 10
_CANCEL_TRIES = 4
_CANCEL_WAIT = 0.25
_THREADS = 16
# The fields of a request that countTokens accepts.
_COUNTED_FIELDS = frozenset({"contents", "system_instruction", "tools", "generation_config"})

_T = TypeVar("_T")

_clients: dict[tuple[Any, ...], genai.Client] = {}


class GeminiBatchHook(GoogleBaseHook):
    """Create, read, list, cancel and delete batch prediction jobs.

    Clients are shared within a process, one per connection, project and location: creating one takes 65 ms
    and an access token.

    :param gcp_conn_id: Google Cloud connection
    :param impersonation_chain: service account to impersonate, or the chain of accounts that leads to it
    """

    reports_lineage = True
    """Whether jobs that it creates are reported to Airflow's hook lineage."""
    _has_built_a_client = False

    def create_job(self, spec: JobSpec) -> BatchJob:
        """Create a job.

        The API has no idempotency key, so the request is repeated only if its access token was rejected.

        :raises ApiError: the service returned an error
        :raises ServiceUnreachableError: no response, or one that cannot be read; a job may exist unless
            ``never_sent`` is true
        """
        from google.genai import types

        config = types.CreateBatchJobConfig(
            display_name=spec.display_name,
            dest=spec.output_uri,
            # The SDK has no parameter for labels; extra_body is merged into the request.
            http_options=types.HttpOptions(extra_body={"labels": dict(spec.labels)}),
        )

        def create(client: genai.Client) -> types.BatchJob:
            return client.batches.create(
                model=spec.model, src=batch_job_source(spec.input_uris), config=config
            )

        job = self._call(spec.project, spec.location, create, model=spec.model)
        if self.reports_lineage:
            report_job(self, spec)
        return BatchJob.from_resource({"name": job.name, "state": job.state, "displayName": job.display_name})

    def get_job(self, name: JobName | str, *, retry: bool = True) -> BatchJob:
        """Read a job.

        :param name: parsed, or as the submit operator returns it
        :param retry: retry transient errors for a few seconds, or for two minutes if the quota is used up
        :raises ApiError: :class:`JobNotFoundError` if the job does not exist
        :raises ServiceUnreachableError: no response
        """
        name, tries = JobName.of(name), _READ_TRIES if retry else 1
        return BatchJob.from_resource(self._read(name.project, name.location, str(name), {}, tries))

    def list_jobs(self, project: str, location: str, filter_: str) -> list[BatchJob]:
        """List the jobs that match a filter, newest first; reads all pages.

        Transient errors are retried for a few seconds, or for two minutes if the quota is used up.
        """
        jobs: list[BatchJob] = []
        query: dict[str, Any] = {"filter": filter_, "pageSize": PAGE_ROWS}
        while True:
            page = self.list_page(project, location, query)
            jobs += page.jobs
            if not page.next_token:
                return jobs
            query["pageToken"] = page.next_token

    def list_page(
        self, project: str, location: str, query: Mapping[str, Any], *, retry: bool = True
    ) -> JobPage:
        """List one page of jobs.

        :param query: query parameters, such as ``filter``, ``pageSize``, ``pageToken`` and ``readMask``
        :param retry: retry transient errors for a few seconds
        :raises ApiError: the service returned an error
        :raises ServiceUnreachableError: no response, or one that cannot be read
        """
        page = self._read(project, location, "batchPredictionJobs", query, _READ_TRIES if retry else 1)
        found, token = page.get("batchPredictionJobs") or [], page.get("nextPageToken") or ""
        if not isinstance(found, list) or not isinstance(token, str):
            kind = type(token if isinstance(found, list) else found).__name__
            raise UnreadableResponseError(f"a list of jobs that is {kind}")
        return JobPage(tuple(map(BatchJob.from_resource, found)), token)

    def cancel_job(self, name: JobName | str) -> bool:
        """Request cancellation of a job. Completed rows are kept, and charged.

        Transient errors are retried for two seconds: whoever cancels may be about to be killed.

        :return: ``False`` if the job had already ended
        :raises ApiError: the service refused it
        :raises ServiceUnreachableError: no response
        """
        name = JobName.of(name)

        def cancel(client: genai.Client) -> None:
            client.batches.cancel(name=str(name))

        try:
            self._retrying(_CANCEL_TRIES, _CANCEL_WAIT)(name.project, name.location, cancel)
        except ApiError as error:
            if error.status != "FAILED_PRECONDITION":
                raise
            return False
        return True

    def delete_job(self, name: JobName | str) -> None:
        """Delete a job that has ended. Its output is kept.

        Transient errors are retried for a minute, since creating and deleting jobs share a small quota.

        :raises ApiError: :class:`JobNotFoundError` if the job does not exist, as after a lost response
        :raises ServiceUnreachableError: no response
        """
        name = JobName.of(name)

        def delete(client: genai.Client) -> None:
            client.batches.delete(name=str(name))

        self._retrying(_READ_TRIES_OVER_QUOTA, _READ_WAIT)(name.project, name.location, delete)

    def count_tokens(self, spec: JobSpec, request: Mapping[str, Any]) -> int:
        """Count the tokens of a prompt with the service's ``countTokens``, which is free.

        :param request: a GenerateContentRequest or an EmbedContentRequest
        :raises ApiError: the service cannot count it
        :raises ServiceUnreachableError: no response
        """
        counted = {name: value for name, value in request.items() if snake_case(name) in _COUNTED_FIELDS}
        if is_embedding(request):
            counted = {"contents": [request.get("content")]}
        count = partial(count_tokens, model=spec.model, request=counted)
        return self._call(spec.project, spec.location, count, model=spec.model)

    def resolve_project(self, project_id: str | None) -> str:
        """Return ``project_id`` if given, else the project to use by default.

        That is the first that is set: the project of the connection, ``[gemini_batch] project_id``, the
        project of the credentials, ``GOOGLE_CLOUD_PROJECT``.

        :raises InvalidParameterError: none of them is set, or the first one is no project
        """
        with reading_credentials(self.gcp_conn_id):
            project = project_id or self._default_project()
        if not project:
            raise InvalidParameterError(
                "project_id",
                project_id,
                f"no project is configured; pass project_id, set a project in the connection "
                f"{self.gcp_conn_id!r}, or set [gemini_batch] project_id or GOOGLE_CLOUD_PROJECT",
            )
        check_project(project)
        return project

    def _default_project(self) -> str | None:
        # Of the credentials, unless the connection names one.
        project = self.project_id
        configured = None if self._get_field("project") else PROJECT_ID.configured()
        return configured or project or PROJECT_ID.value()

    def bigquery_client(self, project: str) -> bigquery.Client:
        """A BigQuery client that runs its jobs in ``project``; the hook closes it."""
        from google.cloud import bigquery

        return self._cached_client(bigquery.Client, project)

    def storage_client(self, project: str) -> StorageClient:
        """A Cloud Storage client; the hook closes it."""
        from google.cloud.storage import Client

        return self._cached_client(Client, project)

    def _cached_client(self, kind: Callable[..., _T], project: str) -> _T:
        # Each client has its own connections and access token.
        if (kind, project) not in self._cached_clients:
            with reading_credentials(self.gcp_conn_id):
                credentials = self.get_credentials()
            # Google providers before 22 know no universe but the default one.
            options = getattr(self, "get_client_options", lambda: None)()
            client: Any = kind(project=project, credentials=credentials, client_options=options)
            self._cached_clients[kind, project] = client
            weakref.finalize(self, client.close)
        return cast("_T", self._cached_clients[kind, project])

    @cached_property
    def _cached_clients(self) -> dict[tuple[Any, str], Any]:
        return {}

    def inspect_input(self, spec: JobSpec) -> InputFacts:
        """Read the metadata of the input. Skipped if the credentials have no permission to read it.

        :raises PermissionDeniedError: the credentials were rejected
        :raises ServiceUnreachableError: no access token is available at the moment
        """
        with _credentials_checked(spec):
            storage, bigquery = self.storage_client(spec.project), self.bigquery_client(spec.project)
            return inspect_input(spec, storage=storage, bigquery=bigquery)

    def checksum_input(self, spec: JobSpec) -> tuple[str, ...] | None:
        """Query a checksum of the input table; ``None`` if that is not allowed, or costs too much.

        :raises PermissionDeniedError: the credentials were rejected
        :raises ServiceUnreachableError: no access token is available at the moment
        """
        with _credentials_checked(spec):
            name = TableName.parse(spec.input_uris[0], parameter="input_uri")
            return checksum(name, self.bigquery_client(spec.project))

    def _read(
        self, project: str, location: str, path: str, query: Mapping[str, Any], tries: int = _READ_TRIES
    ) -> dict[str, Any]:
        """GET a resource, with retries of transient errors.

        The SDK's own retries do not cover a connection that breaks while the response is read.
        """
        read = partial(get_resource, path=path, query=query)
        patient = self._retrying(tries, _READ_WAIT, over_quota=False)
        if tries > 1:
            wait = _READ_WAIT * _LONGER_OVER_QUOTA
            patient = _retried(patient, _READ_TRIES_OVER_QUOTA, wait, _is_over_quota)
        resource: dict[str, Any] = patient(project, location, read)
        return resource

    def _retrying(self, tries: int, first_wait: float, *, over_quota: bool = True) -> Callable[..., Any]:
        """``_call``, with retries of transient errors.

        :param over_quota: also after a 429
        """

        def is_passing(error: Exception) -> bool:
            is_transient = isinstance(error, GeminiBatchError) and error.is_transient
            return is_transient and (over_quota or not _is_over_quota(error))

        return _retried(self._call, tries, first_wait, is_passing)

    def _call(
        self, project: str, location: str, call: Callable[[genai.Client], _T], *, model: str | None = None
    ) -> _T:
        """Call the service; try once more with a new access token if the token was rejected.

        :param model: that the call names
        """
        try:
            with self._client(project, location, model) as client:
                return call(client)
        except PermissionDeniedError as error:
            if error.code != 401:
                raise
        with self._client(project, location, model) as client:
            return call(client)

    @contextmanager
    def _client(self, project: str, location: str, model: str | None) -> Iterator[genai.Client]:
        """Yield the shared client, and translate the SDK's exceptions."""
        check_place(project, location)
        key = self._client_key(project, location)
        # Without a lock: reading a connection and making credentials may take minutes while a server stalls,
        # and on_kill must not wait for them. Two threads may build a client; one of them is kept.
        client = _clients.get(key) or _clients.setdefault(key, self._build_client(project, location))
        try:
            with without_request_logging():
                yield client
        except Exception as error:
            translated = from_sdk(error, project=project, location=location, model=model)
            if translated is None:
                raise
            if translated.credentials_refused:
                # The connection may have a new key by now: the next call reads the connection again.
                _clients.pop(key, None)
            # The SDK's error has the whole response, which may quote a prompt, and a traceback shows causes.
            raise translated.error from (None if isinstance(translated.error, ApiError) else error)

    def _client_key(self, project: str, location: str) -> tuple[Any, ...]:
        endpoint = os.environ.get("GOOGLE_VERTEX_BASE_URL")
        # Google providers before 22 have no quota project.
        quota_project = getattr(self, "quota_project_id", None)
        connection = connection_key(self.gcp_conn_id, self.impersonation_chain)
        return (*connection, quota_project, project, location, endpoint)

    def _build_client(self, project: str, location: str) -> genai.Client:
        from google import genai

        with reading_credentials(self.gcp_conn_id):
            if self._has_built_a_client:
                # The base class keeps the credentials and the connection, even if they were refused.
                self._cached_credentials = None
                self.extras = self.get_connection(self.gcp_conn_id).extra_dejson
            credentials = self.get_credentials()
            self._has_built_a_client = True
            return genai.Client(
                vertexai=True,
                project=project,
                location=location,
                credentials=credentials,
                http_options=genai.types.HttpOptions(timeout=_TIMEOUT_MS),
            )


def _retried(
    call: Callable[..., Any], tries: int, first_wait: float, is_passing: Callable[[Exception], bool]
) -> Callable[..., Any]:
    """Repeat a call after errors that may pass, with random waits that double."""
    from google.api_core.retry import Retry

    failures = count(1)

    def is_retryable(error: Exception) -> bool:
        return is_passing(error) and next(failures) < tries

    retry: Callable[..., Any] = Retry(is_retryable, initial=first_wait, timeout=None)
    return retry(call)  # type: ignore[no-any-return]


def _is_over_quota(error: Exception) -> bool:
    return isinstance(error, ApiError) and error.is_over_quota


@contextmanager
def _credentials_checked(spec: JobSpec) -> Iterator[None]:
    """Translate errors of credentials. They must not be ignored: nothing is known of the input then."""
    from google.auth.exceptions import GoogleAuthError

    try:
        yield
    except GoogleAuthError as error:
        translated = from_sdk(error, project=spec.project, location=spec.location, model=None)
        raise (translated.error if translated else error) from error


class GeminiBatchAsyncHook(GoogleBaseAsyncHook):
    """The hook for triggers: requests run in threads, off the event loop.

    ``client.aio`` is not used: the SDK's asynchronous transport binds a session to the event loop that first
    used it, and resends a request after a broken connection on its own.
    """

    sync_hook_class = GeminiBatchHook
    _hook: GeminiBatchHook | None = None

    async def get_job(self, name: JobName) -> BatchJob:
        """Read a job without retries; the trigger handles failures."""
        return await self._in_thread(lambda hook: hook.get_job(name, retry=False))

    async def list_page(self, project: str, location: str, query: Mapping[str, Any]) -> JobPage:
        """List one page of jobs without retries."""
        return await self._in_thread(lambda hook: hook.list_page(project, location, query, retry=False))

    async def resolve_project(self, project_id: str | None) -> str:
        """Return the project, as :meth:`GeminiBatchHook.resolve_project` does."""
        return await self._in_thread(lambda hook: hook.resolve_project(project_id))

    async def cancel_job(self, name: JobName) -> bool:
        """Request cancellation of a job; ``False`` if it had already ended."""
        return await self._in_thread(lambda hook: hook.cancel_job(name))

    async def _in_thread(self, call: Callable[[GeminiBatchHook], _T]) -> _T:
        def run() -> _T:
            # Here as well, and not with get_sync_hook, which makes the hooks of all triggers on one thread.
            with reading_credentials(self._hook_kwargs["gcp_conn_id"]):
                self._hook = self._hook or GeminiBatchHook(**self._hook_kwargs)
            return call(self._hook)

        return await in_thread(self._connection, run, threads=_THREADS)

    @property
    def _connection(self) -> tuple[Any, ...]:
        return connection_key(self._hook_kwargs["gcp_conn_id"], self._hook_kwargs.get("impersonation_chain"))

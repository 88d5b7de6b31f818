"""The hook: Vertex AI's batch prediction jobs over google-genai, with the credentials of a connection."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from airflow.providers.google.common.hooks.base_google import GoogleBaseAsyncHook, GoogleBaseHook

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.exceptions import (
    GeminiBatchError,
    InvalidParameterError,
    PermissionDeniedError,
)
from airflow_gemini_batch.gcp.discovery import snake_case
from airflow_gemini_batch.hooks.errors import from_sdk
from airflow_gemini_batch.hooks.sdk import get_resource, source, without_request_lines
from airflow_gemini_batch.jobs.input_facts import look_at_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from google import genai
    from google.cloud import bigquery
    from google.cloud.storage import Client as StorageClient

    from airflow_gemini_batch.jobs.input_facts import InputFacts
    from airflow_gemini_batch.jobs.spec import JobSpec

_TIMEOUT_MS = 60_000
# Seconds between the tries of a read; chance adds up to half.
_READ_WAITS = (1.0, 2.0, 4.0)
_PAGE_SIZE = 100
# What of a request the method countTokens takes.
_COUNTED = frozenset({"contents", "system_instruction", "tools", "generation_config"})

_T = TypeVar("_T")

_clients: dict[tuple[Any, ...], genai.Client] = {}
_clients_lock = threading.Lock()


class GeminiBatchHook(GoogleBaseHook):
    """Create, read, list, cancel and delete batch prediction jobs.

    One client a process for each connection, project and location: building one costs 65 ms and a token.

    :param gcp_conn_id: Google Cloud connection
    :param impersonation_chain: service account to impersonate, or the chain to it
    """

    def create_job(self, spec: JobSpec) -> BatchJob:
        """Create a job. One request, repeated only when it had no valid token: it has no idempotency key.

        :raises ApiError: the service refused it
        :raises ServiceUnreachableError: no answer; unless ``never_sent``, a job may exist
        """
        from google.genai import types

        config = types.CreateBatchJobConfig(
            display_name=spec.display_name,
            dest=spec.output_uri,
            # The SDK has no argument for labels; extra_body is merged into the request.
            http_options=types.HttpOptions(extra_body={"labels": dict(spec.labels)}),
        )

        def create(client: genai.Client) -> types.BatchJob:
            return client.batches.create(model=spec.model, src=source(spec.input_uris), config=config)

        job = self._call(spec.project, spec.location, create, creating=True)
        return BatchJob.from_resource({"name": job.name, "state": job.state, "displayName": job.display_name})

    def get_job(self, name: JobName, *, retry: bool = True) -> BatchJob:
        """Read a job.

        :param retry: try again, for some seconds, when the answer is a transient error
        :raises ApiError: :class:`JobNotFoundError` when there is no such job
        :raises ServiceUnreachableError: no answer
        """
        waits = _READ_WAITS if retry else ()
        return BatchJob.from_resource(self._read(name.project, name.location, str(name), {}, waits))

    def list_jobs(self, project: str, location: str, filter_: str) -> list[BatchJob]:
        """List the jobs that match a filter, to the last page, newest first."""
        jobs: list[BatchJob] = []
        query: dict[str, Any] = {"filter": filter_, "pageSize": _PAGE_SIZE}
        while True:
            page = self._read(project, location, "batchPredictionJobs", query, _READ_WAITS)
            jobs += map(BatchJob.from_resource, page.get("batchPredictionJobs") or ())
            if not page.get("nextPageToken"):
                return jobs
            query["pageToken"] = page["nextPageToken"]

    def cancel_job(self, name: JobName) -> None:
        """Ask the service to cancel a job. Rows that are done stay, and are charged.

        A job that has already ended is left as it is.
        """
        self._call(name.project, name.location, lambda client: client.batches.cancel(name=str(name)))

    def delete_job(self, name: JobName) -> None:
        """Delete a job that has ended. Its output stays."""
        self._call(name.project, name.location, lambda client: client.batches.delete(name=str(name)))

    def count_tokens(self, spec: JobSpec, request: Mapping[str, Any]) -> int:
        """Have the service count the tokens of a prompt, which costs nothing.

        :param request: a GenerateContentRequest
        :raises ApiError: the service does not count it
        :raises ServiceUnreachableError: no answer
        """
        asked = {name: value for name, value in request.items() if snake_case(name) in _COUNTED}

        def count(client: genai.Client) -> str | None:
            path = f"{spec.model}:countTokens"
            return client._api_client.request("post", path, asked, {}).body

        body = self._call(spec.project, spec.location, count)
        return int(json.loads(body or "{}").get("totalTokens") or 0)

    def resolve_project(self, project_id: str | None) -> str:
        """``project_id`` if given, else the connection's, else ``GOOGLE_CLOUD_PROJECT``."""
        project = project_id or self.project_id or os.environ.get("GOOGLE_CLOUD_PROJECT")
        if not project:
            raise InvalidParameterError(
                "project_id",
                project_id,
                f"no project: give project_id, set one in the connection {self.gcp_conn_id!r}, "
                "or set GOOGLE_CLOUD_PROJECT",
            )
        return project

    def bigquery_client(self, project: str) -> bigquery.Client:
        """The BigQuery client that runs its jobs in ``project``; closed when the hook is gone."""
        from google.cloud import bigquery

        return self._lent(bigquery.Client, project)

    def storage_client(self, project: str) -> StorageClient:
        """The Cloud Storage client; closed when the hook is gone."""
        from google.cloud.storage import Client

        return self._lent(Client, project)

    def _lent(self, kind: Callable[..., _T], project: str) -> _T:
        """Build a client once: each has connections and a token of its own."""
        if (kind, project) not in self._lent_clients:
            client: Any = kind(
                project=project, credentials=self.get_credentials(), client_options=self.get_client_options()
            )
            self._lent_clients[kind, project] = client
            weakref.finalize(self, client.close)
        return cast("_T", self._lent_clients[kind, project])

    @cached_property
    def _lent_clients(self) -> dict[tuple[Any, str], Any]:
        return {}

    def look_at_input(self, spec: JobSpec) -> InputFacts:
        """Look at the input without reading it. What these credentials may not see is left out.

        :raises InvalidParameterError: there is no such object or table
        :raises PermissionDeniedError: no access token is given
        :raises ServiceUnreachableError: no access token can be had at the moment
        """
        from google.auth.exceptions import GoogleAuthError

        try:
            storage, bigquery = self.storage_client(spec.project), self.bigquery_client(spec.project)
            return look_at_input(spec, storage=storage, bigquery=bigquery)
        except GoogleAuthError as error:
            # Not to be passed over: without its content, the same input would be taken for another one.
            translated = from_sdk(error, project=spec.project, location=spec.location, creating=False)
            raise (translated.error if translated else error) from error

    def _read(
        self, project: str, location: str, path: str, query: Mapping[str, Any], waits: Sequence[float]
    ) -> dict[str, Any]:
        """GET a resource; after a transient error again.

        Not by the SDK's own retries: those let a connection that breaks while it is read pass as an error.
        """
        read = partial(get_resource, path=path, query=query)
        for wait in waits:
            try:
                return self._call(project, location, read)
            except GeminiBatchError as error:
                if not error.is_transient:
                    raise
                self.log.debug("Reading %s again in %s s: %s", path, wait, error)
                time.sleep(wait * random.uniform(1, 1.5))  # noqa: S311
        return self._call(project, location, read)

    def _call(
        self, project: str, location: str, call: Callable[[genai.Client], _T], *, creating: bool = False
    ) -> _T:
        """Call the service; once more with a new token when the one that was sent is no longer good."""
        try:
            with self._client(project, location, creating=creating) as client:
                return call(client)
        except PermissionDeniedError as error:
            if error.code != 401:
                raise
        with self._client(project, location, creating=creating) as client:
            return call(client)

    @contextmanager
    def _client(self, project: str, location: str, *, creating: bool) -> Iterator[genai.Client]:
        """Lend the client and turn what the SDK raises into our errors."""
        key = self._client_key(project, location)
        with _clients_lock:
            client = _clients.get(key) or _clients.setdefault(key, self._build_client(project, location))
        try:
            with without_request_lines():
                yield client
        except Exception as error:
            translated = from_sdk(error, project=project, location=location, creating=creating)
            if translated is None:
                raise
            if translated.credentials_refused:
                # The connection may have been given a new key since: the next call reads it again.
                with _clients_lock:
                    _clients.pop(key, None)
            raise translated.error from error

    def _client_key(self, project: str, location: str) -> tuple[Any, ...]:
        chain = self.impersonation_chain
        chain = chain if chain is None or isinstance(chain, str) else tuple(chain)
        endpoint = os.environ.get("GOOGLE_VERTEX_BASE_URL")
        return (self.gcp_conn_id, chain, self.quota_project_id, project, location, endpoint)

    def _build_client(self, project: str, location: str) -> genai.Client:
        from google import genai

        self._cached_credentials = None
        return genai.Client(
            vertexai=True,
            project=project,
            location=location,
            credentials=self.get_credentials(),
            http_options=genai.types.HttpOptions(timeout=_TIMEOUT_MS),
        )


class GeminiBatchAsyncHook(GoogleBaseAsyncHook):
    """The reads that a trigger does, off the event loop.

    The requests run in threads rather than through ``client.aio``: the SDK's asynchronous transport binds
    a session to the event loop that first used it and, on its own, sends a request again after a broken
    connection.
    """

    sync_hook_class = GeminiBatchHook

    async def get_job(self, name: JobName) -> BatchJob:
        """Read a job once; a failure is the caller's to ride out."""
        hook: GeminiBatchHook = await self.get_sync_hook()
        return await _in_thread(partial(hook.get_job, name, retry=False))

    async def cancel_job(self, name: JobName) -> None:
        """Ask the service to cancel a job."""
        hook: GeminiBatchHook = await self.get_sync_hook()
        await _in_thread(partial(hook.cancel_job, name))


_threads = ThreadPoolExecutor(max_workers=16, thread_name_prefix="gemini-batch")


async def _in_thread(call: Callable[[], _T]) -> _T:
    # A pool of our own: a service that stalls must not take the default threads from other triggers.
    return await asyncio.get_running_loop().run_in_executor(_threads, call)

"""Building requests from what a Python function returns, and storing them in Cloud Storage."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    AirflowException,
    AirflowSkipException,
    context_merge,
)

from airflow_gemini_batch.exceptions import GeminiBatchError, InvalidParameterError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.gcp.gcs_uri import is_folder, is_missing, split_uri
from airflow_gemini_batch.settings import STAGING_URI
from airflow_gemini_batch.tasks.airflow_versions import arguments_from, run_identity
from airflow_gemini_batch.tasks.wait import fail_without_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.requests.building.build import Line
    from airflow_gemini_batch.requests.building.manifest import RequestsManifest
    from airflow_gemini_batch.tasks.options import KeyOptions, RequestOptions

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PromptFunction:
    """A user's function that returns or yields prompts, with its arguments.

    :param template: text with ``{field}`` placeholders, filled from each row that the function returns
    """

    function: Callable[..., Any]
    args: Collection[Any]
    kwargs: Mapping[str, Any]
    template: Any = None

    def prompts(self, context: Context) -> Any:
        """Call the function; arguments that it shares with Airflow's context come from there."""
        context_merge(context, self.kwargs)
        arguments = arguments_from(context, self.function, self.args)
        return self.function(*self.args, **arguments)


def staging_folder(staging_uri: str | None) -> str:
    """Return the folder for requests and output: the given one, or that of the settings."""
    folder = staging_uri or STAGING_URI.value()
    if not isinstance(folder, str) or not is_folder(folder):
        fix = "give gs://bucket/prefix, or set [gemini_batch] staging_uri or GEMINI_BATCH_STAGING_URI"
        raise InvalidParameterError("staging_uri", folder, fix)
    return folder.rstrip("/")


def _explain(error: Exception, prompts: int) -> None:
    """Log how far a user's function came before it failed."""
    if not isinstance(error, (GeminiBatchError, AirflowException)):
        came = counted(prompts, "prompt")
        kind = type(error).__name__
        log.error("The function raised %s after %s. Nothing was submitted or charged.", kind, came)


def _watched(lines: Iterable[Line]) -> Iterator[Line]:
    count = 0
    try:
        for line in lines:
            count += 1
            yield line
    except Exception as error:
        _explain(error, count)
        raise


def store_requests(
    prompts: PromptFunction,
    options: RequestOptions,
    keys: KeyOptions,
    context: Context,
    hook: GeminiBatchHook,
    *,
    staging_uri: str | None,
    project_id: str | None,
    model: str | None = None,
    max_objects: int | None = None,
) -> RequestsManifest:
    """Call a function, build requests from the prompts that it returns, and upload them.

    Prompts are never rendered as templates.

    :param model: of the job, if it is known
    :param max_objects: refuse to write more objects, before any is uploaded
    :raises AirflowSkipException: the function returned no prompts
    """
    from airflow_gemini_batch.requests.building.build import build_lines
    from airflow_gemini_batch.requests.building.built_check import BuiltCheck
    from airflow_gemini_batch.requests.building.manifest import difference
    from airflow_gemini_batch.requests.building.upload import previous, remember, upload
    from airflow_gemini_batch.requests.checking.import_check import Limits
    from airflow_gemini_batch.requests.checking.shared_values import check_shared

    with fail_without_retry():
        key_field, defaults = keys.parsed(), options.defaults(model)
        check_shared(defaults.members(), model)
        run, requests = run_identity(context), f"{staging_folder(staging_uri)}/requests"
        folder = f"{requests}/{run.key}"
        # The map indexes of a run share the objects, so that each finds the job of the same requests.
        shared = f"{requests}/{run.mapped_key}" if run.mapped_key else None
        storage = hook.storage_client(hook.resolve_project(project_id))
        if is_missing(bucket := split_uri(requests)[0], storage):
            fix = f"bucket {bucket} does not exist: create it, or name another"
            raise InvalidParameterError("staging_uri", staging_folder(staging_uri), fix)
        before = previous(folder, storage)
        try:
            given = prompts.prompts(context)
        except Exception as error:
            _explain(error, 0)
            raise
        lines = build_lines(given, defaults, template=prompts.template, key_field=key_field)
        manifest = upload(
            _watched(lines),
            folder,
            storage,
            into=shared,
            inspect=partial(BuiltCheck, key_field, model),
            max_rows=Limits.of(model, is_embedding=defaults.are_embeddings).rows,
            max_objects=max_objects,
        )
        if before and (reason := difference(before, manifest)):
            log.warning(
                "This try built different requests than the one before: %s. If the data did not change, the "
                "function is not deterministic: look for the current time, random numbers, sets, or queries "
                "without ORDER BY. A job for the previous requests is not used for these.",
                reason,
            )
        remember(manifest, folder, storage)
    if not manifest.rows:
        raise AirflowSkipException("The function returned no prompts: there is nothing to submit")
    log.info(
        "Wrote %s, %s bytes, to %s",
        counted(manifest.rows, "request"),
        f"{manifest.bytes:,}",
        ", ".join(manifest.uris),
    )
    return manifest

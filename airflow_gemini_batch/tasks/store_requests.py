"""What the decorator and the operator that build requests from Python have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from airflow.providers.common.compat.sdk import AirflowSkipException, context_merge, determine_kwargs

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.wait import LoggingFace, connect, fail_without_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.requests.building.manifest import RequestsManifest

STAGING_VARIABLE = "GEMINI_BATCH_STAGING_URI"


class BuildingFace(LoggingFace, Protocol):
    """A face that builds requests from what a function returns."""

    python_callable: Callable[..., Any]
    op_args: Collection[Any]
    op_kwargs: Mapping[str, Any]
    staging_uri: str | None
    project_id: str | None
    template: Any
    system_instruction: str | None
    generation_config: Any
    response_schema: Any
    safety_settings: Sequence[Any] | None
    tools: Sequence[Any] | None


def staging_folder(staging_uri: str | None) -> str:
    """The folder for requests and output: the one given, or that of the environment."""
    folder = staging_uri or os.environ.get(STAGING_VARIABLE)
    if not folder:
        raise InvalidParameterError(
            "staging_uri",
            staging_uri,
            f"say where: gs://bucket/prefix, or set {STAGING_VARIABLE}",
        )
    return folder.rstrip("/")


def store_requests(face: BuildingFace, context: Context, max_objects: int | None = None) -> RequestsManifest:
    """Call the face's function, build requests from what it gives and upload them.

    Nothing of it is rendered as a template.

    :param max_objects: refuse more, before they are uploaded
    :raises AirflowSkipException: there is nothing to ask
    """
    from airflow_gemini_batch.requests.building.build import Defaults, build_lines
    from airflow_gemini_batch.requests.building.built_check import BuiltCheck
    from airflow_gemini_batch.requests.building.manifest import difference
    from airflow_gemini_batch.requests.building.upload import previous, remember, upload

    with fail_without_retry():
        defaults = Defaults(
            system_instruction=face.system_instruction,
            generation_config=face.generation_config,
            response_schema=face.response_schema,
            safety_settings=face.safety_settings,
            tools=face.tools,
        )
        folder = f"{staging_folder(face.staging_uri)}/requests/{run_identity(context).key}"
        hook = connect(face)
        storage = hook.storage_client(hook.resolve_project(face.project_id))
        before = previous(folder, storage)
        lines = build_lines(_prompts(face, context), defaults, template=face.template)
        manifest = upload(lines, folder, storage, inspect=BuiltCheck, max_objects=max_objects)
        if before and (reason := difference(before, manifest)):
            face.log.warning(
                "This try built other requests than the one before: %s. If the data did not change, the "
                "function is not deterministic: look for the time, random numbers, sets, queries without "
                "ORDER BY. What was paid for the other requests is not used again.",
                reason,
            )
        remember(manifest, folder, storage)
    if not manifest.rows:
        raise AirflowSkipException("The function gave no prompts: there is nothing to ask")
    face.log.info("%s requests, %s bytes, in %s", f"{manifest.rows:,}", f"{manifest.bytes:,}", manifest.uris)
    return manifest


def _prompts(face: BuildingFace, context: Context) -> Any:
    context_merge(context, face.op_kwargs)
    arguments = determine_kwargs(face.python_callable, face.op_args, context)
    return face.python_callable(*face.op_args, **arguments)

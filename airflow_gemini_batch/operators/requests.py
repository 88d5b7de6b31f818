"""The operators that build requests: from what a Python function gives, or from a BigQuery query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_gemini_batch.request_faces import store_requests

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context


class GeminiBatchRequestsOperator(BaseOperator):
    """Builds requests from what a function returns or yields, and returns where they lie.

    Returns ``gs://…`` of each object; each is within the limits of one job, so map the submit operator over
    them. A function that gives nothing skips the task. What it gives is never rendered as a template.

    :param python_callable: returns or yields prompts, see :func:`build_lines`
    :param op_args: positional arguments (templated)
    :param op_kwargs: named arguments (templated); what the function has in common with Airflow's context,
        such as ``ds``, it gets from there
    :param staging_uri: ``gs://bucket/prefix``; default ``GEMINI_BATCH_STAGING_URI`` (templated)
    :param template: text with ``{fields}``, filled from each row that the function gives
    :param system_instruction: text
    :param generation_config: temperature, token limits, thinking …
    :param response_schema: pydantic model or JSON Schema of an answer
    :param safety_settings: list of ``SafetySetting``
    :param tools: list of ``Tool``
    :param project_id: default the connection's (templated)
    :param gcp_conn_id: Google Cloud connection (templated)
    :param impersonation_chain: service account to impersonate, or the chain to it (templated)
    """

    template_fields: Sequence[str] = (
        "op_args",
        "op_kwargs",
        "staging_uri",
        "project_id",
        "gcp_conn_id",
        "impersonation_chain",
    )
    ui_color = "#d2e3fc"
    # Functions may hold what cannot be copied deeply.
    shallow_copy_attrs: Sequence[str] = ("python_callable",)

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        staging_uri: str | None = None,
        template: Any = None,
        system_instruction: str | None = None,
        generation_config: Any = None,
        response_schema: Any = None,
        safety_settings: Sequence[Any] | None = None,
        tools: Sequence[Any] | None = None,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.python_callable = python_callable
        self.op_args = op_args or ()
        self.op_kwargs = op_kwargs or {}
        self.staging_uri = staging_uri
        self.template = template
        self.system_instruction = system_instruction
        self.generation_config = generation_config
        self.response_schema = response_schema
        self.safety_settings = safety_settings
        self.tools = tools
        self.project_id = project_id
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    def execute(self, context: Context) -> list[str]:
        """Build, upload, and return the URIs."""
        return store_requests(self, context).uris

"""The operators that build requests: from what a Python function gives, or from a BigQuery query."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_gemini_batch.exceptions import DatasetNotFoundError, LocationMismatchError, TableMismatchError
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.store_requests import store_requests
from airflow_gemini_batch.tasks.wait import connect, fail_without_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.requests.in_bigquery.from_query import BuiltRequests, TableRequest


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


class BigQueryToGeminiBatchRequestsOperator(BaseOperator):
    """Builds requests from a BigQuery query, inside BigQuery, and returns the input for the submit operator.

    The query gives ``key`` and either ``prompt`` (with ``system_instruction``, ``media_uri`` and
    ``media_mime_type`` if wanted, each a STRING or an array) or a ready ``request`` (JSON or STRING). Other
    columns are passed through to the output table of the job. What a job would refuse is refused here.
    A query that gives nothing skips the task.

    :param sql: the query (templated; a name ending in ``.sql`` is read from a file)
    :param destination_table: table of requests to make or replace, in a dataset of the job's region
        (templated)
    :param location: the job's region, to check the dataset's against; default ``GOOGLE_CLOUD_LOCATION``
        (templated)
    :param system_instruction: text, for rows that have none of their own
    :param generation_config: temperature, token limits, thinking …; what a ready request says itself wins
    :param response_schema: pydantic model or JSON Schema of an answer
    :param safety_settings: list of ``SafetySetting``
    :param tools: list of ``Tool``
    :param only_new_against: a results table; rows whose key succeeded there are left out (templated)
    :param export_uri: also write lines below ``gs://bucket/prefix``, a job's share a pattern, and return the
        list of patterns (templated)
    :param force_new: run the query again although this task run has built its requests
    :param project_id: project that runs the BigQuery jobs; default the connection's (templated)
    :param gcp_conn_id: Google Cloud connection (templated)
    :param impersonation_chain: service account to impersonate, or the chain to it (templated)
    """

    template_fields: Sequence[str] = (
        "sql",
        "destination_table",
        "location",
        "only_new_against",
        "export_uri",
        "project_id",
        "gcp_conn_id",
        "impersonation_chain",
    )
    template_ext: Sequence[str] = (".sql",)
    template_fields_renderers = {"sql": "sql"}  # noqa: RUF012 - as in every operator of Airflow
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        sql: str,
        destination_table: str,
        location: str | None = None,
        system_instruction: str | None = None,
        generation_config: Any = None,
        response_schema: Any = None,
        safety_settings: Sequence[Any] | None = None,
        tools: Sequence[Any] | None = None,
        only_new_against: str | None = None,
        export_uri: str | None = None,
        force_new: bool = False,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.sql = sql
        self.destination_table = destination_table
        self.location = location
        self.system_instruction = system_instruction
        self.generation_config = generation_config
        self.response_schema = response_schema
        self.safety_settings = safety_settings
        self.tools = tools
        self.only_new_against = only_new_against
        self.export_uri = export_uri
        self.force_new = force_new
        self.project_id = project_id
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain

    def execute(self, context: Context) -> str | list[str]:
        """Build, and return ``bq://…`` or the list of ``gs://…``."""
        with fail_without_retry(DatasetNotFoundError, LocationMismatchError, TableMismatchError):
            built = self._build(context)
        if not built.uris:
            raise AirflowSkipException("The query gave no rows: there is nothing new to ask")
        self.log.info("%s requests in %s", f"{built.rows:,}", ", ".join(built.uris))
        return list(built.uris) if self.export_uri else built.uris[0]

    def _build(self, context: Context) -> BuiltRequests:
        from airflow_gemini_batch.requests.in_bigquery.from_query import build_table

        hook = connect(self)
        project = hook.resolve_project(self.project_id)
        request = self._request(context, project)
        bigquery, storage = hook.bigquery_client(project), hook.storage_client(project)
        return build_table(request, bigquery=bigquery, storage=storage)

    def _request(self, context: Context, project: str) -> TableRequest:
        from airflow_gemini_batch.gcp.table_name import TableName
        from airflow_gemini_batch.requests.building.build import Defaults
        from airflow_gemini_batch.requests.in_bigquery.from_query import TableRequest

        run = run_identity(context).key
        answered = self.only_new_against
        return TableRequest(
            run=f"{run}-{context['ti'].try_number}" if self.force_new else run,
            sql=self.sql,
            destination=TableName.parse(self.destination_table, project),
            defaults=Defaults(
                system_instruction=self.system_instruction,
                generation_config=self.generation_config,
                response_schema=self.response_schema,
                safety_settings=self.safety_settings,
                tools=self.tools,
            ),
            answered=TableName.parse(answered, project, "only_new_against") if answered else None,
            export_uri=self.export_uri,
            job_location=self.location or os.environ.get("GOOGLE_CLOUD_LOCATION") or "global",
        )

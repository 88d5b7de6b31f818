"""The operators that build requests: from a Python function, or from a BigQuery query."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import AirflowSkipException, BaseOperator

from airflow_gemini_batch.exceptions import DatasetNotFoundError, LocationMismatchError, TableMismatchError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.models import GLOBAL
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.settings import LOCATION
from airflow_gemini_batch.tasks.airflow_versions import run_identity
from airflow_gemini_batch.tasks.observed import Observed
from airflow_gemini_batch.tasks.options import ConnectionOptions, KeyOptions, RequestOptions
from airflow_gemini_batch.tasks.parameters import check_callable, documented, refused_when_parsed, store
from airflow_gemini_batch.tasks.store_requests import PromptFunction, store_requests
from airflow_gemini_batch.tasks.wait import connect, fail_without_retry

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.lineage.facts import Facts
    from airflow_gemini_batch.requests.in_bigquery.from_query import BuiltRequests, TableRequest


@documented(RequestOptions, KeyOptions, ConnectionOptions)
class GeminiBatchRequestsOperator(Observed, BaseOperator):
    """Builds requests from the prompts that a function returns or yields, and uploads them.

    Returns a list of ``gs://…`` URIs. Each object fits the limits of one job, so map the submit operator over
    the list. If the function returns no prompts, the task is skipped. Prompts are never rendered as
    templates.

    :param python_callable: function that returns or yields prompts; see :func:`build_lines` for what a prompt
        may be
    :param op_args: positional arguments for the function (templated)
    :param op_kwargs: keyword arguments for the function (templated); parameters named like a value in the
        Airflow context, such as ``ds``, are filled from the context
    :param staging_uri: ``gs://bucket/prefix`` for requests; default: the option
        ``[gemini_batch] staging_uri`` (templated)
    :param template: text with ``{field}`` placeholders, filled from each row that the function returns
    :param model: model of the batch jobs, whose rules the requests are checked by; an embedding model takes
        another kind of request (templated)
    :param project_id: project of the Cloud Storage client; default: the connection's project, then
        ``[gemini_batch] project_id`` (templated)
    """

    template_fields: Sequence[str] = (
        "op_args",
        "op_kwargs",
        "staging_uri",
        "model",
        "project_id",
        *KeyOptions.templated,
        *ConnectionOptions.templated,
    )
    ui_color = "#d2e3fc"
    # A function may refer to objects that cannot be deep-copied.
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
        key_label: bool = False,
        key_field: str = KEY_FIELD,
        embedding_config: Any = None,
        model: str | None = None,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        shared = locals()
        super().__init__(**kwargs)
        store(self, shared, RequestOptions, KeyOptions, ConnectionOptions)
        with refused_when_parsed():
            check_callable(python_callable)
        self.python_callable = python_callable
        self.op_args = op_args or ()
        self.op_kwargs = op_kwargs or {}
        self.staging_uri = staging_uri
        self.template = template
        self.project_id = project_id
        self.model = model

    def execute(self, context: Context) -> list[str]:
        """Build, upload, and return the URIs."""
        from airflow_gemini_batch.lineage.datasets import of_objects

        stored = store_requests(
            PromptFunction(self.python_callable, self.op_args, self.op_kwargs, self.template),
            RequestOptions.of(self),
            KeyOptions.of(self),
            context,
            connect(self),
            staging_uri=self.staging_uri,
            project_id=self.project_id,
            model=self.model,
        )
        self._saw_data(outputs=of_objects(stored.objects))
        return stored.uris


@documented(RequestOptions, ConnectionOptions)
class BigQueryToGeminiBatchRequestsOperator(Observed, BaseOperator):
    """Builds requests from a query, inside BigQuery, and returns the input for the submit operator.

    The query returns ``key`` and either ``prompt`` (optionally with ``system_instruction``, ``media_uri`` and
    ``media_mime_type``, each a STRING or an array) or a complete ``request`` (JSON or STRING). Other columns
    are passed through to the output table of the job. For an embedding model, ``prompt`` goes with
    ``media_uri``, ``media_mime_type`` and ``title``, and ``request`` is an EmbedContentRequest. Input that
    would fail the job is rejected here. If the query returns no rows, the task is skipped.

    :param sql: query that returns the prompts; a value ending in ``.sql`` is read from a file (templated)
    :param destination_table: table of requests to create or replace, in a dataset in the location of the
        batch job (templated)
    :param location: location of the batch job; the dataset of ``destination_table`` must be in it. Default
        ``[gemini_batch] location``, then ``global`` (templated)
    :param model: model of the batch job, whose rules the requests are checked by; an embedding model takes
        another kind of request, in Cloud Storage only, so ``export_uri`` is required (templated)
    :param system_instruction: system instruction, as text, for rows that have none of their own
    :param only_new_against: results table; rows whose key has succeeded there are left out (templated)
    :param export_uri: also export the requests as JSONL under ``gs://bucket/prefix``, and return a list of
        URI patterns, one for each job (templated)
    :param force_new: run the query again even if this task run has already built its requests
    :param project_id: project that runs and pays for the BigQuery jobs; default: the connection's project,
        then ``[gemini_batch] project_id`` (templated)
    """

    template_fields: Sequence[str] = (
        "sql",
        "destination_table",
        "location",
        "model",
        "only_new_against",
        "export_uri",
        "project_id",
        *ConnectionOptions.templated,
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
        key_label: bool = False,
        embedding_config: Any = None,
        model: str | None = None,
        only_new_against: str | None = None,
        export_uri: str | None = None,
        force_new: bool = False,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        shared = locals()
        super().__init__(**kwargs)
        store(self, shared, RequestOptions, ConnectionOptions)
        self.sql = sql
        self.destination_table = destination_table
        self.location = location
        self.only_new_against = only_new_against
        self.export_uri = export_uri
        self.force_new = force_new
        self.project_id = project_id
        self.model = model
        self._built: tuple[TableRequest, BuiltRequests] | None = None

    def execute(self, context: Context) -> str | list[str]:
        """Build the requests, and return ``bq://…`` or the list of ``gs://…`` patterns."""
        with fail_without_retry(DatasetNotFoundError, LocationMismatchError, TableMismatchError):
            built = self._build(context)
        if not built.uris:
            # What the query returned before answered rows were left out is not known: counting it costs.
            if answered := self.only_new_against:
                raise AirflowSkipException(
                    f"The query returned no rows that have not succeeded in {answered} already: there is "
                    "nothing new to submit"
                )
            raise AirflowSkipException("The query returned no rows: there is nothing to submit")
        self.log.info("Wrote %s to %s", counted(built.rows, "request"), ", ".join(built.uris))
        return list(built.uris) if self.export_uri else built.uris[0]

    def _build(self, context: Context) -> BuiltRequests:
        from airflow_gemini_batch.requests.in_bigquery.from_query import build_table

        hook = connect(self)
        project = hook.resolve_project(self.project_id)
        request = self._request(context, project)
        bigquery, storage = hook.bigquery_client(project), hook.storage_client(project)
        built = build_table(request, bigquery=bigquery, storage=storage)
        self._built = request, built
        return built

    def _planned(self) -> Facts:
        from airflow_gemini_batch.gcp.table_name import TableName
        from airflow_gemini_batch.lineage.datasets import of_table, of_uris
        from airflow_gemini_batch.lineage.facts import Facts
        from airflow_gemini_batch.lineage.queries import tables_of

        request, built = self._built or (None, None)
        project = request.destination.project if request else self.project_id
        read = [*tables_of(self.sql, project)]
        if self.only_new_against:
            read.append(of_table(TableName.parse(self.only_new_against, project, "only_new_against")))
        destination = TableName.parse(self.destination_table, project)
        table = of_table(destination, rows=built.rows if built else None)
        return Facts(tuple(read), (*of_uris(built.uris if built else ()), table))

    def _request(self, context: Context, project: str) -> TableRequest:
        from airflow_gemini_batch.gcp.table_name import TableName
        from airflow_gemini_batch.requests.in_bigquery.from_query import TableRequest

        identity = run_identity(context)
        run = identity.key
        answered = self.only_new_against
        return TableRequest(
            run=f"{run}-{context['ti'].try_number}" if self.force_new else run,
            dag_id=identity.dag_id,
            task_id=identity.task_id,
            installation=identity.installation,
            sql=self.sql,
            destination=TableName.parse(self.destination_table, project),
            defaults=RequestOptions.of(self).defaults(self.model),
            answered=TableName.parse(answered, project, "only_new_against") if answered else None,
            export_uri=self.export_uri,
            job_location=self.location or LOCATION.value() or GLOBAL,
        )

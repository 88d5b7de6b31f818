"""Combining many files of requests into few jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.tasks.observed import Observed
from airflow_gemini_batch.tasks.options import ConnectionOptions
from airflow_gemini_batch.tasks.parameters import (
    check_flag,
    check_rendered,
    documented,
    is_known,
    refused_when_parsed,
    store,
)
from airflow_gemini_batch.tasks.wait import connect, fail_without_retry

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.lineage.facts import Facts


@documented(ConnectionOptions)
class GeminiBatchCombineInputsOperator(Observed, BaseOperator):
    """Combines many files of requests into few jobs, each within the limits of a job.

    Returns a list of lists of ``gs://…`` URIs, so map the submit operator over it. The files are in the order
    of their names, and the same files make the same lists. If their size does not prove that one job takes
    them all, they are read to count their lines.

    :param input_uri: JSONL in Cloud Storage, one or more ``gs://…`` URIs, which may have wildcards
        (templated)
    :param model: model of the jobs, which says how many requests a job takes; default: the first request says
        whether it is for an embedding model (templated)
    :param max_rows: maximum number of requests in a job; default 200,000, or 1,000,000 for an embedding model
    :param max_bytes: maximum size of the files of a job; default 1,000,000,000
    :param compose_into: ``gs://bucket/prefix`` in the bucket of the files: Cloud Storage composes the files
        of each job into one object there, so that each job reads one file (templated)
    :param allow_empty: return an empty list if there is no file, so that the mapped tasks are skipped; by
        default the task fails
    :param project_id: project of the Cloud Storage client; default: the connection's project, then
        ``[gemini_batch] project_id`` (templated)
    """

    template_fields: Sequence[str] = (
        "input_uri",
        "model",
        "compose_into",
        "project_id",
        *ConnectionOptions.templated,
    )
    ui_color = "#d2e3fc"

    def __init__(
        self,
        *,
        input_uri: str | Sequence[str],
        model: str | None = None,
        max_rows: int | None = None,
        max_bytes: int | None = None,
        compose_into: str | None = None,
        allow_empty: bool = False,
        project_id: str | None = None,
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        shared = locals()
        super().__init__(**kwargs)
        store(self, shared, ConnectionOptions)
        self.input_uri = input_uri
        self.model = model
        self.max_rows = max_rows
        self.max_bytes = max_bytes
        self.compose_into = compose_into
        self.allow_empty = allow_empty
        self.project_id = project_id
        with refused_when_parsed():
            check_flag("allow_empty", allow_empty)
            for name, value in (("max_rows", max_rows), ("max_bytes", max_bytes)):
                if value is not None and (type(value) is not int or value < 1):
                    raise InvalidParameterError(name, value, "give a whole number greater than 0")
            if is_known(input_uri):
                self._uris()

    def execute(self, context: Context) -> list[list[str]]:
        """Return the URIs of each job."""
        from airflow_gemini_batch.jobs.combining import Combination, combine

        with fail_without_retry():
            check_rendered(self)
            hook = connect(self)
            combination = Combination(
                uris=self._uris(),
                model=self.model,
                max_rows=self.max_rows,
                max_bytes=self.max_bytes,
                compose_into=self.compose_into,
                allow_empty=self.allow_empty,
            )
            groups = combine(combination, hook.storage_client(hook.resolve_project(self.project_id)))
        if self.compose_into:
            from airflow_gemini_batch.lineage.datasets import of_uris

            self._saw_data(outputs=of_uris([uri for group in groups for uri in group]))
        return groups

    def _planned(self) -> Facts:
        from airflow_gemini_batch.lineage.datasets import of_uris
        from airflow_gemini_batch.lineage.facts import Facts

        return Facts(of_uris(self._uris()))

    def _uris(self) -> tuple[str, ...]:
        from airflow_gemini_batch.jobs.spec import check_input_uris

        uris = check_input_uris(self.input_uri)
        if uris[0].startswith("bq://"):
            raise InvalidParameterError(
                "input_uri", uris[0], "give files in Cloud Storage; a table is one job"
            )
        return uris


def combine_inputs(input_uri: Any, *, task_id: str = "combine_inputs", **kwargs: Any) -> Any:
    """Add a :class:`GeminiBatchCombineInputsOperator` to a DAG, and return its output for ``.expand``.

    :param input_uri: JSONL in Cloud Storage, one or more ``gs://…`` URIs, which may have wildcards
    :param task_id: ID of the task
    :param kwargs: the other parameters of the operator
    """
    return GeminiBatchCombineInputsOperator(task_id=task_id, input_uri=input_uri, **kwargs).output

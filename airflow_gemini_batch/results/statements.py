"""The SQL that lands a job: the .sql templates next to this module and the values they need."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.gcp.discovery import snake_case
from airflow_gemini_batch.gcp.rpc_codes import CODE_NAMES, PASSING_CODES
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.requests.keys import KEY_LABEL
from airflow_gemini_batch.results.cost import MEDIA_COLUMNS, PRICES
from airflow_gemini_batch.results.row_status import DESCRIPTIVE_MEMBERS, FINISH_REASONS, RowStatus
from airflow_gemini_batch.results.summary import WAYS
from airflow_gemini_batch.results.token_kinds import ALL_KINDS, MODALITIES
from airflow_gemini_batch.results.typed import Typed, typed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.key_field import KeyField
    from airflow_gemini_batch.requests.response_schema import Column
    from airflow_gemini_batch.results.staging import Part


@dataclass(frozen=True)
class Landing:
    """What the script reads and writes.

    :param responses: the tables with the output of the jobs
    :param requests: the tables with their input
    :param unknown: the numbers of the jobs whose input has changed or no longer exists
    :param columns: the typed columns, from the response schema
    :param key_field: where a row has its key
    :param merges: whether each key has one row across all jobs
    :param truncates: whether rows of other DAG runs are deleted
    :param replaces: whether rows of earlier jobs are replaced, those of ``@replaces``
    :param claims: the table that says which jobs have resubmitted failures of which; ``None`` if it does not
        exist, or makes no difference
    :param lock: the table with the row that landings change in turn; ``None`` if they need not take turns
    :param stores_requests: whether to store requests in the results table
    :param stores_responses: whether to store responses
    :param results_filter: a condition on the partitions of the results table, in GoogleSQL, if it refuses
        queries without one
    :param errors_filter: the same for the error table
    :param media: the staging table of media that become objects; ``None`` leaves media in the responses
    """

    responses: tuple[Part, ...]
    requests: tuple[Part, ...]
    results: TableName
    errors: TableName
    columns: Sequence[Column]
    key_field: KeyField
    unknown: tuple[int, ...] = ()
    merges: bool = False
    truncates: bool = False
    replaces: bool = False
    claims: TableName | None = None
    lock: TableName | None = None
    stores_requests: bool = True
    stores_responses: bool = True
    media: TableName | None = None
    results_filter: str = ""
    errors_filter: str = ""


def landing_script(landing: Landing) -> str:
    """Return the whole script: read and classify, match with the input, write, count."""
    return render(
        "results/landing",
        landing=landing,
        key_label=KEY_LABEL,
        typed_query=_typed(landing).query,
        statuses=RowStatus,
        finish_reasons=FINISH_REASONS,
        code_names=CODE_NAMES,
        passing_codes=sorted(PASSING_CODES),
        descriptive=sorted({name for each in DESCRIPTIVE_MEMBERS for name in (each, snake_case(each))}),
        ways=WAYS,
        modalities=MODALITIES,
        media_columns=MEDIA_COLUMNS,
        token_kinds=ALL_KINDS,
        price_names=PRICES,
    )


def media_script(landing: Landing) -> str:
    """Return the script that fills the staging table ``landing.media``."""
    return render("results/media_found", landing=landing, key_label=KEY_LABEL)


def schemas_script(parts: Sequence[Part], limit: int, *, is_output: bool) -> str:
    """Return the query for the different response schemas of the requests, as JSON text.

    :param parts: the tables with the requests
    :param limit: how many schemas to return at most
    :param is_output: the requests are those that the output repeats
    """
    return render("results/schemas", parts=parts, is_output=is_output, limit=limit)


def list_parameters(landing: Landing) -> dict[str, list[str]]:
    """Return the script's parameters of type ``ARRAY<STRING>``: the values of the schema's enums."""
    return _typed(landing).parameters


def _typed(landing: Landing) -> Typed:
    responses = render(
        "results/responses", landing=landing, key_label=KEY_LABEL, finish_reasons=FINISH_REASONS
    )
    return typed(landing.columns, f"({responses})")

"""The columns of the results table and of the error table."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain, count
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.requests.response_schema import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from google.cloud.bigquery import SchemaField

    from airflow_gemini_batch.requests.response_schema import ResponseSchema

PARTITION_COLUMN = "landed_at"
CLUSTER_COLUMNS = ("job_name", "key")

_IDENTITY = (
    Column("job_name", "STRING", description="The batch job, projects/…/batchPredictionJobs/…"),
    Column("dag_id", "STRING"),
    Column("task_id", "STRING", description="The task that landed the row"),
    Column("run_id", "STRING"),
    Column("landed_at", "TIMESTAMP"),
)
# Tables of earlier versions lack these; a landing adds them.
_ADDED = (
    Column("map_index", "INT64", description="Of the task that landed the row; -1 if it is not mapped"),
    Column(
        "request_fingerprint",
        "STRING",
        description="Of the request in the input, without the label of its key: 16 digits of its SHA-256. A "
        "key may stand for several requests; key and fingerprint identify one. NULL if the input is unknown",
    ),
)
_KEY = Column("key", "STRING", description="The key of the request; its SHA-256 if the input has no keys")

RESULT_COLUMNS = (
    _KEY,
    Column(
        "status", "STRING", description="succeeded, failed, blocked, truncated, invalid, malformed, missing"
    ),
    Column("text", "STRING", description="The text of all parts of the response except thoughts"),
    Column("output", "JSON", description="The text parsed as JSON; NULL if it is not JSON"),
    Column("finish_reason", "STRING"),
    Column("model_version", "STRING"),
    Column("prompt_tokens", "INT64", description="Includes cached tokens"),
    Column("cached_tokens", "INT64"),
    Column("output_tokens", "INT64", description="Excludes thought tokens"),
    Column("thought_tokens", "INT64"),
    Column("total_tokens", "INT64"),
    Column(
        "processed_at",
        "TIMESTAMP",
        description="When the service responded; if the output does not say, when the job ended",
    ),
    Column("request", "JSON", description="The request as repeated in the output"),
    Column("response", "JSON", description="The whole GenerateContentResponse"),
    Column(
        "embedding",
        "FLOAT64",
        "REPEATED",
        description="The vector, from an embedding model, the first if there are several; else empty",
    ),
    Column("cost_usd", "NUMERIC", description="NULL if the price or the token counts are unknown"),
    Column("usage_metadata", "JSON", description="The service's token counts, by modality"),
    Column("job_labels", "JSON", description="The user's labels of the job"),
    *_IDENTITY,
    *_ADDED,
    Column(
        "search_queries",
        "INT64",
        description="Queries of all candidates to a search tool; each may cost. NULL if there is no response",
    ),
    Column(
        "source_uri",
        "STRING",
        description="The object or table of the input that the request is from; NULL if the input is unknown",
    ),
)
"""One row per request. The typed columns of the response schema follow."""

ERROR_COLUMNS = (
    _KEY,
    Column("status", "STRING", description="failed, blocked, truncated, invalid, malformed, missing"),
    *_IDENTITY,
    Column(
        "error_code",
        "INT64",
        description="HTTP status from the service, or below 100 the number of a google.rpc.Code",
    ),
    Column("error_status", "STRING", description="Error name from the service, or the finish reason"),
    Column("error_message", "STRING"),
    Column("retryable", "BOOL", description="Whether the request may succeed if resubmitted"),
    Column(
        "request",
        "JSON",
        description="The request from the input; if that no longer exists, as repeated in the output",
    ),
    Column("raw_line", "STRING", description="The output line, if it is not JSON"),
    *_ADDED,
    Column(
        "results_table",
        "STRING",
        description="The results table of the row, project.dataset.table; several may share an error table",
    ),
)
"""One row per request that did not succeed."""

# tables.get returns the type names of legacy SQL.
_LEGACY = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
_STANDARD = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "STRUCT": "RECORD"}


def result_columns(schema: ResponseSchema | None) -> tuple[Column, ...]:
    """Return the columns of the results table: the fixed ones, then those of the response schema.

    A property with the name of a fixed column gets a column ``answer_…``.
    """
    return (*RESULT_COLUMNS, *_beside_fixed(schema.columns if schema else ()))


def _beside_fixed(columns: Sequence[Column]) -> Iterator[Column]:
    fixed = {column.name for column in RESULT_COLUMNS}
    taken = {column.name.lower() for column in columns}
    for column in columns:
        if column.name.lower() not in fixed:
            yield column
            continue
        name = f"answer_{column.name}"
        numbered = (f"{name}_{number}" for number in count(2))
        yield replace(
            column,
            name=next(each for each in chain([name], numbered) if each.lower() not in taken),
            member=column.name,
            description=column.description or f"The property {column.name} of the answer",
        )


def schema_fields(columns: Iterable[Column]) -> list[SchemaField]:
    """Convert columns to BigQuery's fields. No field is REQUIRED: failed rows have no response."""
    from google.cloud.bigquery import SchemaField

    return [
        SchemaField(each.name, each.type, each.mode, fields=schema_fields(each.fields), **_described(each))
        for each in columns
    ]


def _described(column: Column) -> dict[str, Any]:
    return {"description": column.description[:1024]} if column.description else {}


def widened(columns: Sequence[Column], existing: Sequence[SchemaField]) -> list[SchemaField]:
    """Return the table's schema plus the columns that it lacks, including fields of its RECORDs.

    The schema is unchanged if this package did not create the table.
    """
    names = {each.name.lower() for each in existing}
    ours = {_KEY.name, *(each.name for each in _IDENTITY)} <= names
    return _widened(columns, existing) if ours else list(existing)


def _widened(columns: Sequence[Column], existing: Sequence[SchemaField]) -> list[SchemaField]:
    lacking = {each.name.lower(): each for each in columns}
    found = []
    for there in existing:
        column = lacking.pop(there.name.lower(), None)
        found.append(_with_fields(there, _widened(column.fields, there.fields)) if column else there)
    return [*found, *schema_fields(lacking.values())]


def _with_fields(field: SchemaField, fields: Sequence[SchemaField]) -> SchemaField:
    from google.cloud.bigquery import SchemaField

    if list(fields) == list(field.fields):
        return field
    changed = {**field.to_api_repr(), "fields": [each.to_api_repr() for each in fields]}
    return SchemaField.from_api_repr(changed)


def differences(columns: Sequence[Column], existing: Sequence[SchemaField], above: str = "") -> list[str]:
    """Describe why a table cannot store rows with these columns; empty if it can.

    :param columns: the columns of the rows
    :param existing: the table's schema
    :param above: path of the RECORD whose fields are compared, with a trailing dot
    """
    by_name = {each.name.lower(): each for each in existing}
    found = []
    for column in columns:
        name = f"{above}{column.name}"
        there = by_name.pop(column.name.lower(), None)
        wanted = f"{_legacy(column.type)} {column.mode}"
        if there is None:
            found.append(f"column {name} ({column.type} {column.mode}) is missing; add it")
        # If a column of ours were REQUIRED, failed rows could not be written.
        elif (has := f"{_legacy(there.field_type)} {there.mode or 'NULLABLE'}") != wanted:
            found.append(f"column {name} is {has}, not {wanted}")
        else:
            found += differences(column.fields, there.fields, f"{name}.")
    found += [
        f"column {above}{each.name} is REQUIRED, but the landing writes no value to it; make it NULLABLE, or "
        "give it a default value"
        for each in by_name.values()
        if each.mode == "REQUIRED" and each.default_value_expression is None
    ]
    return found


def arranged(columns: Sequence[Column], existing: Sequence[SchemaField]) -> tuple[Column, ...]:
    """Return the columns with the fields of each RECORD in the table's order.

    BigQuery writes a STRUCT to a RECORD by position, so fields that only the table has are included.
    """
    by_name = {each.name.lower(): each.fields for each in existing}
    return tuple(
        replace(each, fields=_fields(each.fields, by_name[each.name.lower()])) if each.fields else each
        for each in columns
    )


def _fields(ours: Sequence[Column], existing: Sequence[SchemaField]) -> tuple[Column, ...]:
    known = {each.name.lower(): each for each in arranged(ours, existing)}
    return tuple(known.get(each.name.lower()) or _unwritten(each) for each in existing)


def _unwritten(existing: SchemaField) -> Column:
    kind = existing.field_type.upper()
    return Column(
        existing.name,
        _STANDARD.get(kind, kind),
        existing.mode or "NULLABLE",
        fields=tuple(_unwritten(each) for each in existing.fields),
        is_written=False,
    )


def _legacy(kind: str) -> str:
    return _LEGACY.get(kind.upper(), kind.upper())

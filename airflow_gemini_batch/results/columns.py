"""The columns of the results table and of the error table."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import ResponseSchemaError
from airflow_gemini_batch.requests.response_schema import Column

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

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
_KEY = Column("key", "STRING", description="The key of the request; its SHA-256 where the input has no keys")

RESULT_COLUMNS = (
    _KEY,
    Column(
        "status", "STRING", description="succeeded, failed, blocked, truncated, invalid, malformed, missing"
    ),
    Column("text", "STRING", description="The answer: the text of all parts that are not thoughts"),
    Column("output", "JSON", description="The answer as JSON; NULL when it is not JSON"),
    Column("finish_reason", "STRING"),
    Column("model_version", "STRING"),
    Column("prompt_tokens", "INT64", description="Includes the cached tokens"),
    Column("cached_tokens", "INT64"),
    Column("output_tokens", "INT64", description="Without the thoughts"),
    Column("thought_tokens", "INT64"),
    Column("total_tokens", "INT64"),
    Column(
        "processed_at",
        "TIMESTAMP",
        description="When the service answered; when its job ended, where the output does not say",
    ),
    Column("request", "JSON", description="The request as the service echoes it"),
    Column("response", "JSON", description="The whole GenerateContentResponse"),
    Column("embedding", "FLOAT64", "REPEATED", description="The vector, of an embedding model; else empty"),
    Column("cost_usd", "NUMERIC", description="NULL when the price or the tokens are not known"),
    Column("usage_metadata", "JSON", description="Tokens as the service counts them, by modality"),
    Column("job_labels", "JSON", description="The labels that the user gave the job"),
    *_IDENTITY,
)
"""One row a request. The columns of the response schema follow."""

ERROR_COLUMNS = (
    _KEY,
    Column("status", "STRING", description="failed, blocked, truncated, invalid, malformed, missing"),
    *_IDENTITY,
    Column("error_code", "INT64", description="The service's code, an HTTP status"),
    Column("error_status", "STRING", description="The service's name of the error, or the finish reason"),
    Column("error_message", "STRING"),
    Column("retryable", "BOOL", description="Whether the same request may succeed when sent again"),
    Column(
        "request",
        "JSON",
        description="The request as asked; if that is lost, as the service echoes it",
    ),
    Column("raw_line", "STRING", description="The output line, when it is not JSON"),
)
"""One row for every request that has no good answer."""

# tables.get answers with the names of legacy SQL.
_LEGACY = {"INT64": "INTEGER", "FLOAT64": "FLOAT", "BOOL": "BOOLEAN", "STRUCT": "RECORD"}
_STANDARD = {"INTEGER": "INT64", "FLOAT": "FLOAT64", "BOOLEAN": "BOOL", "STRUCT": "RECORD"}


def result_columns(schema: ResponseSchema | None) -> tuple[Column, ...]:
    """Return the columns of the results table: the fixed ones, then those of the response schema.

    :raises ResponseSchemaError: when a property has the name of a fixed column
    """
    fixed = {column.name for column in RESULT_COLUMNS}
    for column in schema.columns if schema else ():
        if column.name.lower() in fixed:
            raise ResponseSchemaError(
                f"$.properties.{column.name}",
                column.name,
                f"the results table has a column {column.name.lower()!r} of its own; rename the property",
            )
    return (*RESULT_COLUMNS, *(schema.columns if schema else ()))


def schema_fields(columns: Iterable[Column]) -> list[SchemaField]:
    """Return the columns as BigQuery takes them. None is REQUIRED: a row that failed has no answer."""
    from google.cloud.bigquery import SchemaField

    return [
        SchemaField(each.name, each.type, each.mode, fields=schema_fields(each.fields), **_described(each))
        for each in columns
    ]


def _described(column: Column) -> dict[str, Any]:
    return {"description": column.description[:1024]} if column.description else {}


def widened(columns: Sequence[Column], existing: Sequence[SchemaField]) -> list[SchemaField]:
    """Return the schema of a table of ours with the columns that it lacks, those of its RECORDs among them.

    That of somebody else's table is returned as it is.
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
    """Say what keeps rows of these columns out of a table with those; empty when nothing does.

    :param above: the path of the RECORD whose fields they are, with a dot behind it
    """
    by_name = {each.name.lower(): each for each in existing}
    found = []
    for column in columns:
        name = f"{above}{column.name}"
        there = by_name.pop(column.name.lower(), None)
        wanted = f"{_legacy(column.type)} {column.mode}"
        if there is None:
            found.append(f"column {name} ({column.type} {column.mode}) is not there; add it")
        # A REQUIRED column of ours would refuse rows that failed.
        elif (has := f"{_legacy(there.field_type)} {there.mode or 'NULLABLE'}") != wanted:
            found.append(f"column {name} is {has}, not {wanted}")
        else:
            found += differences(column.fields, there.fields, f"{name}.")
    found += [
        f"column {above}{each.name} is REQUIRED and nothing would be written to it"
        for each in by_name.values()
        if each.mode == "REQUIRED"
    ]
    return found


def arranged(columns: Sequence[Column], existing: Sequence[SchemaField]) -> tuple[Column, ...]:
    """Return columns with the fields of each RECORD in the order that the table has them in.

    A STRUCT is written to a RECORD by position, so a field that only the table has is there too, unwritten.
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

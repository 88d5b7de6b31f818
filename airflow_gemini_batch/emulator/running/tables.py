"""Input and output of jobs in the BigQuery emulator."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import IO, TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import OUTPUT_COLUMNS, UNSUPPORTED_TYPES
from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.emulator.running.rows import Answered, InputRow, row_line
from airflow_gemini_batch.emulator.running.storage import stand_in_host
from airflow_gemini_batch.gcp.discovery import elements, member

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from google.cloud.bigquery import Client

    from airflow_gemini_batch.emulator.running.rows import OutputRow

_PAGE_ROWS = 10_000
# Much less than the client's ten minutes: an emulator that has stopped does not come back.
_RETRY_SECONDS = 20.0


@dataclass(frozen=True)
class Column:
    """A column of an output table, with its BigQuery type."""

    name: str
    type: str


class Tables:
    """BigQuery at ``BIGQUERY_EMULATOR_HOST``, never the real service.

    :raises JobFailedError: when the variable is not set
    """

    def __init__(self, project: str) -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.bigquery import DEFAULT_RETRY, Client

        host = stand_in_host("BIGQUERY_EMULATOR_HOST")
        self._client: Client = Client(
            project=project,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": host},
        )
        self._retry = DEFAULT_RETRY.with_timeout(_RETRY_SECONDS)

    def close(self) -> None:
        """Close the connections."""
        self._client.close()  # type: ignore[no-untyped-call]

    def read(self, uri: str) -> tuple[list[Column], list[InputRow]]:
        """Return the columns that are copied to an output table, and the rows.

        :param uri: ``bq://project.dataset.table``
        :raises JobFailedError: when the table does not exist, or its columns cannot be used
        """
        from google.api_core.exceptions import NotFound

        name = uri.removeprefix("bq://")
        try:
            table = self._client.get_table(name, retry=self._retry)
        except (NotFound, ValueError):
            raise errors.import_failed(f"Not found: Table {name.replace('.', ':', 1)}") from None
        names = {field.name for field in table.schema}
        is_output = names.issuperset(OUTPUT_COLUMNS)  # See Answered.take.
        for field in table.schema:
            if not (is_output and field.name in OUTPUT_COLUMNS):
                _check_column(field.name, field.field_type, field.mode)
        columns = [Column(field.name, field.field_type) for field in table.schema]
        if not any(c.name == "request" and c.type in ("JSON", "STRING") for c in columns):
            raise errors.import_failed("The table has no column `request` of type JSON or STRING.")
        records = self._client.list_rows(table, page_size=_PAGE_ROWS, retry=self._retry)
        # Not Row.items(), which deep-copies every value and takes longer than everything else here.
        rows = [_input_row({column.name: record[column.name] for column in columns}) for record in records]
        if not rows:
            raise errors.import_failed("The input has no rows.")
        if any(_has_text_for_object(row.request) for row in rows):
            raise errors.system_error()
        return [c for c in columns if c.name not in OUTPUT_COLUMNS], rows

    def output_table(self, uri: str, at: datetime) -> str:
        """Return ``project.dataset.table`` for an output URI, in which dataset and table are optional."""
        parts = uri.removeprefix("bq://").strip("/").split(".")
        made_up = at.strftime("predictions_%Y_%m_%dT%H_%M_%S_%fZ")
        if len(parts) == 1:
            parts.append(made_up)
            self._client.create_dataset(f"{parts[0]}.{made_up}", exists_ok=True, retry=self._retry)
            return f"{parts[0]}.{made_up}.predictions"
        return ".".join(parts if len(parts) == 3 else [*parts, made_up])

    def write(self, table: str, columns: Sequence[Column], rows: IO[bytes]) -> None:
        """Create or replace a table.

        :param rows: lines of JSON, as ``table_line`` writes them
        :raises JobFailedError: when the dataset does not exist, or BigQuery refuses the rows
        """
        from google.api_core.exceptions import GoogleAPICallError
        from google.cloud.bigquery import LoadJobConfig, SchemaField, SourceFormat, WriteDisposition

        config = LoadJobConfig(
            schema=[SchemaField(column.name, column.type) for column in columns],
            source_format=SourceFormat.NEWLINE_DELIMITED_JSON,
            write_disposition=WriteDisposition.WRITE_TRUNCATE,
        )
        project, dataset, _ = table.split(".")
        try:
            self._client.get_dataset(f"{project}.{dataset}", retry=self._retry)
            self._client.load_table_from_file(rows, table, job_config=config, rewind=True).result()
        except GoogleAPICallError as error:
            # error.message starts with the URL of the call; the service's own message is in the details.
            details = [
                str(detail.get("message")) for detail in error.errors or () if isinstance(detail, dict)
            ]
            raise errors.export_failed(details[0] if details else str(error.message)) from None


def columns_of_lines(rows: Iterable[InputRow]) -> list[Column]:
    """Return the columns of an output table for rows from Cloud Storage, with one type per column."""
    kinds: dict[str, set[str]] = {}
    for row in rows:
        for name, value in row.fields.items():
            kinds.setdefault(name, set()).add(_type_of(value))
    columns = []
    for name, found in kinds.items():
        some = found - {""}
        if some == {"INT64", "FLOAT64"}:
            some = {"FLOAT64"}
        columns.append(Column(name, some.pop() if len(some) == 1 else "STRING"))
    return [*columns, Column("request", "JSON")]


def with_answers(columns: Sequence[Column]) -> list[Column]:
    """Return the columns of an output table: those of the input, then response and status."""
    return [*columns, Column("response", "JSON"), Column("status", "STRING")]


def table_line(output: OutputRow, columns: Sequence[Column]) -> bytes:
    """Return a row as a JSON line that loads into the output table."""
    column = output.row.column
    written = {
        "request": output.request if column is None else _json(column),
        "response": output.response or "null",
        "status": _json(output.status),
    }
    fields = output.row.fields
    return row_line(
        {c.name: written.get(c.name) or _json(_fitted(fields.get(c.name), c.type)) for c in columns}
    )


def _has_text_for_object(request: Any) -> bool:
    """Whether contents, parts or the system instruction have a value that is no object.

    ``"parts": "text"`` in a row of a table failed the whole job in a published report.
    """
    messages = [*elements(member(request, "contents")), *elements(member(request, "systemInstruction"))]
    parts = [part for message in messages for part in elements(member(message, "parts"))]
    return any(each is not None and not isinstance(each, dict) for each in (*messages, *parts))


def _check_column(name: str, type_: str, mode: str) -> None:
    if name in OUTPUT_COLUMNS:
        raise errors.import_failed(f"The column name `{name}` is reserved for the output.")
    if mode == "REPEATED" or type_ in UNSUPPORTED_TYPES:
        kind = "ARRAY" if mode == "REPEATED" else type_
        raise errors.import_failed(f"The column `{name}` has the unsupported type {kind}.")


def _input_row(record: dict[str, Any]) -> InputRow:
    column = record.pop("request")
    request = column
    if isinstance(request, str):
        try:
            request = json.loads(request)
        except ValueError:
            request = None
    fields = {name: _plain(value) for name, value in record.items()}
    answered = Answered.take(fields)
    return InputRow(fields, request, column, answered)


def _plain(value: Any) -> Any:
    """Return a value of the BigQuery client as a JSON value."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return str(value)
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def _type_of(value: Any) -> str:
    """Return the BigQuery type of a JSON value; empty for null, which fits any type."""
    if value is None:
        return ""
    if isinstance(value, (dict, list)):
        return "JSON"
    return {bool: "BOOL", int: "INT64", float: "FLOAT64"}.get(type(value), "STRING")


def _fitted(value: Any, type_: str) -> Any:
    if type_ == "STRING" and value is not None and not isinstance(value, str):
        return _json(value)
    return value


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

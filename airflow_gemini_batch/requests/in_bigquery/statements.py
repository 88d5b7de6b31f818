"""The statements that turn the rows of a query into requests, from the .sql files beside this module."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.requests.building.media import MIME_TYPES
from airflow_gemini_batch.requests.keys import KEY_LABEL, LABEL_PATTERN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.in_bigquery.columns import RequestColumns, TableColumn

_SNAKE_CASE = {
    "systemInstruction": "system_instruction",
    "generationConfig": "generation_config",
    "safetySettings": "safety_settings",
    "toolConfig": "tool_config",
    "cachedContent": "cached_content",
}


@dataclass(frozen=True)
class TableBuild:
    """What is built from what.

    :param defaults: members that all requests share, see :meth:`Defaults.members`
    """

    staging: TableName
    destination: TableName
    columns: RequestColumns
    defaults: Mapping[str, Any]


@dataclass(frozen=True)
class Failures:
    """Rows that have been landed, did not succeed and may when they are asked again.

    :param jobs: names of the jobs that they are of; empty for any
    """

    results: TableName
    errors: TableName
    jobs: tuple[str, ...] = ()


def stage_statement(query: str, staging: TableName, answered: TableName | None = None) -> str:
    """Return the statement that runs the user's query.

    :param answered: a results table; keys that succeeded there are left out
    """
    is_new = "TRUE"
    if answered:
        keys = f"SELECT key FROM {answered.quoted} WHERE status = 'succeeded' AND key IS NOT NULL"  # noqa: S608
        # A row without a key stays, to be refused.
        is_new = f"key IS NULL OR CAST(key AS STRING) NOT IN ({keys})"
    return render(
        "requests/in_bigquery/stage",
        staging=staging.quoted,
        sql=query.strip().rstrip(";").rstrip(),
        is_new=is_new,
    )


def inspect_statement(build: TableBuild) -> str:
    """Return the query that counts what would go wrong."""
    columns = build.columns
    is_ready = columns.source.name.lower() == "request"
    if is_ready:
        contents = f"JSON_QUERY({_parsed(columns.source)}, '$.contents[0]')"
        is_empty = f"{contents} IS NULL"
        spelt = [_SNAKE_CASE[name] for name in build.defaults if name in _SNAKE_CASE]
        found = [f"JSON_QUERY({_parsed(columns.source)}, '$.{name}') IS NOT NULL" for name in spelt]
    else:
        is_empty = f"NOT EXISTS (SELECT 1 FROM UNNEST({_array(columns.source)}) AS text WHERE text != '')"  # noqa: S608
        found = []
    return render(
        "requests/in_bigquery/inspect",
        staging=build.staging.quoted,
        is_empty=is_empty,
        has_odd_media=_odd_media(columns),
        has_snake_case=" OR ".join(found) or "FALSE",
    )


def build_statement(build: TableBuild) -> str:
    """Return the statement that makes the table of requests; its parameters are :func:`parameters`."""
    is_ready = build.columns.source.name.lower() == "request"
    return render(
        "requests/in_bigquery/build",
        staging=build.staging.quoted,
        destination=build.destination.quoted,
        label_pattern=LABEL_PATTERN,
        given=_ready(build) if is_ready else _made(build),
        request=f"JSON_SET(given, '$.labels.{KEY_LABEL}', label)",
        passed_columns="".join(f", `{name}`" for name in build.columns.passed),
    )


def measure_statement(destination: TableName) -> str:
    """Return the query that tells how large the requests are."""
    return render("requests/in_bigquery/measure", destination=destination.quoted)


def export_statement(destination: TableName, uri: str, shard: int, shards: int) -> str:
    """Return the statement that writes one job's share as lines."""
    quoted = uri.replace("\\", "\\\\").replace("'", "\\'")
    return render(
        "requests/in_bigquery/export",
        destination=destination.quoted,
        uri=quoted,
        shard=str(shard),
        shards=str(shards),
    )


def count_failures_statement(failures: Failures) -> str:
    """Return the query that counts failures by job; with ``jobs``, its parameter is the array ``@jobs``."""
    return render("requests/in_bigquery/count_failures", failures=_failures(failures))


def retry_statement(failures: Failures, destination: TableName, days: int) -> str:
    """Return the statement that makes a table of requests of failures; the parameter is the same.

    :param days: after which the table expires
    """
    found = _failures(failures)
    return render(
        "requests/in_bigquery/retry", destination=destination.quoted, failures=found, days=str(days)
    )


def _failures(failures: Failures) -> str:
    is_meant = "job_name IN UNNEST(@jobs)" if failures.jobs else "TRUE"
    tables = {"results": failures.results.quoted, "errors": failures.errors.quoted}
    return render("requests/in_bigquery/failures", **tables, is_meant=is_meant)


def parameters(build: TableBuild) -> dict[str, str]:
    """Return the query parameters of :func:`build_statement`: JSON by name."""
    members = dict(build.defaults)
    config = members.pop("generationConfig", {})
    named = {**members, **{f"generationConfig_{name}": value for name, value in config.items()}}
    if build.columns.source.name.lower() != "request":
        named = dict(build.defaults)
    return {name: json.dumps(value) for name, value in named.items()}


def _made(build: TableBuild) -> str:
    """A request from a prompt."""
    columns = build.columns
    parts = f"ARRAY(SELECT JSON_OBJECT('text', text) FROM {_unnest(columns.source, 'text')})"  # noqa: S608
    if "media_uri" in columns.optional:
        media = (
            f"ARRAY(SELECT JSON_OBJECT('fileData', JSON_OBJECT('mimeType', {_mime_type(columns)}, "  # noqa: S608
            f"'fileUri', uri)) FROM {_unnest(columns.optional['media_uri'], 'uri')})"
        )
        parts = f"ARRAY_CONCAT({media}, {parts})"
    members = [f"'contents', JSON_ARRAY(JSON_OBJECT('role', 'user', 'parts', TO_JSON({parts})))"]
    members += [f"'{name}', PARSE_JSON(@{name})" for name in build.defaults]
    request = f"JSON_OBJECT({', '.join(members)})"
    if instruction := columns.optional.get("system_instruction"):
        texts = f"ARRAY(SELECT JSON_OBJECT('text', text) FROM {_unnest(instruction, 'text')})"  # noqa: S608
        given = f"ARRAY_LENGTH({texts}) > 0"
        own = f"JSON_SET({request}, '$.systemInstruction', JSON_OBJECT('parts', TO_JSON({texts})))"
        request = f"IF({given}, {own}, {request})"
    return request


def _ready(build: TableBuild) -> str:
    """A request that is there, with what it lacks of the defaults."""
    request = _parsed(build.columns.source)
    for name in parameters(build):
        path = "$." + name.replace("_", ".", 1)
        lacks = f"JSON_QUERY({_parsed(build.columns.source)}, '{path}') IS NULL"
        request = f"IF({lacks}, JSON_SET({request}, '{path}', PARSE_JSON(@{name})), {request})"
    return request


def _parsed(column: TableColumn) -> str:
    if column.type == "JSON":
        return f"`{column.name}`"
    return f"SAFE.PARSE_JSON(`{column.name}`, wide_number_mode => 'round')"


def _array(column: TableColumn) -> str:
    return f"`{column.name}`" if column.is_array else f"[`{column.name}`]"


def _unnest(column: TableColumn, name: str) -> str:
    return (
        f"UNNEST({_array(column)}) AS {name} WITH OFFSET AS place "
        f"WHERE {name} IS NOT NULL AND {name} != '' ORDER BY place"
    )


def _mime_type(columns: RequestColumns) -> str:
    kinds = " ".join(f"WHEN '{ending}' THEN '{kind}'" for ending, kind in MIME_TYPES.items())
    guessed = f"CASE LOWER(REGEXP_EXTRACT(uri, r'\\.([A-Za-z0-9]+)$')) {kinds} END"
    given = columns.optional.get("media_mime_type")
    if not given:
        return guessed
    own = f"`{given.name}`[SAFE_OFFSET(place)]" if given.is_array else f"`{given.name}`"
    return f"IFNULL(NULLIF({own}, ''), {guessed})"


def _odd_media(columns: RequestColumns) -> str:
    """Media that is no address in Cloud Storage, or whose mime type nothing tells."""
    if "media_uri" not in columns.optional:
        return "FALSE"
    place = f"UNNEST({_array(columns.optional['media_uri'])}) AS uri WITH OFFSET AS place"
    odd = rf"({_mime_type(columns)} IS NULL OR NOT REGEXP_CONTAINS(uri, r'^(gs|https)://[^/\s]+/.'))"
    return f"EXISTS (SELECT 1 FROM {place} WHERE IFNULL(uri, '') != '' AND {odd})"  # noqa: S608

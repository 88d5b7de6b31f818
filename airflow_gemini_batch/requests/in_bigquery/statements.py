"""SQL statements that build and resubmit requests, rendered from the ``.sql`` files in this folder."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.discovery import snake_case
from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.requests.building.media import MIME_TYPES
from airflow_gemini_batch.requests.checking.model_rules import FILE_URI_PATTERN
from airflow_gemini_batch.requests.in_bigquery.rule_conditions import RowConditions
from airflow_gemini_batch.requests.in_bigquery.table_marks import escaped
from airflow_gemini_batch.requests.keys import KEY_LABEL, LABEL_PATTERN
from airflow_gemini_batch.requests.request_fields import EMBED_CONFIG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.requests.in_bigquery.columns import RequestColumns
    from airflow_gemini_batch.requests.in_bigquery.table_marks import TableMark

# A BigQuery job can write to this many partitions of a table.
_MAX_PARTITIONS = 4000
_SNAKE_CASE = {
    "systemInstruction": "system_instruction",
    "generationConfig": "generation_config",
    "safetySettings": "safety_settings",
    "toolConfig": "tool_config",
    "cachedContent": "cached_content",
    EMBED_CONFIG: snake_case(EMBED_CONFIG),
}


@dataclass(frozen=True)
class TableBuild:
    """A table of requests to build.

    :param staging: table with the rows of the user's query
    :param defaults: members that all requests share, see :meth:`Defaults.members`
    :param are_embeddings: whether the requests are EmbedContentRequests
    :param key_label: write keys into the requests, as a label
    :param model: of the job, if it is known
    """

    staging: TableName
    destination: TableName
    columns: RequestColumns
    defaults: Mapping[str, Any]
    are_embeddings: bool = False
    key_label: bool = False
    model: str | None = None

    @property
    def config(self) -> str:
        """The member of a request whose fields are merged one by one."""
        return EMBED_CONFIG if self.are_embeddings else "generationConfig"

    @property
    def conditions(self) -> RowConditions | None:
        """The rules to check complete requests by; those that are made of prompts break none."""
        return RowConditions.of(self.model) if self.columns.has_requests else None


@dataclass(frozen=True)
class Failures:
    """Landed rows that did not succeed and may succeed when resubmitted.

    :param jobs: names of the jobs whose failures to take; empty for all jobs
    """

    results: TableName
    errors: TableName
    jobs: tuple[str, ...] = ()


def stage_statement(
    query: str, staging: TableName, mark: TableMark, answered: TableName | None = None
) -> str:
    """Return the statement that stores the rows of the user's query.

    :param mark: of the staging table
    :param answered: a results table; keys that succeeded there are left out
    """
    sql = query.strip().rstrip(";").rstrip()
    return render("requests/in_bigquery/stage", staging=staging, mark=mark, sql=sql, answered=answered)


def inspect_statement(build: TableBuild) -> str:
    """Return the query that counts rows that cannot become requests."""
    defaults = build.defaults if build.columns.has_requests else ()
    return render(
        "requests/in_bigquery/inspect",
        build=build,
        mime_types=MIME_TYPES,
        media_uri_pattern=f"^(?:{FILE_URI_PATTERN})$",
        conditions=build.conditions,
        snake_case_members=[_SNAKE_CASE[name] for name in defaults if name in _SNAKE_CASE],
    )


def build_statement(build: TableBuild, mark: TableMark) -> str:
    """Return the statement that builds the table of requests; its parameters are :func:`parameters`."""
    return render(
        "requests/in_bigquery/build",
        build=build,
        mark=mark,
        key_label=KEY_LABEL,
        label_pattern=LABEL_PATTERN,
        mime_types=MIME_TYPES,
        default_paths={name: "$." + name.replace("_", ".", 1) for name in parameters(build)},
    )


def measure_statement(destination: TableName) -> str:
    """Return the query that measures the requests: their number, and their bytes as JSONL."""
    return render("requests/in_bigquery/measure", destination=destination)


def files_statement(requests: TableName, files: TableName, shards: int, mark: TableMark) -> str:
    """Return the statement that stores the requests by the file that they go to.

    :param files: the table to create, with a column ``file``, an index from 0
    :param shards: number of files
    """
    width = -(-shards // _MAX_PARTITIONS)
    return render(
        "requests/in_bigquery/files",
        requests=requests,
        files=files,
        shards=shards,
        width=width,
        partitions=-(-shards // width),
        mark=mark,
    )


def export_statement(
    source: TableName, uri: str, shard: int, shards: int, *, is_by_file: bool = False
) -> str:
    """Return the statement that writes one job's share as JSONL.

    :param source: the requests, or the table of :func:`files_statement`
    :param uri: ``gs://…`` with one ``*``
    :param shard: index of the share, from 0
    :param is_by_file: whether ``source`` is that table, of which only the share is read
    """
    return render(
        "requests/in_bigquery/export",
        source=source,
        uri=escaped(uri),
        shard=shard,
        shards=shards,
        is_by_file=is_by_file,
    )


def parameters(build: TableBuild) -> dict[str, str]:
    """Return the query parameters of :func:`build_statement`: names and JSON.

    Requests that the query returns are merged with each field of their config on its own.
    """
    members = dict(build.defaults)
    if build.columns.has_requests:
        config = members.pop(build.config, {})
        members |= {f"{build.config}_{name}": value for name, value in config.items()}
    return {name: json.dumps(value) for name, value in members.items()}

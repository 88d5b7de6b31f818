"""What to tell a user about odd results: keys that are elsewhere, a schema that nobody asked for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import UNSUPPORTED_TYPES
from airflow_gemini_batch.gcp.discovery import member
from airflow_gemini_batch.gcp.gcs_uri import split_uri
from airflow_gemini_batch.requests.checking.earlier_output import input_part
from airflow_gemini_batch.requests.checking.likely_keys import LikelyKeys, best_name, is_identifier
from airflow_gemini_batch.results.outputs import Objects

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from google.cloud.storage import Client

    from airflow_gemini_batch.requests.key_field import KeyField
    from airflow_gemini_batch.results.outputs import JobTable

# Names of members are looked for in the first lines only.
_PEEK = 1024 * 1024


def advice_on_keys(key_field: KeyField, source: Objects | JobTable, storage: Client) -> str | None:
    """Return which parameter to set, as sentences; ``None`` if there is nothing to say.

    :param key_field: where no row has a key
    :param source: the input of the job, or its output if the input is unknown
    """
    if isinstance(source, Objects):
        other, what = _in_lines(source.versions[0][0], storage), "member"
    else:
        other, what = _in_columns(source), "column"
    if other:
        what = (
            f'Each has a {what} "{other}". If it is the key, set key_field="{other}" on all tasks of the job'
        )
    elif str(key_field) != "key":
        what = "Correct key_field"
    else:
        return None
    return (
        f'No row has a key where key_field="{key_field}" looks for it, so the column `key` has hashes of the '
        f"requests. {what}, and land again: that replaces these rows."
    )


def advice_on_schema(source: Objects | JobTable, storage: Client) -> str | None:
    """Return what to set if requests do not ask for the schema that their answers were checked by.

    Says nothing of a table, whose rows it would cost a query to read.
    """
    if not isinstance(source, Objects):
        return None
    rows = list(_first_rows(source.versions[0][0], storage))
    if not rows or any(map(_asks_for_json, rows)):
        return None
    return (
        "Most answers do not match response_schema, and the requests do not ask for JSON. Set "
        "response_schema on the task that builds the requests as well, or responseMimeType and "
        "responseSchema in generationConfig."
    )


def _asks_for_json(row: Mapping[str, Any]) -> bool:
    config = member(row.get("request") or {}, "generationConfig")
    if not isinstance(config, dict):
        return False
    wanted = ("responseSchema", "responseJsonSchema")
    is_json = member(config, "responseMimeType") == "application/json"
    return is_json or any(member(config, name) is not None for name in wanted)


def _in_lines(uri: str, storage: Client) -> str | None:
    likely = LikelyKeys()
    for row in _first_rows(uri, storage):
        likely.add(row)
    return likely.find()


def _first_rows(uri: str, storage: Client) -> Iterator[dict[str, Any]]:
    """Read the first lines of an object; none if that is not allowed, since landing only lists objects."""
    from google.api_core.exceptions import ClientError

    bucket, name = split_uri(uri)
    try:
        start: bytes = storage.bucket(bucket).blob(name).download_as_bytes(end=_PEEK - 1, checksum=None)
    except ClientError:
        return
    lines = start.split(b"\n")
    if len(start) >= _PEEK:
        lines.pop()  # It is cut off.
    for line in filter(bytes.strip, lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            yield input_part(row)


def _in_columns(table: JobTable) -> str | None:
    unsuitable = ("JSON", *UNSUPPORTED_TYPES)
    names = [name for name, kind in table.column_types.items() if kind not in unsuitable]
    return best_name(filter(is_identifier, names))

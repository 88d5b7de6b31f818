"""What to tell a user when no row of a job has a key: which member may hold the keys."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import UNSUPPORTED_TYPES
from airflow_gemini_batch.gcp.gcs_uri import split_uri
from airflow_gemini_batch.requests.checking.earlier_output import input_part
from airflow_gemini_batch.requests.checking.likely_keys import LikelyKeys, best_name, is_identifier
from airflow_gemini_batch.results.outputs import Objects

if TYPE_CHECKING:
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


def _in_lines(uri: str, storage: Client) -> str | None:
    from google.api_core.exceptions import ClientError

    bucket, name = split_uri(uri)
    try:
        start: bytes = storage.bucket(bucket).blob(name).download_as_bytes(end=_PEEK - 1, checksum=None)
    except ClientError:  # No permission to read, for example: landing only lists.
        return None
    lines = start.split(b"\n")
    if len(start) >= _PEEK:
        lines.pop()  # It is cut off.
    likely = LikelyKeys()
    for line in filter(bytes.strip, lines):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            likely.add(input_part(row))
    return likely.find()


def _in_columns(table: JobTable) -> str | None:
    unsuitable = ("JSON", *UNSUPPORTED_TYPES)
    names = [name for name, kind in table.column_types.items() if kind not in unsuitable]
    return best_name(filter(is_identifier, names))

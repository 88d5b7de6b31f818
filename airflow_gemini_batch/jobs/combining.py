"""Combines files of requests in Cloud Storage into the inputs of few jobs.

That a job reads several URIs is in the API's schema, but Google's page speaks of one JSONL file, and no
published run confirms more. So the files of a job can also be composed into one.
"""

from __future__ import annotations

import json
import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, TypeVar

from airflow_gemini_batch.exceptions import InvalidParameterError, RequestsError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.gcp.compose import compose_lines, ends_its_last_line
from airflow_gemini_batch.gcp.gcs_uri import check_folder, split_folder, split_uri, uri_of
from airflow_gemini_batch.gcp.wildcards import may_match
from airflow_gemini_batch.jobs.grouping import GroupLimits, InputFile, group_files
from airflow_gemini_batch.jobs.input_facts import content_of
from airflow_gemini_batch.models import find_model
from airflow_gemini_batch.requests.checking.import_check import Limits
from airflow_gemini_batch.requests.request_fields import is_embedding
from airflow_gemini_batch.requests.stored_lines import StoredLines, count_lines, lines_of
from airflow_gemini_batch.service import MAX_LOAD_URIS, MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from google.cloud.storage import Blob, Client

_T = TypeVar("_T")

log = logging.getLogger(__name__)

# No line with a request is shorter, newline included: `{"request":{"contents":[]}}` has 28 bytes.
_SHORTEST_LINE = 20
# The service writes each job's output to a folder whose name begins with it.
_OUTPUT_FOLDER = "/prediction-model-"
_THREADS = 8
_FIRST_CHUNK = 64 * 1024


@dataclass(frozen=True)
class Combination:
    """Which files to combine, and how.

    :param uris: ``gs://…``, which may have wildcards
    :param model: of the jobs; if it is not known, the first request says whether they are embeddings
    :param max_rows: of a job; default: what the service takes
    :param max_bytes: of the files of a job; default: what the service takes
    :param compose_into: ``gs://bucket/prefix`` for one object in place of the files of each job
    :param allow_empty: whether there may be no file
    """

    uris: Sequence[str]
    model: str | None = None
    max_rows: int | None = None
    max_bytes: int | None = None
    compose_into: str | None = None
    allow_empty: bool = False


def combine(combination: Combination, storage: Client) -> list[list[str]]:
    """Return the URIs of each job's input, in the order of their names. The same files make the same groups.

    Empty objects are left out.

    :raises InvalidParameterError: no object, one that is given twice or is beyond the limits of a job, a URI
        that can be read in two ways, or objects that cannot be composed; nothing was created
    :raises RequestsError: an object has changed in the meantime
    """
    folder = _folder(combination)
    stored = StoredLines.find(combination.uris, storage, allow_empty=combination.allow_empty)
    blobs = sorted((blob for blob in stored.objects if blob.size), key=uri_of)
    if not blobs and not combination.allow_empty:
        fix = "all objects are empty; correct the URI, or set allow_empty=True to get no jobs"
        raise InvalidParameterError("input_uri", list(combination.uris), fix)
    _check_no_output(combination.uris, blobs)
    if folder:
        _check_composable(blobs, folder)
    with _reading():
        limits = _limits(combination, blobs)
        ended = _in_threads(ends_its_last_line, blobs) if folder else [True] * len(blobs)
        files = _files(blobs, ended, limits)
    groups = group_files(files, limits)
    log.info("Combined %s into %s", counted(len(files), "file"), counted(len(groups), "job"))
    if not folder:
        return [[each.uri for each in group] for group in groups]
    sources = {uri_of(blob): (blob, is_ended) for blob, is_ended in zip(blobs, ended, strict=True)}
    return [[_composed([sources[each.uri] for each in group], folder, storage)] for group in groups]


def _folder(combination: Combination) -> str | None:
    """Return the folder for composed objects, unless the input includes it: a later run would read them."""
    if combination.compose_into is None:
        return None
    folder = check_folder("compose_into", combination.compose_into)
    for uri in combination.uris:
        if may_match(uri, _name(folder, "0" * 16)):
            fix = (
                f"the input {uri} matches what is written there, so another run would ask for these requests "
                "twice; choose a folder that the input does not match"
            )
            raise InvalidParameterError("compose_into", combination.compose_into, fix)
    return folder


def _name(folder: str, digest: str) -> str:
    return f"{folder}/combined-{digest}.jsonl"


def _check_no_output(uris: Sequence[str], blobs: Sequence[Blob]) -> None:
    """Refuse the output of a job, unless a URI asks for it: the submit operator sees no wildcard any more."""
    if any(_OUTPUT_FOLDER in uri for uri in uris):
        return
    if found := next((uri_of(blob) for blob in blobs if _OUTPUT_FOLDER in uri_of(blob)), None):
        fix = "it is what a job has answered: match fewer files, or write output to another folder"
        raise InvalidParameterError("input_uri", found, fix)


def _check_composable(blobs: Sequence[Blob], folder: str) -> None:
    bucket = split_folder(folder)[0]
    classes = {blob.storage_class for blob in blobs}
    if elsewhere := next((blob for blob in blobs if blob.bucket.name != bucket), None):
        fix = (
            f"Cloud Storage composes only objects of one bucket: name a folder in that of {uri_of(elsewhere)}"
        )
        raise InvalidParameterError("compose_into", folder, fix)
    if len(classes) > 1:
        fix = (
            "Cloud Storage composes only objects of one storage class, and the files have "
            f"{' and '.join(sorted(map(str, classes)))}: leave it out, or rewrite them in one class"
        )
        raise InvalidParameterError("compose_into", folder, fix)


def _limits(combination: Combination, blobs: Sequence[Blob]) -> GroupLimits:
    model = combination.model
    is_known = combination.max_rows or (model and find_model(model))
    # Reading a line is needed only if the answer matters.
    matters = not is_known and _most_rows(blobs) > MAX_ROWS
    service = Limits.of(model, is_embedding=matters and _asks_for_vectors(blobs[0]))
    # Landing reads the input of a job by one load.
    files = None if combination.compose_into else MAX_LOAD_URIS
    return GroupLimits(combination.max_rows or service.rows, combination.max_bytes or service.size, files)


def _asks_for_vectors(blob: Blob) -> bool:
    line = next(lines_of(blob, _FIRST_CHUNK))
    try:
        return is_embedding(json.loads(line)["request"])
    except (ValueError, TypeError, LookupError):  # The check before the job says what is wrong.
        return False


def _files(blobs: Sequence[Blob], ended: Sequence[bool], limits: GroupLimits) -> list[InputFile]:
    """Count the rows of files. They are read only if their size does not prove that one job takes them."""
    if _most_rows(blobs) <= limits.rows:
        rows = [_most_rows([blob]) for blob in blobs]
    else:
        size = sum(int(blob.size) for blob in blobs)
        log.info("Counting the requests of %s, %s bytes", counted(len(blobs), "file"), f"{size:,}")
        rows = _in_threads(count_lines, blobs)
    return [
        InputFile(uri_of(blob), number, int(blob.size) + (not is_ended))
        for blob, number, is_ended in zip(blobs, rows, ended, strict=True)
    ]


def _most_rows(blobs: Sequence[Blob]) -> int:
    return sum(int(blob.size) // _SHORTEST_LINE + 1 for blob in blobs)


def _composed(sources: Sequence[tuple[Blob, bool]], folder: str, storage: Client) -> str:
    """Compose the files of a job, unless there is only one."""
    if len(sources) == 1:
        return uri_of(sources[0][0])
    # By content, as a job is identified: files that are written again unchanged make the same object.
    content = content_of(blob for blob, _ in sources)
    uri = _name(folder, sha256("\n".join(content).encode()).hexdigest()[:16])
    bucket, name = split_uri(uri)
    with _reading():
        made = compose_lines(sources, storage.bucket(bucket), name)
    last = int(sources[-1][0].size)
    expected = sum(int(blob.size) + (not is_ended) for blob, is_ended in sources[:-1]) + last
    if made.size != expected:
        raise RequestsError(
            f"{uri} has {made.size:,} bytes, but the files that it is made of have {expected:,}. Nothing was "
            "submitted. Delete it, and clear this task"
        )
    log.info("Composed %s into %s", counted(len(sources), "file"), uri)
    return uri


def _in_threads(function: Callable[[Blob], _T], blobs: Sequence[Blob]) -> list[_T]:
    """Apply a function to each object; the time goes into waiting for Cloud Storage."""
    with ThreadPoolExecutor(_THREADS, thread_name_prefix="gemini-batch-combine") as threads:
        return list(threads.map(function, blobs))


@contextmanager
def _reading() -> Iterator[None]:
    from google.api_core.exceptions import Forbidden, NotFound

    try:
        yield
    except Forbidden as error:
        fix = f"the credentials may list the files, but not read or compose them: {error.message}"
        raise InvalidParameterError("input_uri", None, fix) from None
    except NotFound:
        raise RequestsError(
            "A file was replaced or deleted while the files were combined. Nothing was submitted; retrying "
            "is safe."
        ) from None

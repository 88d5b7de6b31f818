"""Input and output of jobs in the Cloud Storage emulator."""

from __future__ import annotations

import gzip
import json
import os
import re
from typing import IO, TYPE_CHECKING, Any

from airflow_gemini_batch.emulator.behaviour import AS_ASSUMED
from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.emulator.running.rows import Answered, InputRow, coerced
from airflow_gemini_batch.gcp.gcs_uri import split_uri
from airflow_gemini_batch.gcp.wildcards import Matches, prefix_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.cloud.storage import Client

    from airflow_gemini_batch.emulator.behaviour import Behaviour
    from airflow_gemini_batch.emulator.running.rows import Habits

_TIMEOUT_SECONDS = 60.0
_GZIP = b"\x1f\x8b"
MAX_FILE_BYTES = 1_000_000_000


class ObjectStorage:
    """Cloud Storage at ``STORAGE_EMULATOR_HOST``, never the real service.

    :raises JobFailedError: when the variable is not set
    """

    def __init__(self, project: str) -> None:
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.storage import Client

        host = stand_in_host("STORAGE_EMULATOR_HOST")
        self._client: Client = Client(
            project=project,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": host},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def check_bucket(self, uri: str) -> None:
        """Fail the job when the bucket of a URI does not exist."""
        bucket, _ = split_uri(uri)
        if not self._client.bucket(bucket).exists(timeout=_TIMEOUT_SECONDS, retry=None):
            raise errors.bucket_not_found(bucket)

    def read(self, uri: str, behaviour: Behaviour) -> bytes:
        """Return the concatenated content of all objects that match a URI, which may have wildcards.

        They are read as in Cloud Storage: ``*`` stays within a folder.

        :raises JobFailedError: when no object matches
        """
        bucket, name = split_uri(uri)
        prefix = prefix_of(name)
        if not behaviour.double_star_crosses:
            uri = re.sub(r"\*\*+", "*", uri)
        blobs = self._client.list_blobs(bucket, prefix=prefix, timeout=_TIMEOUT_SECONDS, retry=None)
        matches = Matches.of(uri, blobs)
        objects = matches.across if behaviour.star_crosses else matches.objects
        found = sorted(objects, key=lambda blob: str(blob.name))
        if not found:
            raise errors.import_failed(f"Not found: URI {uri}")
        for blob in found:
            check_size(int(blob.size or 0))
        contents = [blob.download_as_bytes(timeout=_TIMEOUT_SECONDS, retry=None) for blob in found]
        if behaviour.reads_gzip:
            contents = [gzip.decompress(each) if each.startswith(_GZIP) else each for each in contents]
        return b"\n".join(contents)

    def write(self, uri: str, content: IO[bytes]) -> None:
        """Write an object."""
        bucket, name = split_uri(uri)
        blob = self._client.bucket(bucket).blob(name)
        blob.upload_from_file(
            content, content_type="application/octet-stream", timeout=_TIMEOUT_SECONDS, retry=None
        )


def stand_in_host(variable: str) -> str:
    """Return the URL of an emulator from an environment variable.

    :raises JobFailedError: when the variable is not set; the emulator never calls the real service
    """
    host = os.environ.get(variable)
    if not host:
        raise errors.JobFailedError(
            errors.FAILED_PRECONDITION,
            f"{variable} is not set for the emulator, so it cannot reach the input or output of the job. "
            "Set it to the address of an emulator, such as http://127.0.0.1:PORT.",
        )
    return host if "://" in host else f"http://{host}"


def check_size(size: int) -> None:
    """Fail the job if a file is larger than the import allows."""
    if size > MAX_FILE_BYTES:
        raise errors.import_failed(
            f"The file has {size:,} bytes; the limit of the import is {MAX_FILE_BYTES:,}."
        )


def read_lines(storage: ObjectStorage, uris: Sequence[str], behaviour: Behaviour = AS_ASSUMED) -> list[bytes]:
    """Return the lines of all objects, without empty lines.

    :raises JobFailedError: when a bucket or an object does not exist, or there are no lines
    """
    read = uris if behaviour.reads_all_uris else uris[:1]
    for uri in read:
        storage.check_bucket(uri)
    lines = [line for uri in read for line in storage.read(uri, behaviour).split(b"\n") if line.strip()]
    if not lines:
        raise errors.import_failed("The input has no rows.")
    return lines


_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def parse_line(line: bytes, habits: Habits) -> InputRow:
    """Parse a line of the input.

    :raises JobFailedError: when it is not a JSON object with a member ``request``
    """
    try:
        members = json.loads(line.decode(), parse_constant=_refuse_constant)
        if _SURROGATE.search(line):
            json.dumps(members, ensure_ascii=False).encode()  # Fails on half of a surrogate pair.
    except ValueError:
        raise _line_error("JSON parsing error: Parser terminated before end of string") from None
    except RecursionError:
        raise errors.nested_too_deeply(errors.DEEPEST_RECORD + 1) from None
    if not isinstance(members, dict):
        raise _line_error("JSON parsing error: the row is not a JSON object")
    if not isinstance(members.get("request"), dict):
        raise _line_error("the row has no field `request` that is an object")
    fields = {name: value for name, value in members.items() if name != "request"}
    answered = Answered.take(fields)
    if habits.coerces_numbers:
        fields = {name: coerced(value) for name, value in fields.items()}
    return InputRow(fields if habits.passes_fields else {}, members["request"], answered=answered)


def _line_error(problem: str) -> errors.JobFailedError:
    return errors.import_failed(f"Error while reading data, error message: {problem}.")


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")

"""Keep the SQL and the jobs of the BigQuery emulator away from the files of this machine.

DuckDB may read and write only the folder of the emulator. Load jobs read objects of Cloud Storage from copies
there, and a URI that does not begin with ``gs://`` is an error, as in BigQuery. Runs in the emulator's own
environment and imports nothing from this package.
"""

from __future__ import annotations

import functools
import json
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from collections.abc import Iterator

_EXTENSIONS = ("ducklake", "icu", "json", "parquet")
_PARALLEL_READS = 4
# The storage of the stack is on loopback, which a proxy cannot reach.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
_copies: ContextVar[dict[str, list[str]]] = ContextVar("copies")


def adapt(data: Path) -> None:
    """Restrict the emulator in this process to ``data``; call it before DuckDB is opened."""
    from local_bigquery.app import PROJECT_ID
    from local_bigquery.engine import database
    from local_bigquery.jobs import extract, load, runner

    temporary = data / "tmp"
    temporary.mkdir(parents=True, exist_ok=True)
    tempfile.tempdir = str(temporary)
    connect, attach, write = database._connect.__wrapped__, database.attach, extract.written

    @functools.cache
    def connect_without_files() -> Any:
        connection = connect()
        for extension in _EXTENSIONS:
            connection.execute(f"LOAD {extension}")
        connection.execute(f"SET temp_directory = '{_literal(temporary)}'")
        connection.execute(f"SET allowed_directories = ['{_literal(data)}/']")
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        return connection

    def attach_a_project(project: str) -> None:
        # The id becomes the name of a file, and SQL may name any.
        if not PROJECT_ID.fullmatch(project):
            raise invalid(f"Invalid project ID: {project}")
        attach(project)

    @contextmanager
    def written(uri: str) -> Iterator[str]:
        _check(uri)
        with write(uri) as path:
            yield path

    def load_copies(cursor: Any, config: Any, upload: str | None) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            uris = [] if upload else config.sourceUris or []
            token = _copies.set({uri: copy(uri, Path(folder, str(n))) for n, uri in enumerate(uris)})
            try:
                return load.run(cursor, config, upload)
            finally:
                _copies.reset(token)

    database._connect, database.attach = connect_without_files, attach_a_project
    extract.written, load.paths = written, lambda _cursor, uri: _copies.get()[uri]
    runner.HANDLERS["load"] = load_copies


def uri_of(path: str) -> str:
    """Return the URI whose copy a load job reads; empty if it reads none."""
    return next((uri for uri, paths in _copies.get({}).items() if path in paths), "")


def _literal(path: Path) -> str:
    return str(path).replace("'", "''")


def invalid(message: str, reason: str = "invalid") -> Exception:
    """Return an error as BigQuery's API has them."""
    from local_bigquery.errors import BigQueryError

    error: Exception = BigQueryError(reason, message)
    return error


def _check(uri: str) -> None:
    if not re.match(r"gs://[^/]+/.", uri, re.DOTALL):
        raise invalid(f"Invalid Cloud Storage URI: {uri}")


def copy(uri: str, folder: Path) -> list[str]:
    """Copy the objects of a URI, which may have one ``*``, into a new folder; return their paths."""
    _check(uri)
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    names = _names(bucket, name) if "*" in name else [name]
    if not names:
        raise invalid(f"Not found: URI {uri}", "notFound")
    folder.mkdir()
    with ThreadPoolExecutor(_PARALLEL_READS) as pool:
        paths = [folder / _file_name(number, each) for number, each in enumerate(names)]
        list(pool.map(lambda each, path: _download(bucket, each, path), names, paths))
    return list(map(str, paths))


def _file_name(number: int, name: str) -> str:
    # DuckDB recognizes compressed files by the end of their names, and would take * or [ for a pattern.
    return f"{number}.gz" if name.endswith(".gz") else str(number)


def _names(bucket: str, pattern: str) -> list[str]:
    """Return the names of all objects that match."""
    parts = pattern.split("*")
    matches = re.compile(".*".join(map(re.escape, parts)), re.DOTALL).fullmatch
    query = {"prefix": parts[0]}
    names: list[str] = []
    while True:
        with _get(f"/storage/v1/b/{bucket}/o?{urlencode(query)}", f"gs://{bucket}/{pattern}") as response:
            page = json.load(response)
        names += (item["name"] for item in page.get("items", ()) if matches(item["name"]))
        if "nextPageToken" not in page:
            return names
        query["pageToken"] = page["nextPageToken"]


def _download(bucket: str, name: str, path: Path) -> None:
    place = f"/download/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
    with _get(place, f"gs://{bucket}/{name}") as response, path.open("wb") as file:
        shutil.copyfileobj(response, file, 1 << 20)


def _get(place: str, uri: str) -> Any:
    try:
        return _opener.open(os.environ["STORAGE_EMULATOR_HOST"] + place)
    except urllib.error.HTTPError as error:
        raise invalid(f"Not found: URI {uri} ({error.code})", "notFound") from None

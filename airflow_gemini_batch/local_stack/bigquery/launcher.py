"""Start the BigQuery emulator: ``python launcher.py --project P --data-dir DIR [--threads N]``.

Runs in the emulator's own environment (Python 3.13, ``local-bigquery``), so it imports nothing from this
package but one file, by its path. Prints ``listening on http://127.0.0.1:PORT/SECRET`` when it accepts
requests.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Modules in the same folder: this file runs as a script.
import catalog
import conflicts
import definitions
import duckdb_options
import external
import files
import lines
import lookups
import translations
import writes

if TYPE_CHECKING:
    from collections.abc import Callable

_LOOPBACK = Path(__file__).resolve().parents[2] / "emulator" / "loopback.py"
# Like BigQuery, wait briefly after an insert: a short job is returned as DONE, which saves clients a poll.
_INSERT_WAIT_MS = 100


def _link_extensions(home: Path) -> None:
    """Link DuckDB's extensions from their wheel into the folder where DuckDB would download them to."""
    spec = importlib.util.find_spec("duckdb_ext")
    roots = list(spec.submodule_search_locations or []) if spec else []
    for root in map(Path, roots):
        for extension in root.glob("extensions/**/*.duckdb_extension"):
            place = home / ".duckdb" / extension.relative_to(root)
            place.parent.mkdir(parents=True, exist_ok=True)
            if not place.exists():
                place.symlink_to(extension)
    os.environ["HOME"] = str(home)


def _adapt() -> None:
    """Run local-bigquery 0.4.0, written for DuckDB 2, on DuckDB 1.4, whose extensions are on PyPI.

    Also make it safe under concurrent requests.
    """
    import duckdb
    from local_bigquery.catalog import tables
    from local_bigquery.engine import database
    from local_bigquery.jobs import runner
    from py_mini_racer import init_mini_racer

    # V8 protects its memory with keys of the processor, which a thread has from the one that started it. A
    # thread that is older than V8 ends the process when it makes a function in JavaScript.
    init_mini_racer()
    # Geography needs DuckDB's extension "spatial", which can only be downloaded.
    database.FUNCTIONS = [path for path in database.FUNCTIONS if path.name != "geography.sql"]
    if not hasattr(duckdb.DuckDBPyRelation, "to_arrow_reader"):
        duckdb.DuckDBPyRelation.to_arrow_reader = duckdb.DuckDBPyRelation.fetch_arrow_reader
    # When two jobs with the same id arrive at the same time, one must get a 409, as from BigQuery.
    runner.submit = _one_at_a_time(threading.RLock(), runner.submit)
    # The same for two tables with the same name; and nobody may see a table before it is complete.
    lock = threading.RLock()
    tables.create, tables.get = _one_at_a_time(lock, tables.create), _one_at_a_time(lock, tables.get)
    runner.SUBMIT_WAIT_MS = _INSERT_WAIT_MS


def _one_at_a_time(lock: threading.RLock, function: Callable[..., Any]) -> Callable[..., Any]:
    def alone(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return function(*args, **kwargs)

    return alone


def _guarded(app: Any, url: Any, refused: type[Exception]) -> Any:
    """Return an ASGI application that answers only what was sent to ``url`` by a program."""

    async def guarded(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
            try:
                url.target(scope["path"], headers)
            except refused as error:
                body: bytes = error.body()  # type: ignore[attr-defined]  # loaded by its path
                head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
                await send({"type": "http.response.start", "status": 403, "headers": head})
                await send({"type": "http.response.body", "body": body})
                return
            # The application still sees the whole path, from which it makes the URL of a resumable upload.
            scope = {**scope, "root_path": url.prefix}
        await app(scope, receive, send)

    return guarded


def _loopback() -> Any:
    """Return the module that the other emulators use; its package is not installed here."""
    spec = importlib.util.spec_from_file_location("loopback", _LOOPBACK)
    assert spec  # noqa: S101  # for mypy
    assert spec.loader  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules["loopback"] = module
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Serve until stopped."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    _link_extensions(arguments.data_dir.parent / "bigquery-home")
    _adapt()
    lines.adapt()
    catalog.adapt()
    conflicts.adapt()
    duckdb_options.adapt(arguments.threads)
    files.adapt(arguments.data_dir)
    external.adapt()
    writes.adapt()
    lookups.adapt()
    definitions.adapt()
    translations.adapt()

    import uvicorn
    from local_bigquery.app import app
    from local_bigquery.engine import database
    from local_bigquery.settings import settings

    settings.default_project_id = arguments.project
    settings.data_dir = arguments.data_dir
    # Opens DuckDB and its extensions now, so that an error appears here and not in somebody's first query.
    database.connection()
    listener = socket.create_server(("127.0.0.1", 0))
    # Connections inherit it. Without it, the body of an answer waits 40 ms until the client has acknowledged
    # its head.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    settings.bigquery_port = listener.getsockname()[1]
    loopback = _loopback()
    url = loopback.LoopbackUrl(settings.bigquery_port)

    class Server(uvicorn.Server):  # type: ignore[misc]  # not installed where types are checked
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"listening on {url}", flush=True)

    guarded = _guarded(app, url, loopback.RefusedError)
    Server(uvicorn.Config(guarded, log_level="warning", access_log=False)).run([listener])


if __name__ == "__main__":
    main()

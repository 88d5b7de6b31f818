"""Start the BigQuery stand-in: ``python launcher.py --project P --data-dir DIR``.

Runs in the environment of the stand-in (Python 3.13, ``local-bigquery``), not in ours: it imports
nothing of this package. Prints ``listening on http://127.0.0.1:PORT`` once it answers.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

# Beside this file, which is run as a script.
import catalog
import lines
import speed

if TYPE_CHECKING:
    from collections.abc import Callable

_WRITE_TRIES = 20
# BigQuery answers at once; a job that is this short is answered with its end, which saves everybody a look.
_INSERT_WAIT_MS = 100


def _offer_extensions(home: Path) -> None:
    """Lay DuckDB's extensions where it looks for them; it would download them otherwise."""
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
    """Make local-bigquery 0.4.0, written for DuckDB 2, run on DuckDB 1.4, whose extensions are on PyPI.

    And make it bear what comes at once.
    """
    import duckdb
    from local_bigquery.catalog import tables
    from local_bigquery.engine import database, results
    from local_bigquery.jobs import runner

    # Geography needs DuckDB's extension "spatial", which is only to be had by downloading.
    database.FUNCTIONS = [path for path in database.FUNCTIONS if path.name != "geography.sql"]
    if not hasattr(duckdb.DuckDBPyRelation, "to_arrow_reader"):
        duckdb.DuckDBPyRelation.to_arrow_reader = duckdb.DuckDBPyRelation.fetch_arrow_reader
    # Of two jobs with one id, sent at once, one must get a 409, as from BigQuery.
    runner.submit = _one_at_a_time(threading.RLock(), runner.submit)
    # The same with two tables of one name; and nobody must see a table before it is all there.
    lock = threading.RLock()
    tables.create, tables.get = _one_at_a_time(lock, tables.create), _one_at_a_time(lock, tables.get)
    runner.SUBMIT_WAIT_MS = _INSERT_WAIT_MS
    database.execute, results.materialise = _persistent(database.execute), _persistent(results.materialise)


def _one_at_a_time(lock: threading.RLock, function: Callable[..., Any]) -> Callable[..., Any]:
    def alone(*args: Any, **kwargs: Any) -> Any:
        with lock:
            return function(*args, **kwargs)

    return alone


def _persistent(write: Callable[..., None]) -> Callable[..., None]:
    """Write again: what is written while another transaction commits may fail, but not in BigQuery."""
    import duckdb

    def write_again(*args: Any, **kwargs: Any) -> None:
        for _ in range(_WRITE_TRIES):
            try:
                return write(*args, **kwargs)
            except duckdb.Error as error:
                # With nothing done.
                if "Failed to commit DuckLake transaction" not in str(error):
                    raise
                time.sleep(random.uniform(0.05, 0.2))  # noqa: S311
        return write(*args, **kwargs)

    return write_again


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    _offer_extensions(arguments.data_dir.parent / "bigquery-home")
    _adapt()
    speed.keep_up()
    lines.read_lines()
    catalog.look_up()

    import uvicorn
    from local_bigquery.engine import database
    from local_bigquery.grpc import server as storage_api
    from local_bigquery.settings import settings

    settings.default_project_id = arguments.project
    settings.data_dir = arguments.data_dir
    # Opens DuckDB with its extensions now, so that a fault shows here and not at somebody's first query.
    database.connection()
    listener = socket.create_server(("127.0.0.1", 0))
    settings.bigquery_port = listener.getsockname()[1]

    class Server(uvicorn.Server):  # type: ignore[misc]  # not installed where types are checked
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            print(f"listening on http://127.0.0.1:{settings.bigquery_port}", flush=True)

    grpc_server, _ = storage_api.start("127.0.0.1", 0)
    try:
        Server(uvicorn.Config("local_bigquery:app", log_level="warning", access_log=False)).run([listener])
    finally:
        grpc_server.stop(None)


if __name__ == "__main__":
    main()

"""Start the BigQuery stand-in: ``python bigquery_launcher.py --project P --data-dir DIR``.

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
from typing import Any

# Beside this file, which is run as a script.
import bigquery_catalog
import bigquery_lines
import bigquery_speed

_DDL_TRIES = 20
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

    And make it refuse a job id that is used twice even when both jobs come at once.
    """
    import duckdb
    from local_bigquery.engine import database
    from local_bigquery.jobs import runner

    # Geography needs DuckDB's extension "spatial", which is only to be had by downloading.
    database.FUNCTIONS = [path for path in database.FUNCTIONS if path.name != "geography.sql"]
    if not hasattr(duckdb.DuckDBPyRelation, "to_arrow_reader"):
        duckdb.DuckDBPyRelation.to_arrow_reader = duckdb.DuckDBPyRelation.fetch_arrow_reader
    submit, one_at_a_time = runner.submit, threading.Lock()

    def submit_atomically(*args: object, **kwargs: object) -> object:
        # Of two jobs with one id, sent at once, one must get a 409, as from BigQuery.
        with one_at_a_time:
            return submit(*args, **kwargs)

    runner.submit = submit_atomically
    runner.SUBMIT_WAIT_MS = _INSERT_WAIT_MS
    execute = database.execute

    def execute_again(*args: Any, **kwargs: Any) -> Any:
        # A table that is made while a transaction commits may fail, with nothing done; not so in BigQuery.
        for _ in range(_DDL_TRIES):
            try:
                return execute(*args, **kwargs)
            except duckdb.Error as error:
                if "Failed to commit DuckLake transaction" not in str(error):
                    raise
                time.sleep(random.uniform(0.05, 0.2))  # noqa: S311
        return execute(*args, **kwargs)

    database.execute = execute_again


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    _offer_extensions(arguments.data_dir.parent / "bigquery-home")
    _adapt()
    bigquery_speed.keep_up()
    bigquery_lines.read_lines()
    bigquery_catalog.look_up()

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

"""Start the BigQuery stand-in: ``python bigquery_launcher.py --project P --data-dir DIR``.

Runs in the environment of the stand-in (Python 3.13, ``local-bigquery``), not in ours: it imports
nothing of this package. Prints ``listening on http://127.0.0.1:PORT`` once it answers.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import random
import socket
import threading
import time
from pathlib import Path
from typing import Any

_DDL_TRIES = 20


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
    from local_bigquery.catalog import tables
    from local_bigquery.engine import database
    from local_bigquery.jobs import runner

    # Geography needs DuckDB's extension "spatial", which is only to be had by downloading.
    database.FUNCTIONS = [path for path in database.FUNCTIONS if path.name != "geography.sql"]
    if not hasattr(duckdb.DuckDBPyRelation, "to_arrow_reader"):
        duckdb.DuckDBPyRelation.to_arrow_reader = duckdb.DuckDBPyRelation.fetch_arrow_reader
    look_up = tables._lookup

    def look_up_with_a_count(*names: str) -> tuple[str, int] | None:
        found = look_up(*names)
        return found and (found[0], found[1] or 0)

    tables._lookup = look_up_with_a_count
    submit, one_at_a_time = runner.submit, threading.Lock()

    def submit_atomically(*args: object, **kwargs: object) -> object:
        # Of two jobs with one id, sent at once, one must get a 409, as from BigQuery.
        with one_at_a_time:
            return submit(*args, **kwargs)

    runner.submit = submit_atomically
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


def _keep_up() -> None:
    """Do in one step what BigQuery does in one: this costs the stand-in most of its time otherwise.

    It would parse a text three times to make JSON of it once, pack the text up for ``SAFE.``, and turn
    ``ARRAY(SELECT … FROM UNNEST(…))`` of each row into a join of all rows.
    """
    from local_bigquery.engine import database
    from local_bigquery.sql import rules, translate
    from local_bigquery.sql.rules import arrays, safe
    from sqlglot import exp

    connect = database._connect.__wrapped__

    @functools.cache
    def connect_and_parse_once() -> Any:
        connection = connect()
        connection.execute(_PARSE_JSON)
        # A landing writes hundreds of MB; DuckDB would copy them into its file in the middle, every 16.
        connection.execute("SET checkpoint_threshold = '2GB'")
        return connection

    database._connect = connect_and_parse_once

    def safe_function(node: Any, context: object) -> Any:
        # TRY also catches what goes wrong in the arguments; nothing does in a column or a literal.
        plain = isinstance(node, exp.SafeFunc) and all(
            isinstance(argument, (exp.Column, exp.Literal, exp.Kwarg))
            for argument in node.this.iter_expressions()
        )
        return exp.func("TRY", node.this) if plain else safe.safe_function(node, context)

    rules.NODE_RULES[rules.NODE_RULES.index(safe.safe_function)] = safe_function
    rules.STATEMENT_RULES.insert(rules.STATEMENT_RULES.index(arrays.unnest_offsets), _arrays_in_place)
    assert translate.NODE_RULES is rules.NODE_RULES  # noqa: S101


# As the stand-in has it, but for texts that do not begin like a number, which is where the mode matters.
_PARSE_JSON = r"""
CREATE OR REPLACE MACRO bq.main.parse_json(s) AS bq.main._parse_json_exact(s),
(s, mode) AS CASE
    WHEN lower(mode) = 'round' AND NOT regexp_matches(s, '^\s*[-0-9]') THEN json(s)
    WHEN lower(mode) = 'round' THEN CASE
        WHEN json_type(json(s)) IN ('DOUBLE', 'UBIGINT', 'HUGEINT') THEN to_json(CAST(json(s) AS DOUBLE))
        ELSE json(s) END
    ELSE bq.main._parse_json_exact(s)
END
"""


def _arrays_in_place(tree: Any, context: object) -> Any:
    """Make a lambda of ``ARRAY(SELECT f(x) FROM UNNEST(xs) AS x WITH OFFSET AS n WHERE … ORDER BY n)``.

    And of ``EXISTS(SELECT 1 FROM UNNEST(xs) AS x WHERE …)``. What has another shape is left as it is.
    """
    from sqlglot import exp

    for node in reversed(list(tree.find_all(exp.Array, exp.Exists))):
        select = node.expressions[0] if isinstance(node, exp.Array) and node.expressions else node.this
        source = _unnested(select)
        if source is None:
            continue
        items, name = source
        where = select.args.get("where")
        kept = _each("list_filter", items, name, where.this) if where else items
        if isinstance(node, exp.Exists):
            node.replace(exp.func("COALESCE", exp.func("len", kept) > 0, exp.false()))
        else:
            value = _each("list_transform", kept, name, select.expressions[0].unalias())
            node.replace(exp.func("COALESCE", value, exp.Array(expressions=[])))
    return tree


def _unnested(select: Any) -> tuple[Any, str] | None:
    """Return array and item of a query that does no more than go through one array in its order."""
    from sqlglot import exp

    if not isinstance(select, exp.Select) or len(select.expressions) != 1:
        return None
    parts = {name for name, value in select.args.items() if value}
    unnest = select.args["from_"].this if "from_" in parts else None
    if parts - {"expressions", "from_", "where", "order"} or not isinstance(unnest, exp.Unnest):
        return None
    alias, offset, order = unnest.args.get("alias"), unnest.args.get("offset"), select.args.get("order")
    if not alias or len(unnest.expressions) != 1 or bool(offset) != bool(order):
        return None
    ordered = [each.this.name for each in order.expressions] if order else []
    columns = [column.name for column in select.find_all(exp.Column)]
    if ordered and (ordered != [offset.name] or columns.count(offset.name) > 1):
        return None
    return unnest.expressions[0], alias.columns[0].name if alias.columns else alias.name


def _each(function: str, items: Any, name: str, value: Any) -> Any:
    from sqlglot import exp

    return exp.func(function, items, exp.Lambda(this=value, expressions=[exp.to_identifier(name)]))


def _read_lines() -> None:
    """Load a file of lines by reading it once, not five times, with the lines that DuckDB would refuse.

    What is not UTF-8 becomes U+FFFD, and only some lines may end in a carriage return.
    """
    from local_bigquery.jobs import load

    read = load._reader

    def read_lines(cur: Any, files: str, config: Any, fields: list[Any]) -> str:
        if config.sourceFormat != "CSV" or config.quote != "" or len(fields) != 1:
            return str(read(cur, files, config, fields))
        contents = cur.sql(f"SELECT content FROM read_blob({files})").fetchall()  # noqa: S608
        texts = [_table_of_lines(blob, fields[0].name, config.fieldDelimiter) for (blob,) in contents]
        cur.register("_load_source", load.pa.concat_tables(texts))
        return "_load_source"

    load._reader = read_lines


def _table_of_lines(content: bytes, name: str, delimiter: str) -> Any:
    import pyarrow as pa
    from pyarrow import csv

    if _is_odd(content) or delimiter.encode() in content or not content.strip(b"\n"):
        text = content.decode("utf-8", "replace").replace("\r\n", "\n")
        lines = [line.split(delimiter, 1)[0] for line in text.split("\n") if line]
        return pa.table({name: pa.array(lines, pa.string())})
    return csv.read_csv(
        pa.BufferReader(content),
        # A line longer than a block is refused; BigQuery takes up to 100 MB.
        csv.ReadOptions(column_names=[name], block_size=1 << 27),
        csv.ParseOptions(delimiter=delimiter, quote_char=False, double_quote=False),
        csv.ConvertOptions(column_types={name: pa.string()}, strings_can_be_null=False),
    )


def _is_odd(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return True
    return b"\r" in content


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--project", required=True)
    parser.add_argument("--data-dir", type=Path, required=True)
    arguments = parser.parse_args()
    _offer_extensions(arguments.data_dir.parent / "bigquery-home")
    _adapt()
    _keep_up()
    _read_lines()

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

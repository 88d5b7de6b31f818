"""Show a table with its labels and description from the moment it exists, as BigQuery does.

The emulator creates the table first and records its options afterwards. In between, another client would see
a table that nobody has labeled. Runs in the emulator's own environment and imports nothing from this package.
"""

from __future__ import annotations

from typing import Any

_KINDS = ("TABLE", "VIEW")


def adapt() -> None:
    """Replace the functions that define and get tables in this process."""
    from local_bigquery.catalog import tables
    from local_bigquery.errors import BigQueryError
    from local_bigquery.jobs import query

    run, get = query._run, tables.get
    before: dict[tuple[str, ...], Any] = {}
    """What is shown of a table while a statement defines it: how it was, or why there is none."""
    begun = [0]

    def run_unseen(
        cur: Any, tree: Any, context: Any, destination: Any, config: Any, dry_run: bool, isolated: bool
    ) -> Any:
        table = None if dry_run else _defined(tree, context)
        if table is None or table in before:
            return run(cur, tree, context, destination, config, dry_run, isolated)
        before[table] = _answer(tables.load, *table)
        begun[0] += 1
        try:
            return run(cur, tree, context, destination, config, dry_run, isolated)
        finally:
            del before[table]

    def get_as_it_was(*table: Any, **options: Any) -> Any:
        while True:
            last, resource = begun[0], before.get(table[:3])
            resource = resource or _answer(get, *table, **options)
            # Otherwise a statement has begun in the meantime, and may have ended too.
            if last == begun[0]:
                break
        if isinstance(resource, BigQueryError):
            raise resource
        return resource

    query._run, tables.get = run_unseen, get_as_it_was


def _answer(function: Any, *arguments: Any, **options: Any) -> Any:
    """Return what a function returns, or the error that it raises."""
    from local_bigquery.errors import BigQueryError

    try:
        return function(*arguments, **options)
    except BigQueryError as error:
        return error


def _defined(tree: Any, context: Any) -> tuple[str, ...] | None:
    """Return the table that a statement creates, changes or drops."""
    from local_bigquery.catalog import names
    from sqlglot import exp

    is_definition = isinstance(tree, (exp.Create, exp.Drop, exp.Alter))
    if not is_definition or str(tree.args.get("kind")).upper() not in _KINDS:
        return None
    target = tree.find(exp.Table)
    if target is None or tree.find(exp.TemporaryProperty):
        return None
    return tuple(names.reference(target, context.project_id, context.dataset_id))

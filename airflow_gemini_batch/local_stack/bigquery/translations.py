"""Translate ``JSON_SET``, and remember translations.

Each landing runs the same two dozen statements, on other tables, and translating them took longer than
executing them. A translation depends on the text of a statement and on the columns of its tables, but not on
their names. Runs in the emulator's own environment and imports nothing from this package.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from typing import Any

# A variable of a script is a temporary table with one row, with another name in each script.
_VARIABLE = re.compile(r"__variable_[0-9a-f]{12}")
_PLACE = re.compile(r"\0(\w+)\0")
# These are replaced by values of a session or a job.
_OF_A_JOB = re.compile(r"@@|\bEXTERNAL_QUERY\b", re.IGNORECASE)
_QUOTED = re.compile(r"`([\w-]+)\.(\w+)\.(\w+)`")
_PARTS = ("catalog", "db", "this")
_MAX_REMEMBERED = 256
_AS_OF = ("version", "when")
_NAMED = re.compile(r"\x01([qn])(\d+)\x01")


@dataclass(frozen=True)
class _Translation:
    sql: str  # variables are between zero bytes, the names of tables are numbers between ones
    parameters: frozenset[str]
    temporary: frozenset[str]  # the tables that the statement makes


def adapt() -> None:
    """Replace the parser and the translator in this process."""
    from local_bigquery.jobs import query
    from local_bigquery.sql import script
    from local_bigquery.sql.translate import NODE_RULES

    NODE_RULES.append(_one_value_a_call)
    script.parse_script = functools.lru_cache(_MAX_REMEMBERED)(script.parse_script)
    memory = _Memory(script.parse, query.translate)
    script.parse, query.translate = memory.parse, memory.translate


_Table = tuple[str, str, str]


class _Memory:
    """The functions of ``local_bigquery.sql.translate``, which change no tree that they are given."""

    def __init__(self, parse: Any, translate: Any) -> None:
        self._parse, self._translate = parse, translate
        self._trees: dict[str, list[Any]] = {}
        self._shapes: dict[Any, tuple[Any, list[_Table]]] = {}
        # By the identity of a tree, which is kept so that no other tree gets it: its text and its tables.
        self._texts: dict[int, tuple[Any, str, tuple[_Table, ...]]] = {}
        self._translations: dict[Any, _Translation] = {}

    def parse(self, sql: str) -> list[Any]:
        if sql in (known := self._trees):
            return known[sql]
        trees = self._parsed(sql)
        tables = None if len(trees) != 1 or _OF_A_JOB.search(sql) else _tables_of(trees[0])
        if tables is None:
            return trees
        if len(self._texts) >= _MAX_REMEMBERED:
            self._trees, self._texts = {}, {}
        self._texts[id(trees[0])] = (trees[0], sql, tables)
        if not tables:
            self._trees[sql] = trees
        return trees

    def _parsed(self, sql: str) -> list[Any]:
        """Parse a statement, or copy the tree of one that differs in the names of its tables only."""
        from sqlglot import exp

        places = _QUOTED.findall(sql)
        shape = _QUOTED.sub("``", sql), tuple(map(places.index, places))
        # Asked once: other threads forget.
        if known := self._shapes.get(shape):
            tree, before = known[0].copy(), known[1]
            names = dict(zip(before, places, strict=True))
            for table in filter(_is_in_dataset, tree.find_all(exp.Table)):
                for part, name in zip(_PARTS, names[_name(table)], strict=True):
                    table.set(part, exp.to_identifier(name, quoted=True))
            return [tree]
        trees: list[Any] = self._parse(sql)
        tables = [table for tree in trees for table in filter(_is_in_dataset, tree.find_all(exp.Table))]
        if len(trees) == 1 and places and sorted(map(_name, tables)) == sorted(places):
            if len(self._shapes) >= _MAX_REMEMBERED:
                self._shapes.clear()
            self._shapes[shape] = trees[0].copy(), places
        return trees

    def translate(self, tree: Any, context: Any) -> tuple[str, dict[str, Any]]:
        known, text, names = self._texts.get(id(tree), (None, "", ()))
        variables = {_VARIABLE.findall(table)[0]: name for name, table in context.variables.items()}
        same = len(variables) < len(context.variables)
        columns = _columns(names) if known is tree else None
        # With a default dataset, a name may be that of a table in it.
        if columns is None or context.dataset_id is not None or same:
            result: tuple[str, dict[str, Any]] = self._translate(tree, context)
            return result
        # A function in JavaScript is named by a hash of its definition.
        functions = sorted((name, registered) for name, (registered, _) in context.functions.items())
        parameters = sorted(context.parameters.items())
        parts = (context.project_id, *parameters, *functions, *sorted(variables.values()))
        key = (_without_names(text, names), columns, parts)
        found = self._translations.get(key)
        if found is None:
            before = set(context.temporary)
            sql, bound = self._translate(tree, context)
            template = _without_names(_VARIABLE.sub(lambda match: f"\0{variables[match[0]]}\0", sql), names)
            if any(re.search(rf"\b{re.escape(name)}\b", template) for *_, name in names):
                return sql, bound
            made = frozenset(context.temporary - before)
            if len(self._translations) >= _MAX_REMEMBERED:
                self._translations.clear()
            self._translations[key] = found = _Translation(template, frozenset(bound), made)
        else:
            _check(tree, context)
        context.used = set(found.parameters)
        context.temporary |= found.temporary
        of_variables = {name: table for table, name in variables.items()}
        sql = _PLACE.sub(lambda match: of_variables[match[1]], found.sql)
        sql = _NAMED.sub(lambda match: _shown(names[int(match[2])], quoted=match[1] == "q"), sql)
        return sql, {name: context.values[name] for name in found.parameters}


def _tables_of(tree: Any) -> tuple[_Table, ...] | None:
    """Return a statement's tables in datasets; ``None`` if its translation depends on more than on them."""
    from local_bigquery.catalog.tables import RESULTS
    from sqlglot import exp

    # A statement on a schema is changed in place; placeholders are counted; the others name users or tables.
    if tree.args.get("kind") == "SCHEMA" or isinstance(tree, exp.Command):
        return None
    if tree.find(exp.Placeholder, exp.SessionUser, exp.CurrentUser):
        return None
    tables: dict[_Table, None] = {}
    for table in tree.find_all(exp.Table):
        if table.name.endswith("*"):
            return None
        if _is_in_dataset(table):
            tables[_name(table)] = None
            is_plain = table.catalog and table.db != RESULTS and isinstance(table.this, exp.Identifier)
            # A decorator, a version, or a view of the catalog.
            if not is_plain or "@" in table.name or "." in table.db or any(map(table.args.get, _AS_OF)):
                return None
    if not tables or isinstance(tree, (exp.Query, exp.Insert, exp.Update, exp.Delete)):
        return tuple(tables)
    return tuple(tables) if isinstance(tree, exp.Create) and tree.find(exp.TemporaryProperty) else None


def _columns(names: tuple[_Table, ...]) -> Any:
    """Return what else a translation depends on, of these tables; ``None`` if that is unknown."""
    from local_bigquery.catalog import row_access, tables
    from local_bigquery.engine import database
    from local_bigquery.engine.types import bigquery_type
    from local_bigquery.errors import BigQueryError
    from local_bigquery.sql.rules import partitions
    from sqlglot import exp

    if names and row_access.secured():
        return None
    try:
        found = [tables.columns(*name) for name in names]
    except (BigQueryError, database.duckdb.Error):
        return None
    types = tuple(tuple((field.name, bigquery_type(field)) for field in fields) for fields in found)
    parts = [exp.table_(table, dataset, project, quoted=True) for project, dataset, table in names]
    return types, tuple(map(partitions._hidden, parts))


def _check(tree: Any, context: Any) -> None:
    """Do what the translation of a statement does besides: look for its tables, and note them."""
    from local_bigquery.catalog import names
    from local_bigquery.sql.rules import tables
    from sqlglot import exp

    target = names.target(tree)
    for table in tree.find_all(exp.Table):
        if _is_in_dataset(table):
            if table is not target or isinstance(tree, names.DML):
                context.referenced.add(names.reference(table, context.project_id, None))
            tables._check(tree, table, table is target)


def _is_in_dataset(table: Any) -> bool:
    return table.args.get("db") is not None


def _name(table: Any) -> _Table:
    return table.catalog, table.db, table.name


def _without_names(sql: str, names: tuple[_Table, ...]) -> str:
    for number, name in enumerate(names):
        for form, quoted in (("q", True), ("n", False)):
            shown = re.escape(_shown(name, quoted=quoted))
            sql = re.sub(rf"(?<![\w-]){shown}(?![\w-])", f"\x01{form}{number}\x01", sql)
    return sql


def _shown(name: _Table, *, quoted: bool) -> str:
    return ".".join(f'"{part}"' if quoted else part for part in name)


def _one_value_a_call(node: Any, _context: Any) -> Any:
    """Translate ``JSON_SET`` with several values into several calls: the emulator knows it with one."""
    from sqlglot import exp

    if not isinstance(node, exp.Anonymous) or node.name.lower() != "bq.main.json_set":
        return node
    made, *pairs = node.expressions
    for path, value in zip(pairs[::2], pairs[1::2], strict=False):
        made = exp.Anonymous(this=node.this, expressions=[made, path, value])
    return made

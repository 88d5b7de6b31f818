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
# These are replaced by values of a session or a job, or are views of the catalog.
_NOT_BY_NAME = re.compile(r"@@|\bEXTERNAL_QUERY\b|INFORMATION_SCHEMA|__TABLES", re.IGNORECASE)
_QUOTED = re.compile(r"`([\w-]+)\.(\w+)\.(\w+)`")
_PARTS = ("catalog", "db", "this")
_MAX_REMEMBERED = 256
_AS_OF = ("version", "when")
_NAMED = re.compile(r"\x01(\d+)\x01")


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
# The text of a statement without the names of its tables, and which of these stands where.
_Shape = tuple[str, tuple[int, ...]]


class _Memory:
    """The functions of ``local_bigquery.sql.translate``, which change no tree that they are given."""

    def __init__(self, parse: Any, translate: Any) -> None:
        self._parse, self._translate = parse, translate
        self._trees: dict[str, list[Any]] = {}
        self._shapes: dict[_Shape, Any] = {}
        # By the identity of a tree, which is kept so that no other tree gets it.
        self._known: dict[int, tuple[Any, _Shape, tuple[_Table, ...]]] = {}
        self._translations: dict[Any, _Translation] = {}

    def parse(self, sql: str) -> list[Any]:
        if sql in (known := self._trees):
            return known[sql]
        places = _QUOTED.findall(sql)
        names: tuple[_Table, ...] = tuple(dict.fromkeys(places))
        shape = _QUOTED.sub("``", sql), tuple(map(names.index, places))
        # Asked once: other threads forget.
        if (template := self._shapes.get(shape)) is not None:
            trees = [_renamed(template, names)]
        else:
            trees = list(self._parse(sql))
            if (template := self._template(sql, trees, names, len(places))) is None:
                return trees
            if len(self._shapes) >= _MAX_REMEMBERED:
                self._shapes.clear()
            self._shapes[shape] = template
        if _is_of_tables_only(trees[0]):
            if len(self._known) >= _MAX_REMEMBERED:
                self._trees, self._known = {}, {}
            self._known[id(trees[0])] = trees[0], shape, names
            if not names:
                self._trees[sql] = trees
        return trees

    def _template(self, sql: str, trees: list[Any], names: tuple[_Table, ...], places: int) -> Any:
        """Return the tree of a statement with numbers for its tables.

        ``None`` if one of its names is not that of a table, but part of a comment or a string, or if it has
        tables beside them.
        """
        from sqlglot import exp

        if len(trees) != 1 or _NOT_BY_NAME.search(sql):
            return None
        if not names:
            return None if any(map(_is_in_dataset, trees[0].find_all(exp.Table))) else trees[0]
        (template,) = self._parse(
            _QUOTED.sub(lambda match: "`{}.{}.{}`".format(*_number(names.index(match.groups()))), sql)
        )
        found = [_name(table) for table in filter(_is_in_dataset, template.find_all(exp.Table))]
        if len(found) != places or {*found} != {*map(_number, range(len(names)))}:
            return None
        return template if _renamed(template, names) == trees[0] else None

    def translate(self, tree: Any, context: Any) -> tuple[str, dict[str, Any]]:
        known, shape, names = self._known.get(id(tree), (None, ("", ()), ()))
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
        key = (shape, columns, parts)
        found = self._translations.get(key)
        if found is None:
            before = set(context.temporary)
            sql, bound = self._translate(tree, context)
            template = _without_names(_VARIABLE.sub(lambda match: f"\0{variables[match[0]]}\0", sql), names)
            if template is None:
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
        sql = re.sub(f'"{_NAMED.pattern}"', lambda match: _shown(names[int(match[1])]), sql)
        return sql, {name: context.values[name] for name in found.parameters}


def _is_of_tables_only(tree: Any) -> bool:
    """Whether the translation of a statement depends on its text and its tables, and on nothing else."""
    from local_bigquery.catalog.tables import RESULTS
    from sqlglot import exp

    # A statement on a schema is changed in place; placeholders are counted; the others name users or tables.
    if tree.args.get("kind") == "SCHEMA" or isinstance(tree, exp.Command):
        return False
    if tree.find(exp.Placeholder, exp.SessionUser, exp.CurrentUser):
        return False
    # Their names are plain: see _QUOTED.
    tables = list(filter(_is_in_dataset, tree.find_all(exp.Table)))
    if any(table.db == RESULTS or any(map(table.args.get, _AS_OF)) for table in tables):
        return False
    if not tables or isinstance(tree, (exp.Query, exp.Insert, exp.Update, exp.Delete)):
        return True
    return isinstance(tree, exp.Create) and bool(tree.find(exp.TemporaryProperty))


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


def _number(number: int) -> _Table:
    """Return a name that stands for a table."""
    return "place-of", "a_table", f"with_number_{number}"


def _renamed(template: Any, names: tuple[_Table, ...]) -> Any:
    """Return a copy of a tree with the names of its tables."""
    from sqlglot import exp

    tree = template.copy()
    tables = {_number(number): name for number, name in enumerate(names)}
    for table in filter(_is_in_dataset, tree.find_all(exp.Table)):
        for part, name in zip(_PARTS, tables[_name(table)], strict=True):
            table.set(part, exp.to_identifier(name, quoted=True))
    return tree


def _without_names(sql: str, names: tuple[_Table, ...]) -> str | None:
    """Replace the names of tables by numbers; ``None`` if one is in a string, or is written differently."""
    from sqlglot import tokenize
    from sqlglot.errors import TokenError

    for number, name in enumerate(names):
        sql = sql.replace(_shown(name), f'"\x01{number}\x01"')
    try:
        words = [token.text for token in tokenize(sql, read="duckdb") if not _NAMED.fullmatch(token.text)]
    except TokenError:
        return None
    mention = re.compile(
        "|".join(["\x01", *(rf"\b{re.escape(name)}\b" for *_, name in names)]), re.IGNORECASE
    )
    return None if any(map(mention.search, words)) else sql


def _shown(name: _Table) -> str:
    return ".".join(f'"{part}"' for part in name)


def _one_value_a_call(node: Any, _context: Any) -> Any:
    """Translate ``JSON_SET`` with several values into several calls: the emulator knows it with one."""
    from sqlglot import exp

    if not isinstance(node, exp.Anonymous) or node.name.lower() != "bq.main.json_set":
        return node
    made, *pairs = node.expressions
    for path, value in zip(pairs[::2], pairs[1::2], strict=False):
        made = exp.Anonymous(this=node.this, expressions=[made, path, value])
    return made

"""Translate ``JSON_SET``, and remember translations of statements that read no table of a dataset.

Each landing runs the same two dozen statements on temporary tables, and translating them took longer than
executing them. All other statements are translated each time, since a translation depends on the schemas of
the tables. Runs in the emulator's own environment and imports nothing from this package.
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
_MAX_REMEMBERED = 256


@dataclass(frozen=True)
class _Translation:
    sql: str  # with the names of variables, between zero bytes, for their tables
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


class _Memory:
    """The functions of ``local_bigquery.sql.translate``, which change no tree that they are given."""

    def __init__(self, parse: Any, translate: Any) -> None:
        self._parse, self._translate = parse, translate
        self._trees: dict[str, list[Any]] = {}
        # By the identity of a tree, which is kept so that no other tree gets it.
        self._translations: dict[int, tuple[Any, dict[Any, _Translation]]] = {}

    def parse(self, sql: str) -> list[Any]:
        if sql in (known := self._trees):
            return known[sql]
        trees: list[Any] = self._parse(sql)
        if not _OF_A_JOB.search(sql) and all(map(_reads_no_dataset, trees)):
            if len(known) >= _MAX_REMEMBERED:
                self._trees, self._translations = {}, {}
            self._translations |= {id(tree): (tree, {}) for tree in trees}
            self._trees[sql] = trees
        return trees

    def translate(self, tree: Any, context: Any) -> tuple[str, dict[str, Any]]:
        known, translations = self._translations.get(id(tree), (None, {}))
        tables = {_VARIABLE.findall(table)[0]: name for name, table in context.variables.items()}
        same = len(tables) < len(context.variables)
        # With a default dataset, a name may be that of a table in it.
        if known is not tree or context.dataset_id is not None or same:
            result: tuple[str, dict[str, Any]] = self._translate(tree, context)
            return result
        # A function in JavaScript is named by a hash of its definition.
        functions = sorted((name, registered) for name, (registered, _) in context.functions.items())
        parameters = sorted(context.parameters.items())
        key = (context.project_id, *parameters, *functions, *sorted(tables.values()))
        if key not in translations:
            before = set(context.temporary)
            sql, bound = self._translate(tree, context)
            translations[key] = _Translation(
                _VARIABLE.sub(lambda match: f"\0{tables[match[0]]}\0", sql),
                frozenset(bound),
                frozenset(context.temporary - before),
            )
        found = translations[key]
        context.used = set(found.parameters)
        context.temporary |= found.temporary
        names = {name: table for table, name in tables.items()}
        sql = _PLACE.sub(lambda match: names[match[1]], found.sql)
        return sql, {name: context.values[name] for name in found.parameters}


def _one_value_a_call(node: Any, _context: Any) -> Any:
    """Translate ``JSON_SET`` with several values into several calls: the emulator knows it with one."""
    from sqlglot import exp

    if not isinstance(node, exp.Anonymous) or node.name.lower() != "bq.main.json_set":
        return node
    made, *pairs = node.expressions
    for path, value in zip(pairs[::2], pairs[1::2], strict=False):
        made = exp.Anonymous(this=node.this, expressions=[made, path, value])
    return made


def _reads_no_dataset(tree: Any) -> bool:
    """Return whether the translation of a statement depends on its text, variables and parameters alone."""
    from sqlglot import exp

    # A statement on a schema is changed in place; placeholders are counted; the others name users or tables.
    if tree.args.get("kind") == "SCHEMA" or isinstance(tree, exp.Command):
        return False
    if tree.find(exp.Placeholder, exp.SessionUser, exp.CurrentUser):
        return False
    return not any(table.args.get("db") or table.name.endswith("*") for table in tree.find_all(exp.Table))

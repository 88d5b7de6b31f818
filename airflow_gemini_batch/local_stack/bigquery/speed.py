"""Do in one step what BigQuery does in one, which costs its stand-in most of its time otherwise.

JSON is text there. It would parse a text three times to make JSON of it once, and once more for each member
that is taken out of it; pack the text up for ``SAFE.``; and turn ``ARRAY(SELECT … FROM UNNEST(…))`` of each
row into a join of all rows. Runs in the environment of the stand-in and imports nothing of this package.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from typing import Any

_GROUP_ROWS = "8192"


def keep_up() -> None:
    """Adapt the stand-in in this process; before it has opened DuckDB."""
    _tune_duckdb()
    _tune_rules()


def _tune_duckdb() -> None:
    from local_bigquery.engine import database

    connect = database._connect.__wrapped__

    @functools.cache
    def connect_and_parse_once() -> Any:
        connection = connect()
        connection.execute(_PARSE_JSON)
        # A landing writes hundreds of MB; DuckDB would copy them into its file in the middle, every 16.
        connection.execute("SET checkpoint_threshold = '2GB'")
        return connection

    database._connect = connect_and_parse_once
    attach = database._attach

    def attach_with_small_groups(connection: Any, project: str) -> None:
        attach(connection, project)
        # A writer holds a group in memory: of 122,880 rows of 2 KB it would be 250 MB, and fresh each time.
        connection.execute(
            "CALL ducklake_set_option($1, 'parquet_row_group_size', $2)", [project, _GROUP_ROWS]
        )

    database._attach = attach_with_small_groups


def _tune_rules() -> None:
    from local_bigquery.sql import rules, translate
    from local_bigquery.sql.rules import arrays, safe
    from sqlglot import exp

    def safe_function(node: Any, context: object) -> Any:
        # TRY also catches what goes wrong in the arguments; nothing does in a column or a literal.
        plain = isinstance(node, exp.SafeFunc) and all(
            isinstance(argument, (exp.Column, exp.Literal, exp.Kwarg))
            for argument in node.this.iter_expressions()
        )
        return exp.func("TRY", node.this) if plain else safe.safe_function(node, context)

    rules.NODE_RULES[rules.NODE_RULES.index(safe.safe_function)] = safe_function
    rules.NODE_RULES.append(_members_at_once)
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


def _members_at_once(node: Any, context: object) -> Any:
    """Read all that a SELECT takes out of one JSON column by one list of paths, which is evaluated once."""
    from sqlglot import exp

    if not isinstance(node, exp.Select):
        return node
    # What may not be evaluated for each row, or is about another row, stays as it is.
    apart = (exp.Query, exp.Lambda, exp.Case, exp.If)
    found = defaultdict(list)
    for projection in node.expressions:
        for each in projection.walk(prune=lambda part: isinstance(part, apart)):
            if type(each) in (exp.JSONExtract, exp.JSONExtractScalar) and _is_plain(each):
                found[each.this.sql()].append(each)
    for members in found.values():
        if len(members) > 1:
            _read_at_once(members)
    return node


def _is_plain(member: Any) -> bool:
    from sqlglot import exp

    steps = (exp.JSONPathRoot, exp.JSONPathKey, exp.JSONPathSubscript)
    path = member.expression
    return (
        isinstance(member.this, exp.Column)
        and isinstance(path, exp.JSONPath)
        and len(path.expressions) > 1
        and all(isinstance(step, steps) for step in path.expressions)
    )


def _read_at_once(members: list[Any]) -> None:
    from sqlglot import exp

    paths = list(dict.fromkeys(member.expression for member in members))
    every = exp.Anonymous(
        this="json_extract",
        expressions=[members[0].this, exp.Array(expressions=[path.copy() for path in paths])],
    )
    for member in members:
        index = exp.Literal.number(paths.index(member.expression) + 1)
        one = exp.Anonymous(this="list_extract", expressions=[every.copy(), index])
        if isinstance(member, exp.JSONExtractScalar):
            member.set("this", one)
            member.set("expression", exp.JSONPath(expressions=[exp.JSONPathRoot()]))
        else:
            member.replace(one)

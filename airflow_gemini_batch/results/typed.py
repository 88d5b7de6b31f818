"""Typed columns: SQL that reads the model's JSON answer by its schema and finds where it does not match.

Three nested SELECTs read each JSON path only once: the JSON value at each path (``item_N``), its SQL value
(``value_N``), and from these the columns and the first misfit. The items of an array are the rows of a
subquery with the same three layers. The SQL is as recursive as the schema, so no template builds it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import count
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from airflow_gemini_batch.requests.response_schema import Column


@dataclass(frozen=True)
class Typed:
    """The typed columns of an answer.

    :param query: returns all columns of its source, ``column_0``, ``column_1`` … and ``misfit``: where the
        answer does not match, such as ``$.items[3].price is not FLOAT64``; NULL if it matches
    :param parameters: its query parameters, each an ``ARRAY<STRING>``
    """

    query: str
    parameters: dict[str, list[str]]


def typed(columns: Sequence[Column], source: str) -> Typed:
    """Build the query that reads the typed columns.

    :param columns: the properties of the response schema
    :param source: a table, or a query in parentheses, with the answer in a JSON column ``output``
    """
    if not columns:
        return Typed(f"SELECT *, CAST(NULL AS STRING) AS misfit FROM {source}", {})  # noqa: S608
    root = _Node("output")
    kind = "array" if columns[0].is_whole_answer else "object"
    root.misfits.append(f"WHEN IFNULL(JSON_TYPE(output), '') != '{kind}' THEN ' is not a JSON {kind}'")
    values = [root.member(column, "$", "") for column in columns]
    named = [f"{value} AS column_{index}" for index, value in enumerate(values)]
    source_columns = f"* EXCEPT ({', '.join([*root.items, *root.values])})"
    results = [source_columns, *named, f"'$' || {root.misfit} AS misfit"]
    return Typed(root.query(source, results), root.parameters)


@dataclass
class _Node:
    """One JSON value, the answer or an item of an array, and the SQL that reads its members.

    :param name: the SQL column with the value
    :param items: the lowest layer: SQL by column name
    :param values: the layer above it: SQL by column name
    :param misfits: ``WHEN … THEN …`` clauses, in the order of the schema
    """

    name: str
    numbers: Iterator[int] = field(default_factory=count)
    parameters: dict[str, list[str]] = field(default_factory=dict)
    items: dict[str, str] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)
    misfits: list[str] = field(default_factory=list)

    @property
    def misfit(self) -> str:
        """SQL of the first misfit: its path below this node and the reason; NULL if there is none."""
        return f"CASE {' '.join(self.misfits)} END"

    def query(self, source: str, results: Sequence[str]) -> str:
        """Return the three layers on top of a source."""
        for layer in (self.items, self.values):
            columns = ", ".join(f"{sql} AS {name}" for name, sql in layer.items())
            source = f"(SELECT *, {columns} FROM {source})"  # noqa: S608
        return f"SELECT {', '.join(results)} FROM {source}"  # noqa: S608

    def member(self, column: Column, above: str, parent: str) -> str:
        """Read a property; return the SQL of its value.

        :param above: JSON path of its object
        :param parent: SQL that tests whether that object exists, ending in AND; empty if it always does
        """
        if not column.is_written:
            return f"CAST({'[]' if column.mode == 'REPEATED' else 'NULL'} AS {column.sql_type})"
        path = above if column.is_whole_answer else f"{above}.{column.member or column.name}"
        return self.value(column, path, parent)

    def value(self, column: Column, path: str, parent: str = "") -> str:
        """Read the value at a path; return its SQL."""
        number = next(self.numbers)
        self.items[f"item_{number}"] = f"JSON_QUERY({self.name}, '{path}')"
        if column.mode == "REPEATED":
            return self._array(column, number, path[1:], parent)
        if column.type == "RECORD":
            return self._record(column, number, path, parent)
        return self._scalar(column, number, path[1:], parent)

    def _scalar(self, column: Column, number: int, place: str, parent: str) -> str:
        value = f"value_{number}"
        self.values[value] = f"as_{column.json_kind or column.type.lower()}(item_{number})"
        called = f"an {column.json_kind}" if column.json_kind else column.type
        self._miss(column, number, place, parent, f"{value} IS NULL", "" if called == "JSON" else called)
        if column.enum:
            self.parameters[f"enum_{number}"] = list(column.enum)
            outside = f"CAST({value} AS STRING) NOT IN UNNEST(@enum_{number})"
            self._add_misfit(outside, f"'{place} is not one of its enum values'")
        return value

    def _record(self, column: Column, number: int, path: str, parent: str) -> str:
        there = f"is_object_{number}"
        self.values[there] = f"IFNULL(JSON_TYPE(item_{number}) = 'object', FALSE)"
        self._miss(column, number, path[1:], parent, f"NOT {there}", "an object")
        fields = [f"{self.member(each, path, f'{there} AND ')} AS `{each.name}`" for each in column.fields]
        return f"IF({there}, STRUCT({', '.join(fields)}), NULL)"

    def _array(self, column: Column, number: int, place: str, parent: str) -> str:
        item, value, position = f"item_{number}", f"value_{number}", f"position_{number}"
        node = _Node(f"node_{number}", self.numbers, self.parameters)
        one = replace(column, mode="NULLABLE", required=True, nullable=False)
        fitting = node.value(one, "$")
        # A null item is a JSON null in BigQuery, and an SQL NULL in its emulator.
        all_items = f"UNNEST(JSON_QUERY_ARRAY(as_array({item}))) AS item WITH OFFSET AS {position}"
        rows = f"(SELECT {position}, IFNULL(item, JSON 'null') AS {node.name} FROM {all_items})"  # noqa: S608
        misfit = f"'[' || CAST({position} AS STRING) || ']' || {node.misfit}"
        results = node.query(rows, [position, f"{fitting} AS fitting", f"{misfit} AS misfit"])
        all_fitting = f"ARRAY_AGG(fitting IGNORE NULLS ORDER BY {position}) AS fitting"
        first_misfit = f"ANY_VALUE(misfit HAVING MIN IF(misfit IS NULL, NULL, {position})) AS misfit"
        self.values[value] = f"(SELECT STRUCT({all_fitting}, {first_misfit}) FROM ({results}))"  # noqa: S608
        missed = f"IFNULL(JSON_TYPE({item}), '') != 'array'"
        self._miss(column, number, place, parent, missed, "an array")
        self._add_misfit(f"{value}.misfit IS NOT NULL", f"'{place}' || {value}.misfit")
        return f"IFNULL({value}.fitting, [])"

    def _miss(self, column: Column, number: int, place: str, parent: str, missed: str, called: str) -> None:
        """Add the misfit of a value that is missing, null or of another type.

        :param missed: SQL that tests for it; the only test that a matching answer needs
        :param called: name of the expected type; empty if any type matches
        """
        item, type_ = f"item_{number}", f"JSON_TYPE(item_{number})"
        if column.required and not column.nullable:
            condition = parent + missed
        elif column.required:
            condition = f"{parent}{missed} AND IFNULL({type_}, '') != 'null'"
        elif called:
            condition = f"{missed} AND {type_} != 'null'"
        else:
            return
        why = f"WHEN {item} IS NULL THEN ' is missing' WHEN {type_} = 'null' THEN ' is null'"
        self._add_misfit(condition, f"'{place}' || CASE {why} ELSE ' is not {called}' END")

    def _add_misfit(self, condition: str, reason: str) -> None:
        self.misfits.append(f"WHEN {condition} THEN {reason}")

"""What a statement reads and changes, from the tree that the GoogleSQL analyzer makes of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PARTITION_COLUMN = "landed_at"
_KINDS = {
    "ResolvedDeleteStmt": "DELETE",
    "ResolvedUpdateStmt": "UPDATE",
    "ResolvedInsertStmt": "INSERT",
    "ResolvedMergeStmt": "MERGE",
    "ResolvedTruncateStmt": "TRUNCATE",
    "ResolvedCreateTableAsSelectStmt": "CREATE",
    "ResolvedQueryStmt": "SELECT",
}
_COMPARISONS = ("$equal", "$greater", "$greater_or_equal")


@dataclass(frozen=True)
class Read:
    """One reference to a table.

    :param columns: those that are read
    :param since: the parameter that bounds the partitions, such as ``since``; ``=`` before it if only the
        partition of that time is read; empty if all partitions are read
    """

    table: str
    columns: frozenset[str]
    since: str = ""


@dataclass(frozen=True)
class Statement:
    """What a statement does.

    :param kind: ``SELECT``, ``INSERT``, ``DELETE`` and so on; empty if it is none that bills
    :param reads: the references to tables
    :param target: the table whose rows it changes; empty for a query
    :param creates: the columns of the table that it creates
    """

    kind: str
    reads: tuple[Read, ...]
    target: str = ""
    creates: frozenset[str] = frozenset()

    @property
    def changes_rows(self) -> bool:
        """Whether it changes or deletes rows, and so bills the whole of their partitions."""
        return self.kind in ("DELETE", "UPDATE", "MERGE")

    @property
    def is_job(self) -> bool:
        """Whether it names a table, so that BigQuery runs it as a job of its own."""
        return bool(self.kind and (self.reads or self.target))


def statement_of(tree: Any) -> Statement:
    """Return what a resolved statement does. The analyzer must have left out unused columns."""
    kind = _KINDS.get(type(tree).__name__, "")
    if not kind:
        return Statement("", ())
    target = getattr(tree, "table_scan", None)
    nodes = list(_nodes(tree))
    used = {node.column.column_id for node in nodes if type(node).__name__ == "ResolvedColumnRef"}
    bounds = dict(_bounds(nodes))
    reads = []
    for scan in (node for node in nodes if type(node).__name__ == "ResolvedTableScan"):
        columns = scan.column_list
        if scan is target:
            # The analyzer lists all columns of a table that is changed.
            columns = [column for column in columns if column.column_id in used]
            if kind in ("INSERT", "TRUNCATE") or not columns:
                continue
        since = next((bounds[column.column_id] for column in columns if column.column_id in bounds), "")
        reads.append(Read(scan.table.name, frozenset(column.name for column in columns), since))
    name = target.table.name if target else ""
    name = name or ".".join(getattr(tree, "name_path", ()))
    creates = frozenset(each.name for each in getattr(tree, "column_definition_list", ()))
    return Statement(kind, tuple(reads), name, creates if kind == "CREATE" else frozenset())


def _nodes(node: Any) -> Iterator[Any]:
    """Yield the nodes of a tree, each before its children."""
    if isinstance(node, (list, tuple)):
        for each in node:
            yield from _nodes(each)
    elif dataclasses.is_dataclass(node) and type(node).__name__.startswith("Resolved"):
        yield node
        if type(node).__name__ != "ResolvedColumn":
            for each in dataclasses.fields(node):
                yield from _nodes(getattr(node, each.name))


def _bounds(nodes: list[Any]) -> Iterator[tuple[int, str]]:
    """Yield the IDs of partition columns that a condition compares with a parameter, and its name."""
    for node in nodes:
        if type(node).__name__ == "ResolvedFilterScan":
            yield from _compared(node.filter_expr)
        elif type(node).__name__ in ("ResolvedDeleteStmt", "ResolvedUpdateStmt"):
            yield from _compared(node.where_expr)


def _compared(condition: Any) -> Iterator[tuple[int, str]]:
    if type(condition).__name__ != "ResolvedFunctionCall":
        return
    name = condition.function.name.rpartition(":")[2]
    if name == "$and":
        for each in condition.argument_list:
            yield from _compared(each)
    elif name in _COMPARISONS:
        column, value = condition.argument_list
        kinds = (type(column).__name__, type(value).__name__)
        if kinds == ("ResolvedColumnRef", "ResolvedParameter") and column.column.name == _PARTITION_COLUMN:
            yield column.column.column_id, f"{'=' if name == '$equal' else ''}{value.name}"

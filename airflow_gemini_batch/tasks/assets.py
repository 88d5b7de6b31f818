"""The results table as an asset, in Airflow 2 a dataset: an outlet, with an event when rows are landed.

A table whose full name is known when the DAG is parsed is an outlet itself. Any other is added to an alias
when its rows are landed.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.tasks.airflow_versions import knows_alias
from airflow_gemini_batch.tasks.parameters import is_known

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from airflow.providers.common.compat.sdk import BaseOperator, Context

log = logging.getLogger(__name__)

_MAX_URI = 1500
_MOST_INLETS = 100
_OWN_OUTLET = "_own_outlet"


def declare_table(operator: BaseOperator, table: object, project_id: object) -> None:
    """Add the results table to the outlets of an operator that has ``emit_asset`` set.

    :param table: as the user gave it, perhaps a template
    :param project_id: of a table whose name has none; ``None`` for that of the connection
    """
    from airflow.providers.common.compat.sdk import AssetAlias

    setattr(operator, _OWN_OUTLET, None)
    if not getattr(operator, "emit_asset", False):
        return
    uri = _known_uri(table, project_id)
    if uri:
        is_given = any(getattr(each, "uri", None) == uri for each in operator.outlets)
        own: Any = None if is_given else as_asset(uri)
    else:
        # Airflow does not know an alias that a mapped task, which is made when it runs, adds by itself.
        is_made_late = getattr(operator, "_BaseOperator__from_mapped", False)
        is_given = any(isinstance(each, AssetAlias) for each in operator.outlets)
        own = None if is_given or is_made_late else AssetAlias(f"{operator.dag_id}.{operator.task_id}")
    if own is not None:
        setattr(operator, _OWN_OUTLET, own)
        operator.outlets = [*operator.outlets, own]


def record_landing(
    operator: BaseOperator, context: Context, manifest: Mapping[str, Any], inputs: Iterable[str] = ()
) -> None:
    """Attach facts to the event that Airflow makes when the task succeeds. Without rows, there is none.

    :param manifest: of what the task has landed
    :param inputs: ``gs://…`` and ``bq://…`` of the jobs; they become inlets
    """
    from airflow_gemini_batch.results.brief import brief

    if not getattr(operator, "emit_asset", False):
        return
    facts = brief(manifest)
    if not facts["jobs"] or not facts["rows"]:
        own = getattr(operator, _OWN_OUTLET, None)
        # A list of its own: copies of the operator share the list.
        operator.outlets = [each for each in operator.outlets if own is None or each != own]
        return
    given = {getattr(each, "uri", None) for each in operator.inlets}
    found = dict.fromkeys(uri for uri in map(input_asset_uri, inputs) if uri and uri not in given)
    # Not when the DAG is parsed: an inlet that the user's DAGs know by another name would stop the task.
    operator.inlets = [*operator.inlets, *map(as_asset, list(found)[:_MOST_INLETS])]
    events, uri = context.get("outlet_events"), _uri(str(facts.get("table")))
    if events is None or uri is None:
        return
    same = [each for each in operator.outlets if getattr(each, "uri", None) == uri]
    for each in same:
        events[each].extra.update(facts)
    for each in _aliases(operator.outlets) if not same else ():
        if knows_alias(each.name):
            events[each].add(as_asset(uri), extra=dict(facts))
        else:
            log.warning("Airflow does not know the dataset alias %r, so this task makes no event.", each.name)


def as_asset(uri: str) -> Any:
    """Return the asset that ``Asset(uri)`` returns, for a URI that is made from checked parts."""
    from airflow.providers.common.compat.sdk import Asset

    # Airflow checks a URI with code of the Google provider, which imports Google's SDKs: a DAG file would be
    # parsed two seconds longer.
    made: Any = Asset(uri="unchecked")
    for name in ("name", "uri"):
        if hasattr(made, name):
            object.__setattr__(made, name, uri)
    return made


def _known_uri(table: object, project_id: object) -> str | None:
    if not isinstance(table, str) or not is_known(table):
        return None
    project = project_id if isinstance(project_id, str) and is_known(project_id) else None
    return _uri(table, project)


def _uri(table: str, project: str | None = None) -> str | None:
    """Return the URI as Airflow and OpenLineage write it; ``None`` without a project."""
    from airflow_gemini_batch.gcp.table_name import TableName

    try:
        name = TableName.parse(table, project)
    except InvalidParameterError:
        return None
    return _checked(f"bigquery://{name.project}/{name.dataset}/{name.table}")


def input_asset_uri(uri: str) -> str | None:
    """Return the URI of the asset of an input, ``gs://…`` or ``bq://…``; ``None`` for one with wildcards."""
    if uri.startswith("bq://"):
        return _uri(uri)
    is_object = uri.startswith("gs://") and not any(mark in uri for mark in "*?[")
    return _checked(uri) if is_object else None


def _checked(uri: str) -> str | None:
    return uri if uri.isascii() and len(uri) <= _MAX_URI else None


def _aliases(outlets: Sequence[Any]) -> list[Any]:
    from airflow.providers.common.compat.sdk import AssetAlias

    return [each for each in outlets if isinstance(each, AssetAlias)]

"""A manifest in few words: a small flat dict and a line of text, for events and notifications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.formats import counted, dollars

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOST_NAMED = 10


def brief(manifest: Mapping[str, Any]) -> dict[str, str | int | float]:
    """Return the facts of a manifest, of a landing or of retries, without nested values and without nulls.

    They are ``table`` (``project.dataset.table``), ``jobs`` (how many), ``job_name`` (of up to ten jobs,
    separated by spaces), ``state`` (of a single job), ``rows``, ``rows_…`` for each status that has rows,
    and ``cost_usd``.
    """
    names = _job_names(manifest)
    counts = {status: count for status, count in (manifest.get("counts") or {}).items() if count}
    facts = {
        "table": manifest.get("destination_table") or manifest.get("results_table"),
        "jobs": len(names),
        "job_name": " ".join(names[:_MOST_NAMED]) or None,
        "state": manifest.get("state"),
        "rows": sum(counts.values()),
        **{f"rows_{status}": count for status, count in counts.items()},
        "cost_usd": manifest.get("cost_usd"),
    }
    return {name: value for name, value in facts.items() if value is not None}


def is_manifest(value: object) -> bool:
    """Whether a value is a manifest, as tasks that land results return it."""
    return isinstance(value, dict) and isinstance(value.get("counts"), dict) and "error_table" in value


def line(facts: Mapping[str, Any]) -> str:
    """Return facts that :func:`brief` has made as a line of text."""
    rows = {name.removeprefix("rows_"): count for name, count in facts.items() if name.startswith("rows_")}
    found = ", ".join(f"{count:,} {status}" for status, count in rows.items()) or "none"
    cost = f"about {dollars(facts['cost_usd'])}" if "cost_usd" in facts else "cost unknown"
    place = f" in {facts['table']}" if "table" in facts else ""
    return f"{counted(facts['rows'], 'row')}{place}: {found}; {cost}"


def _job_names(manifest: Mapping[str, Any]) -> list[str]:
    several = manifest.get("jobs") or manifest.get("rounds") or ()
    names = [each.get("job_name") for each in several] or [manifest.get("job_name")]
    return [name for name in names if name]

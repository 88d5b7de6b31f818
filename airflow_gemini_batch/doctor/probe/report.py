"""The file of a probe, which can be attached to a report: no names of the user's, and no secrets. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from airflow_gemini_batch.doctor.facts import Caller
    from airflow_gemini_batch.doctor.probe.steps import Place
    from airflow_gemini_batch.doctor.probe.verdicts import Observations, Verdict

VERSION = 1
"""Of the form of the file; raised when a member changes its meaning."""


def to_dict(
    place: Place,
    seen: Observations,
    found: Sequence[Verdict],
    *,
    versions: Mapping[str, str],
    now: datetime,
    hidden: Mapping[str, str],
) -> dict[str, Any]:
    """Return the content of the file as JSON types.

    :param versions: of the packages involved
    :param hidden: see :func:`names_to_hide`
    """
    document = {
        "version": VERSION,
        "created": now.isoformat(timespec="seconds"),
        "packages": dict(versions),
        "location": place.location,
        "model": place.model,
        "dataset_location": place.dataset_location,
        "assumptions": [verdict.to_dict() for verdict in found],
        "jobs": {
            name: {
                "state": each.job.state.name if each.job else None,
                "error_code": each.job.error.code if each.job and each.job.error else None,
                "error_message": each.job.error.message if each.job and each.job.error else None,
                "counts": str(each.job.stats) if each.job else None,
                "output_rows": each.rows,
                "problem": each.problem or None,
            }
            for name, each in seen.steps.items()
        },
        "filters": dict(seen.filters),
    }
    redacted: dict[str, Any] = _redacted(document, hidden)
    return redacted


def names_to_hide(place: Place, caller: Caller, number: str | None) -> dict[str, str]:
    """Return what stands in the file instead of the names of the user's project, by the name."""
    dataset = place.dataset.rpartition(".")[2]
    hidden = {place.dataset: "DATASET", place.bucket: "BUCKET", dataset: "DATASET", place.project: "PROJECT"}
    if caller.email:
        hidden[caller.email] = "PRINCIPAL"
    if number:
        hidden[number] = "NUMBER"
    # Longer names first: one may be a part of another.
    return dict(sorted(hidden.items(), key=lambda item: -len(item[0])))


def _redacted(value: Any, hidden: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for name, instead in hidden.items():
            # Whole words: a dataset may be called `a`.
            value = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", instead, value)
        return value
    if isinstance(value, Mapping):
        return {key: _redacted(item, hidden) for key, item in value.items()}
    return [_redacted(item, hidden) for item in value] if isinstance(value, list) else value

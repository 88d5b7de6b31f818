"""What the service checks when a job is created, in addition to field names and types."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import JobFault
from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.emulator.protocol.errors import Violation
from airflow_gemini_batch.emulator.running.job_clock import Pace
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.discovery import snake_case
from airflow_gemini_batch.models import ModelName

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

ROOT = "batch_prediction_job"
PACE_LABEL = "emulator-pace"
ENDS_LABEL = "emulator-ends"

KNOWN_MODELS = frozenset(
    {
        "gemini-2.0-flash",
        "gemini-2.0-flash-001",
        "gemini-2.0-flash-lite",
        "gemini-2.0-flash-lite-001",
        "gemini-2.5-flash",
        "gemini-2.5-flash-image",
        "gemini-2.5-flash-lite",
        "gemini-2.5-pro",
        "gemini-3-flash-preview",
        "gemini-3-pro-preview",
        "gemini-3.1-flash-lite",
        "gemini-3.1-flash-lite-preview",
        "gemini-3.1-pro-preview",
        "gemini-3.5-flash",
        "gemini-3.7-flash",
    }
)
"""The default of ``Emulator(models=…)``."""

_LABEL = re.compile(r"^[\w-]{0,64}$")
_MAX_LABELS = 64
_SIDES = {
    "inputConfig": (
        "instancesFormat",
        {"gcsSource": ("uris", "jsonl"), "bigquerySource": ("inputUri", "bigquery")},
    ),
    "outputConfig": (
        "predictionsFormat",
        {"gcsDestination": ("outputUriPrefix", "jsonl"), "bigqueryDestination": ("outputUri", "bigquery")},
    ),
}
_SCHEMES = {"jsonl": "gs://", "bigquery": "bq://"}


def check_job(body: Mapping[str, Any], parent: str, models: Collection[str]) -> None:
    """Check a create body whose field names (camelCase) and types are already valid.

    :raises CallError: 400, or 404 for the model
    """
    required = [
        field for field in ("displayName", "model", "inputConfig", "outputConfig") if not body.get(field)
    ]
    found = [Violation(f"{ROOT}.{snake_case(field)}", "Required field is not set.") for field in required]
    if len(body.get("displayName") or "") > 128:
        found.append(Violation(f"{ROOT}.display_name", "The display name is longer than 128 characters."))
    for side in _SIDES:
        if body.get(side):
            found.extend(_check_side(side, body[side]))
    found.extend(_check_labels(body.get("labels") or {}))
    if found:
        raise errors.bad_fields(found)
    check_model(body["model"], parent, models)


def pace_of(body: Mapping[str, Any], default: Pace) -> Pace:
    """Return the pace from the job's label ``emulator-pace``, else the default.

    :raises CallError: 400 when the label is not a pace
    """
    label = (body.get("labels") or {}).get(PACE_LABEL)
    if label is None:
        return default
    try:
        return Pace.parse(label, f"labels.{PACE_LABEL}")
    except InvalidParameterError as error:
        raise errors.bad_fields([Violation(f"{ROOT}.labels", str(error))]) from None


def end_of(body: Mapping[str, Any]) -> JobFault | None:
    """Return how the job ends by its label ``emulator-ends``; ``None`` without that label.

    :raises CallError: 400 when the label is not a terminal state and, optionally, a number of rows
    """
    label = (body.get("labels") or {}).get(ENDS_LABEL)
    if label is None:
        return None
    name, _, rows = label.partition("-")
    state = JobState.__members__.get(name.upper())
    if state is None or not state.is_terminal or not (rows or "0").isdecimal():
        problem = (
            f"labels.{ENDS_LABEL}={label!r}: give a terminal state and a number of rows, as in expired-5"
        )
        raise errors.bad_fields([Violation(f"{ROOT}.labels", problem)])
    return JobFault(ends=state, after_rows=int(rows) if rows else None, exports=rows != "0")


def _check_side(side: str, config: Mapping[str, Any]) -> list[Violation]:
    format_field, choices = _SIDES[side]
    at = f"{ROOT}.{snake_case(side)}"
    given = [choice for choice in choices if config.get(choice) is not None]
    if len(given) > 1:
        oneof = "source" if side == "inputConfig" else "destination"
        problem = f"oneof field '{oneof}' is already set. Cannot set '{given[1]}'"
        raise errors.bad_body([Violation(at, f"Invalid value at '{at}' (oneof), {problem}")])
    if not given:
        return [Violation(at, "Required field is not set.")]
    uri_field, wanted_format = choices[given[0]]
    found = []
    if config.get(format_field) != wanted_format:
        found.append(
            Violation(
                f"{at}.{snake_case(format_field)}",
                f'Unsupported format "{config.get(format_field) or ""}" for {snake_case(given[0])}; '
                f'supported: "{wanted_format}".',
            )
        )
    uris = config[given[0]].get(uri_field)
    uri_at = f"{at}.{snake_case(given[0])}.{snake_case(uri_field)}"
    if not uris:
        return [*found, Violation(uri_at, "Required field is not set.")]
    scheme = _SCHEMES[wanted_format]
    wrong = [
        uri for uri in (uris if isinstance(uris, list) else [uris]) if not re.match(rf"{scheme}[^/\s]", uri)
    ]
    return found + [Violation(uri_at, f'Invalid URI "{uri}": it must start with {scheme}.') for uri in wrong]


def _check_labels(labels: Mapping[str, str]) -> list[Violation]:
    at = f"{ROOT}.labels"
    found = []
    if len(labels) > _MAX_LABELS:
        found.append(Violation(at, f"There are {len(labels)} labels, more than {_MAX_LABELS}."))
    for key, value in labels.items():
        if not key or not _is_label(key) or not key[0].isalpha():
            found.append(Violation(at, f'Invalid label key "{key}". {_LABEL_RULE} Keys start with a letter.'))
        if not _is_label(value):
            found.append(Violation(at, f'Invalid value "{value}" of label "{key}". {_LABEL_RULE}'))
    return found


_LABEL_RULE = (
    "At most 64 characters are allowed: lowercase letters, numeric characters, underscores and dashes."
)


def _is_label(text: str) -> bool:
    return bool(_LABEL.match(text)) and text == text.lower()


def check_model(model: str, parent: str, models: Collection[str]) -> None:
    """Check that a model exists.

    :raises CallError: 400, or 404
    """
    name = ModelName.parse(model)
    if name and name.publisher == "google":
        if name.id not in models:
            raise errors.model_not_found(f"{parent}/publishers/google/models/{name.id}")
        return
    if not name or not name.is_tuned:
        raise errors.bad_fields([Violation(f"{ROOT}.model", f'Invalid resource name "{model}".')])
    location = parent.rsplit("/", 1)[-1]
    if location == "global":
        raise errors.bad_fields([Violation(f"{ROOT}.model", "Tuned models are not supported on global.")])
    if name.location != location:
        raise errors.tuned_model_not_found(model)

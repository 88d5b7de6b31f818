"""What the service checks when a job is created, in addition to field names and types."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import JobFault
from airflow_gemini_batch.emulator.protocol import errors
from airflow_gemini_batch.emulator.protocol.errors import Violation
from airflow_gemini_batch.emulator.running.job_clock import Pace
from airflow_gemini_batch.emulator.running.job_store import utc_now
from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.gcp.discovery import snake_case
from airflow_gemini_batch.models import GLOBAL, ModelName, find_model, reads_tables

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from datetime import date

ROOT = "batch_prediction_job"
PACE_LABEL = "emulator-pace"
ENDS_LABEL = "emulator-ends"

# Models that are newer than models.json.
_NEWER_MODEL = re.compile(
    r"gemini-([3-9]|\d{2,})(\.\d+)?-(pro|flash|flash-lite)(-image)?(-preview(-\d{2}-\d{4})?)?(-\d{3})?"
    r"|gemini-embedding-([3-9]|\d{2,})"
)

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


@dataclass(frozen=True)
class Offer:
    """Which publisher models exist.

    :param models: their IDs; ``None`` for those of models.json, and newer ones with names like theirs, where
        and while they are offered
    :param today: the day that decides whether a model is retired; ``None`` for the real one
    """

    models: Collection[str] | None = None
    today: date | None = None

    def has(self, model: str, location: str) -> bool:
        """Whether a model can be used."""
        if self.models is not None:
            return model in self.models
        found = find_model(model)
        if found is None:
            return bool(_NEWER_MODEL.fullmatch(model))
        # Stricter than the service may be: where a model retires on a day or later, it is gone on that day.
        is_retired = found.retires and (self.today or utc_now().date()) >= found.retires
        return not is_retired and found.is_offered_in(location) is not False


CURRENT_MODELS = Offer()


def check_job(body: Mapping[str, Any], parent: str, offer: Offer) -> None:
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
    check_model(body["model"], parent, offer)
    if body["inputConfig"].get("bigquerySource") and not reads_tables(body["model"]):
        at = f"{ROOT}.input_config.bigquery_source"
        raise errors.bad_fields([Violation(at, "This model supports only input in Cloud Storage.")])


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


def check_model(model: str, parent: str, offer: Offer) -> None:
    """Check that a model exists and is offered in the location.

    :raises CallError: 400, or 404
    """
    name, location = ModelName.parse(model), parent.rsplit("/", 1)[-1]
    if name and name.publisher == "google":
        if not offer.has(name.id, location):
            raise errors.model_not_found(f"{parent}/publishers/google/models/{name.id}")
        return
    if not name or not name.is_tuned:
        raise errors.bad_fields([Violation(f"{ROOT}.model", f'Invalid resource name "{model}".')])
    if location == GLOBAL:
        raise errors.bad_fields([Violation(f"{ROOT}.model", "Tuned models are not supported on global.")])
    if name.location != location:
        raise errors.tuned_model_not_found(model)

"""What to say of a job's model: it is about to retire, or is not offered in the job's location."""

from __future__ import annotations

from datetime import timedelta
from difflib import get_close_matches
from typing import TYPE_CHECKING

from airflow_gemini_batch.models import ModelName, models

if TYPE_CHECKING:
    from datetime import date

    from airflow_gemini_batch.models import Model, Models

NOTICE = timedelta(days=60)
"""How long before a model retires a task starts to warn."""

_TABLE = "`gemini-batch models` lists all models."


def warnings_about(model: str, location: str, today: date) -> list[str]:
    """Return what a user should know before a job is created; empty if there is nothing to say.

    :param model: in any form of its name
    """
    known = models()
    found, name = known.find(model), known.id_of(model)
    if not found or not name:
        return []
    notices = []
    if found.retires and found.retires <= today + NOTICE:
        notices.append(f"{_retirement(name, found, today)} {_instead(found)}")
    if place := _place(name, found, location, known):
        notices.append(f"{place} The service may answer 404. {_TABLE}")
    return notices


def why_not_found(model: str, location: str, today: date) -> str:
    """Return why the service may not have found a model, and what to do; empty if nothing is known.

    :param model: in any form of its name
    """
    known = models()
    found, name = known.find(model), known.id_of(model)
    if not found or not name:
        return _similar(model, known)
    if found.retires and found.retires <= today:
        return f"{_retirement(name, found, today)} {_instead(found)}"
    place = _place(name, found, location, known)
    return f"{place} Set location to one of these." if place else ""


def _retirement(name: str, found: Model, today: date) -> str:
    if not found.retires:
        return ""
    day = f"{found.retires:%Y-%m-%d}"
    if found.retires_or_later:
        verb = "was due to retire" if found.retires <= today else "retires"
        return f"{name} {verb} on {day} or later."
    if not found.switched_off:
        return f"{name} {'retired' if found.retires <= today else 'retires'} on {day}."
    closed = "was closed" if found.retires <= today else "will be closed"
    off = f"reports say that it is switched off for all others on {found.switched_off:%Y-%m-%d}"
    return f"{name} {closed} to new projects on {day}; {off}."


def _instead(found: Model) -> str:
    return f"Use {found.replacement} instead." if found.replacement else f"Use a newer model: {_TABLE}"


def _place(name: str, found: Model, location: str, known: Models) -> str:
    if found.is_offered_in(location) is not False:
        return ""
    offered = ", ".join(found.locations)
    return f"{name} is not offered in {location!r} but in {offered} (as of {known.as_of:%Y-%m-%d})."


def _similar(model: str, known: Models) -> str:
    parsed = ModelName.parse(model)
    name = parsed.google_id if parsed else None
    close = get_close_matches(name, known.models, n=1, cutoff=0.85) if name else []
    return f"Did you mean {close[0]}? {_TABLE}" if close else ""

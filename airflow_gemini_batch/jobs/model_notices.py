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
    name = known.id_of(model)
    if not name:
        return []
    found = known.by_id[name]
    notices = []
    if retirement := _retirement(name, found, today, NOTICE):
        notices.append(retirement)
    if place := _place(name, found, location, known):
        notices.append(f"{place} The service may answer 404. {_TABLE}")
    return notices


def before_submitting(model: str, location: str | None, today: date, rows: int = 0) -> list[str]:
    """Return what to say of a model that a command is given: as a task says it, and of misspelled names.

    :param model: in any form of its name
    :param location: ``None`` if it is not known
    :param rows: of the input, which may be more than a job takes
    """
    known = models()
    name = known.id_of(model)
    if not name:
        parsed = ModelName.parse(model)
        if parsed and parsed.is_tuned:
            return []
        unknown = f"{model} is not in the list of models, so its own rules and prices are not known."
        return [f"{unknown} {_similar(model, known)}".rstrip()]
    found = known.by_id[name]
    said = warnings_about(model, location, today) if location else [_retirement(name, found, today, NOTICE)]
    if rows > found.max_rows:
        jobs = -(-rows // found.max_rows)
        said.append(f"{rows:,} rows are {jobs:,} jobs, since one takes {found.max_rows:,}.")
    return list(filter(None, said))


def why_not_found(model: str, location: str, today: date) -> str:
    """Return why the service may not have found a model, and what to do; empty if nothing is known.

    :param model: in any form of its name
    """
    known = models()
    name = known.id_of(model)
    if not name:
        return _similar(model, known)
    found = known.by_id[name]
    if retirement := _retirement(name, found, today):
        return retirement
    place = _place(name, found, location, known)
    return f"{place} Set location to one of these." if place else ""


def _retirement(name: str, found: Model, today: date, notice: timedelta = timedelta()) -> str:
    """Return that a model has retired, or is about to, and what to use; empty if neither."""
    if not found.retires or found.retires > today + notice:
        return ""
    day, is_past = f"{found.retires:%Y-%m-%d}", found.retires <= today
    if found.retires_or_later:
        text = f"{'was due to retire' if is_past else 'retires'} on {day} or later."
    elif found.switched_off:
        off = f"reports say that it is switched off for all others on {found.switched_off:%Y-%m-%d}"
        text = f"{'was' if is_past else 'will be'} closed to new projects on {day}; {off}."
    else:
        text = f"{'retired' if is_past else 'retires'} on {day}."
    return f"{name} {text} {_instead(found)}"


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

"""Fault plans as JSON: the file of ``--faults``, and the body of ``PUT /_emulator/faults``."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter, ValidationError

from airflow_gemini_batch.emulator.faults.plan import CallFault, FaultPlan, JobFault, RowFault, When
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

_PLAN = TypeAdapter(FaultPlan)
_FAULTS: dict[int | str, type[When]] = {"calls": CallFault, "rows": RowFault, "jobs": JobFault}


def plan_from_json(text: str | bytes, parameter: str = "faults") -> FaultPlan:
    """Parse a plan; its members have the names of the fields of :class:`FaultPlan` and of its faults.

    :param parameter: where the text came from, for the error message
    :raises InvalidParameterError: names the first invalid member by path, such as ``faults.calls[0].kind``
    """
    try:
        return _PLAN.validate_json(text)
    except ValidationError as error:
        raise _explained(error.errors(include_url=False)[0], parameter) from None


def plan_to_json(plan: FaultPlan) -> dict[str, Any]:
    """Return a plan as JSON types, without members that have their default value."""
    plain = _PLAN.dump_python(plan, mode="json", exclude_defaults=True)
    return {"seed": plan.seed, "calls": [], "rows": [], "jobs": [], **plain}


def _explained(problem: ErrorDetails, parameter: str) -> InvalidParameterError:
    """Turn a problem that pydantic found into an error with path, value and fix."""
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in problem["loc"])
    kind, value, message = problem["type"], problem["input"], problem["msg"]
    cause = problem.get("ctx", {}).get("error")
    if isinstance(cause, InvalidParameterError):
        return InvalidParameterError(f"{parameter}{path}.{cause.parameter}", cause.value, cause.fix)
    if kind == "unexpected_keyword_argument":
        nested = len(problem["loc"]) > 1
        members = fields(_FAULTS[problem["loc"][0]] if nested else FaultPlan)
        message = f"unknown member, give {', '.join(member.name for member in members)}"
    elif kind == "missing":
        value, message = None, "add this member"
    elif kind == "json_invalid":
        value = "…"  # The input is the whole text.
    elif isinstance(cause, ValueError):
        message = str(cause)
    return InvalidParameterError(f"{parameter}{path}", value, f"{message[0].lower()}{message[1:]}")

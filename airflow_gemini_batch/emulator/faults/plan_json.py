"""Fault plans as JSON: the file of ``--faults``, the body of ``PUT /_emulator/faults``."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.emulator.faults.plan import (
    CallFault,
    CallFaultKind,
    FaultPlan,
    JobFault,
    OutputFault,
    Route,
    RowFault,
    RowFaultKind,
    When,
)
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_F = TypeVar("_F", bound=When)


def plan_from_json(text: str | bytes, parameter: str = "faults") -> FaultPlan:
    """Read a plan; members have the names of the fields of :class:`FaultPlan` and its faults.

    :raises InvalidParameterError: names the member that is wrong
    """
    try:
        value = json.loads(text)
    except ValueError as error:
        raise InvalidParameterError(parameter, "…", f"it is not JSON: {error}") from None
    known: dict[str, Callable[[Any, str], Any]] = {
        "seed": _integer,
        "calls": _faults(CallFault, {"route": _enum(Route), "kind": _enum(CallFaultKind)}),
        "rows": _faults(RowFault, {"kind": _enum(RowFaultKind)}),
        "jobs": _faults(JobFault, {"ends": _state, "path": _list_of(_state), "output": _enum(OutputFault)}),
    }
    return FaultPlan(**_members(value, parameter, known))


def plan_to_json(plan: FaultPlan) -> dict[str, Any]:
    """Write a plan as JSON types, without what is left at its default."""
    kinds = {"calls": plan.calls, "rows": plan.rows, "jobs": plan.jobs}
    return {
        "seed": plan.seed,
        **{name: [_written(fault) for fault in found] for name, found in kinds.items()},
    }


def _written(fault: When) -> dict[str, Any]:
    found = {field.name: getattr(fault, field.name) for field in fields(fault)}
    defaults = {field.name: field.default for field in fields(fault)}
    return {name: _plain(value) for name, value in found.items() if value != defaults[name]}


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, JobState):
        return value.name
    return value.value if isinstance(value, Enum) else value


def _members(value: Any, at: str, known: Mapping[str, Callable[[Any, str], Any]]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InvalidParameterError(at, value, "give a JSON object")
    if unknown := sorted(set(value) - set(known)):
        raise InvalidParameterError(f"{at}.{unknown[0]}", value[unknown[0]], f"give {', '.join(known)}")
    return {name: known[name](item, f"{at}.{name}") for name, item in value.items()}


def _faults(kind: type[_F], special: Mapping[str, Callable[[Any, str], Any]]) -> Callable[[Any, str], Any]:
    readers: dict[str, Callable[[Any, str], Any]] = {
        "nth": _list_of(_integer),
        "probability": _number,
        "seconds": _number,
        "after": _boolean,
        "exports": _boolean,
        "incremental": _boolean,
    }
    known = {field.name: {**readers, **special}.get(field.name, _integer) for field in fields(kind)}
    required = [field.name for field in fields(kind) if field.default is MISSING]

    def read(value: Any, at: str) -> _F:
        members = _members(value, at, known)
        if missing := [name for name in required if name not in members]:
            raise InvalidParameterError(f"{at}.{missing[0]}", None, "it must be given")
        try:
            return kind(**members)
        except InvalidParameterError as error:
            raise InvalidParameterError(f"{at}.{error.parameter}", error.value, error.fix) from None

    return _list_of(read)


def _list_of(read: Callable[[Any, str], Any]) -> Callable[[Any, str], tuple[Any, ...]]:
    def read_all(value: Any, at: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InvalidParameterError(at, value, "give a list")
        return tuple(read(item, f"{at}[{index}]") for index, item in enumerate(value))

    return read_all


def _enum(kind: type[Enum]) -> Callable[[Any, str], Any]:
    def read(value: Any, at: str) -> Enum:
        try:
            return kind(value)
        except ValueError:
            known = ", ".join(str(member.value) for member in kind)
            raise InvalidParameterError(at, value, f"give one of {known}") from None

    return read


def _state(value: Any, at: str) -> JobState:
    try:
        return JobState[str(value).removeprefix("JOB_STATE_")]
    except KeyError:
        raise InvalidParameterError(at, value, "give the name of a state, such as FAILED") from None


def _integer(value: Any, at: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise InvalidParameterError(at, value, "give an integer")
    return value


def _number(value: Any, at: str) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidParameterError(at, value, "give a number")
    return float(value)


def _boolean(value: Any, at: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidParameterError(at, value, "give true or false")
    return value

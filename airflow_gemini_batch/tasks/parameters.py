"""How operators take parameters in groups: declared, documented and checked once.

Every operator lists them flat in its signature and stores them as attributes, because Airflow renders
templates in attributes. ``Options.of(operator)`` reads the rendered values back as one frozen object, which
is what the rest of the package takes. What is known when a DAG is parsed is checked then.

Every DAG file pays for the making of these classes, so they have no methods that nobody calls.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import MISSING, Field, FrozenInstanceError, dataclass, fields
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, dataclass_transform

from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.exceptions import InvalidParameterError, shown_or_type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_T = TypeVar("_T")
_E = TypeVar("_E", bound=Enum)

# The attribute of an operator with the names of the parameters that were given as templates.
_TEMPLATES = "_given_templates"
_PARAMETER = r"(?m)^:param (\w+):.*(?:\n(?!:).*)*"


@dataclass_transform(frozen_default=True, kw_only_default=True, eq_default=False)
def options(kind: type[_T]) -> type[_T]:
    """Make a group of parameters a frozen dataclass whose methods are those of :class:`Options`.

    Python compiles the methods of other frozen dataclasses anew in each process, half a millisecond a class.
    """
    return dataclass(init=False, repr=False, eq=False, match_args=False)(kind)


@options
class Options:
    """A group of parameters.

    :cvar templated: names of the parameters that Airflow renders as templates
    """

    templated: ClassVar[tuple[str, ...]] = ()
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]

    def __init__(self, **values: Any) -> None:
        for field in fields(self):
            value = values.pop(field.name, field.default)
            if value is MISSING:
                raise TypeError(f"{type(self).__name__} needs {field.name}")
            object.__setattr__(self, field.name, value)
        if values:
            raise TypeError(f"{type(self).__name__} has no {', '.join(values)}")
        self.__post_init__()

    def __post_init__(self) -> None:
        """Check the values."""

    def __setattr__(self, name: str, value: object) -> None:
        raise FrozenInstanceError(f"cannot assign to field {name!r}")

    @classmethod
    def of(cls, operator: object) -> Self:
        """Read the values that an operator holds in its attributes.

        :raises InvalidParameterError: a value cannot work, or the template of any parameter has no value
        """
        check_rendered(operator)
        return cls(**{field.name: getattr(operator, field.name) for field in fields(cls)})

    @classmethod
    def pick(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of this group out of others."""
        return {field.name: values[field.name] for field in fields(cls)}

    @classmethod
    def given(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters of this group that differ from their defaults."""
        return {
            field.name: values[field.name] for field in fields(cls) if values[field.name] != field.default
        }


def store(operator: object, values: Mapping[str, Any], *kinds: type[Options]) -> None:
    """Set parameters as attributes of an operator, and check those whose value is known.

    :param values: the arguments of its ``__init__``, as ``locals()`` returns them
    :raises InvalidParameterError: a value cannot work. Airflow shows it as an error of the DAG file; a mapped
        task, which is made when it runs, fails without a retry
    """
    for kind in kinds:
        for name, value in kind.pick(values).items():
            setattr(operator, name, value)
    templates = {
        name for kind in kinds for name in kind.templated if values[name] and not is_known(values[name])
    }
    setattr(operator, _TEMPLATES, templates)
    with refused_when_parsed():
        check_known(values, *kinds)


def check_known(values: Mapping[str, Any], *kinds: type[Options]) -> None:
    """Check the parameters whose value is known when the DAG is parsed.

    :raises InvalidParameterError: a value cannot work
    """
    for kind in kinds:
        unknown = {name for name in kind.templated if not is_known(values[name])}
        # Those without a default are checked elsewhere.
        with_default = {field.name for field in fields(kind) if field.default is not MISSING}
        given = kind.pick(values)
        kind(**{name: each for name, each in given.items() if name not in unknown & with_default})


def check_rendered(operator: object) -> None:
    """Check that no templated parameter is text that says nothing, which would silently be its default.

    :raises InvalidParameterError: one is
    """
    for name in getattr(operator, "template_fields", ()):
        # Here a template may say no, and this text is of the user.
        if name in ("force_new", "op_args", "op_kwargs"):
            continue
        value = getattr(operator, name, None)
        # With native rendering, a template without a value is None, as if it had not been given.
        if value in ("", "None") or (value is None and name in getattr(operator, _TEMPLATES, ())):
            raise InvalidParameterError(name, value, "give a value, or leave the parameter out")


def is_known(value: object) -> bool:
    """Whether a value of a templated parameter is known when the DAG is parsed.

    It is not if it is a template, or comes from another task.
    """
    if isinstance(value, str):
        return not any(mark in value for mark in ("{{", "{%", "{#"))
    if isinstance(value, Mapping):
        return all(is_known(each) for pair in value.items() for each in pair)
    if isinstance(value, (list, tuple, set)):
        return all(map(is_known, value))
    return not hasattr(value, "iter_references")


class InvalidWhenParsedError(InvalidParameterError, AirflowFailException):
    """A parameter has an invalid value, which is known when the DAG is parsed."""


@contextmanager
def refused_when_parsed(**names: str) -> Iterator[None]:
    """Let a task that is made when it runs, because it is mapped, fail without a retry.

    :param names: of parameters that have another name in the operator
    """
    try:
        yield
    except InvalidParameterError as error:
        parameter = names.get(error.parameter, error.parameter)
        raise InvalidWhenParsedError(parameter, error.value, error.fix) from error


def documented(*kinds: type[Options], without: Sequence[str] = ()) -> Callable[[_T], _T]:
    """Append the documentation of shared parameters to the docstring of a class or function.

    What its own docstring already documents is left out.

    :param without: parameters that it has under another name
    """

    def document(target: _T) -> _T:
        if target.__doc__:  # There are no docstrings under `python -OO`.
            target.__doc__ = _with_parameters(inspect.cleandoc(target.__doc__), kinds, without)
        return target

    return document


def _with_parameters(text: str, kinds: Sequence[type[Options]], without: Sequence[str]) -> str:
    known = {*without, *(match[1] for match in re.finditer(_PARAMETER, text))}
    for kind in kinds:
        for documentation in (inspect.cleandoc(each.__doc__ or "") for each in kind.__mro__):
            for match in re.finditer(_PARAMETER, documentation):
                if match[1] not in known:
                    known.add(match[1])
                    text = f"{text}\n{match[0].rstrip()}"
    return text + "\n"


def choice(kind: type[_E], parameter: str, value: object) -> _E:
    """Return the member of an enum that a parameter names.

    :raises InvalidParameterError: there is no such member; lists those that exist
    """
    try:
        return kind(value)
    except ValueError:
        known = " or ".join(repr(member.value) for member in kind)
        raise InvalidParameterError(parameter, value, f"give {known}") from None


def check_flag(name: str, value: object) -> None:
    """Check that a parameter is a boolean.

    :raises InvalidParameterError: it is not
    """
    if not isinstance(value, bool):
        raise InvalidParameterError(name, value, "give True or False")


def days(parameter: str, value: object) -> timedelta:
    """Parse a number of days, which may be a rendered template.

    :raises InvalidParameterError: it is not a number of days
    """
    if isinstance(value, (int, float, str)) and not isinstance(value, bool):
        try:
            age = timedelta(days=float(value))
        except (ValueError, OverflowError):
            age = timedelta(-1)
        if age >= timedelta(0):
            return age
    raise InvalidParameterError(parameter, value, "give a number of days, 0 or more")


def check_callable(function: object) -> None:
    """Check that a user gave a function, and not what it returns.

    :raises InvalidParameterError: it cannot be called
    """
    if not callable(function):
        fix = "give the function itself, without calling it; its arguments go into op_args and op_kwargs"
        raise InvalidParameterError("python_callable", shown_or_type(function), fix)


def check_schema(schema: object) -> None:
    """Check a response schema, if there is one.

    :raises ResponseSchemaError: it has no equivalent table columns
    """
    if schema:
        from airflow_gemini_batch.requests.response_schema import ResponseSchema

        ResponseSchema.of(schema)

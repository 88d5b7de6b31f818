"""Parameters that several operators share: declared, documented and checked here, once.

Every operator lists them flat in its signature and stores them as attributes, because Airflow renders
templates in attributes. ``Options.of(operator)`` reads the rendered values back as one frozen object, which
is what the rest of the package takes.

Every DAG file pays for the making of these classes, so they have no methods that nobody calls.
"""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass, fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.polling import DEFAULT_POLL_INTERVAL, DEFAULT_TIMEOUT, utc_now
from airflow_gemini_batch.requests.keys import KEY_FIELD

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from airflow_gemini_batch.cost.budget import Budget
    from airflow_gemini_batch.cost.prices import NegotiatedPrices
    from airflow_gemini_batch.requests.building.build import Defaults
    from airflow_gemini_batch.requests.key_field import KeyField

_T = TypeVar("_T")

_PARAMETER = re.compile(r"^:param (\w+):.*(?:\n(?!:).*)*", re.MULTILINE)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Options:
    """A group of parameters.

    :cvar templated: names of the parameters that Airflow renders as templates
    """

    templated: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def of(cls, operator: object) -> Self:
        """Read the values that an operator holds in its attributes.

        :raises InvalidParameterError: a value cannot work
        """
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
    """Set parameters as attributes of an operator.

    :param values: the arguments of its ``__init__``, as ``locals()`` returns them
    """
    for kind in kinds:
        for name, value in kind.pick(values).items():
            setattr(operator, name, value)


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
    known = {*without, *(match[1] for match in _PARAMETER.finditer(text))}
    for kind in kinds:
        for documentation in (inspect.cleandoc(each.__doc__ or "") for each in kind.__mro__):
            for match in _PARAMETER.finditer(documentation):
                if match[1] not in known:
                    known.add(match[1])
                    text = f"{text}\n{match[0].rstrip()}"
    return text + "\n"


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class ConnectionOptions(Options):
    """Which credentials are used.

    :param gcp_conn_id: Airflow connection to Google Cloud (templated)
    :param impersonation_chain: service account to impersonate, or a chain of accounts that ends with it
        (templated)
    """

    templated: ClassVar[tuple[str, ...]] = ("gcp_conn_id", "impersonation_chain")

    gcp_conn_id: str = "google_cloud_default"
    impersonation_chain: str | Sequence[str] | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class KeyOptions(Options):
    """Where requests have their keys.

    :param key_field: the member next to ``request`` that holds the key, or the column of an input table:
        ``custom_id``, ``metadata.request_id`` for a nested one, ``labels.NAME`` for a label of the request.
        All tasks of a job need the same (templated)
    """

    templated: ClassVar[tuple[str, ...]] = ("key_field",)

    key_field: str = KEY_FIELD

    def parsed(self) -> KeyField:
        """Return the place of the key.

        :raises InvalidParameterError: ``key_field`` names none
        """
        from airflow_gemini_batch.requests.key_field import KeyField

        return KeyField.parse(self.key_field)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class RequestOptions(Options):
    """What all requests of a job have in common; values in a request take precedence.

    :param system_instruction: system instruction for all requests, as text
    :param generation_config: GenerationConfig for all requests, such as temperature, maxOutputTokens or
        thinkingConfig
    :param response_schema: pydantic model or a list of one, JSON Schema or ``Schema`` of a response, which is
        requested from the model
    :param safety_settings: list of ``SafetySetting`` for all requests
    :param tools: list of ``Tool`` for all requests
    :param key_label: also write the key into each request, as the label ``gemini_batch_key``. Labels go to
        Cloud Billing, which keeps up to 1,000 values of a label for ever; they must hold nothing personal
    :param embedding_config: EmbedContentConfig for all requests of an embedding model: output_dimensionality,
        task_type, title. An embedding model takes no other of these parameters; see docs/embeddings.md
    """

    system_instruction: str | None = None
    generation_config: Any = None
    response_schema: Any = None
    safety_settings: Sequence[Any] | None = None
    tools: Sequence[Any] | None = None
    key_label: bool = False
    embedding_config: Any = None

    def defaults(self, model: str | None = None) -> Defaults:
        """Return the same values as the functions that build requests take them.

        :param model: of the job; an embedding model takes another kind of request
        """
        from airflow_gemini_batch.requests.building.build import Defaults

        return Defaults(**self.pick(vars(self)), model=model)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class PriceOptions(Options):
    """What tokens and searches cost.

    :param prices: negotiated batch prices in US dollars per million tokens, such as
        ``{"input": 0.12, "output": 1.0}``, and the price of 1,000 search queries with the number of those
        that are free, ``{"search": 14, "free_searches": 5000}``; see docs/cost.md. Default: list prices
        (templated)
    """

    templated: ClassVar[tuple[str, ...]] = ("prices",)

    prices: Mapping[str, Any] | NegotiatedPrices | None = None


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class SubmitOptions(PriceOptions):
    """What is checked before a batch job is created, and how the job is labeled.

    :param labels: labels of the batch job, for billing reports (templated)
    :param preflight: check the input before a job is created, and fail the task if the input would fail the
        job; see docs/validate.md. ``True``: always; ``False``: never; default: files of up to 64 MB in total,
        not BigQuery tables, since reading a table costs a query
    :param max_cost_usd: estimate the cost before a job is created, and fail the task if the upper end of the
        estimate exceeds this many US dollars; see docs/cost.md (templated)
    :param estimated_output_tokens: upper bound on output tokens per response, thinking included, for the
        estimate; default: each request's ``maxOutputTokens``
    """

    templated: ClassVar[tuple[str, ...]] = ("labels", "max_cost_usd", *PriceOptions.templated)

    labels: Mapping[str, str] | None = None
    preflight: bool | None = None
    max_cost_usd: float | str | None = None
    estimated_output_tokens: int | None = None

    def budget(self) -> Budget:
        """What a job may cost.

        :raises InvalidParameterError: the limit, a price or the number of tokens cannot work
        """
        from airflow_gemini_batch.cost.budget import Budget

        return Budget.of(self.max_cost_usd, self.prices, self.estimated_output_tokens)


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class WaitOptions(Options):
    """How to wait for a batch job, and what happens to the job when the wait ends early.

    :param cancel_on_kill: cancel the job when a user marks the task as failed or succeeded, or the DAG run
        times out, while the task runs or, from Airflow 3.3 on, while it is deferred. A task that Airflow runs
        again attaches to its job: clearing it, a retry, or the restart of a worker cancels nothing
    :param cancel_on_timeout: cancel the job when the wait times out; by default it keeps running and is
        charged
    :param deferrable: wait in the triggerer instead of on a worker
    :param poll_interval: longest interval between two polls, in seconds; the first polls come sooner
    :param wait_timeout: how long to wait for the job, in seconds or as a ``timedelta``; 96 hours by default,
        since a job may queue for 72 and run for 24
    :raises InvalidParameterError: ``poll_interval`` or ``wait_timeout`` is not a length of time
    """

    cancel_on_kill: bool = True
    cancel_on_timeout: bool = False
    deferrable: bool = True
    poll_interval: float = DEFAULT_POLL_INTERVAL
    wait_timeout: timedelta | float = DEFAULT_TIMEOUT

    def __post_init__(self) -> None:
        if not _is_seconds(self.poll_interval) or not self.poll_interval > 0:
            fix = "give a number of seconds greater than 0"
            raise InvalidParameterError("poll_interval", self.poll_interval, fix)
        try:
            is_length = isinstance(self.wait_timeout, timedelta) or _is_seconds(self.wait_timeout)
            if is_length and self.deadline() >= utc_now() - timedelta(seconds=1):
                return
        except OverflowError:
            pass  # Later than any date.
        fix = "give a number of seconds or a datetime.timedelta, up to some years and not negative"
        raise InvalidParameterError("wait_timeout", self.wait_timeout, fix)

    def deadline(self) -> datetime:
        """Return when a wait that starts now times out."""
        timeout = self.wait_timeout
        return utc_now() + (timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout))


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class EndOptions(Options):
    """Which ends of a job fail the task.

    :param on_incomplete: what to do when the job ended as FAILED, CANCELLED or EXPIRED with completed rows,
        which are charged: ``fail`` the task, without a retry, or ``continue``, so that those rows are landed
        and only the others are asked again
    :raises InvalidParameterError: ``on_incomplete`` is unknown
    """

    on_incomplete: str = "fail"

    def __post_init__(self) -> None:
        if self.on_incomplete not in ("fail", "continue"):
            raise InvalidParameterError("on_incomplete", self.on_incomplete, "give 'fail' or 'continue'")


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class LandingOptions(PriceOptions):
    """How results are stored in BigQuery, and how many of them must be good.

    :param error_table: table for the rows that did not succeed; default: the results table's name followed
        by ``_errors`` (templated)
    :param response_schema: pydantic model or a list of one, JSON Schema or ``Schema`` of a response; its
        properties become typed columns. Default: the schema that all requests of the job share; ``False``: no
        typed columns
    :param write_mode: ``append``: keep the rows of other jobs; ``merge``: keep one row per key across all
        jobs; ``truncate``: delete rows of other DAG runs first (templated)
    :param include_request: store requests in the results table; the error table always has them
    :param include_response: store responses in the results table
    :param media_uri_prefix: store generated images as objects under ``gs://bucket/prefix``, with references
        to them in the results table. Images pass through the worker, a few at a time. By default they stay in
        ``response`` (templated)
    :param min_success_ratio: fail the task, after landing, if a smaller share of the rows succeeded; 0 to 1
        (templated)
    :param max_invalid_ratio: fail the task, after landing, if a larger share of the rows does not match the
        response schema; 0 to 1 (templated)
    :param report_uri: also write an HTML report about the job: an object, ``gs://bucket/name.html``, or a
        folder, ``gs://bucket/folder/`` (templated)
    :param usage_view: create a view of cost by day, DAG, model and labels, named like the results table
        followed by ``_usage``
    """

    templated: ClassVar[tuple[str, ...]] = (
        "error_table",
        "write_mode",
        "media_uri_prefix",
        "min_success_ratio",
        "max_invalid_ratio",
        "report_uri",
        *PriceOptions.templated,
    )

    error_table: str | None = None
    response_schema: Any = None
    write_mode: str = "append"
    include_request: bool = True
    include_response: bool = True
    media_uri_prefix: str | None = None
    min_success_ratio: float = 0.0
    max_invalid_ratio: float = 1.0
    report_uri: str | None = None
    usage_view: bool = True


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

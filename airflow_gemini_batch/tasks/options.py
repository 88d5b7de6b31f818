"""Parameters that several operators share, in groups."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_gemini_batch.exceptions import InvalidParameterError, shown_or_type
from airflow_gemini_batch.jobs.polling import (
    DEFAULT_POLL_INTERVAL,
    DEFAULT_TIMEOUT,
    check_poll_interval,
    utc_now,
)
from airflow_gemini_batch.jobs.quota import DEFAULT_SUBMIT_TIMEOUT
from airflow_gemini_batch.requests.keys import KEY_FIELD
from airflow_gemini_batch.tasks.parameters import Options, check_flag, check_schema, options

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from airflow_gemini_batch.cost.budget import Budget
    from airflow_gemini_batch.cost.prices import NegotiatedPrices
    from airflow_gemini_batch.requests.building.build import Defaults
    from airflow_gemini_batch.requests.key_field import KeyField


@options
class ConnectionOptions(Options):
    """Which credentials are used.

    :param gcp_conn_id: Airflow connection to Google Cloud (templated)
    :param impersonation_chain: service account to impersonate, or a chain of accounts that ends with it
        (templated)
    """

    templated: ClassVar[tuple[str, ...]] = ("gcp_conn_id", "impersonation_chain")

    gcp_conn_id: str = "google_cloud_default"
    impersonation_chain: str | Sequence[str] | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.gcp_conn_id, str) and self.gcp_conn_id):
            raise InvalidParameterError(
                "gcp_conn_id", self.gcp_conn_id, "give the ID of an Airflow connection"
            )
        chain = self.impersonation_chain
        accounts = chain if isinstance(chain, (list, tuple)) else [chain or ""]
        if not all(isinstance(account, str) for account in accounts):
            fix = "give the email address of a service account, or a list of them"
            raise InvalidParameterError("impersonation_chain", chain, fix)


@options
class KeyOptions(Options):
    """Where requests have their keys.

    :param key_field: the member next to ``request`` that holds the key, or the column of an input table:
        ``custom_id``, ``metadata.request_id`` for a nested one, ``labels.NAME`` for a label of the request.
        All tasks of a job need the same (templated)
    """

    templated: ClassVar[tuple[str, ...]] = ("key_field",)

    key_field: str = KEY_FIELD

    def __post_init__(self) -> None:
        if self.key_field != KEY_FIELD:
            self.parsed()

    def parsed(self) -> KeyField:
        """Return the place of the key.

        :raises InvalidParameterError: ``key_field`` names none
        """
        from airflow_gemini_batch.requests.key_field import KeyField

        return KeyField.parse(self.key_field)


@options
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

    def __post_init__(self) -> None:
        check_flag("key_label", self.key_label)
        given: object = self.system_instruction
        if given is not None and not isinstance(given, str):
            raise InvalidParameterError("system_instruction", shown_or_type(given), "give text")
        check_schema(self.response_schema)

    def defaults(self, model: str | None = None) -> Defaults:
        """Return the same values as the functions that build requests take them.

        :param model: of the job; an embedding model takes another kind of request
        """
        from airflow_gemini_batch.requests.building.build import Defaults

        return Defaults(**self.pick(vars(self)), model=model)


@options
class PriceOptions(Options):
    """What tokens and searches cost.

    :param prices: negotiated batch prices in US dollars per million tokens, such as
        ``{"input": 0.12, "output": 1.0}``, and the price of 1,000 search queries with the number of those
        that are free, ``{"search": 14, "free_searches": 5000}``; see docs/cost.md. Default: list prices
        (templated)
    """

    templated: ClassVar[tuple[str, ...]] = ("prices",)

    prices: Mapping[str, Any] | NegotiatedPrices | None = None


@options
class SubmitOptions(PriceOptions):
    """What is checked before a batch job is created, how the job is labeled, and how long to try.

    :param labels: labels of the batch job, for billing reports (templated)
    :param preflight: check the input before a job is created, and fail the task if the input would fail the
        job; see docs/validate.md. ``True``: always; ``False``: never; default: files of up to 64 MB in total,
        not BigQuery tables, since reading a table costs a query
    :param max_cost_usd: estimate the cost before a job is created, and fail the task if the upper end of the
        estimate exceeds this many US dollars; see docs/cost.md (templated)
    :param estimated_output_tokens: upper bound on output tokens per response, thinking included, for the
        estimate; default: each request's ``maxOutputTokens``
    :param submit_timeout: how long to try again while the quota of create requests is used up, in seconds or
        as a ``timedelta``; 30 minutes by default
    :raises InvalidParameterError: a value cannot work
    """

    templated: ClassVar[tuple[str, ...]] = ("labels", "max_cost_usd", *PriceOptions.templated)

    labels: Mapping[str, str] | None = None
    preflight: bool | None = None
    max_cost_usd: float | str | None = None
    estimated_output_tokens: int | None = None
    submit_timeout: timedelta | float = DEFAULT_SUBMIT_TIMEOUT

    def __post_init__(self) -> None:
        if self.preflight is not None:
            check_flag("preflight", self.preflight)
        _deadline("submit_timeout", self.submit_timeout)
        if (self.max_cost_usd, self.prices, self.estimated_output_tokens) != (None, None, None):
            self.budget()
        if self.labels:
            from airflow_gemini_batch.jobs.spec import check_own_labels

            check_own_labels(self.labels)

    def budget(self) -> Budget:
        """What a job may cost.

        :raises InvalidParameterError: the limit, a price or the number of tokens cannot work
        """
        from airflow_gemini_batch.cost.budget import Budget

        return Budget.of(self.max_cost_usd, self.prices, self.estimated_output_tokens)

    def patience(self) -> timedelta:
        """Return ``submit_timeout`` as a ``timedelta``."""
        return _length(self.submit_timeout)


@options
class DeferOptions(Options):
    """Where a task waits.

    :param deferrable: wait in the triggerer instead of on a worker
    """

    deferrable: bool = True

    def __post_init__(self) -> None:
        check_flag("deferrable", self.deferrable)


@options
class WaitOptions(DeferOptions):
    """How to wait for a batch job, and what happens to the job when the wait ends early.

    :param cancel_on_kill: cancel the job when a user marks the task as failed or succeeded, or the DAG run
        times out, while the task runs or, from Airflow 3.3 on, while it is deferred. A task that Airflow runs
        again attaches to its job: clearing it, a retry, or the restart of a worker cancels nothing
    :param cancel_on_timeout: cancel the job when the wait times out; by default it keeps running and is
        charged
    :param poll_interval: longest interval between two polls, in seconds; the first polls come sooner
    :param wait_timeout: how long to wait for the job, in seconds or as a ``timedelta``; 96 hours by default,
        since a job may queue for 72 and run for 24
    :raises InvalidParameterError: ``poll_interval`` or ``wait_timeout`` is not a length of time
    """

    cancel_on_kill: bool = True
    cancel_on_timeout: bool = False
    poll_interval: float = DEFAULT_POLL_INTERVAL
    wait_timeout: timedelta | float = DEFAULT_TIMEOUT

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("cancel_on_kill", "cancel_on_timeout"):
            check_flag(name, getattr(self, name))
        check_poll_interval(self.poll_interval)
        self.deadline()

    def deadline(self) -> datetime:
        """Return when a wait that starts now times out."""
        return _deadline("wait_timeout", self.wait_timeout)


@options
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


def _deadline(name: str, timeout: timedelta | float) -> datetime:
    """Return when a length of time that starts now has passed.

    :raises InvalidParameterError: it is no length of time, is negative, or ends later than any date
    """
    try:
        if isinstance(timeout, timedelta) or _is_seconds(timeout):
            length = _length(timeout)
            if length >= timedelta(0):
                return utc_now() + length
    except OverflowError:
        pass  # Later than any date.
    fix = "give a number of seconds or a datetime.timedelta, up to some years and not negative"
    raise InvalidParameterError(name, timeout, fix)


def _length(timeout: timedelta | float) -> timedelta:
    return timeout if isinstance(timeout, timedelta) else timedelta(seconds=timeout)


def _is_seconds(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)

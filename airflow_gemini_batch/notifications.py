"""What to say of a task that has succeeded or failed: a line of text and a small dict, without prompts.

For ``on_failure_callback`` and the other callbacks of a task, on Airflow 2.11 and 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from airflow_gemini_batch.exceptions import GeminiBatchError, InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from airflow.providers.common.compat.sdk import Context

VARIABLE = "gemini_batch"
"""The name of the notification in the templates of a notifier."""
_STATES = {
    "failed": "failed",
    "up_for_retry": "failed, and will be tried again",
    "skipped": "was skipped",
    "running": "is running",
}


@dataclass(frozen=True)
class GeminiBatchNotification:
    """What to say of a task that has succeeded or failed.

    :param text: one line. Errors of this package say what has happened and what to do; of other errors only
        the type is named, since their text may quote anything
    :param facts: JSON types, not nested. Always ``dag_id``, ``task_id``, ``run_id``; if known ``map_index``,
        ``log_url``, ``job_name``, ``state``, ``console_url``, ``table``, ``rows``, ``rows_…`` for each status
        and ``cost_usd`` (US dollars); after a failure ``error``, the type of the error, and after
        a ``CostLimitError`` ``limit_usd`` and ``estimated_cost``
    """

    text: str
    facts: Mapping[str, str | int | float]

    @classmethod
    def of(cls, context: Context | Mapping[str, Any]) -> Self:
        """Read the context of a callback. Never raises: a callback that fails tells nobody."""
        try:
            return cls._of(context)
        except Exception as error:  # Its text may quote anything.
            return cls(f"Airflow gave a callback a context that cannot be read ({type(error).__name__})", {})

    @classmethod
    def _of(cls, context: Context | Mapping[str, Any]) -> Self:
        ti: Any = context.get("ti")
        task = _task(ti, context)
        name = ".".join(str(task[part]) for part in ("dag_id", "task_id") if part in task)
        facts: dict[str, Any] = {}
        state = getattr(getattr(ti, "state", None), "value", getattr(ti, "state", None))
        if error := context.get("exception"):
            facts, reason = _of_error(error)
            text = f"{name} failed: {reason}"
        elif isinstance(of_dag := context.get("reason"), str) and of_dag:
            # A callback of a DAG, whose context has any one of its tasks.
            task.pop("task_id", None)
            text = f"{task.get('dag_id')}: {of_dag.replace('_', ' ')}"
        elif state == "success":
            facts, outcome = _of_result(ti)
            text = f"{name} succeeded{': ' if outcome else ''}{outcome}"
        elif state in _STATES:
            text = f"{name} {_STATES[state]}; see the log of the task"
        else:
            # Airflow calls on_failure_callback like this when a worker has died.
            text = f"{name} has reported no result, as when its worker dies; see the log of the task"
        return cls(text, {**task, **facts, **_link(facts)})


def with_notification(*notifiers: Any) -> Callable[[Any], None]:
    """Return a callback that calls Airflow's notifiers, whose templates may use ``gemini_batch``.

    ``{{ gemini_batch.text }}`` is the line, and ``{{ gemini_batch.facts.cost_usd }}`` one of the facts.

    :param notifiers: such as ``SlackNotifier(…)`` or ``SmtpNotifier(…)``, or functions that take the context
    :raises InvalidParameterError: one of them cannot be called
    """
    for number, notifier in enumerate(notifiers):
        if not callable(notifier):
            fix = "give a notifier such as SmtpNotifier(…), or a function that takes the context"
            raise InvalidParameterError(f"notifiers[{number}]", notifier, fix)

    def call(context: Any) -> None:
        told = {**context, VARIABLE: GeminiBatchNotification.of(context)}
        errors = []
        for each in notifiers:
            try:
                each(dict(told))
            except Exception as error:  # The others are told all the same.
                errors.append(error)
        if errors:
            raise errors[0]

    return call


def _task(ti: Any, context: Mapping[str, Any]) -> dict[str, str | int]:
    run = ti if ti is not None else context.get("dag_run")
    found = {name: getattr(run, name, None) for name in ("dag_id", "task_id", "run_id", "log_url")}
    index = getattr(ti, "map_index", None)
    if isinstance(index, int) and index >= 0:
        found["map_index"] = index
    return {name: value for name, value in found.items() if isinstance(value, (str, int))}


def _of_error(error: object) -> tuple[dict[str, str | int | float], str]:
    ours = next((each for each in _chain(error) if isinstance(each, GeminiBatchError)), None)
    if ours is None:
        kind = type(error).__name__
        return {"error": kind}, f"{kind}; see the log of the task"
    facts: dict[str, Any] = {"error": type(ours).__name__}
    if job := getattr(ours, "job", None):
        facts |= {"job_name": str(job.name), "state": str(job.state)}
    if name := getattr(ours, "job_name", None):
        facts["job_name"] = name
    if manifest := getattr(ours, "manifest", None):
        facts |= _brief(manifest)
    if (limit := getattr(ours, "limit", None)) is not None and hasattr(ours, "estimate"):
        facts["limit_usd"] = float(limit)
        facts["estimated_cost"] = str(getattr(ours.estimate, "cost_usd", None) or "unknown")
    return facts, str(ours)


def _of_result(ti: Any) -> tuple[dict[str, Any], str]:
    from airflow_gemini_batch.results.brief import is_manifest, line

    try:
        mapped = {} if ti.map_index is None or ti.map_index < 0 else {"map_indexes": ti.map_index}
        result = ti.xcom_pull(task_ids=ti.task_id, **mapped)
    except Exception:  # Airflow may not answer, and what is known is worth telling.
        return {}, ""
    if is_manifest(result):
        facts = _brief(result)
        return facts, line(facts)
    if isinstance(result, dict) and isinstance(result.get("job_name"), str):
        return {name: result[name] for name in ("job_name", "state") if result.get(name)}, result["job_name"]
    is_job = isinstance(result, str) and "/batchPredictionJobs/" in result
    return ({"job_name": result}, result) if is_job else ({}, "")


def _brief(manifest: Mapping[str, Any]) -> dict[str, str | int | float]:
    from airflow_gemini_batch.results.brief import brief

    return brief(manifest)


def _link(facts: Mapping[str, Any]) -> dict[str, str]:
    from airflow_gemini_batch.batch_job import JobName
    from airflow_gemini_batch.exceptions import InvalidParameterError
    from airflow_gemini_batch.gcp.console import job_page

    try:
        return {"console_url": job_page(JobName.parse(str(facts.get("job_name", ""))))}
    except InvalidParameterError:
        return {}


def _chain(error: object) -> Iterator[BaseException]:
    """An error and what it was raised from: Airflow's own errors stand around ours."""
    seen: set[int] = set()
    while isinstance(error, BaseException) and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__

"""What depends on the Airflow version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from airflow.providers.common.compat.sdk import Context

    from airflow_gemini_batch.jobs.decision import Policy
    from airflow_gemini_batch.jobs.identity import RunIdentity


def run_identity(context: Context, token: str = "") -> RunIdentity:
    """The identity of the task run that is executing.

    :param token: see :class:`RunIdentity`
    """
    from airflow_gemini_batch.jobs.identity import RunIdentity
    from airflow_gemini_batch.tasks.installation import installation

    ti = context["ti"]
    index = -1 if ti.map_index is None else ti.map_index
    return RunIdentity(ti.dag_id, ti.task_id, ti.run_id, index, installation=installation(), token=token)


def arguments_from(
    context: Context, function: Callable[..., Any], args: Collection[Any]
) -> Mapping[str, Any]:
    """Return the keyword arguments that a function takes from the context.

    :param args: its positional arguments
    """
    # Early versions of the compatibility layer do not offer it; the second place is that of Airflow 2.11.
    try:
        from airflow.sdk.bases.decorator import determine_kwargs
    except ImportError:
        from airflow.utils.operator_helpers import determine_kwargs  # type: ignore[attr-defined]
    found: Mapping[str, Any] = determine_kwargs(function, args, context)
    return found


def knows_alias(name: str) -> bool:
    """Whether Airflow can add an asset to an alias. In Airflow 2, a task fails whose alias is not stored yet.

    That may be so in ``dag.test()``, and on a worker that has a DAG file before the scheduler has read it.
    """
    try:
        from airflow.models.dataset import DatasetAliasModel  # type: ignore[import-not-found]
    except ImportError:
        return True
    from airflow.utils.session import create_session

    with create_session() as session:
        return session.query(DatasetAliasModel.id).filter_by(name=name).first() is not None


def policy(context: Context, **choices: Any) -> Policy:
    """What the user allows, and how this try came about.

    :param choices: further values of :class:`Policy`
    """
    from airflow_gemini_batch.jobs.decision import Policy

    ti = context["ti"]
    given = getattr(ti, "max_tries", None)
    max_tries = given if isinstance(given, int) else None
    return Policy(
        is_first_try=ti.try_number <= 1,
        is_asked_for=_is_asked_for(ti, max_tries),
        max_tries=max_tries,
        **choices,
    )


def _is_asked_for(ti: Any, max_tries: int | None) -> bool:
    """Whether a person or the schedule started this try, as opposed to an automatic retry.

    Clearing a task raises ``max_tries``, so that the task has all its retries again. This is wrong if the
    DAG's ``retries`` were changed during the run.
    """
    retries = getattr(getattr(ti, "task", None), "retries", None)
    if max_tries is None or not isinstance(retries, int):
        return bool(ti.try_number <= 1)
    return bool(ti.try_number <= 1 or ti.try_number == max_tries - retries + 1)


class TaskState:
    """The job name in ``task_state_store``, which unlike XCom survives a retry. Needs Airflow 3.3."""

    _KEY = "gemini_batch_job"

    def __init__(self, context: Context) -> None:
        self._store: Any = context.get("task_state_store")

    def read(self) -> JobName | None:
        """Return the job that an earlier try recorded, if any."""
        name = self._store.get(self._KEY) if self._store is not None else None
        try:
            return JobName.parse(name) if name else None
        except InvalidParameterError:
            return None

    def write(self, name: JobName) -> None:
        """Record a job."""
        if self._store is not None:
            self._store.set(self._KEY, str(name))

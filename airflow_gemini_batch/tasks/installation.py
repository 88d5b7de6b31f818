"""Which Airflow installation a task runs in.

Development and production run the same DAGs, and the IDs of scheduled runs are the same in both. What all
workers of an installation share, and two installations do not, is Airflow's database: configuration files are
copied, and the Fernet key may be empty. So the identity is an Airflow variable with a random value.
"""

from __future__ import annotations

import hashlib
import time
import uuid
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import Variable, conf

from airflow_gemini_batch.exceptions import GeminiBatchError
from airflow_gemini_batch.settings import INSTALLATION, SECTION

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "gemini_batch_installation"
_DESCRIPTION = (
    "Identifies this Airflow on the batch jobs that it creates, so that it finds them again and leaves those "
    "of other installations alone. Do not change it while jobs run."
)
# Airflow answers a failed read of a variable like a variable that does not exist, so read more than once.
_READ_WAITS = (0.5, 1.0)
# Workers that store the first value at the same time all use the one that was stored last.
_SETTLE_SECONDS = 2.0


def installation(sleep: Callable[[float], None] = time.sleep) -> str:
    """Return the identity: the option ``[gemini_batch] installation``, or the value in Airflow's database.

    :raises GeminiBatchError: the variable cannot be stored
    """
    if configured := INSTALLATION.value():
        return configured
    return _stored(sleep) if _is_in_airflow() else _of_configuration()


def known_installation() -> str | None:
    """Return the identity if it is configured or in Airflow's database; nothing is stored.

    Not for tasks, which may have no database: :func:`installation` is.
    """
    from airflow.models import Variable as StoredVariable

    if configured := INSTALLATION.value():
        return configured
    return StoredVariable.get(VARIABLE, None) or None if _has_database() else None


def _stored(sleep: Callable[[float], None]) -> str:
    """Return the value of the variable; the first task of an installation creates it."""
    for wait in (*_READ_WAITS, 0.0):
        if value := _read():
            return value
        sleep(wait)
    Variable.set(VARIABLE, uuid.uuid4().hex, _DESCRIPTION)
    sleep(_SETTLE_SECONDS)
    if value := _read():
        return value
    raise GeminiBatchError(
        f"The Airflow variable {VARIABLE}, which identifies this installation on its batch jobs, cannot be "
        f"stored. Set [{SECTION}] {INSTALLATION.option} in Airflow's configuration to any name instead."
    )


def _read() -> str | None:
    # The default has another name in Airflow 2 than in Airflow 3, but the same position.
    value: str | None = Variable.get(VARIABLE, None)
    return value


def _is_in_airflow() -> bool:
    """Whether there is a database to ask: in Airflow 3 through the supervisor of the task."""
    try:
        from airflow.sdk.execution_time import task_runner
    except ImportError:
        return _has_database()
    return hasattr(task_runner, "SUPERVISOR_COMMS")


def _has_database() -> bool:
    from airflow.settings import engine
    from sqlalchemy import inspect

    return engine is not None and bool(inspect(engine).has_table("variable"))


def _of_configuration() -> str:
    """Return a hash of the configuration, for code that runs outside Airflow, such as a test of a DAG."""
    parts = [
        conf.get("core", "fernet_key", fallback=""),
        conf.get("database", "sql_alchemy_conn", fallback=""),
    ]
    return hashlib.sha256("\0".join(map(str, parts)).encode()).hexdigest()[:24]

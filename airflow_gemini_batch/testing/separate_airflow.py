"""An Airflow for tests, apart from the user's own."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import Any

from airflow_gemini_batch.local_stack import airflow_home
from airflow_gemini_batch.local_stack.bigquery_python import VARIABLE as PYTHON_VARIABLE
from airflow_gemini_batch.local_stack.service import isolated_environment
from airflow_gemini_batch.testing.google_hosts import refuse_google

# Airflow has read its environment once one of these is imported.
_READERS = ("airflow.configuration", "airflow.sdk.configuration")
# Users may give their DAGs variables in this form.
_KEPT = "AIRFLOW_VAR_"
# At most one: what separate_airflow has made.
_homes: list[Path] = []


def separate_airflow(dags: Path | str | None = None) -> Path:
    """Let the Airflow of this process use a new home with a database of its own, and never reach Google.

    Call it at the top of ``conftest.py``, before Airflow or a DAG is imported. Variables of the environment
    that are for another Airflow, for Google Cloud or for this package are removed, but for ``AIRFLOW_VAR_…``.

    :param dags: the DAG folder
    :return: the home, a temporary folder that is deleted when the process ends
    :raises RuntimeError: Airflow has been imported already
    """
    if _homes:
        return _homes[0]
    if early := next((name for name in _READERS if name in sys.modules), None):
        raise RuntimeError(
            f"{early} is imported already, so Airflow uses the home of your own installation. Call "
            "separate_airflow() at the top of conftest.py, before anything that imports Airflow or a DAG."
        )
    home = Path(tempfile.mkdtemp(prefix="gemini-batch-airflow-"))
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    folder = Path(dags).resolve() if dags else home / "dags"
    folder.mkdir(exist_ok=True)
    variables = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    others = {
        name: value
        for name, value in isolated_environment().items()
        if not name.startswith("GEMINI_BATCH_") or name == PYTHON_VARIABLE
    }
    kept = {**others, **variables}
    for name in set(os.environ) - set(kept):
        del os.environ[name]
    os.environ |= {
        **kept,
        **airflow_home.settings(home, folder, installation="tests"),
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
        # Silences a warning of Airflow 2.11 about its own default.
        "AIRFLOW__METRICS__TIMER_UNIT_CONSISTENCY": "True",
    }
    refuse_google()
    _homes.append(home)
    return home


def load_dags(path: Path | str) -> dict[str, Any]:
    """Load a DAG file, or all of a folder, as Airflow does, and make the DAGs known to the database.

    :return: the DAGs by ID; ``dag.test()`` runs one
    :raises AssertionError: there is no DAG, or a file has errors; the message has them all
    """
    __tracebackhide__ = True
    if not Path(path).exists():
        message = f"{path} does not exist, seen from {Path.cwd()}."
        raise AssertionError(message)
    # Airflow has its DAG folder there, so that DAGs can import from packages in it.
    folder = str(Path(path).resolve() if Path(path).is_dir() else Path(path).resolve().parent)
    if folder not in sys.path:
        sys.path.append(folder)
    dagbag: Any
    try:
        dagbag = import_module("airflow.dag_processing.dagbag")
    except ImportError:  # before Airflow 3.2
        dagbag = import_module("airflow.models.dagbag")
    bag = dagbag.DagBag(str(path))
    errors = "\n".join(f"{file}: {error}" for file, error in bag.import_errors.items())
    if errors:
        raise AssertionError(errors)
    if not bag.dags:
        message = f"{path} has no DAG. Airflow reads only files that contain the words dag and airflow."
        raise AssertionError(message)
    # Airflow 3 otherwise runs only DAGs in its DAG folder.
    if hasattr(dagbag, "sync_bag_to_db"):
        from airflow.dag_processing.bundles.manager import DagBundlesManager

        bundles = DagBundlesManager()  # type: ignore[no-untyped-call]
        bundles.sync_bundles_to_db()
        dagbag.sync_bag_to_db(bag, next(iter(bundles.get_all_dag_bundles())).name, None)
    return dict(bag.dags)


def home() -> Path | None:
    """Return the home that :func:`separate_airflow` has made, if it was called."""
    return _homes[0] if _homes else None


def create_database() -> None:
    """Create Airflow's database in the home; takes some seconds."""
    from airflow.utils.db import initdb

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Airflow 2.11 warns about libraries of its own.
        initdb()

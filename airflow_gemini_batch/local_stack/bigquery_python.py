"""The Python environment of the BigQuery emulator, which is made on first use."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_gemini_batch.local_stack import python_env
from airflow_gemini_batch.local_stack.places import cache_directory, checkout
from airflow_gemini_batch.local_stack.service import StackError

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "GEMINI_BATCH_BIGQUERY_PYTHON"
LOCK = Path(__file__).parent / "bigquery" / "requirements.txt"
VERSION = "3.13"
_PROBE = "import importlib.util; print(importlib.util.find_spec('local_bigquery') is not None)"
_log = logging.getLogger(__name__)


def find_bigquery_python(report: Callable[[str], None] = _log.info) -> Path:
    """Return the Python of an environment that has ``local-bigquery``; make the environment if need be.

    It is the one named by ``GEMINI_BATCH_BIGQUERY_PYTHON``, else ``.venv-bigquery`` of the checkout, else
    one in the user's cache directory, which is made from the lock file in this package.

    :param report: is called with a line about each step while the environment is made
    :raises StackError: the environment cannot be made; the message says what is missing
    """
    if given := os.environ.get(VARIABLE):
        if not Path(given).exists():
            raise StackError(f"{VARIABLE}={given} does not exist.")
        if python_env.output_of([given, "-c", _PROBE]) != "True":
            raise StackError(
                f"{VARIABLE}={given} is not the Python of an environment that has the packages of {LOCK}. "
                "Unset it to have such an environment made."
            )
        return Path(given)
    root = checkout()
    own = root / ".venv-bigquery" / "bin" / "python" if root else None
    return own if own and own.exists() else _cached(report)


def _cached(report: Callable[[str], None]) -> Path:
    """Return the Python in the cache directory; each version of the lock file has its own environment."""
    stamp = python_env.hash_of([LOCK])
    cache = cache_directory()
    folder = cache / f"bigquery-{stamp[:12]}"
    python = folder / "bin" / "python"
    if python_env.is_current(folder, stamp):
        return python
    try:
        with python_env.exclusive(cache):
            # Another process may have made it while this one waited.
            if not python_env.is_current(folder, stamp):
                _make(folder, report)
                (folder / "stamp").write_text(stamp)
    except (python_env.SetupError, OSError) as error:
        raise StackError(
            f"The environment of the BigQuery emulator cannot be made. {error}\n"
            f"Or set {VARIABLE} to the Python of an environment that has the packages of {LOCK}."
        ) from error
    return python


def _make(folder: Path, report: Callable[[str], None]) -> None:
    uv = python_env.find_uv()
    downloads = folder.parent / "python"
    python = python_env.find_python([VERSION], uv, downloads, first=[sys.executable], report=report)
    text = f"installing the BigQuery emulator into {folder} (first use only)"
    report(text)
    python_env.make(folder, python, uv, LOCK, lambda elapsed: report(f"{text} … {elapsed}"))

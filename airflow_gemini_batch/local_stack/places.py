"""Where the local stack finds its files, and where it keeps data, logs and environments."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from airflow_gemini_batch.local_stack.service import StackError

DEMO_DAG = "gemini_batch_demo.py"
_HERE = Path(__file__).parent
_NAME = "airflow-provider-gemini-batch"
_PROGRAM = "gemini-batch"


def checkout() -> Path | None:
    """Return the checkout that this package is imported from, or None when it is installed from a wheel."""
    root = _HERE.parents[1]
    return root if (root / ".ci" / "environments.py").exists() else None


def program() -> str:
    """Return how to call the command line of this package from the current folder."""
    called = Path(sys.argv[0])
    if called.name != _PROGRAM:
        return f"{shlex.quote(sys.executable)} -m airflow_gemini_batch.cli"
    path, here = called.absolute(), Path.cwd()
    if shutil.which(_PROGRAM) == str(path):
        return _PROGRAM
    return shlex.quote(str(path.relative_to(here) if here in path.parent.parents else path))


def stop_command(directory: Path) -> str:
    """Return the command that stops what ``gemini-batch up`` runs in ``directory``."""
    place = "" if directory == up_directory() else f" --directory {shlex.quote(str(directory))}"
    return f"{program()} down{place}"


def example_dags() -> Path:
    """Return the DAG folder to show by default: all examples in a checkout, the demo's DAG in a wheel."""
    root = checkout()
    return root / "example_dags" if root else _HERE / "dags"


def cache_directory() -> Path:
    """Return the user's cache directory for this package.

    Below ``XDG_CACHE_HOME``, else ``~/Library/Caches`` on macOS and ``~/.cache`` elsewhere.

    :raises StackError: there is no such directory
    """
    # The XDG specification says to ignore relative paths.
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if given.is_absolute():
        return given / _NAME
    try:
        home = Path.home()
    except RuntimeError:
        raise StackError("This user has no home directory; set XDG_CACHE_HOME to a folder.") from None
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / _NAME


def data_directory() -> Path:
    """Return the folder for data and logs: ``.local`` of the checkout, else the cache directory."""
    root = checkout()
    return root / ".local" if root else cache_directory()


def up_directory() -> Path:
    """Return the folder of ``gemini-batch up``, unless one is given."""
    return data_directory() / "up"

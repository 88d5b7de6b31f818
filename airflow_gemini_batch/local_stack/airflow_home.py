"""A separate Airflow for ``gemini-batch demo`` and ``up``: its folder and its environment variables."""

from __future__ import annotations

import os
import re
import secrets
import sys
from base64 import urlsafe_b64encode
from configparser import ConfigParser
from io import StringIO
from typing import TYPE_CHECKING

from airflow_gemini_batch.local_stack.service import open_private

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_LOCAL_SETTINGS = '''\
"""Airflow imports this when it starts."""

import os

from airflow_gemini_batch.local_stack import airflow_home

airflow_home.stay_local()
os.environ.update({!r})
'''

INSTALLATION = "local"
"""Marks the jobs of the Airflow of the local stack."""
TASKS_AT_ONCE = 2
INSTALLATION_VARIABLE = "AIRFLOW__GEMINI_BATCH__INSTALLATION"
_PLUGIN = "from airflow_gemini_batch.local_stack.airflow_plugin import LoopbackPlugin\n"


_TAKEN = ("METRICS", "OPENLINEAGE")
"""Sections whose settings the local stack takes from the environment: where to send what can be made up."""
_SETTING = re.compile(r"AIRFLOW__([A-Z_]+?)__([A-Z_]+)")


def taken_settings() -> dict[str, str]:
    """Return the settings of the environment that are good for the local stack as well."""
    return {
        name: value
        for name, value in os.environ.items()
        if (match := _SETTING.fullmatch(name)) and match[1] in _TAKEN
    }


def create(home: Path, dags: Path, emulators: Mapping[str, str] | None = None) -> dict[str, str]:
    """Make ``home`` and return the environment variables of an Airflow that runs there and reads ``dags``.

    :param emulators: variables for each of its processes, also on the command line: without them, a task
        there would use, and pay for, the real Google Cloud
    """
    (home / "config").mkdir(parents=True, exist_ok=True)
    with open_private(home / "config" / "airflow_local_settings.py") as file:
        file.write(_LOCAL_SETTINGS.format(dict(emulators or {})).encode())
    (home / "plugins").mkdir(exist_ok=True)
    (home / "plugins" / "loopback.py").write_text(_PLUGIN)
    return settings(home, dags, installation=INSTALLATION)


def write_config(home: Path, variables: Mapping[str, str]) -> None:
    """Write ``airflow.cfg`` with the settings among some variables, for ``airflow`` on the command line."""
    # Those that Airflow would write there. Without them, each of its processes makes keys of its own.
    config = ConfigParser(interpolation=None)
    config.read_dict(
        {
            "core": {"fernet_key": urlsafe_b64encode(secrets.token_bytes(32)).decode()},
            "api": {"secret_key": secrets.token_urlsafe(16)},
        }
    )
    for name, value in variables.items():
        if match := _SETTING.fullmatch(name):
            # Airflow interpolates.
            config.read_dict({match[1].lower(): {match[2].lower(): value.replace("%", "%%")}})
    text = StringIO()
    config.write(text)
    with open_private(home / "airflow.cfg") as file:
        file.write(text.getvalue().encode())


def settings(home: Path, dags: Path, *, installation: str) -> dict[str, str]:
    """Return the environment variables of an Airflow with its own home and database."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        INSTALLATION_VARIABLE: installation,
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def server_settings(port: int) -> dict[str, str]:
    """Return the environment variables of ``airflow standalone`` with its UI on ``port``, without a login."""
    url = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__WORKERS": "1",
        # Tasks reach the api-server at these URLs, which default to port 8080.
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        # Each slot is a process; the default of 32 needs 6 GB.
        "AIRFLOW__CORE__PARALLELISM": str(TASKS_AT_ONCE),
        # SQLite has one writer at a time: with many runs at once, the scheduler waits until it gives up.
        "AIRFLOW__CORE__MAX_ACTIVE_RUNS_PER_DAG": "4",
        "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": "16",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
        # A new DAG file appears after this many seconds; the default is five minutes.
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "5",
        # A task whose first call takes longer than the default of five seconds fails, without a log.
        "AIRFLOW__WORKERS__EXECUTION_API_TIMEOUT": "60",
    }


def stay_local() -> None:
    """Make this Airflow process listen on loopback addresses only, and look no key up at Google."""
    from airflow_gemini_batch.local_stack.stack import stay_on_loopback

    stay_on_loopback()
    if {"scheduler", "triggerer"} & set(sys.argv[1:2]):
        # These processes serve logs on all interfaces, and no setting restricts the host. The api-server
        # reads the logs from the same disk and does not need them.
        from airflow.utils import serve_logs

        serve_logs.serve_logs = serve_no_logs


def serve_no_logs(port: int | None = None) -> None:
    """Replace the function of Airflow that starts a log server."""

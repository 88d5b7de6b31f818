"""``gemini-batch emulator``: run the emulator of the Vertex AI batch API as a process."""

from __future__ import annotations

import sys
from datetime import date
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to the function to call."""
    parser = subparsers.add_parser(
        "emulator",
        help="run the emulator of the Vertex AI batch API",
        description="Run the emulator of the Vertex AI batch API on 127.0.0.1 until it is interrupted. It "
        "reads input from, and writes output to, the servers that STORAGE_EMULATOR_HOST and "
        "BIGQUERY_EMULATOR_HOST name.",
    )
    parser.add_argument(
        "--port", type=_port, default=0, help="port to listen on, 1 to 65535 (default: a free one)"
    )
    parser.add_argument(
        "--pace",
        type=pace,
        default="immediate",
        help="how fast jobs advance: immediate, reads:N (each state is shown N times) or seconds:N (each "
        "state lasts N seconds) (default: immediate)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed for the generated answers (default: 0)")
    parser.add_argument(
        "--today",
        type=_day,
        metavar="DATE",
        help="the day that decides which models are retired, such as 2027-06-01 (default: today)",
    )
    parser.add_argument(
        "--faults", type=Path, help="JSON file with the faults to inject, see docs/emulator.md"
    )
    add_quotas(parser)
    parser.add_argument(
        "--project",
        default="local-project",
        help="project ID in the generated credentials (default: local-project)",
    )
    parser.set_defaults(run=run)


def add_quotas(parser: argparse.ArgumentParser) -> None:
    """Add the option ``--quotas``, whose value is the number of seconds that a minute lasts."""
    parser.add_argument(
        "--quotas",
        type=_seconds,
        nargs="?",
        const=60.0,
        metavar="SECONDS",
        help="enforce Google's quotas for each project and location: 60 jobs created or deleted, 600 calls "
        "to get, list or cancel jobs, and 3,000 calls of countTokens a minute; SECONDS is how long a minute "
        "lasts for them, 60 if not given (default: no quotas)",
    )


def pace(text: str) -> str:
    """Check the value of ``--pace``."""
    from argparse import ArgumentTypeError

    from airflow_gemini_batch.emulator.running.job_clock import Pace
    from airflow_gemini_batch.exceptions import InvalidParameterError

    try:
        Pace.parse(text)
    except InvalidParameterError as error:
        raise ArgumentTypeError(str(error)) from None
    return text


def _seconds(text: str) -> float:
    from argparse import ArgumentTypeError
    from math import isfinite

    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not (seconds > 0 and isfinite(seconds)):
        raise ArgumentTypeError(f"{text!r} is not a number of seconds greater than 0")
    return seconds


def _day(text: str) -> date:
    from argparse import ArgumentTypeError

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a date; give one such as 2027-06-01") from None


def _port(text: str) -> int:
    from argparse import ArgumentTypeError

    if not text.isdecimal() or not int(text) <= 65535:
        raise ArgumentTypeError(f"{text!r} is not a port; give a number up to 65535")
    return int(text)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    from airflow_gemini_batch.emulator.access.cloud import with_all_roles
    from airflow_gemini_batch.emulator.credentials import connection_json, exports
    from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS
    from airflow_gemini_batch.emulator.faults.plan_json import plan_from_json
    from airflow_gemini_batch.emulator.quotas import Quotas
    from airflow_gemini_batch.emulator.running.job_clock import Pace
    from airflow_gemini_batch.emulator.server import Emulator
    from airflow_gemini_batch.emulator.stop_signal import StopSignal
    from airflow_gemini_batch.exceptions import InvalidParameterError

    try:
        faults = plan_from_json(arguments.faults.read_bytes()) if arguments.faults else NO_FAULTS
    except OSError as error:
        print(f"--faults='{arguments.faults}': {error.strerror}", file=sys.stderr)
        return 2
    except InvalidParameterError as error:
        print(f"--{error}", file=sys.stderr)
        return 2
    try:
        emulator = Emulator(
            port=arguments.port,
            pace=Pace.parse(arguments.pace),
            today=arguments.today,
            seed=arguments.seed,
            faults=faults,
            quotas=Quotas(window=arguments.quotas) if arguments.quotas else None,
            cloud=with_all_roles(arguments.project),
        )
        emulator.start()
    except InvalidParameterError as error:
        print(f"--{error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Cannot listen on port {arguments.port}: {error.strerror}", file=sys.stderr)
        return 1
    stop = StopSignal()
    with emulator, NamedTemporaryFile(prefix="gemini-batch-emulator-", suffix=".sh") as script:
        url = emulator.url
        environment = {
            "GOOGLE_VERTEX_BASE_URL": url,
            "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT": connection_json(url, arguments.project),
            "GEMINI_BATCH_APIS_URL": emulator.apis_url,
        }
        script.write(exports(environment).encode())
        script.flush()
        print(f"The emulator of the Vertex AI batch API listens on {url} (pace: {arguments.pace}).")
        print("The answers are made up. To use it in a shell, and as the connection google_cloud_default:")
        print(f"  source {script.name}", flush=True)
        stop.wait()
    return 0

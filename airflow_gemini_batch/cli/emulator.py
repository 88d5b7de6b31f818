"""``gemini-batch emulator``: the stand-in as a process of its own."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from types import FrameType


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to what it does."""
    parser = subparsers.add_parser(
        "emulator",
        help="run the stand-in for the Vertex batch API",
        description="Run the stand-in for the Vertex batch API on 127.0.0.1 until it is interrupted. It "
        "reads input and writes output where STORAGE_EMULATOR_HOST and BIGQUERY_EMULATOR_HOST point.",
    )
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument(
        "--pace",
        default="immediate",
        help="how fast jobs advance: immediate, reads:N (each state is shown N times) or seconds:N (each "
        "state lasts N seconds) (default: immediate)",
    )
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other answers (default: 0)")
    parser.add_argument(
        "--faults", type=Path, help="JSON file that says what is to go wrong, see docs/emulator.md"
    )
    parser.add_argument("--project", default="local-project", help="project of the credentials it offers")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; return the exit code."""
    from airflow_gemini_batch.emulator.credentials import connection_json
    from airflow_gemini_batch.emulator.faults.plan import NO_FAULTS
    from airflow_gemini_batch.emulator.faults.plan_json import plan_from_json
    from airflow_gemini_batch.emulator.running.job_clock import Pace
    from airflow_gemini_batch.emulator.server import Emulator
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
            port=arguments.port, pace=Pace.parse(arguments.pace), seed=arguments.seed, faults=faults
        )
        emulator.start()
    except InvalidParameterError as error:
        print(f"--{error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"Cannot listen on port {arguments.port}: {error.strerror}", file=sys.stderr)
        return 1
    stopped = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with emulator:
        url = emulator.url
        print(f"The stand-in for the Vertex batch API listens on {url} at pace {arguments.pace}.")
        print("Its answers are made up. To use it:")
        print(f"  export GOOGLE_VERTEX_BASE_URL={url}")
        connection = connection_json(url, arguments.project)
        print(f"  export AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT='{connection}'", flush=True)
        stopped.wait()
    return 0

"""``gemini-batch doctor``: check a Google Cloud set-up, and say which command fixes what is missing."""

from __future__ import annotations

import json
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cli.input import wrong_usage
from airflow_gemini_batch.doctor.facts import Cause, Problem
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import argparse

    from google.auth.credentials import Credentials

    from airflow_gemini_batch.doctor.facts import Facts, Setup
    from airflow_gemini_batch.doctor.findings import Diagnosis
    from airflow_gemini_batch.doctor.google_api import GoogleApi
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

_STYLES = {"ok": "green", "missing": "bold red", "unknown": "yellow"}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to the function to call."""
    parser = subparsers.add_parser(
        "doctor",
        help="check a Google Cloud set-up before the first job",
        description="Check credentials, APIs, roles, locations, the model and quotas, and print the command "
        "that fixes what is missing. Changes nothing. Exit code: 0 nothing is missing, 1 something is "
        "missing, 2 wrong usage.",
    )
    parser.add_argument("--project", required=True, help="project of the jobs")
    parser.add_argument("--location", required=True, help="location of the jobs, such as global")
    parser.add_argument("--bucket", required=True, help="bucket of their input and output")
    parser.add_argument(
        "--dataset", required=True, help="dataset of their results: DATASET, or PROJECT.DATASET"
    )
    parser.add_argument("--model", required=True, help="their model, such as gemini-3.5-flash")
    parser.add_argument(
        "--conn-id",
        metavar="ID",
        help="Airflow connection to Google Cloud (default: Application Default Credentials of this machine)",
    )
    parser.add_argument(
        "--files-only",
        action="store_true",
        help="jobs read and write files; only their results are landed in the dataset",
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 also if something is unknown")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    probe = parser.add_argument_group(
        "probe", "Tiny jobs that settle what Google has not published. They cost money: less than a dollar."
    )
    probe.add_argument(
        "--probe", action="store_true", help="run them after the checks; asks before it starts"
    )
    probe.add_argument("--yes", action="store_true", help="do not ask")
    probe.add_argument(
        "--only", metavar="NAMES", help="settle only these assumptions, with commas between (default: all)"
    )
    probe.add_argument(
        "--probe-file",
        metavar="FILE",
        help="JSON file to write (default: gemini-batch-probe-….json in the current folder)",
    )
    probe.add_argument(
        "--cancel-probes",
        action="store_true",
        help="do nothing but cancel the jobs that probes have left in the location, in us and in eu",
    )
    probe.add_argument(
        "--poll-seconds",
        type=float,
        default=20.0,
        metavar="SECONDS",
        help="time between two looks at the jobs (default: 20)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the set-up, print the findings, and return the exit code."""
    from airflow_gemini_batch.doctor.checks import diagnose

    try:
        setup, only = _setup(arguments), _only(arguments)
        if not 0 <= arguments.poll_seconds <= 3600:
            raise InvalidParameterError("--poll-seconds", arguments.poll_seconds, "give 0 to 3600 seconds")
    except InvalidParameterError as error:
        return wrong_usage("doctor", error)
    # Airflow logs to standard output, which may be JSON.
    with redirect_stdout(sys.stderr):
        session = _open(setup)
        if arguments.cancel_probes:
            return _cancel_probes(setup, session)
        facts = _read(setup, session)
    diagnosis = diagnose(setup, facts, datetime.now(UTC).date())
    document, code = diagnosis.to_dict(), diagnosis.exit_code(strict=arguments.strict)
    if not arguments.json:
        _print(diagnosis)
    if arguments.probe and not isinstance(session, Problem):
        probed, document["probe"] = _probe(arguments, setup, facts, session, only)
        code = max(code, probed)
    if arguments.json:
        print(json.dumps(document, indent=2))
    return code


def _probe(
    arguments: argparse.Namespace, setup: Setup, facts: Facts, session: _Session, only: list[str] | None
) -> tuple[int, dict[str, Any] | None]:
    from airflow_gemini_batch.cli.probe import Refused
    from airflow_gemini_batch.cli.probe import run as run_probe

    try:
        return run_probe(
            setup,
            facts,
            session.hook,
            session.api,
            yes=arguments.yes,
            only=only,
            file=arguments.probe_file,
            is_quiet=arguments.json,
            poll_seconds=arguments.poll_seconds,
        )
    except Refused as reason:
        print(f"gemini-batch doctor: {reason}", file=sys.stderr)
        return 1, None
    finally:
        session.api.close()


def _cancel_probes(setup: Setup, session: _Session | Problem) -> int:
    from airflow_gemini_batch.doctor.probe.run import cancel_probes

    if isinstance(session, Problem):
        print(f"gemini-batch doctor: {session.detail}", file=sys.stderr)
        return 1
    places = sorted({setup.location, "us", "eu"})
    names = [name for place in places for name in cancel_probes(session.hook, setup.project, place)]
    for name in names:
        print(f"Cancelled {name}", file=sys.stderr)
    if not names:
        print("No probe has left a job that still runs.", file=sys.stderr)
    return 0


def _only(arguments: argparse.Namespace) -> list[str] | None:
    from airflow_gemini_batch.doctor.probe.assumptions import BY_NAME

    if arguments.only is None:
        return None
    names = [name.strip() for name in arguments.only.split(",")]
    if not set(names) <= set(BY_NAME):
        raise InvalidParameterError("--only", arguments.only, f"give some of {', '.join(BY_NAME)}")
    return names


def _setup(arguments: argparse.Namespace) -> Setup:
    from airflow_gemini_batch.batch_job import check_place
    from airflow_gemini_batch.doctor.facts import Setup
    from airflow_gemini_batch.gcp.gcs_uri import is_folder
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.jobs.spec import check_location
    from airflow_gemini_batch.models import ModelName

    try:
        check_place(arguments.project, check_location(arguments.location))
    except InvalidParameterError as error:
        parameter = "--project" if error.parameter == "project_id" else "--location"
        raise InvalidParameterError(parameter, error.value, error.fix) from None
    bucket = arguments.bucket.removeprefix("gs://").rstrip("/")
    if "/" in bucket or not is_folder(f"gs://{bucket}"):
        raise InvalidParameterError("--bucket", arguments.bucket, "give the name of a bucket")
    if ModelName.parse(arguments.model) is None:
        raise InvalidParameterError("--model", arguments.model, "give an ID such as gemini-3.5-flash")
    try:
        table = TableName.parse(f"{arguments.dataset}.t", arguments.project)
    except InvalidParameterError:
        fix = "give DATASET, or PROJECT.DATASET"
        raise InvalidParameterError("--dataset", arguments.dataset, fix) from None
    return Setup(
        project=arguments.project,
        location=arguments.location,
        bucket=bucket,
        dataset=table.dataset_id,
        model=arguments.model,
        gcp_conn_id=arguments.conn_id,
        files_only=arguments.files_only,
    )


@dataclass(frozen=True)
class _Session:
    """What the set-up is read with."""

    hook: GeminiBatchHook
    credentials: Credentials
    api: GoogleApi


def _open(setup: Setup) -> _Session | Problem:
    from airflow_gemini_batch.cli.connection import hook_of
    from airflow_gemini_batch.doctor.google_api import GoogleApi
    from airflow_gemini_batch.exceptions import CredentialsUnavailableError
    from airflow_gemini_batch.hooks.errors import reading_credentials

    try:
        with reading_credentials(setup.gcp_conn_id or ""):
            hook = hook_of(setup.gcp_conn_id, setup.project, uses_bigquery=True)
            credentials = hook.get_credentials()
    except CredentialsUnavailableError as error:
        return Problem(Cause.NO_CREDENTIALS, f"There are none: {error.reason}")
    return _Session(hook, credentials, GoogleApi(credentials))


def _read(setup: Setup, session: _Session | Problem) -> Facts:
    from airflow_gemini_batch.doctor.reading import nothing_read, read_facts

    if isinstance(session, Problem):
        return nothing_read(session)
    return read_facts(setup, session.api, session.hook, session.credentials)


def _print(diagnosis: Diagnosis) -> None:
    from airflow_gemini_batch.cli.terminal import Terminal

    terminal = Terminal()
    printed: set[str] = set()
    for finding in diagnosis.findings:
        mark = (f"{finding.status.value:<8}", _STYLES[finding.status.value])
        terminal.line(mark, f" {finding.title}: {finding.detail}")
        if finding.command:
            again = "The same command as above." if finding.command in printed else finding.command
            terminal.line(f"         {again}")
            printed.add(finding.command)
    terminal.line()
    terminal.line((diagnosis.summary, "bold"))

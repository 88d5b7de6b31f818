"""``gemini-batch cancel``: cancel jobs, after asking."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import JobName, JobState
from airflow_gemini_batch.cli.arguments import add_connection, add_installation, add_place
from airflow_gemini_batch.cli.connection import checked_hook_of, installation_of, location_of
from airflow_gemini_batch.cli.input import wrong_usage
from airflow_gemini_batch.exceptions import InvalidParameterError, OtherInstallationError
from airflow_gemini_batch.formats import counted

if TYPE_CHECKING:
    import argparse

    from airflow_gemini_batch.batch_job import BatchJob
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to the function to call."""
    parser = subparsers.add_parser(
        "cancel",
        help="cancel jobs, after asking",
        description="Request the cancellation of jobs. Completed rows are charged, and kept. Exit code: 0 "
        "success, also for jobs that had ended; 1 a job cannot be cancelled, or the answer was no; 2 wrong "
        "usage.",
    )
    parser.add_argument(
        "jobs",
        nargs="+",
        metavar="JOB",
        help="projects/…/locations/…/batchPredictionJobs/…, or only the number at its end",
    )
    add_place(parser)
    parser.add_argument("--yes", action="store_true", help="do not ask")
    add_installation(parser, "also cancel jobs of other installations, and those created without Airflow")
    add_connection(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask, cancel the jobs, and return the exit code."""
    from airflow_gemini_batch.jobs.ownership import check_ours
    from airflow_gemini_batch.jobs.reading import absent, existing_jobs
    from airflow_gemini_batch.tasks.manage import cancel_jobs

    try:
        if not (arguments.yes or sys.stdin.isatty()):
            raise InvalidParameterError("--yes", False, "nobody can be asked here; give --yes to cancel")
        with redirect_stdout(sys.stderr):
            hook = checked_hook_of(arguments.gcp_conn_id, arguments.project, "to cancel jobs")
            mine = installation_of(arguments.installation, is_any=arguments.all_installations)
            names = tuple(dict.fromkeys(_name(job, hook, arguments) for job in arguments.jobs))
            jobs = existing_jobs(hook, names)
            active = [job for job in jobs if _can_be_cancelled(job)]
            for job in active if mine else ():
                check_ours(job, mine or "")
    except InvalidParameterError as error:
        return wrong_usage("cancel", error)
    except OtherInstallationError as error:
        fix = "If you mean it, give --all-installations."
        print(f"gemini-batch cancel: The batch job {error.job.name} {error.reason}. {fix}", file=sys.stderr)
        return 1
    if missing := absent(names, jobs):
        print(
            f"gemini-batch cancel: There is no job {', '.join(map(str, missing))}. Nothing was cancelled.",
            file=sys.stderr,
        )
        return 1
    if not active:
        print("Nothing to cancel: these jobs have ended, or are being cancelled.")
        return 0
    _show(active)
    if not (arguments.yes or _agrees(len(active))):
        return 1
    with redirect_stdout(sys.stderr):
        cancelled = cancel_jobs(hook, [job.name for job in active], mine)
    print(f"Requested cancellation of {counted(len(cancelled), 'job')}.")
    return 0


def _name(given: str, hook: GeminiBatchHook, arguments: argparse.Namespace) -> JobName:
    if "/" in given:
        return JobName.parse(given, "JOB")
    parent = f"projects/{hook.resolve_project(arguments.project)}/locations/{location_of(arguments.location)}"
    return JobName.parse(f"{parent}/batchPredictionJobs/{given}", "JOB")


def _can_be_cancelled(job: BatchJob) -> bool:
    return not job.state.is_terminal and job.state is not JobState.CANCELLING


def _show(jobs: list[BatchJob]) -> None:
    from datetime import UTC, datetime

    from airflow_gemini_batch.cli.jobs import HEADER, cells
    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.job_page.rows import job_row

    now = datetime.now(UTC)
    Terminal().aligned([cells(job_row(job, now)) for job in jobs], HEADER)


def _agrees(number: int) -> bool:
    what = "this job" if number == 1 else f"these {number:,} jobs"
    answer = input(f"Cancel {what}? Completed rows are charged. [y/N] ")
    return answer.strip().lower() in ("y", "yes")

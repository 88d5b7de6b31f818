"""``gemini-batch report``: what became of a job, on the terminal and as a page."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.cli.input import storage_client, wrong_usage
from airflow_gemini_batch.exceptions import InvalidParameterError

if TYPE_CHECKING:
    import argparse

    from google.cloud.bigquery import Client

    from airflow_gemini_batch.results.report.facts import ReportFacts

_TIMEOUT_MS = 20_000


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to what it does."""
    parser = subparsers.add_parser(
        "report",
        help="say what became of the rows of a job that is landed",
        description="Say what became of the rows of a landed job, and write it as a page. No prompts and no "
        "answers are shown. Uses the credentials of this machine. Exit code: 0 fine, 1 it could not be read "
        "or written, 2 wrong usage.",
    )
    parser.add_argument("job", metavar="JOB", help="projects/…/locations/…/batchPredictionJobs/…")
    parser.add_argument("--table", required=True, metavar="PROJECT.DATASET.TABLE", help="where it was landed")
    parser.add_argument(
        "--error-table", metavar="PROJECT.DATASET.TABLE", help="default: --table with _errors behind it"
    )
    parser.add_argument(
        "--output", metavar="FILE|gs://URI|-", help="write a page of HTML; - for standard output"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read, print, write, return the exit code."""
    from airflow_gemini_batch.results.report.page import render

    try:
        facts = _facts(arguments)
        if arguments.output == "-":
            print(render(facts))
            return 0
        _print(facts)
        if arguments.output:
            print(f"\nWritten to {_write(render(facts), arguments.output, facts.job_name)}")
    except (InvalidParameterError, OSError) as error:
        return wrong_usage("report", error)
    return 0


def _facts(arguments: argparse.Namespace) -> ReportFacts:
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.results.report.facts import report_facts

    name = JobName.parse(arguments.job, "JOB")
    table = TableName.parse(arguments.table, parameter="--table")
    errors = TableName.parse(arguments.error_table or f"{table}_errors", parameter="--error-table")
    with closing(_bigquery_client(table.project)) as bigquery:
        return report_facts(name, table, errors, bigquery, job=_job(name))


def _bigquery_client(project: str) -> Client:
    from google.auth.exceptions import DefaultCredentialsError
    from google.cloud.bigquery import Client

    try:
        return Client(project)
    except DefaultCredentialsError as error:
        raise InvalidParameterError("--table", project, f"no credentials to read it with: {error}") from None


def _job(name: JobName) -> BatchJob | None:
    """Read the job. The service forgets jobs, and the tables tell most without it."""
    from google import genai

    from airflow_gemini_batch.hooks.errors import from_sdk

    try:
        client = genai.Client(
            vertexai=True,
            project=name.project,
            location=name.location,
            http_options=genai.types.HttpOptions(timeout=_TIMEOUT_MS),
        )
        # As the service sends it: client.batches.get fails on jobs whose error has details.
        body = client._api_client.request("get", str(name), {}).body
        return BatchJob.from_resource(json.loads(body or "{}"))
    except Exception as error:
        translated = from_sdk(error, project=name.project, location=name.location, creating=False)
        if translated is None:
            raise
        print(f"gemini-batch report: without the job's own times: {translated.error}", file=sys.stderr)
        return None


def _write(page: str, output: str, name: JobName) -> str:
    from airflow_gemini_batch.results.report.location import ReportPlace

    if not output.startswith("gs://"):
        Path(output).write_text(page, encoding="utf-8")
        return output
    place = ReportPlace.parse(output, "--output")
    with ExitStack() as stack:
        return place.write(page, name, storage_client(output, stack))


def _print(facts: ReportFacts) -> None:
    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.results.report.page import remark, sentence

    terminal = Terminal(sys.stdout)
    terminal.say(terminal.style(sentence(facts), "bold"))
    if said := remark(facts):
        terminal.text(said)
    terminal.say()
    terminal.numbers({bucket.value: count for bucket, count in facts.counts.items() if count})
    if facts.errors:
        terminal.heading("Most frequent errors")
        rows = [
            (f"{each.rows:,}", each.status, " ".join(each.keys[:1]), " ".join(each.message.split()))
            for each in facts.errors
        ]
        terminal.table(("rows", "status", "for example", "message"), rows)

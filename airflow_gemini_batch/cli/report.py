"""``gemini-batch report``: how many rows of a job succeeded, on the terminal and as an HTML page."""

from __future__ import annotations

import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING

from airflow_gemini_batch.batch_job import BatchJob, JobName
from airflow_gemini_batch.cli.arguments import add_connection
from airflow_gemini_batch.cli.connection import checked_hook_of
from airflow_gemini_batch.cli.input import wrong_usage
from airflow_gemini_batch.exceptions import GeminiBatchError, InvalidParameterError

if TYPE_CHECKING:
    import argparse

    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook
    from airflow_gemini_batch.results.report.facts import ReportFacts


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the subcommand to the parser of ``gemini-batch``; it sets ``run`` to the function to call."""
    parser = subparsers.add_parser(
        "report",
        help="summarize the rows of a job whose results are in BigQuery",
        description="Summarize the rows of a job whose results are in BigQuery, and write an HTML page about "
        "them. Shows no prompts and no responses. If BIGQUERY_EMULATOR_HOST is set, no credentials are "
        "needed. Exit code: 0 success, 1 the report cannot be read or written, 2 wrong usage.",
    )
    parser.add_argument("job", metavar="JOB", help="projects/…/locations/…/batchPredictionJobs/…")
    parser.add_argument(
        "--table",
        required=True,
        metavar="TABLE",
        help="destination table of the results: project.dataset.table, or dataset.table in the project of "
        "the job",
    )
    parser.add_argument(
        "--error-table",
        metavar="TABLE",
        help="error table of the results (default: the destination table with the suffix _errors)",
    )
    parser.add_argument(
        "--output", metavar="FILE|gs://URI|-", help="write an HTML page; - for standard output"
    )
    add_connection(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Read the tables, print the summary, write the page, and return the exit code."""
    from airflow_gemini_batch.results.report.page import render

    try:
        # Airflow logs to standard output, which may be the page.
        with redirect_stdout(sys.stderr):
            facts, hook = _read(arguments)
        if arguments.output == "-":
            print(render(facts))
            return 0
        _print(facts)
        if arguments.output:
            print(f"\nWritten to {_write(render(facts), arguments.output, facts.job_name, hook)}")
    except (InvalidParameterError, OSError) as error:
        return wrong_usage("report", error)
    return 0


def _read(arguments: argparse.Namespace) -> tuple[ReportFacts, GeminiBatchHook]:
    from airflow_gemini_batch.gcp.table_name import TableName
    from airflow_gemini_batch.results.report.facts import report_facts

    name = JobName.parse(arguments.job, "JOB")
    table = TableName.parse(arguments.table, name.project, "--table")
    errors = TableName.parse(arguments.error_table or f"{table}_errors", name.project, "--error-table")
    hook = checked_hook_of(arguments.gcp_conn_id, name.project, "to read the tables", uses_bigquery=True)
    return report_facts(name, table, errors, hook.bigquery_client(table.project), job=_job(hook, name)), hook


def _job(hook: GeminiBatchHook, name: JobName) -> BatchJob | None:
    """Read the job; return None if that fails: the tables have all but its times, and outlive it."""
    try:
        return hook.get_job(name, retry=False)
    except GeminiBatchError as error:
        print(f"gemini-batch report: the times of the job are missing: {error}", file=sys.stderr)
        return None


def _write(page: str, output: str, name: JobName, hook: GeminiBatchHook) -> str:
    from airflow_gemini_batch.results.report.location import ReportPlace

    if not output.startswith("gs://"):
        Path(output).write_text(page, encoding="utf-8")
        return output
    place = ReportPlace.parse(output, "--output")
    return place.write(page, name, hook.storage_client(name.project))


def _print(facts: ReportFacts) -> None:
    from airflow_gemini_batch.cli.terminal import Terminal
    from airflow_gemini_batch.results.report.page import remark, sentence

    terminal = Terminal()
    terminal.line((sentence(facts), "bold"))
    if text := remark(facts):
        terminal.paragraph(text)
    terminal.line()
    terminal.numbers({status.value: count for status, count in facts.counts.items() if count})
    if facts.errors:
        terminal.heading("Most frequent errors")
        rows = [
            (f"{each.rows:,}", each.status, " ".join(each.keys[:1]), each.message) for each in facts.errors
        ]
        terminal.table(("rows", "status", "for example", "message"), rows)

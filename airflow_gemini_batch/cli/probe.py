"""``gemini-batch doctor --probe``: ask, run the tiny jobs, and print what they showed."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from datetime import UTC, datetime
from decimal import Decimal
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.cli.terminal import Terminal
from airflow_gemini_batch.doctor.facts import Cause, Dataset, Problem

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_gemini_batch.doctor.facts import Facts, Setup
    from airflow_gemini_batch.doctor.google_api import GoogleApi
    from airflow_gemini_batch.doctor.probe.run import Probe
    from airflow_gemini_batch.doctor.probe.steps import Place, Step
    from airflow_gemini_batch.doctor.probe.verdicts import Observations, Verdict
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

_LIMIT_USD = Decimal(1)
_PACKAGES = ("airflow-provider-gemini-batch", "google-genai", "apache-airflow-providers-google")
_STYLES = {"agrees": "green", "differs": "bold red", "unsettled": "yellow"}


class Refused(Exception):  # noqa: N818
    """The probe does not start; the message says why."""


def run(
    setup: Setup,
    facts: Facts,
    hook: GeminiBatchHook,
    api: GoogleApi,
    *,
    yes: bool,
    only: Sequence[str] | None,
    file: str | None,
    is_quiet: bool = False,
    poll_seconds: float,
) -> tuple[int, dict[str, Any]]:
    """Run the probe and return the exit code and the content of its file.

    The exit code is 0 if all that was settled agrees, 1 if something differs.

    :param yes: do not ask
    :param only: names of the assumptions to settle; ``None`` for all
    :param file: where to write the JSON file; ``None`` for a name of its own in the current folder
    :param is_quiet: print nothing on standard output
    :raises Refused: the file cannot be written, it costs too much, nobody can be asked, or the answer was no
    """
    from airflow_gemini_batch.doctor.probe.assumptions import BY_NAME
    from airflow_gemini_batch.doctor.probe.run import Probe
    from airflow_gemini_batch.doctor.probe.steps import steps
    from airflow_gemini_batch.doctor.probe.verdicts import Outcome, verdicts

    place, wanted = _place(setup, facts), tuple(only or BY_NAME)
    todo = steps(place, wanted)
    terminal = Terminal(sys.stderr)
    target = Path(file or f"gemini-batch-probe-{place.run}.json")
    if target.is_dir() or not os.access(target.parent, os.W_OK):
        raise Refused(f"{target} cannot be written: give --probe-file with a file in a folder that can be.")
    _ask(place, todo, terminal, yes=yes)
    probe = Probe(
        place,
        hook,
        hook.storage_client(setup.project),
        hook.bigquery_client(setup.project),
        api,
        pause=lambda: time.sleep(poll_seconds),
        say=terminal.line,
    )
    seen, left = _run(probe, todo, wanted, terminal)
    found = verdicts(seen, wanted)
    document = _write(place, facts, seen, found, target)
    if not is_quiet:
        _print(found, target, left)
    return int(any(each.outcome is Outcome.DIFFERS for each in found)), document


def _place(setup: Setup, facts: Facts) -> Place:
    from airflow_gemini_batch.doctor.probe.steps import Place

    if isinstance(facts.caller, Problem):
        raise Refused("The probe does not start: there are no credentials.")
    if isinstance(facts.bucket, Problem) and facts.bucket.cause is Cause.ABSENT:
        raise Refused("The probe does not start: the bucket does not exist.")
    location = facts.dataset.location if isinstance(facts.dataset, Dataset) else None
    run_id = f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"
    return Place(setup.project, setup.location, setup.model, setup.bucket, setup.dataset, location, run_id)


def _ask(place: Place, todo: Sequence[Step], terminal: Terminal, *, yes: bool) -> None:
    from airflow_gemini_batch.cost.prices import BatchPrices
    from airflow_gemini_batch.doctor.probe.steps import LABEL, highest_cost
    from airflow_gemini_batch.formats import counted

    estimate = highest_cost(todo, BatchPrices.listed(place.model, place.location, datetime.now(UTC)))
    cost = estimate.cost_usd
    if cost is None or cost.high is None:
        raise Refused(
            f"The probe does not start: the price of {place.model} is not known. Give another --model."
        )
    # Outside `global` a model may cost more; one job of the probe may run there.
    if cost.high * 2 >= _LIMIT_USD:
        raise Refused(f"The probe does not start: it may cost {cost}, and its limit is ${_LIMIT_USD}.")
    terminal.line(
        f"The probe creates {counted(len(todo), 'job')} with {counted(estimate.rows, 'request')} for "
        f"{place.model}, in {place.project}. They cost {cost}."
    )
    terminal.line(
        f"It writes below gs://{place.bucket}/{place.folder}/ and in {place.dataset}, and removes it."
    )
    terminal.line(f"Its jobs have the label {LABEL}={place.run}. They may wait in the queue for hours.")
    if yes:
        return
    if not sys.stdin.isatty():
        raise Refused("The probe does not start: nobody can be asked here. Give --yes.")
    terminal.line("Go on? [y/N]")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise Refused("The probe does not start.")


def _run(
    probe: Probe, todo: Sequence[Step], wanted: Sequence[str], terminal: Terminal
) -> tuple[Observations, tuple[str, ...]]:
    try:
        seen = probe.run(todo, wanted)
    except BaseException:
        probe.cancel()
        for each in probe.clean_up():
            terminal.line(f"Left behind: {each}")
        raise
    return seen, probe.clean_up()


def _write(
    place: Place, facts: Facts, seen: Observations, found: Sequence[Verdict], target: Path
) -> dict[str, Any]:
    from airflow_gemini_batch.doctor.facts import Caller
    from airflow_gemini_batch.doctor.probe.report import names_to_hide, to_dict

    caller = facts.caller if isinstance(facts.caller, Caller) else Caller(None)
    number = facts.number if isinstance(facts.number, str) else None
    document = to_dict(
        place,
        seen,
        found,
        versions=dict(map(_version, _PACKAGES)),
        now=datetime.now(UTC),
        hidden=names_to_hide(place, caller, number),
    )
    target.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return document


def _version(package: str) -> tuple[str, str]:
    try:
        return package, version(package)
    except PackageNotFoundError:
        return package, "not installed"


def _print(found: Sequence[Verdict], target: Path, left: Sequence[str]) -> None:
    terminal = Terminal()
    terminal.line()
    for each in found:
        mark = (f"{each.outcome.value:<10}", _STYLES[each.outcome.value])
        terminal.line(mark, f" {each.assumption.name}: {each.assumption.question}")
        terminal.line(f"           saw: {each.saw}; assumed: {each.assumption.assumed}")
        if each.outcome.value == "differs":
            terminal.line(f"           {each.assumption.if_not}")
    terminal.line()
    for name in left:
        terminal.line(f"Left behind: {name}")
    terminal.line(f"Written to {target}. It names neither the account nor the project.")

"""Every parameter of a public class is in a table of its page, and a table has no other."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import Any

import pytest

from tests.docs.pages import ROOT

PACKAGE = "airflow_gemini_batch"
# The page, and the heading above the table.
SUBMIT = ("submit.md", "# GeminiBatchSubmitOperator")
DECORATOR = ("requests.md", "## `@task.gemini_batch`")
GROUP = ("requests.md", "## `gemini_batch(...)`")
# The table of a class, and other tables whose parameters its page says it takes too.
TABLES: dict[str, tuple[tuple[str, str], ...]] = {
    "operators.gemini_batch.GeminiBatchSubmitOperator": (SUBMIT,),
    "operators.gemini_batch.GeminiBatchResultsToBigQueryOperator": (
        ("results.md", "# GeminiBatchResultsToBigQueryOperator"),
    ),
    "operators.retry.GeminiBatchRetryFailedOperator": (("retry.md", "# GeminiBatchRetryFailedOperator"),),
    "operators.combine.GeminiBatchCombineInputsOperator": (("submit.md", "## Many files"),),
    "operators.requests.GeminiBatchRequestsOperator": (("requests.md", "## GeminiBatchRequestsOperator"),),
    "operators.requests.BigQueryToGeminiBatchRequestsOperator": (
        ("requests.md", "## BigQueryToGeminiBatchRequestsOperator"),
    ),
    "triggers.job_events.GeminiBatchJobEventTrigger": (("events.md", "## GeminiBatchJobEventTrigger"),),
    "operators.jobs.GeminiBatchCancelJobOperator": (("jobs.md", "## GeminiBatchCancelJobOperator"),),
    "operators.jobs.GeminiBatchDeleteJobOperator": (("jobs.md", "## GeminiBatchDeleteJobOperator"),),
    "sensors.gemini_batch.GeminiBatchJobSensor": (("sensor.md", "# GeminiBatchJobSensor"),),
    "decorators.gemini_batch.GeminiBatchDecoratedOperator": (DECORATOR, SUBMIT),
    "task_groups.gemini_batch": (GROUP, DECORATOR, SUBMIT),
}
# What the text says that a class does not take, or takes from somewhere else.
NOT_TAKEN = {
    "decorators.gemini_batch.GeminiBatchDecoratedOperator": {"input_uri"},
    "task_groups.gemini_batch": {
        *("display_name", "on_changed_input", "force_new", "wait_for_completion"),
    },
}
# The function that is decorated, and its arguments, as in every decorator of Airflow.
OF_AIRFLOW = {
    "decorators.gemini_batch.GeminiBatchDecoratedOperator": {"python_callable", "op_args", "op_kwargs"}
}


def table(page: str, heading: str) -> set[str]:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    _, found, section = f"\n{text}".partition(f"\n{heading}\n")
    assert found, (page, heading)
    section = re.split(r"^#{1,2} ", section, maxsplit=1, flags=re.M)[0]
    rows = re.search(r"^\| parameter \|.*?\n\|[ -|]+\n((?:\|.*\n)+)", section, re.M)
    assert rows, (page, heading)
    first = [row.split(" | ")[0] for row in rows[1].splitlines()]
    return {name for cell in first for name in re.findall(r"`(\w+)`", cell)}


def parameters(path: str) -> set[str]:
    module, _, name = path.rpartition(".")
    thing: Any = getattr(import_module(f"{PACKAGE}.{module}"), name)
    function = thing.__init__ if isinstance(thing, type) else thing
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    found = inspect.signature(function).parameters.items()
    return {each for each, parameter in found if each != "self" and parameter.kind not in kinds}


@pytest.mark.parametrize("path", TABLES)
def test_the_tables_have_every_parameter(path: str) -> None:
    documented = set().union(*(table(*place) for place in TABLES[path])) - NOT_TAKEN.get(path, set())
    assert documented == parameters(path) - OF_AIRFLOW.get(path, set())

"""Everything works where OpenLineage is not installed, and nothing of it is imported where it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("openlineage", "openlineage_sql"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
"""
TASKS = """
import airflow_gemini_batch.decorators.gemini_batch, airflow_gemini_batch.operators.combine
import airflow_gemini_batch.operators.retry, airflow_gemini_batch.task_groups
import airflow_gemini_batch.triggers.gemini_batch
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from tests.metrics.test_measured import JOB, MANIFEST

task = GeminiBatchSubmitOperator(
    task_id="t", model="gemini-3.5-flash", input_uri="gs://bucket/a", output_uri="gs://bucket/b"
)
task._saw_submission(JOB, JOB.model, created=True)
task._saw_end(JOB)
task._saw_landing((JOB,), (MANIFEST,))
assert task._facts.rows["succeeded"] == 2
assert not [name for name in sys.modules if name.split(".")[0] in ("openlineage", "openlineage_sql")]
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    root = Path(__file__).parents[2]
    return subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)


def test_tasks_where_it_is_not_installed() -> None:
    done = python(BLOCKED + TASKS)
    assert done.returncode == 0, done.stderr


def test_tasks_where_nobody_asks() -> None:
    done = python("import sys\n" + TASKS)
    assert done.returncode == 0, done.stderr


def test_the_tables_of_a_query_are_not_known_without_the_parser() -> None:
    code = "from airflow_gemini_batch.lineage.queries import tables_of\n"
    done = python(BLOCKED + code + 'assert tables_of("SELECT 1 FROM a.b", "p") == ()')
    assert done.returncode == 0, done.stderr

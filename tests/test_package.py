from __future__ import annotations

import importlib
import importlib.util
import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING

import airflow_gemini_batch
from airflow_gemini_batch.local_stack import places
from airflow_gemini_batch.provider_info import get_provider_info

if TYPE_CHECKING:
    import pytest

ROOT = Path(__file__).parent.parent
DAG_MODULES = [
    "airflow_gemini_batch.operators.gemini_batch",
    "airflow_gemini_batch.operators.jobs",
    "airflow_gemini_batch.sensors.gemini_batch",
    "airflow_gemini_batch.triggers.bigquery_jobs",
    "airflow_gemini_batch.triggers.gemini_batch",
    "airflow_gemini_batch.triggers.job_events",
]
# They take milliseconds, which each DAG file would pay whenever it is parsed.
ONLY_FOR_TASKS = {
    f"airflow_gemini_batch.{name}"
    for name in ("gcp.bigquery_message", "jobs.spec", "jobs.decision", "models")
}
HEAVY = ["google.genai", "google.cloud.bigquery", "google.cloud.storage", "googleapiclient", "pandas"]


def modules_after(code: str) -> set[str]:
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_airflow_finds_the_provider() -> None:
    found = [e.load() for e in entry_points(group="apache_airflow_provider") if "gemini_batch" in e.value]
    assert found == [get_provider_info]


def test_every_path_that_the_provider_names_can_be_imported() -> None:
    info = get_provider_info()
    kinds = ("operators", "sensors", "hooks", "triggers")
    modules = [module for kind in kinds for entry in info[kind] for module in entry["python-modules"]]
    assert len(modules) == 9
    for module in modules:
        importlib.import_module(module)
    decorators = [each["class-name"] for each in info["task-decorators"]]
    plugins = [each["plugin-class"] for each in info["plugins"]]
    for path in (*info["extra-links"], *decorators, *plugins):
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name)


def test_airflow_finds_the_plugin_that_the_provider_names() -> None:
    """Airflow looks into the metadata of the provider only if it does not discover providers lazily."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (plugin,) = get_provider_info()["plugins"]
    module, _, name = plugin["plugin-class"].rpartition(".")
    assert document["project"]["entry-points"]["airflow.plugins"] == {plugin["name"]: f"{module}:{name}"}
    assert not modules_after(f"import {module}") & {"fastapi", *HEAVY}


def test_provider_info_has_the_shape_that_airflow_checks() -> None:
    import airflow
    from jsonschema import validate

    schema = json.loads((Path(airflow.__file__).parent / "provider_info.schema.json").read_text())
    validate(get_provider_info(), schema)


def test_airflow_looks_for_example_dags_without_an_error(caplog: pytest.LogCaptureFixture) -> None:
    """Since Airflow 3.3, which imports the name of the distribution."""
    assert importlib.import_module("airflow_provider_gemini_batch").__doc__
    if importlib.util.find_spec("airflow.dag_processing.bundles"):
        from airflow.dag_processing.bundles.manager import _add_provider_example_dags_to_bundle

        _add_provider_example_dags_to_bundle([])
        assert "airflow_provider_gemini_batch" not in caplog.text


def test_the_lowest_versions_are_those_that_are_tested() -> None:
    document = tomllib.loads((ROOT / "pyproject.toml").read_text())
    lines = re.findall(r"^([a-z0-9-]+)==([^ ]+)", (ROOT / ".ci/locks/lowest.txt").read_text(), re.M)
    # A package with several lines has that of the oldest Python first.
    locked = dict(reversed(lines))
    floors = dict(each.split(">=") for each in document["project"]["dependencies"])
    assert {name: locked[name] for name in floors} == {name: padded(floor) for name, floor in floors.items()}


def padded(version: str) -> str:
    return version + ".0" * (2 - version.count("."))


def test_a_dag_file_is_parsed_without_googles_sdks() -> None:
    loaded = modules_after(f"import {', '.join(DAG_MODULES)}")
    assert set(DAG_MODULES) <= loaded
    assert not loaded & set(HEAVY)
    parsed = [name for name in DAG_MODULES if ".triggers." not in name]
    assert not modules_after(f"import {', '.join(parsed)}") & ONLY_FOR_TASKS


def test_a_task_whose_table_is_an_asset_is_parsed_without_googles_sdks() -> None:
    made = "from airflow_gemini_batch.operators.retry import GeminiBatchRetryFailedOperator as Retry\n"
    made += "assert Retry(task_id='retry', results_table='project.dataset.table').outlets"
    assert not modules_after(made) & set(HEAVY)


def test_importing_the_package_costs_nothing() -> None:
    bare = modules_after("pass")
    ours = modules_after("import airflow_gemini_batch")
    assert ours - bare == {"airflow_gemini_batch"}


def test_the_wheel_has_the_demo_dag_where_the_demo_finds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    source, target = list(build["targets"]["wheel"]["force-include"].items())[-1]
    assert ROOT / source == places.example_dags() / places.DEMO_DAG
    assert (ROOT / source).exists()
    monkeypatch.setattr(places, "checkout", lambda: None)
    assert ROOT / target == places.example_dags() / places.DEMO_DAG


def test_the_readmes_smallest_dag_is_the_example_that_the_tests_run() -> None:
    example = (ROOT / "example_dags" / "gemini_batch_minimal.py").read_text()
    assert f"```python\n{example}```" in (ROOT / "README.md").read_text()
    assert len([line for line in example.splitlines() if line.strip()]) < 15


def test_the_docs_import_only_what_exists() -> None:
    pages = "".join(page.read_text() for page in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")))
    imports = re.findall(r"^from (airflow_gemini_batch\S+) import (\w+)", pages, re.MULTILINE)
    assert len(imports) > 10
    for module, name in imports:
        assert hasattr(importlib.import_module(module), name), (module, name)
    table = re.findall(r"^\| \[`(\w+).*?`\].*? \| `(airflow_gemini_batch\S+)` \|", pages, re.MULTILINE)
    assert len(table) == 12
    for name, module in table:
        assert hasattr(importlib.import_module(module), name), (module, name)


def test_the_version_is_the_changelogs_newest() -> None:
    assert f"## {airflow_gemini_batch.__version__}" in (ROOT / "CHANGELOG.md").read_text()

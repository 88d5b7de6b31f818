from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.provider_info import get_provider_info
from airflow_gemini_batch.settings import LOCATION, MODELS_FILE, PROJECT_ID, SECTION, SETTINGS, STAGING_URI

if TYPE_CHECKING:
    from airflow_gemini_batch.settings import Setting

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "configuration.md"
WITH_VARIABLE = [setting for setting in SETTINGS if setting.variable]


@pytest.fixture(autouse=True)
def _nothing_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for setting in SETTINGS:
        monkeypatch.delenv(airflows(setting), raising=False)
        monkeypatch.delenv(setting.variable or "none", raising=False)


def airflows(setting: Setting) -> str:
    return f"AIRFLOW__{SECTION}__{setting.option}".upper()


@pytest.mark.parametrize("setting", WITH_VARIABLE, ids=lambda setting: setting.option)
def test_an_option_comes_before_its_environment_variable(
    setting: Setting, monkeypatch: pytest.MonkeyPatch
) -> None:
    import airflow.providers.common.compat.sdk  # noqa: F401

    assert setting.value() is None
    monkeypatch.setenv(setting.variable, "variable")
    assert setting.value() == "variable"
    monkeypatch.setenv(airflows(setting), " option ")
    assert setting.value() == "option"
    monkeypatch.setenv(airflows(setting), " ")
    assert setting.value() == "variable"


def test_without_airflow_only_the_environment_variable_is_read() -> None:
    script = (
        "import sys\nfrom airflow_gemini_batch.settings import LOCATION\n"
        "print(LOCATION.value(), 'airflow' in sys.modules)"
    )
    environment = {airflows(LOCATION): "us", LOCATION.variable: "eu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["eu", "False"]


def test_the_list_of_models_is_that_of_the_option(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import airflow.providers.common.compat.sdk  # noqa: F401

    from airflow_gemini_batch.models import find_model

    file = tmp_path / "models.json"
    file.write_text('{"as_of": "2027-01-15", "models": {"gemini-9-flash": {"locations": ["global"]}}}')
    monkeypatch.setenv(airflows(MODELS_FILE), str(file))
    assert find_model("gemini-9-flash")


def test_the_staging_folder_is_that_of_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_gemini_batch.tasks.store_requests import staging_folder

    monkeypatch.setenv(airflows(STAGING_URI), "gs://my-bucket/gemini")
    assert staging_folder(None) == "gs://my-bucket/gemini"
    assert staging_folder("gs://other/") == "gs://other"
    monkeypatch.setenv(airflows(STAGING_URI), "my-bucket")
    with pytest.raises(InvalidParameterError, match=r"set \[gemini_batch\] staging_uri"):
        staging_folder(None)


def test_the_location_is_that_of_the_option(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator

    monkeypatch.setenv(airflows(LOCATION), "europe-west4")
    values = {
        "model": "gemini-3.5-flash",
        "input_uri": "gs://my-bucket/in.jsonl",
        "output_uri": "gs://my-bucket/out",
    }
    assert GeminiBatchSubmitOperator(task_id="a", **values)._location() == "europe-west4"
    assert GeminiBatchSubmitOperator(task_id="a", location="us", **values)._location() == "us"


@pytest.mark.parametrize(
    ("task", "connection", "option", "credentials", "variable", "expected"),
    [
        ("task", "connection", "option", "credentials", "variable", "task"),
        (None, "connection", "option", "credentials", "variable", "connection"),
        (None, None, "option", "credentials", "variable", "option"),
        (None, None, None, "credentials", "variable", "credentials"),
        (None, None, None, None, "variable", "variable"),
    ],
)
def test_the_project_is_the_first_that_is_set(
    monkeypatch: pytest.MonkeyPatch,
    task: str | None,
    connection: str | None,
    option: str | None,
    credentials: str | None,
    variable: str | None,
    expected: str,
) -> None:
    import json

    from airflow_gemini_batch.emulator.credentials import service_account_info
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook

    key = {**service_account_info("http://127.0.0.1:9/token", "unused"), "project_id": credentials}
    extra = {"project": connection, "keyfile_dict": json.dumps(key)}
    made = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", json.dumps(made))
    for name, value in ((airflows(PROJECT_ID), option), (PROJECT_ID.variable, variable)):
        if value:
            monkeypatch.setenv(name, value)
    assert GeminiBatchHook("other").resolve_project(task) == expected


def test_the_page_has_the_options_and_the_variables() -> None:
    rows = re.findall(r"^\| `(\w+)` \|.*\| ([^|]*)\|$", PAGE.read_text(), re.M)
    assert [name for name, _ in rows][: len(SETTINGS)] == [setting.option for setting in SETTINGS]
    for setting, (_, last) in zip(SETTINGS, rows, strict=False):
        assert re.findall(r"`(\w+)`", last) == ([setting.variable] if setting.variable else [])


def test_airflow_is_told_of_every_option() -> None:
    options = get_provider_info()["config"][SECTION]["options"]
    assert list(options) == [setting.option for setting in SETTINGS]
    assert all(option["description"] and option["example"] for option in options.values())


def test_no_other_variable_of_this_package_is_read() -> None:
    """A variable that is new needs an option, or a row of the page that says why it has none."""
    sources = (ROOT / "airflow_gemini_batch").rglob("*.py")
    read = {name for file in sources for name in re.findall(r'"(GEMINI_BATCH_[A-Z_]+\b)"', file.read_text())}
    documented = set(re.findall(r"`(GEMINI_BATCH_\w+)`", PAGE.read_text()))
    assert read - {"GEMINI_BATCH_"} <= documented

"""Inputs from public reports on which the package was wrong, each with its right value.

The kinds behind them are tested where the code is; these are the very inputs.
``NAME.input.jsonl`` and ``NAME.output.jsonl`` are what a job read and wrote.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_gemini_batch.cli.main import main
from airflow_gemini_batch.operators.gemini_batch import GeminiBatchSubmitOperator
from airflow_gemini_batch.operators.requests import BigQueryToGeminiBatchRequestsOperator
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from tests.results.lines import answered, asked
from tests.task_instance import TaskInstance

if TYPE_CHECKING:
    from google.cloud import storage

    from airflow_gemini_batch.emulator.server import Emulator
    from tests.results.conftest import Lander

INPUTS = Path(__file__).parent / "inputs"


@pytest.fixture
def submit(vertex: Emulator, bucket: str) -> dict[str, Any]:
    """The arguments of a submit operator."""
    return {
        "task_id": "submit",
        "model": "gemini-3.5-flash",
        "input_uri": f"gs://{bucket}/in.jsonl",
        "output_uri": f"gs://{bucket}/out",
        "location": "global",
    }


@pytest.fixture
def context() -> dict[str, Any]:
    return {"ti": TaskInstance()}


def read(name: str) -> str:
    return (INPUTS / name).read_text()


def land(lander: Lander, name: str, **changes: Any) -> None:
    lander.put_input(*read(f"{name}.input.jsonl").splitlines())
    lander.put_output(*read(f"{name}.output.jsonl").splitlines())
    lander.land(**changes)


def rules(name: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    """What ``gemini-batch validate`` finds: the level by rule."""
    code = main(["validate", str(INPUTS / name), "--format", "json", *arguments])
    findings = json.loads(capsys.readouterr().out)["findings"]
    assert code == (1 if any(finding["level"] != "advice" for finding in findings) else 0)
    return {finding["rule"]: finding["level"] for finding in findings}


def test_every_input_is_tested() -> None:
    source = Path(__file__).read_text()
    names = {path.name.split(".")[0] for path in INPUTS.iterdir()}
    assert {name for name in names if f'"{name}' not in source} == set()


def test_empty_answers(lander: Lander) -> None:
    land(lander, "empty_answers")
    answers = {"good", "function_call", "image"}
    assert {key for key, status in lander.statuses().items() if status == "succeeded"} == answers
    empty = lander.errors()
    assert len(empty) == 5
    assert {(row["status"], row["retryable"]) for row in empty.values()} == {("failed", True)}


def test_row_status_rpc(lander: Lander) -> None:
    land(lander, "row_status_rpc")
    assert {key: (row["error_code"], row["retryable"]) for key, row in lander.errors().items()} == {
        "c4": (4, True),
        "c8": (8, True),
        "c13": (13, True),
        "object_c8": (8, True),
        "c3": (3, False),
    }
    assert {key for key, status in lander.statuses().items() if status == "succeeded"} == {"c0", "object_c0"}


def test_embedding_forms(lander: Lander) -> None:
    model = "publishers/google/models/gemini-embedding-001"
    land(lander, "embedding_forms", job=lander.job(model=model))
    assert lander.statuses() == dict.fromkeys(("id_0", "id_1", "id_2"), "succeeded")
    assert [row["embedding"] for row in lander.rows().values()] == [[0.1, 0.2]] * 3


@pytest.mark.parametrize(
    ("name", "field", "keys"),
    [
        ("custom_id", "custom_id", {"req-1", "req-2"}),
        ("gateway_labels", "labels.litellm_custom_id", {"req-1"}),
        ("gateway_labels", "labels.bifrost_custom_id", {"b-1"}),
    ],
)
def test_keys(lander: Lander, name: str, field: str, keys: set[str]) -> None:
    land(lander, name, key_field=field)
    assert lander.statuses().keys() >= keys
    assert set(lander.statuses().values()) == {"succeeded"}


@pytest.mark.parametrize(
    ("name", "level"),
    [
        ("embedding_001", None),
        ("google_search_null_filter", None),
        ("function_name_with_space", "row"),
        ("cached_content", "row"),
        ("https_file_uri", "row"),
    ],
)
def test_validate(name: str, level: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    assert list(rules(f"{name}.jsonl", capsys).values()) == ([level] if level else [])


def test_validate_embeddings_for_their_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert rules("embedding_001.jsonl", capsys, "--model", "gemini-embedding-001") == {}


def test_an_echoed_null_is_no_media(capsys: pytest.CaptureFixture[str]) -> None:
    file = str(INPUTS / "null_file_data_echo.jsonl")
    assert main(["estimate", file, "--model", "gemini-3.5-flash", "--format", "json"]) == 0
    estimate = json.loads(capsys.readouterr().out)
    assert estimate["input_tokens"] == {"low": 2, "high": 7}
    assert not [reason for reason in estimate["reasons"] if "films" in reason]


def test_searches_of_grounded_rows(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    submit: dict[str, Any],
    context: dict[str, Any],
    vertex: Emulator,
    storage_client: storage.Client,
    bucket: str,
) -> None:
    lines = read("grounded_1000_rows_note.jsonl") * 1_000
    file = tmp_path / "in.jsonl"
    file.write_text(lines)
    assert main(["estimate", str(file), "--model", "gemini-3.5-flash"]) == 0
    assert "1,000 to 5,000" in capsys.readouterr().out
    storage_client.bucket(bucket).blob("in.jsonl").upload_from_string(lines)
    with pytest.raises(AirflowFailException, match=r"search queries"):
        GeminiBatchSubmitOperator(**submit, max_cost_usd=2).execute(context)
    assert not vertex.jobs


def test_a_property_of_any_type_is_no_empty_member() -> None:
    schema = ResponseSchema.of(json.loads(read("schema_any_property.json")))
    assert "{}" not in json.dumps(schema.for_request())


def test_properties_with_names_of_fixed_columns(lander: Lander) -> None:
    """Nothing refuses the schema before the job is created, so it lands."""
    schema = ResponseSchema.of(json.loads(read("schema_names_of_fixed_columns.json")))
    lander.put_input(asked("k"))
    lander.put_output(answered("k", '{"status": "open", "text": "hello", "a": 1}'))
    lander.land(schema)
    row = lander.rows()["k"]
    assert (row["status"], row["answer_status"], row["answer_text"], row["a"]) == (
        "succeeded",
        "open",
        "hello",
        1,
    )


def test_parts_as_text(
    lander: Lander, submit: dict[str, Any], context: dict[str, Any], vertex: Emulator, regional: str
) -> None:
    lander.dataset = regional
    row = json.loads(read("bigquery_request_parts_string.jsonl"))
    uri = lander.put_table("requests", {"key": "STRING", "request": "STRING"}, [row])
    build = {
        "task_id": "build",
        "sql": f"SELECT * FROM `{uri.removeprefix('bq://')}`",
        "destination_table": f"{regional}.built",
        "location": "global",
    }
    for operator in (
        GeminiBatchSubmitOperator(**submit | {"input_uri": uri}, preflight=True),
        BigQueryToGeminiBatchRequestsOperator(**build),
    ):
        with pytest.raises(AirflowFailException, match="1 row with text"):
            operator.execute(context)
    assert not vertex.jobs

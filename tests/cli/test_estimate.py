"""``gemini-batch estimate``, as a shell runs it."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from google.cloud import storage

PROMPT = "Which river is that? "
ROW = {"contents": [{"parts": [{"text": PROMPT * 30}]}], "generationConfig": {"maxOutputTokens": 100}}
LINES = "".join(json.dumps({"key": f"k{n}", "request": ROW}) + "\n" for n in range(1_000))
MODEL = ("--model", "gemini-2.5-flash")


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "in.jsonl"
    path.write_text(LINES)
    return str(path)


def test_a_file(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", file, *MODEL]) == 0
    out = capsys.readouterr().out
    assert f"{file}: 1,000 rows for gemini-2.5-flash" in out
    assert "input   105,000 to 315,000 tokens" in out
    assert "output  up to 100,000 tokens" in out
    assert "cost    $0.0157 to $0.1723" in out
    assert "All 1,000 rows were read." in out
    assert PROMPT not in out
    assert "\033" not in out


def test_the_location_is_part_of_the_price(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    """3.5 Flash in batch: 0.75 and 4.5 USD per million in global, 0.825 and 4.95 elsewhere."""
    arguments = ["estimate", file, "--model", "gemini-3.5-flash"]
    assert main(arguments) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1,000 rows for gemini-3.5-flash in global" in out
    assert "cost $0.0787 to $0.6863" in out
    assert "The location is global; --location names another." in out
    assert main([*arguments, "--location", "eu"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "1,000 rows for gemini-3.5-flash in eu" in out
    assert "cost $0.0866 to $0.7549" in out
    assert "--location" not in out
    assert main([*arguments, "--location", "eu", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["location"] == "eu"
    assert document["cost_usd"] == {"low": 0.086625, "high": 0.754875}


def test_searches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.jsonl"
    row = {**ROW, "tools": [{"googleSearch": {"excludeDomains": ["example.invalid"]}}]}
    path.write_text((json.dumps({"key": "k1", "request": row}) + "\n") * 1_000)
    assert main(["estimate", str(path), "--model", "gemini-3.5-flash"]) == 0
    out = capsys.readouterr().out
    assert "  search  1,000 to 5,000 queries\n" in out
    assert "$14.00 to $70.00 of the cost" in " ".join(out.split())
    arguments = ["--model", "gemini-3.5-flash", "--format", "json", "--prices", '{"free_searches": 5000}']
    assert main(["estimate", str(path), *arguments]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["search_queries"] == {"low": 1_000, "high": 5_000}
    assert document["cost_usd"]["high"] < 1


def test_json(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", file, *MODEL, "--format", "json", "--max-output-tokens", "10"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["rows"], document["output_tokens"]) == (1_000, {"low": 0, "high": 10_000})
    assert document["cost_usd"] == {"low": 0.01575, "high": 0.05975}


def test_rows_that_the_model_would_refuse(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.jsonl"
    refused = {**ROW, "generationConfig": {"maxOutputTokens": 70_000, "presencePenalty": 1}}
    rows = [ROW, refused, refused]
    path.write_text(
        "".join(json.dumps({"key": f"k{n}", "request": row}) + "\n" for n, row in enumerate(rows))
    )
    strict = ["estimate", str(path), "--model", "gemini-3.7-flash"]
    assert main(strict) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "2 of 3 rows read: max-output-tokens 2 ×, refused-by-model 2 ×." in out
    assert "`gemini-batch validate --model gemini-3.7-flash` lists them" in out
    assert main([*strict, "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["failing_rows"] == 2
    path.write_text(json.dumps({"key": "k", "request": ROW}))
    assert main(strict) == 0
    assert "would fail" not in capsys.readouterr().out


def test_standard_input_and_negotiated_prices(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LINES.encode())))
    prices = '{"input": 10, "output": 100}'
    assert main(["estimate", "-", "--model", "our-own", "--prices", prices]) == 0
    assert "cost    $1.05 to $13.15" in capsys.readouterr().out


def test_an_unknown_model_has_no_cost(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", file, "--model", "gemini-9-ultra"]) == 0
    out = capsys.readouterr().out
    assert "cost    unknown" in out
    assert "105,000" in out


def test_no_upper_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text('{"request": {"contents": [{"parts": [{"text": "Hello"}]}]}}\n')
    assert main(["estimate", str(path), *MODEL]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "output no upper limit" in out
    assert "cost no upper limit" in out
    assert "maxOutputTokens is not set in any row" in out
    assert "On the command line, set --max-output-tokens." in out


def test_objects_in_storage(
    storage_client: storage.Client, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    storage_client.bucket(bucket).blob("in/a.jsonl").upload_from_string(LINES)
    assert main(["estimate", f"gs://{bucket}/in/*", *MODEL]) == 0
    assert f"gs://{bucket}/in/*: 1,000 rows" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no-such-file", *MODEL], "no-such-file: No such file"),
        (["-", *MODEL, "--max-output-tokens", "0"], "--max-output-tokens=0: give tokens"),
        (["-", *MODEL, "--prices", "{"], "not valid JSON"),
        (["-", *MODEL, "--prices", "{}"], "--prices={}: input and output must be given"),
    ],
)
def test_wrong_usage(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["estimate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert complaint in err
    assert out == ""


def test_a_model_must_be_named(file: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["estimate", file])
    assert "--model" in capsys.readouterr().err


def test_nulls_that_the_service_adds_are_no_media(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A request as the service repeats it in its output, from a public report."""
    path = tmp_path / "echo.jsonl"
    path.write_text(
        '{"key": "a", "request": {"contents": [{"parts": [{"fileData": null, "text": "List objects."}], '
        '"role": "user"}], "generationConfig": {"maxOutputTokens": 100}}}\n'
    )
    assert main(["estimate", str(path), *MODEL, "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert 0 < document["input_tokens"]["low"] <= document["input_tokens"]["high"] <= 10
    assert "sound" not in json.dumps(document)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--model", "gemini-3.5-flahs"], "Did you mean gemini-3.5-flash"),
        (["--model", "gemini-2.0-flash"], "gemini-2.0-flash retired on"),
        (
            ["--model", "gemini-3.5-flash-lite", "--location", "europe-west4"],
            "is not offered in 'europe-west4'",
        ),
    ],
)
def test_what_a_task_would_say_of_the_model(
    file: str, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert main(["estimate", file, *arguments]) == 0
    assert said in " ".join(capsys.readouterr().out.split())
    assert main(["estimate", file, *arguments, "--format", "json"]) == 0
    assert said in json.loads(capsys.readouterr().out)["notices"][0]


@pytest.mark.parametrize("location", ["GLOBAL", "us-cental1"])
def test_a_location_that_is_none(file: str, capsys: pytest.CaptureFixture[str], location: str) -> None:
    assert main(["estimate", file, "--model", "gemini-3.5-flash", "--location", location]) == 2
    assert f"location='{location}'" in capsys.readouterr().err

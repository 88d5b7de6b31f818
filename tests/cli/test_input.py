"""Files that are no JSONL are refused by name, and never cost nothing."""

from __future__ import annotations

import gzip
import io
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path

    from google.cloud import storage

LINE = b'{"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}}\n'
CSV = b"id,text\n1,Hello\n2,World\n"
ESTIMATE = ("estimate", "--model", "gemini-3.5-flash")
VALIDATE = ("validate",)
COMPRESSED = "it is compressed with gzip; this command reads JSONL, so decompress it first"
NO_REQUEST = "no row has a request; give JSONL"


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that exits with 2 and prints no result, and return what it says."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("rows.csv", CSV, NO_REQUEST),
        ("rows.jsonl.gz", gzip.compress(LINE, mtime=0), COMPRESSED),
        ("rows.csv.gz", gzip.compress(CSV, mtime=0), COMPRESSED),
        ("prompts.jsonl", b'{"prompt": "Hello"}\n', NO_REQUEST),
        ("empty.jsonl", b"", "it has no rows"),
    ],
)
def test_an_estimate_of_something_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, complaint: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert f"gemini-batch estimate: {path}: {complaint}" in refused([*ESTIMATE, str(path)], capsys)
    assert complaint in refused([*ESTIMATE, str(path), "--format", "json"], capsys)


def test_some_rows_without_a_request_leave_an_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "array.json"
    path.write_bytes(b"[\n" + LINE + b"]\n")
    assert main([*ESTIMATE, str(path)]) == 0
    assert "2 of those read" in capsys.readouterr().out


@pytest.mark.parametrize("command", [ESTIMATE, VALIDATE])
def test_compressed_objects_and_standard_input(
    command: tuple[str, ...],
    storage_client: storage.Client,
    bucket: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    packed = gzip.compress(LINE, mtime=0)
    storage_client.bucket(bucket).blob("rows.jsonl.gz").upload_from_string(packed)
    assert COMPRESSED in refused([*command, f"gs://{bucket}/rows.jsonl.gz"], capsys)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(packed)))
    assert COMPRESSED in refused([*command, "-"], capsys)


def test_validation_of_something_else(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A compressed file cannot be read; the lines of a CSV file can, and each is a problem."""
    packed, table, copy = tmp_path / "rows.jsonl.gz", tmp_path / "rows.csv", tmp_path / "out.jsonl"
    packed.write_bytes(gzip.compress(LINE, mtime=0))
    table.write_bytes(CSV)
    assert f"gemini-batch validate: {packed}: {COMPRESSED}" in refused(["validate", str(packed)], capsys)
    assert COMPRESSED in refused(["validate", str(packed), "--repair", str(copy)], capsys)
    assert not copy.exists()
    assert main(["validate", str(table)]) == 1
    assert "not-json  $  3 ×  lines 1, 2, 3" in capsys.readouterr().out


def test_a_report_takes_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(CSV)
    said = refused(["report", str(path), "--table", "p.d.t"], capsys)
    assert "give the full resource name" in said

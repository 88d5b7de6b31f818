"""``gemini-batch validate``, as a shell runs it."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.cli.main import main

if TYPE_CHECKING:
    from google.cloud import storage

CORPUS = Path(__file__).parents[1] / "requests" / "checking" / "corpus"
GOOD = CORPUS / "good" / "plain.jsonl"
BAD = CORPUS / "bad" / "empty-object__google_search.jsonl"


def test_a_good_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(GOOD)]) == 0
    out, err = capsys.readouterr()
    assert f"{GOOD}: 1 row," in out
    assert "No problems found." in out
    assert err == ""


def test_a_bad_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(BAD)]) == 1
    out = capsys.readouterr().out
    assert "The job would fail" in out
    assert "empty-object  $.request.tools[].google_search  1 ×  line 1 (key k1)" in out
    assert "Cannot store struct 'request.tools.google_search' with no fields" in out
    assert "\033" not in out


def test_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", str(BAD), "--format", "json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 1
    (finding,) = document["findings"]
    assert (finding["rule"], finding["level"], finding["count"]) == ("empty-object", "job", 1)
    assert set(finding["first"][0]) == {"line", "key", "path", "rule", "level", "message", "fix", "file"}


def test_the_rules_of_a_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = {"temperature": 1, "thinkingConfig": {"thinkingLevel": "MINIMAL"}}
    contents = [{"role": "user", "parts": [{"text": "Name a river."}]}]
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps({"key": "k1", "request": {"contents": contents, "generationConfig": config}}))
    tuned = "projects/p/locations/us-central1/endpoints/7"
    for model, code in (("", 0), ("gemini-3.5-flash", 0), (tuned, 0), ("our-own", 1)):
        assert main(["validate", str(path), "--strict", *(["--model", model] if model else [])]) == code
    capsys.readouterr()
    assert main(["validate", str(path), "--model", "publishers/google/models/gemini-3.7-flash"]) == 1
    out = capsys.readouterr().out
    assert "thinking-level  $.request.generationConfig.thinkingConfig.thinkingLevel  1 ×" in out
    assert "The model has only these thinking levels: LOW, MEDIUM, HIGH." in out
    assert "ignored-by-model  $.request.generationConfig.temperature  1 ×" in out


def test_standard_input(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(BAD.read_bytes())))
    assert main(["validate", "-"]) == 1
    assert "standard input: 1 row," in capsys.readouterr().out


def test_keys_of_another_member(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "in.jsonl"
    line = (
        '{"custom_id": "req-%d", "request": {"contents": [{"role": "user", "parts": [{"text": "one"}]}]}}\n'
    )
    file.write_text(line % 1 + line % 2)
    assert main(["validate", str(file)]) == 0
    assert 'key_field="custom_id"' in "".join(capsys.readouterr().out.split("\n"))
    assert main(["validate", str(file), "--key-field", "custom_id", "--strict"]) == 0
    file.write_text(line % 1 + line % 1)
    assert main(["validate", str(file), "--key-field", "custom_id"]) == 1
    assert "duplicate-key  $.custom_id  1 ×  line 2 (key req-1)" in capsys.readouterr().out
    for wrong in ("", "a b", "request"):
        assert main(["validate", str(file), "--key-field", wrong]) == 2
        assert "--key-field" in capsys.readouterr().err


def test_advice_counts_when_strict() -> None:
    no_key = str(CORPUS / "good" / "no_key.jsonl")
    assert main(["validate", no_key]) == 0
    assert main(["validate", no_key, "--strict"]) == 1


def test_a_repair_writes_a_copy_and_says_what_it_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["validate", str(BAD), "--repair", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "Repaired" in printed
    assert "empty-google-search  $.request.tools[].google_search  1 ×  line 1 (key k1)" in printed
    assert main(["validate", str(out)]) == 0
    assert json.loads(out.read_bytes())["request"]["tools"] == [{"google_search": {"exclude_domains": []}}]
    assert [path.name for path in tmp_path.iterdir()] == ["out.jsonl"]


def test_a_repair_that_cannot_mend_all_says_what_is_left(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "in.jsonl"
    bad.write_bytes(BAD.read_bytes() + (CORPUS / "bad" / "empty-object__url_context.jsonl").read_bytes())
    arguments = ["validate", str(bad), "--repair", str(tmp_path / "out.jsonl"), "--format", "json"]
    assert main(arguments) == 1
    document = json.loads(capsys.readouterr().out)
    assert [group["rule"] for group in document["repairs"]] == ["empty-google-search"]
    assert [group["path"] for group in document["findings"] if group["level"] == "job"] == [
        "$.request.tools[].url_context"
    ]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["no-such-file"], "validate: no-such-file: No such file"),
        (["bq://p.d.t"], "validate: bq://p.d.t: this command reads JSONL only"),
        ([str(CORPUS)], "Is a directory"),
        ([str(BAD), "--repair", str(BAD)], "give the path of another file"),
        ([str(BAD), "--repair", "gs://bucket/out"], "give the path of another file"),
        ([str(BAD), "--repair", "no-such-folder/out"], "No such file"),
    ],
)
def test_wrong_usage(arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = BAD.read_bytes()
    assert main(["validate", *arguments]) == 2
    out, err = capsys.readouterr()
    assert complaint in err
    assert out == ""
    assert BAD.read_bytes() == before


@pytest.mark.parametrize("arguments", [[], [str(GOOD), "--format", "xml"], [str(GOOD), "--repairs", "x"]])
def test_wrong_arguments(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["validate", *arguments])
    assert ended.value.code == 2
    assert "usage: gemini-batch" in capsys.readouterr().err


def test_objects_in_storage(
    storage_client: storage.Client, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    # One has no newline at its end.
    for name, content in (("a/1.jsonl", GOOD.read_bytes().strip()), ("a/2.jsonl", BAD.read_bytes())):
        storage_client.bucket(bucket).blob(name).upload_from_string(content)
    assert main(["validate", f"gs://{bucket}/a/1.jsonl"]) == 0
    assert main(["validate", f"gs://{bucket}/a/*.jsonl", "--format", "json"]) == 1
    out = capsys.readouterr().out
    document = json.loads(out[out.index("\n{") :])
    assert document["rows"] == 2
    found = {group["rule"]: group["first"][0] for group in document["findings"]}
    assert found["empty-object"]["file"] == f"gs://{bucket}/a/2.jsonl"
    assert found["empty-object"]["line"] == 1


def test_objects_that_are_not_there(
    storage_client: storage.Client, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    storage_client.bucket(bucket).blob("a/old/3.jsonl").upload_from_filename(str(GOOD))
    assert main(["validate", f"gs://{bucket}/a/*.jsonl"]) == 2
    assert f"1 object: gs://{bucket}/a/old/3.jsonl" in capsys.readouterr().err
    assert main(["validate", f"gs://{bucket}/none-*.jsonl"]) == 2
    assert f"validate: gs://{bucket}/none-*.jsonl: there is no such object" in capsys.readouterr().err
    assert main(["validate", f"gs://no-{bucket}/a.jsonl"]) == 2
    assert "there is no such bucket" in capsys.readouterr().err


def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Run the command with a terminal for its output."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "airflow_gemini_batch.cli", "validate", *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 65536)
            except OSError:
                break
            if not piece:
                break
            written += piece
    os.close(ours)
    return process.returncode, written.decode()


def test_colours_on_a_terminal_and_a_bar_for_a_large_file(tmp_path: Path) -> None:
    large = tmp_path / "large.jsonl"
    text = "A river. " * 400
    with large.open("w") as file:
        for n in range(5000):
            contents = [{"role": "user", "parts": [{"text": text}]}]
            file.write(json.dumps({"key": f"k{n}", "request": {"contents": contents}}) + "\n")
    code, written = on_a_terminal(str(large))
    assert code == 0
    assert "lines, " in written
    assert "%" in written
    code, written = on_a_terminal(str(BAD))
    assert code == 1
    assert "\033[1;31mempty-object\033[0m" in written
    assert "%" not in written


def test_a_misspelled_model_is_no_success(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"key": "a", "request": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}}\n')
    arguments = ["validate", str(path), "--model", "gemini-3.5-falsh"]
    assert main(arguments) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "No problems found in the rows." in out
    assert "gemini-3.5-falsh is not in the list of models" in out
    assert "Did you mean gemini-3.5-flash?" in out
    assert main([*arguments, "--strict"]) == 1

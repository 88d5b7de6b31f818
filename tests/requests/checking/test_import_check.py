"""What a check reports, and how much memory it takes."""

from __future__ import annotations

import json
import tracemalloc
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.emulator.protocol.errors import JobFailedError
from airflow_gemini_batch.emulator.running import importer as emulator_importer
from airflow_gemini_batch.emulator.running import storage as emulator_storage
from airflow_gemini_batch.emulator.running.importer import check_import
from airflow_gemini_batch.requests.checking import import_check, inferred_columns, parsed_line
from airflow_gemini_batch.requests.checking.findings import FindingGroup, Findings, Level, Place, Report, Rule
from airflow_gemini_batch.requests.checking.import_check import Check, Limits, check
from airflow_gemini_batch.requests.checking.key_uniqueness import KeyTable
from airflow_gemini_batch.requests.key_field import KeyField
from airflow_gemini_batch.service import MAX_ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator


def row(number: int = 1, **fields: Any) -> dict[str, Any]:
    contents = [{"role": "user", "parts": [{"text": f"Name river {number}."}]}]
    return {"key": f"k{number}", "request": {"contents": contents, **fields}}


def line(number: int = 1, **fields: Any) -> bytes:
    return json.dumps(row(number, **fields)).encode() + b"\n"


def only(report: Report) -> FindingGroup:
    (group,) = report.groups
    return group


def test_a_finding_has_place_message_and_fix() -> None:
    lines = [line(n) for n in range(1, 9)]
    lines += [
        line(n, tools=[{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}]) for n in (9, 10)
    ]
    group = only(check(lines))
    assert (group.rule, group.level, group.count) == ("empty-object", Level.JOB, 2)
    assert group.path == "$.request.tools[].googleSearch"
    assert [(f.line, f.key, f.path) for f in group.first] == [
        (9, "k9", "$.request.tools[1].googleSearch"),
        (10, "k10", "$.request.tools[1].googleSearch"),
    ]
    assert group.message == "Cannot store struct 'request.tools.googleSearch' with no fields"
    assert "--repair" in group.fix


def test_the_lines_that_differ_from_most_are_named() -> None:
    lines = [line(n, generationConfig={"stopSequences": ["."]}) for n in range(100)]
    lines[41] = line(41, generationConfig={"stopSequences": "."})
    group = only(check(lines))
    assert (group.rule, group.count, group.first[0].line) == ("not-always-array", 1, 42)
    assert "lines with an array: 99, without: 1, such as line 1." in group.fix


def test_the_first_lines_are_kept_and_all_are_counted() -> None:
    group = only(check(line(n, topic="x") for n in range(1000)))
    assert group.count == 1000
    assert [finding.line for finding in group.first] == [1, 2, 3, 4, 5]


def test_lines_that_cannot_be_parsed_are_counted() -> None:
    report = check([b"{\n", line(), b"\n", b"[]\n", line(2)])
    assert report.rows == 4
    assert [(g.rule, g.first[0].line) for g in report.groups] == [("not-json", 1), ("not-an-object", 4)]


def test_the_second_of_two_keys_is_reported_with_the_first() -> None:
    group = only(check([line(1), b"\n", line(2), line(1)]))
    assert (group.rule, group.first[0].line, group.first[0].key) == ("duplicate-key", 4, "k1")
    assert "Line 1 has the same key" in group.fix


def test_a_label_is_a_key() -> None:
    lines = [line(1, labels={"gemini_batch_key": "k2"}), line(2)]
    assert check(lines).groups == ()
    lines = [json.dumps({"request": row(1, labels={"gemini_batch_key": "k2"})["request"]}).encode(), line(2)]
    assert only(check(lines)).rule == "duplicate-key"


def keyed(*keys: Any, name: str = "custom_id") -> list[bytes]:
    contents = [{"role": "user", "parts": [{"text": "Name a river."}]}]
    return [json.dumps({name: key, "request": {"contents": contents}}).encode() for key in keys]


def test_keys_of_another_member() -> None:
    field = KeyField.parse("custom_id")
    assert check(keyed("a", "b"), key_field=field).groups == ()
    group = only(check(keyed("a", "b", "a"), key_field=field))
    assert (group.rule, group.path, group.first[0].key) == ("duplicate-key", "$.custom_id", "a")
    group = only(check(keyed("a", "007"), key_field=field))
    assert (group.rule, group.path) == ("number-like-key", "$.custom_id")
    labels = [json.dumps(row(n, labels={"mine": f"m{n % 2}"})).encode() for n in range(3)]
    group = only(check(labels, key_field=KeyField.parse("labels.mine")))
    assert (group.rule, group.path) == ("duplicate-key", "$.request.labels.mine")


def test_rows_without_a_key_say_which_member_may_be_it() -> None:
    group = only(check(keyed(*range(300))))
    assert (group.rule, group.level, group.count) == ("no-key", Level.ADVICE, 300)
    assert [finding.line for finding in group.first] == [1, 2, 3, 4, 5]
    assert 'set `key_field="custom_id"`' in group.fix
    assert "--key-field custom_id" in group.fix
    for lines in (keyed("a", "b") + keyed("c", name="other"), keyed("x", "x"), [*keyed("a"), line()]):
        group = only(check(lines))
        assert group.rule == "no-key"
        assert "key_field" not in group.fix


def test_several_files_are_one_job() -> None:
    checker = Check()
    for name in ("gs://b/1.jsonl", "gs://b/2.jsonl"):
        checker.start_file(name)
        checker.add_all([line(1), line(2, topic="x") if name.endswith("2.jsonl") else line(3)])
    report = checker.report()
    assert [(g.rule, g.first[0].file, g.first[0].line) for g in report.groups] == [
        ("unknown-field", "gs://b/2.jsonl", 2),
        ("duplicate-key", "gs://b/2.jsonl", 1),
    ]
    assert "A line of an earlier file has the same key" in report.groups[1].fix


class TestLimits:
    def test_rows_that_are_too_many_and_too_few(self) -> None:
        lines = [line(n) for n in range(4)]
        assert MAX_ROWS == emulator_importer.MAX_ROWS == 200_000
        assert check(lines, limits=Limits(rows=4)).groups == ()
        assert only(check(lines, limits=Limits(rows=3))).rule == "too-many-rows"
        with pytest.raises(JobFailedError, match="The input has 4 rows; a job takes 3"):
            check_import(lines, max_rows=3)

    def test_bytes(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert emulator_storage.MAX_FILE_BYTES == import_check.MAX_BYTES
        size = len(line())
        assert check([line()], limits=Limits(size=size)).groups == ()
        group = only(check([line()], limits=Limits(size=size - 1)))
        assert group.rule == "too-large"
        monkeypatch.setattr(emulator_storage, "MAX_FILE_BYTES", size - 1)
        emulator_storage.check_size(size - 1)
        with pytest.raises(JobFailedError) as error:
            emulator_storage.check_size(size)
        assert group.message in error.value.message

    def test_bytes_are_those_of_one_file(self) -> None:
        checker = Check(Limits(size=len(line()) + 1))
        for name in ("a", "b"):
            checker.start_file(name)
            checker.add(line(ord(name) % 10))
        assert checker.report().groups == ()


@pytest.mark.parametrize("depth", [16, 500, 1500, 100_000])
def test_any_depth_can_be_checked(depth: int) -> None:
    content = b'{"key": "k", "request": ' + b'{"a": ' * depth + b"1" + b"}" * (depth + 1)
    assert "too-deep" in [group.rule for group in check([content]).groups]
    with pytest.raises(JobFailedError, match="nested too deeply, at least 16"):
        check_import([content])


def test_deeply_nested_arrays_can_be_checked() -> None:
    content = b'{"key": "k", "request": {"a": ' + b"[" * 5000 + b"]" * 5000 + b"}}"
    assert check([content]).job_fails


def different_lines(count: int) -> Iterator[bytes]:
    """Yield lines of five shapes, each with its own text and key."""
    for n in range(count):
        yield line(n, generationConfig={"seed": n % 5 + 1, "maxOutputTokens": 100 + n % 5})


def peak(count: int) -> int:
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    check(different_lines(count))
    return tracemalloc.get_traced_memory()[1] - before


def test_memory_does_not_grow_with_the_lines() -> None:
    check(different_lines(10))
    tracemalloc.start()
    try:
        few, many = peak(500), peak(6_000)
    finally:
        tracemalloc.stop()
    assert many - few < 100_000, (few, many)


def test_memory_is_bounded_when_no_two_lines_are_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each line has a field that no other line has, such as a map that is written as an object."""
    monkeypatch.setattr(inferred_columns, "MAX_PATHS", 600)
    monkeypatch.setattr(import_check, "_REMEMBERED_SHAPES", 64)
    checker = Check()
    for n in range(1_000):
        checker.add(line(n, topic={f"t{n}": n}))
    report = checker.report()
    assert len(checker._path_kinds._paths) <= 600
    assert len(checker._shapes) == 0
    assert len(report.groups) <= Findings.KEPT_GROUPS
    assert "too-many-paths" in [group.rule for group in report.of_level(Level.ADVICE)]


def test_values_that_a_rule_looks_at_make_few_shapes() -> None:
    checker = Check(model="gemini-3.7-flash")
    uris = ("gs://b/{}.png", "https://youtu.be/{}", "https://example.com/{}.png")
    for n in range(300):
        file = {"fileUri": uris[n % 3].format(n), "mimeType": "image/png"}
        name = f"f{n}" if n % 2 else f"f {n}"
        limit = 65_530 + n % 20
        checker.add(
            line(
                n,
                contents=[{"role": "user", "parts": [{"fileData": file}]}],
                tools=[{"functionDeclarations": [{"name": name, "description": "d"}]}],
                generationConfig={"maxOutputTokens": limit},
            )
        )
    assert len(checker._shapes) == 2 * 2 * 2
    report = checker.report()
    counts = {group.rule: group.count for group in report.of_level(Level.ROW)}
    above = sum(n % 20 > 6 for n in range(300))
    assert counts == {"file-uri": 100, "function-name": 150, "max-output-tokens": above}
    failing = sum(n % 3 == 2 or n % 2 == 0 or n % 20 > 6 for n in range(300))
    assert report.failing_rows == failing


def test_findings_beyond_the_limit_are_counted() -> None:
    findings = Findings()
    for n in range(Findings.KEPT_GROUPS + 7):
        findings.add(Rule("r", Level.ROW, "Mend it."), f"$.a{n}", "wrong", [Place(1)])
    report = findings.report(1, 1)
    assert (len(report.groups), report.unlisted) == (Findings.KEPT_GROUPS, 7)


def test_both_json_parsers_give_the_same_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(line: bytes) -> None:
        raise ValueError

    lines = [line(1), b'{"a": NaN}', b"\xff", b'{"request": 1}', line(2, topic=1)]
    fast = check(lines)
    monkeypatch.setattr(parsed_line, "_decode_fast", refuse)
    assert check(lines) == fast


def test_advice_is_a_failure_only_with_strict() -> None:
    report = check([json.dumps({"request": row()["request"]}).encode()])
    assert only(report).rule == "no-key"
    assert report.is_fine()
    assert not report.is_fine(strict=True)
    assert not check([line(1), line(1)]).is_fine()


def test_the_output_of_an_earlier_job_is_input() -> None:
    """The fields that the service added are not checked, although they would fail the import."""

    def written(number: int, **added: Any) -> bytes:
        return json.dumps({**row(number), **added}).encode()

    time = "2026-11-01T00:00:00.000+00:00"
    lines = [
        written(1, status="", response={}, processed_time=time),
        written(2, status="", response=[[{"$defs": 1}]]),
        written(3, status="Bad Request: {}", processed_time=time),
    ]
    found = only(check(lines))
    assert (found.rule, found.count, check(lines).is_fine()) == ("earlier-output", 3, True)
    # A field of the user that has one of these names is checked.
    assert check([written(1, status="new")]).groups == ()
    assert only(check([written(1, response={})])).rule == "empty-object"


class TestKeyTable:
    def test_it_finds_the_line_of_every_key(self) -> None:
        table = KeyTable(1000)
        assert [table.add(f"k{n}", n + 1) for n in range(1000)] == [0] * 1000
        assert [table.add(f"k{n}", 9999) for n in range(1000)] == list(range(1, 1001))

    def test_it_grows_once_it_is_full(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("airflow_gemini_batch.requests.checking.key_uniqueness._KEYS_A_PASS", 4)
        table = KeyTable(1000)
        assert [table.add(f"k{n}", n + 1) for n in range(1000)] == [0] * 1000
        assert [table.add(f"k{n}", 9999) for n in range(1000)] == list(range(1, 1001))

    def test_full_it_takes_no_more_and_still_finds(self) -> None:
        table = KeyTable(3)
        for n in range(100):
            assert table.add(f"k{n}", n + 1) == 0
        assert [table.add(f"k{n}", 0) for n in range(3)] == [1, 2, 3]
        assert table.add("k50", 1) == 0

"""Keys in other members, in columns and in labels; rows without any."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.exceptions import KeylessRowsError
from airflow_gemini_batch.requests.key_field import KeyField
from airflow_gemini_batch.requests.keys import KEY_LABEL
from airflow_gemini_batch.results.landing import WriteMode
from tests.results.lines import answered, as_json, asked, failed, request, response
from tests.variants import variant

if TYPE_CHECKING:
    from tests.results.conftest import Lander


def texts(lander: Lander) -> dict[Any, Any]:
    return {key: row["text"] for key, row in lander.rows().items()}


def line(text: str, name: str, key: Any) -> dict[str, Any]:
    """A row with its key in a place."""
    field = KeyField.parse(name)
    if field.is_label:
        return {"request": request(text, labels={field.names[-1]: key})}
    return field.line(key, request(text))


def put(lander: Lander, name: str, keys: list[Any], *, output: bool = True) -> None:
    """Store rows and their answers, the last row first."""
    rows = [line(f"q{n}", name, key) for n, key in enumerate(keys)]
    lander.put_input(*map(json.dumps, rows))
    answers = [{**json.loads(answered(None, f"a{n}")), **row} for n, row in enumerate(rows)]
    lander.put_output(*map(json.dumps, reversed(answers)) if output else ())


@pytest.mark.parametrize("is_known", [True, False], ids=["input known", "input gone"])
@pytest.mark.parametrize(
    "name", ["custom_id", "id", "metadata.request_id", "a-b.Ünï.c", "labels.litellm_custom_id"]
)
def test_keys_of_any_place(lander: Lander, name: str, is_known: bool) -> None:
    put(lander, name, ["req-1", "req-2"])
    job = lander.job() if is_known else lander.job(input_uris=())
    manifest = lander.land(job=job, key_field=name)
    assert texts(lander) == {"req-1": "a0", "req-2": "a1"}
    assert manifest.joined_by["key"] == manifest.rows == 2


def test_numbers_and_booleans_are_read_as_text_and_other_values_are_no_keys(lander: Lander) -> None:
    put(lander, "custom_id", [17, 2.5, True, "17", None, {"a": 1}, ["x"]])
    manifest = lander.land(key_field="custom_id")
    rows = lander.query(f"SELECT key, text FROM {lander.destination.quoted}")
    found = {row["text"]: row["key"] for row in rows}
    assert {text: found.pop(text) for text in ("a0", "a1", "a2", "a3")} == {
        "a0": "17", "a1": "2.5", "a2": "true", "a3": "17",
    }  # fmt: skip
    assert len({*found.values()}) == 3
    assert all(len(key) == 64 for key in found.values())
    assert (manifest.joined_by["key"], manifest.joined_by["request"]) == (4, 3)


def test_the_error_table_has_the_same_keys(lander: Lander) -> None:
    rows = [line(f"q{n}", "custom_id", f"req-{n}") for n in range(3)]
    lander.put_input(*map(json.dumps, rows))
    torn = '{"custom_id": "req-2", "request": {"contents'
    lander.put_output(failed(None, 429, "RESOURCE_EXHAUSTED", custom_id="req-0", request=request("q0")), torn)
    lander.land(key_field="custom_id")
    assert lander.statuses() == {"req-0": "failed", "req-1": "missing", "req-2": "malformed"}
    assert set(lander.errors()) == {"req-0", "req-1", "req-2"}
    assert as_json(lander.errors()["req-2"]["request"]) == request("q2")


def test_an_output_without_the_member_is_joined_by_our_label_then_by_the_request(lander: Lander) -> None:
    labels = {"labels": {KEY_LABEL: "one"}}
    lander.put_input(
        json.dumps({"custom_id": "one", "request": request("q", **labels)}),
        json.dumps({"custom_id": "two", "request": request("other")}),
    )
    lander.put_output(
        answered(None, "second", text="other"), answered(None, "first", request=request("q", **labels))
    )
    manifest = lander.land(key_field="custom_id")
    assert texts(lander) == {"one": "first", "two": "second"}
    assert (manifest.joined_by["label"], manifest.joined_by["request"]) == (1, 1)


@pytest.mark.parametrize("name", ["Custom_ID", "meta.id", "labels.id"])
def test_the_column_of_a_table(lander: Lander, name: str) -> None:
    columns = {"custom_id": "STRING", "meta": "JSON", "request": "JSON"}
    given = [
        {"custom_id": key, "meta": {"id": key}, "request": request(key, labels={"id": key})}
        for key in ("a", "b")
    ]
    source = lander.put_table("input", columns, given)
    output = [{**row, "response": response(row["custom_id"].upper()), "status": ""} for row in given]
    place = lander.put_table("output", {**columns, "response": "JSON", "status": "STRING"}, output)
    manifest = lander.land(job=lander.job(input_uris=(source,), output_location=place), key_field=name)
    assert texts(lander) == {"a": "A", "b": "B"}
    assert manifest.joined_by["key"] == 2


def test_equal_requests_with_other_keys_need_no_label(lander: Lander) -> None:
    """If the service returns no keys, each gets one of the answers, which are interchangeable."""
    lander.put_input(asked("a", "same"), asked("b", "same"), asked("c", "other"))
    lander.put_output(
        answered(None, "1", text="same"), answered(None, "2", text="same"), answered(None, "3", text="other")
    )
    manifest = lander.land(write_mode=WriteMode.MERGE)
    found = texts(lander)
    assert found.pop("c") == "3"
    assert (set(found), set(found.values())) == ({"a", "b"}, {"1", "2"})
    assert manifest.joined_by["request"] == 3
    assert manifest.duplicates == 0


class TestMerging:
    """A merge keeps one row per key, and rows without a key have the digest of their request."""

    @pytest.mark.parametrize("is_known", [variant(True, name="input known"), False], ids=[None, "input gone"])
    def test_it_never_drops_one_of_two_equal_requests(self, lander: Lander, is_known: bool) -> None:
        before = replace(lander, job_id="before")
        before.put_input(asked("a"))
        before.put_output(answered("a"))
        before.land(write_mode=WriteMode.MERGE)
        lander.put_input(asked(None, "same"), asked(None, "same"), asked(None, "other"))
        lander.put_output(
            answered(None, "1", text="same"), answered(None, "2", text="same"), answered(None, text="other")
        )
        job = lander.job() if is_known else lander.job(input_uris=())
        for _ in range(2):
            with pytest.raises(KeylessRowsError) as error:
                lander.land(write_mode=WriteMode.MERGE, job=job)
            assert error.value.rows == 2
            assert str(error.value).startswith("2 rows have no key, and each has the same request as another")
            assert 'write_mode="append"' in str(error.value)
            assert "key_field" in str(error.value)
            assert lander.statuses() == {"a": "succeeded"}
            assert lander.errors() == {}
        assert not [name for name in lander.tables() if "staging" in name]
        manifest = lander.land(job=job)
        rows = lander.query(f"SELECT text FROM {lander.destination.quoted}")
        assert sorted(row["text"] for row in rows) == ["1", "2", "hello", "hello"]
        assert manifest.rows == 3

    def test_it_takes_keys_of_another_member(self, lander: Lander) -> None:
        rows = [{"custom_id": key, "request": request("same")} for key in "ab"]
        lander.put_input(*map(json.dumps, rows))
        lander.put_output(*(answered(None, row["custom_id"], text="same", **row) for row in rows))
        with pytest.raises(KeylessRowsError):
            lander.land(write_mode=WriteMode.MERGE)
        lander.land(write_mode=WriteMode.MERGE, key_field="custom_id")
        assert texts(lander) == {"a": "a", "b": "b"}

    def test_different_requests_need_no_key_and_the_same_ones_of_another_job_replace_them(
        self, lander: Lander
    ) -> None:
        for job_id in ("one", "two"):
            job = replace(lander, job_id=job_id)
            job.put_input(asked(None, "x"), asked(None, "y"))
            later = {"processed_time": f"2026-11-0{len(job_id)}T0{len(lander.tables())}:00:00+00:00"}
            job.put_output(*(answered(None, f"{job_id} {text}", text=text, **later) for text in "xy"))
            job.land(write_mode=WriteMode.MERGE)
        assert sorted(texts(lander).values()) == ["two x", "two y"]


class TestAdvice:
    """When no row has a key, the log says which parameter to set."""

    @pytest.mark.parametrize(
        ("name", "is_known"),
        [
            ("custom_id", False),
            ("labels.litellm_custom_id", True),
            variant("custom_id", True),
            variant("labels.litellm_custom_id", False),
            variant("metadata.request_id", True),
            variant("metadata.request_id", False),
        ],
    )
    def test_it_names_the_member_that_all_lines_have(
        self, lander: Lander, caplog: pytest.LogCaptureFixture, name: str, is_known: bool
    ) -> None:
        put(lander, name, ["req-1", "req-2"])
        job = lander.job() if is_known else lander.job(input_uris=())
        lander.land(job=job)
        (message,) = [each for each in caplog.messages if "key_field" in each]
        assert f'key_field="{name}"' in message
        assert "q0" not in message
        assert "req-1" not in message
        caplog.clear()
        lander.land(job=job, key_field=name)
        assert set(texts(lander)) == {"req-1", "req-2"}
        assert not [each for each in caplog.messages if "key_field" in each]

    def test_it_names_the_column(self, lander: Lander, caplog: pytest.LogCaptureFixture) -> None:
        columns = {"topic": "STRING", "ticket_id": "INTEGER", "request": "JSON"}
        source = lander.put_table("input", columns, [{"topic": "x", "ticket_id": 1, "request": request()}])
        lander.put_output(answered())
        lander.land(job=lander.job(input_uris=(source,)))
        assert 'column "ticket_id"' in caplog.text
        assert 'key_field="ticket_id"' in caplog.text

    def test_a_wrong_name_is_said(self, lander: Lander, caplog: pytest.LogCaptureFixture) -> None:
        put(lander, "key", ["a", "b"])
        lander.land(key_field="custom_id")
        assert 'key_field="custom_id"' in caplog.text
        assert 'key_field="key"' in caplog.text
        caplog.clear()
        lander.put_input(asked())
        lander.put_output(answered())
        lander.land(key_field="custom_id")
        assert "Correct key_field" in caplog.text

    @pytest.mark.parametrize(
        "rows",
        [
            [{"key": "a", "custom_id": "x"}, {"custom_id": "y"}],
            [{"version": 1}, {"version": 1}],
            [{"custom_id": "x"}, {}],
            [{}, {}],
        ],
        ids=["one has a key", "no identifier", "not in all lines", "nothing"],
    )
    def test_there_is_none_to_give(
        self, lander: Lander, caplog: pytest.LogCaptureFixture, rows: list[dict[str, Any]]
    ) -> None:
        lander.put_input(*(json.dumps({**row, "request": request(f"q{n}")}) for n, row in enumerate(rows)))
        answers = [{**json.loads(answered(text=f"q{n}")), **row} for n, row in enumerate(rows)]
        lander.put_output(*map(json.dumps, answers))
        lander.land()
        assert "key_field" not in caplog.text


class TestLabelOfARetry:
    """A round may add our label to a request that had none: it is the same request."""

    LABEL: dict[str, Any] = {"labels": {KEY_LABEL: "k"}}  # noqa: RUF012

    @pytest.mark.parametrize(
        ("others", "fails"),
        [({}, True), ({"team": "x"}, False), variant({}, False), variant({"team": "x"}, True)],
    )
    def test_its_row_replaces_the_failure(self, lander: Lander, fails: bool, others: dict[str, str]) -> None:
        original = {"labels": others} if others else {}
        labeled = {"labels": {**others, KEY_LABEL: "k"}}
        lander.put_input(asked("k", "one", **original), asked("k", "two", **original))
        busy = failed("k", 429, "RESOURCE_EXHAUSTED", request=request("one", **original))
        lander.put_output(busy, answered("k", request=request("two", **original)))
        lander.land()
        again = replace(lander, job_id="again")
        again.put_input(asked("k", "one", **labeled))
        echo = request("one", **labeled)
        again.put_output(
            failed("k", 429, "RESOURCE_EXHAUSTED", request=echo) if fails else answered("k", request=echo)
        )
        replaces = (str(lander.job().name),)
        landed = again.land(replaces=replaces)
        rows = lander.query(f"SELECT status, request_fingerprint FROM {lander.destination.quoted}")
        assert sorted(row["status"] for row in rows) == ["failed" if fails else "succeeded", "succeeded"]
        assert len({row["request_fingerprint"] for row in rows}) == 2
        assert len(lander.errors()) == fails
        assert again.land(replaces=replaces) == landed

    def test_failures_of_earlier_versions_are_replaced(self, lander: Lander) -> None:
        """They have the fingerprint of the request with its label."""
        lander.put_input(asked("k", "one", **self.LABEL))
        lander.put_output(failed("k", 429, "RESOURCE_EXHAUSTED", request=request("one", **self.LABEL)))
        lander.land()
        for table in (lander.destination, lander.error_table):
            lander.query(
                f"UPDATE {table.quoted} SET request_fingerprint = "
                "LEFT(TO_HEX(SHA256(TO_JSON_STRING(request))), 16) WHERE TRUE"
            )
        again = replace(lander, job_id="again")
        again.put_input(asked("k", "one", **self.LABEL))
        again.put_output(answered("k", request=request("one", **self.LABEL)))
        again.land(replaces=(str(lander.job().name),))
        assert lander.statuses() == {"k": "succeeded"}
        assert lander.errors() == {}

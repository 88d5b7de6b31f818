"""A key that stands for several requests: rows, failures and their replacements go by key and request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.gcp.sql_template import render
from airflow_gemini_batch.requests.in_bigquery.statements import Failures
from airflow_gemini_batch.results.landing import WriteMode
from tests.results.lines import answered, as_json, asked, failed

if TYPE_CHECKING:
    from tests.results.conftest import Lander


def busy(key: Any, text: str, **more: Any) -> str:
    return failed(key, 429, "RESOURCE_EXHAUSTED", text=text, **more)


def text_of(row: dict[str, Any]) -> Any:
    request = as_json(row["request"])
    return request and request["contents"][0]["parts"][0]["text"]


def rows(lander: Lander) -> list[tuple[Any, str]]:
    """Request and status of every row."""
    found = lander.query(f"SELECT request, status FROM {lander.destination.quoted}")
    return sorted((text_of(row) or "", row["status"]) for row in found)


def failures(lander: Lander) -> list[Any]:
    """Requests in the error table."""
    return sorted(text_of(row) or "" for row in lander.query(f"SELECT * FROM {lander.error_table.quoted}"))


def open_failures(lander: Lander) -> list[str]:
    """What a retry of the whole table would ask."""
    failures = Failures(lander.destination, lander.error_table)
    templates = ("failed_since", "failures")
    script = "\n".join(render(f"requests/in_bigquery/{name}", failures=failures) for name in templates)
    return sorted(text_of(row) for row in lander.query(script))


@pytest.mark.parametrize("is_known", [True, False], ids=["input known", "input gone"])
@pytest.mark.parametrize("order", [1, -1], ids=["in order", "reversed"])
def test_the_error_row_has_the_request_that_failed(lander: Lander, order: int, is_known: bool) -> None:
    texts = [f"{question} of {key}" for key in "ab" for question in ("language", "summary")]
    lander.put_input(*(asked(text[-1], text) for text in texts))
    lines = [
        busy(text[-1], text) if text.startswith("summary") else answered(text[-1], text=text)
        for text in texts
    ]
    lander.put_output(*lines[::order])
    manifest = lander.land(job=lander.job() if is_known else lander.job(input_uris=()))
    assert failures(lander) == ["summary of a", "summary of b"]
    assert manifest.rows == 4
    assert manifest.joined_by["key"] == 4
    assert manifest.duplicates == 0
    assert open_failures(lander) == failures(lander)


def test_a_repeated_line_is_a_duplicate_and_answers_no_other_request(lander: Lander) -> None:
    lander.put_input(asked("k", "one"), asked("k", "two"))
    lander.put_output(answered("k", text="two"), answered("k", text="two"))
    manifest = lander.land()
    assert rows(lander) == [("one", "missing"), ("two", "succeeded")]
    assert manifest.duplicates == 1


def test_labels_that_stand_for_several_requests(lander: Lander) -> None:
    """The output may come without keys; then the label in the request is the key."""
    label = {"labels": {"gemini_batch_key": "k"}}
    lander.put_input(asked(None, "one", **label), asked(None, "two", **label))
    lines = [answered(None, request={**as_json(asked(None, "one", **label))["request"]})]
    lines.insert(0, busy(None, "", request=as_json(asked(None, "two", **label))["request"]))
    lander.put_output(*lines)
    lander.land()
    assert failures(lander) == ["two"]


def test_a_retry_replaces_exactly_the_requests_that_it_asked(lander: Lander) -> None:
    """``refused`` has the key of ``busy`` and cannot be retried: its rows stay."""
    lander.put_input(asked("k", "refused"), asked("k", "busy"), asked("k", "good"))
    lander.put_output(
        failed("k", 400, "INVALID_ARGUMENT", text="refused"), busy("k", "busy"), answered("k", text="good")
    )
    lander.land(include_request=False)
    again = replace(lander, job_id="again")
    again.put_input(asked("k", "busy"))
    again.put_output(answered("k", text="busy"))
    names = (str(lander.job().name),)
    landed = again.land(replaces=names)
    assert rows(lander) == [("", "failed"), ("", "succeeded"), ("busy", "succeeded")]
    assert failures(lander) == ["refused"]
    assert again.land(replaces=names) == landed


def test_of_two_failures_of_a_key_only_the_one_asked_again_is_replaced(lander: Lander) -> None:
    lander.put_input(asked("k", "one"), asked("k", "two"))
    lander.put_output(busy("k", "one"), busy("k", "two"))
    lander.land()
    again = replace(lander, job_id="again")
    again.put_input(asked("k", "one"))
    again.put_output(busy("k", "one"))
    again.land(replaces=(str(lander.job().name),))
    assert rows(lander) == [("one", "failed"), ("two", "failed")]
    assert failures(lander) == ["one", "two"]
    assert open_failures(lander) == ["one", "two"]


def test_a_later_success_hides_only_its_own_request(lander: Lander) -> None:
    lander.put_input(asked("k", "one"))
    lander.put_output(busy("k", "one"))
    lander.land()
    for text, left in (("two", ["one"]), ("one", [])):
        later = replace(lander, job_id=f"later-{text}")
        later.put_input(asked("k", text))
        later.put_output(answered("k", text=text))
        later.land()
        assert open_failures(lander) == left


def test_a_merge_keeps_the_best_row_of_a_key(lander: Lander) -> None:
    lander.put_input(asked("k", "one"), asked("k", "two"))
    lander.put_output(busy("k", "one"), answered("k", text="two"))
    manifest = lander.land(write_mode=WriteMode.MERGE)
    assert rows(lander) == [("two", "succeeded")]
    assert failures(lander) == []
    assert manifest.rows == 2

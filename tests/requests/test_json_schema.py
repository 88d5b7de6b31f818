from __future__ import annotations

import pytest

from airflow_gemini_batch.requests.json_schema import BrokenReferenceError, follow, target

NUMBER = {"type": "number"}
DOCUMENT = {"$defs": {"a/b": NUMBER, "~": NUMBER}, "defs": {"c": NUMBER}, "title": "t"}


@pytest.mark.parametrize("reference", ["#/$defs/a~1b", "#/$defs/~0", "#/defs/c"])
def test_a_reference_names_a_schema_of_the_document(reference: str) -> None:
    assert target(DOCUMENT, reference) is NUMBER


def test_the_whole_document_can_be_named() -> None:
    assert target(DOCUMENT, "#") is DOCUMENT
    assert target(DOCUMENT, "#/") is DOCUMENT


@pytest.mark.parametrize("reference", ["#/$defs/d", "#/title", "#/title/x", "other.json"])
def test_a_reference_that_names_no_schema(reference: str) -> None:
    with pytest.raises(BrokenReferenceError) as caught:
        target(DOCUMENT, reference)
    assert (caught.value.reference, caught.value.is_recursive) == (reference, False)


def test_a_reference_is_followed_once() -> None:
    step = follow({"ref": "#/defs/c", "title": "x"}, DOCUMENT, ("#",))
    assert step == (NUMBER, {"title": "x"}, ("#", "#/defs/c"))
    assert follow(NUMBER, DOCUMENT) is None
    with pytest.raises(BrokenReferenceError) as caught:
        follow({"$ref": "#"}, DOCUMENT, ("#",))
    assert caught.value.is_recursive

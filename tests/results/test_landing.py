"""Landing of every kind of output that the service is known to write, on the local stack."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.batch_job import JobState
from airflow_gemini_batch.cost.prices import NegotiatedPrices
from airflow_gemini_batch.exceptions import InvalidParameterError, OutputNotFoundError, RowCountError
from airflow_gemini_batch.requests.keys import KEY_LABEL
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.row_status import RowStatus
from tests.results.lines import answered, as_json, asked, failed, request, response

if TYPE_CHECKING:
    from airflow_gemini_batch.results.summary import Manifest
    from tests.results.conftest import Lander


def counts(manifest: Manifest) -> dict[str, int]:
    return {status.value: count for status, count in manifest.counts.items() if count}


def test_a_good_row_has_every_column(lander: Lander) -> None:
    lander.put_input(asked("a"))
    lander.put_output(answered("a", '{"n": 1}'))
    manifest = lander.land()
    row = lander.rows()["a"]
    assert counts(manifest) == {"succeeded": 1}
    assert row["status"] == "succeeded"
    assert row["text"] == '{"n": 1}'
    assert as_json(row["output"]) == {"n": 1}
    assert row["finish_reason"] == "STOP"
    assert row["model_version"] == "gemini-2.5-flash"
    assert (row["prompt_tokens"], row["output_tokens"], row["total_tokens"]) == (10, 4, 14)
    assert row["cached_tokens"] is None
    assert row["embedding"] == []
    assert row["processed_at"].isoformat() == "2026-11-01T18:13:16.826000+00:00"
    assert as_json(row["request"]) == request()
    assert as_json(row["response"]) == response('{"n": 1}')
    assert row["job_name"] == str(lander.job().name)
    assert (row["dag_id"], row["task_id"], row["run_id"]) == ("dag", "land", "run-1")
    assert row["landed_at"] == manifest.landed_at
    assert lander.errors() == {}


def test_errors_store_the_request_of_the_input(lander: Lander) -> None:
    """The request in the output has extra nulls; it is stored only if the input no longer exists."""
    echo = {"contents": [{"parts": [{"fileData": None, "text": "x"}], "role": "user"}]}
    lander.put_input(asked("busy", "x"), asked("lost", "y"), asked("broken", "z"), asked("good"))
    lander.put_output(
        failed("busy", 429, "RESOURCE_EXHAUSTED", request=echo), '{"key": "broken", "req', answered("good")
    )
    lander.land()
    stored = {key: as_json(row["request"]) for key, row in lander.errors().items()}
    assert stored == {"busy": request("x"), "lost": request("y"), "broken": request("z")}
    lander.land(job=lander.job(input_uris=()))
    assert as_json(lander.errors()["busy"]["request"]) == echo


def test_every_status(lander: Lander) -> None:
    """Each input row gets exactly one status, and an error that says what went wrong."""
    keys = ["good", "error", "busy", "prompt", "safety", "cut", "unknown", "none", "gone", "torn"]
    lander.put_input(*(asked(key) for key in keys))
    lander.put_output(
        answered("good"),
        failed("error", 400, "INVALID_ARGUMENT", "Role is wrong"),
        failed("busy", 429, "RESOURCE_EXHAUSTED", "Slow down", "Too Many Requests"),
        answered("prompt", {"promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
        answered("safety", response(finish="SAFETY")),
        answered("cut", response("half of it", finish="MAX_TOKENS")),
        answered("unknown", response("x", finish="SOMETHING_NEW")),
        answered("none", {}),
        '{"key": "torn", "request": {"contents',
    )
    manifest = lander.land()
    assert counts(manifest) == {
        "succeeded": 1,
        "failed": 4,
        "blocked": 2,
        "truncated": 1,
        "malformed": 1,
        "missing": 1,
    }
    assert manifest.rows == manifest.input_rows == len(keys)
    assert set(lander.statuses()) == set(keys)
    errors = {
        key: (row["error_code"], row["error_status"], row["error_message"], row["retryable"])
        for key, row in lander.errors().items()
    }
    assert errors == {
        "error": (400, "INVALID_ARGUMENT", "Role is wrong", False),
        "busy": (429, "RESOURCE_EXHAUSTED", "Slow down", True),
        "prompt": (None, "PROHIBITED_CONTENT", "The prompt was blocked: PROHIBITED_CONTENT", False),
        "safety": (None, "SAFETY", "The response was blocked: SAFETY", False),
        "cut": (None, "MAX_TOKENS", "The response was cut off: MAX_TOKENS", False),
        "unknown": (None, "SOMETHING_NEW", "The response ended with finish reason SOMETHING_NEW", False),
        "none": (None, None, "The output row contains neither a response nor an error", False),
        "torn": (None, None, "The output line is not JSON", True),
        "gone": (None, None, "The output has no line for this request", True),
    }
    assert lander.errors()["torn"]["raw_line"] == '{"key": "torn", "request": {"contents'
    assert lander.rows()["cut"]["text"] == "half of it"
    assert as_json(lander.rows()["gone"]["request"]) == request()


def test_which_errors_are_retryable(lander: Lander) -> None:
    retryable = {
        'Internal error: {"error": {"code": 500, "status": "INTERNAL"}}': True,
        'Deadline exceeded: {"error": {"code": 504, "status": "DEADLINE_EXCEEDED"}}': True,
        '{"error": {"code": 8, "message": "exhausted"}}': True,
        'Bad Request: {"error": {"code": 404, "status": "NOT_FOUND"}}': False,
        "Resource exhausted, try again later": True,
        "Deadline expired before operation could complete.": True,
        "Something is wrong with { this": False,
    }
    lander.put_input(*(asked(f"k{n}") for n in range(len(retryable))))
    lander.put_output(*(answered(f"k{n}", {}, status=status) for n, status in enumerate(retryable)))
    assert counts(lander.land()) == {"failed": len(retryable)}
    errors = lander.errors()
    assert [errors[f"k{n}"]["retryable"] for n in range(len(retryable))] == list(retryable.values())
    assert all(row["error_message"] for row in errors.values())


def test_text_is_all_parts_except_thoughts(lander: Lander) -> None:
    lander.put_input(*(asked(key) for key in "abcd"))
    lander.put_output(
        answered("a", response({"text": "hmm", "thought": True}, "The ", "answer")),
        answered("b", response({"thoughtSignature": "c2ln"}, {"text": "yes", "thoughtSignature": "c2ln"})),
        answered("c", response({"text": "only thinking", "thought": True}, finish="MAX_TOKENS")),
        answered("d", response({"functionCall": {"name": "f", "args": {"x": 1}}})),
    )
    lander.land()
    texts = {key: row["text"] for key, row in lander.rows().items()}
    assert texts == {"a": "The answer", "b": "yes", "c": None, "d": None}


def test_unusual_characters_and_numbers_are_kept(lander: Lander) -> None:
    text = "line\u2028break \u0085 tab\\t \U0001f600 quote\\\" \u00e9 'x'"
    lander.put_input(asked("a"), asked("b"))
    lander.put_output(
        answered("a", text),
        answered("b", '{"big": 123456789012345678901234567890, "dup": 1, "dup": 2}'),
    )
    assert counts(lander.land()) == {"succeeded": 2}
    assert lander.rows()["a"]["text"] == text
    assert as_json(lander.rows()["b"]["output"])["big"] == pytest.approx(1.2345678901234568e29)


def test_lines_that_are_not_json(lander: Lander) -> None:
    """Their text is stored; their requests are found by key, by label, or by count."""
    lander.put_input(*(asked(f"k{n}") for n in range(4)))
    label = f'{{"request": {{"labels": {{"{KEY_LABEL}": "k2"}}, "contents": [{{'
    lander.put_output(answered("k0"), "not json at all", label, answered("k3"), end="")
    manifest = lander.land()
    assert counts(manifest) == {"succeeded": 2, "malformed": 2}
    assert lander.statuses() == {"k0": "succeeded", "k1": "malformed", "k2": "malformed", "k3": "succeeded"}
    assert lander.errors()["k2"]["raw_line"] == label
    assert "Its key is a guess" in lander.errors()["k1"]["error_message"]


def test_json_that_is_not_a_row(lander: Lander) -> None:
    lander.put_input(*(asked(f"k{n}") for n in range(4)))
    lander.put_output(answered("k0"), "[]", "7", '"x"')
    assert counts(lander.land()) == {"succeeded": 1, "failed": 3}


def test_duplicates_are_counted_and_the_best_one_is_kept(lander: Lander) -> None:
    lander.put_input(asked("a"), asked("b"))
    lander.put_output(
        failed("a", 500, "INTERNAL"),
        answered("a", "good"),
        failed("a", 429, "RESOURCE_EXHAUSTED"),
        answered("b", "later"),
    )
    manifest = lander.land()
    assert (counts(manifest), manifest.duplicates) == ({"succeeded": 2}, 2)
    assert lander.rows()["a"]["text"] == "good"


def test_shards_and_incremental_files_count_each_row_once(lander: Lander) -> None:
    lander.put_input(*(asked(f"k{n}") for n in range(4)))
    lander.put_output(answered("k0"), answered("k1"), name="predictions.jsonl-00000-of-00002")
    lander.put_output(answered("k2"), name="predictions.jsonl-00001-of-00002")
    lander.put_output(answered("k1"), answered("k3"), '{"torn', name="incremental_predictions.jsonl")
    lander.put_output("nothing of ours", name="_SUCCESS")
    manifest = lander.land()
    assert counts(manifest) == {"succeeded": 4}
    assert manifest.duplicates == 2  # k1 again, and a torn line when every row has its answer


def test_a_key_that_came_back_as_a_number(lander: Lander) -> None:
    lander.put_input(asked("000000"), asked("1.50"), asked("7"), asked("k"))
    lander.put_output(answered(0), answered(1.5), answered(7), answered("k"))
    manifest = lander.land()
    assert counts(manifest) == {"succeeded": 4}
    assert set(lander.rows()) == {"000000", "1.50", "7", "k"}
    assert manifest.joined_by["number"] == 3


def test_two_keys_with_the_same_number_are_matched_by_request(lander: Lander) -> None:
    lander.put_input(asked("007", "first"), asked("7", "second"))
    lander.put_output(answered(7, "2", text="second"), answered(7, "1", text="first"))
    manifest = lander.land()
    assert {key: row["text"] for key, row in lander.rows().items()} == {"007": "1", "7": "2"}
    assert manifest.joined_by["request"] == 2


def test_a_key_that_did_not_come_back(lander: Lander) -> None:
    """The label in the output's request is used, even if it differs from the key."""
    labels = {"a": "a", "Row B": "h-123"}
    lander.put_input(*(asked(key, labels={KEY_LABEL: label}) for key, label in labels.items()))
    lander.put_output(
        *(answered(None, label, request=request(labels={KEY_LABEL: label})) for label in ("h-123", "a"))
    )
    manifest = lander.land()
    assert {key: row["text"] for key, row in lander.rows().items()} == labels
    assert manifest.joined_by["label"] == 2


def test_no_keys_at_all(lander: Lander) -> None:
    """The canonical request joins, ignoring nulls and member order; equal requests are counted."""
    lander.put_input(asked(None, "x"), asked(None, "y"), asked(None, "same"), asked(None, "same"))
    echo = {"contents": [{"parts": [{"fileData": None, "text": "x"}], "role": "user"}], "labels": None}
    lander.put_output(
        answered(None, "1", request=echo),
        answered(None, "3", text="same"),
        answered(None, "2", text="y"),
        answered(None, "4", text="same"),
        answered(None, "5", text="same"),
    )
    manifest = lander.land()
    assert counts(manifest) == {"succeeded": 4}
    assert manifest.duplicates == 1
    assert manifest.joined_by["request"] == 4
    rows = lander.query(f"SELECT key, text FROM {lander.destination.quoted}")
    assert len(rows) == 4
    assert all(len(row["key"]) == 64 for row in rows)
    assert len({row["key"] for row in rows}) == 3


def test_keys_are_recovered_through_the_request(lander: Lander) -> None:
    """The input has keys; the output has neither keys nor labels."""
    lander.put_input(asked("a", "x"), asked("b", "y"), asked("c", "z"))
    lander.put_output(answered(None, "2", text="y"), answered(None, "1", text="x"))
    manifest = lander.land()
    assert counts(manifest) == {"succeeded": 2, "missing": 1}
    assert {key: row["text"] for key, row in lander.rows().items()} == {"a": "1", "b": "2", "c": None}


def test_an_unrecognizable_request_is_joined_by_count(lander: Lander) -> None:
    lander.put_input(asked(None, "x"), asked(None, "y"))
    lander.put_output(answered(None, "1", text="rewritten"))
    manifest = lander.land()
    assert counts(manifest) == {"succeeded": 1, "missing": 1}
    assert manifest.joined_by["count"] == 1


def test_a_response_without_a_request(lander: Lander) -> None:
    lander.put_input(asked("a"))
    lander.put_output(answered("a"), answered("stranger", text="Who is there?"))
    manifest = lander.land()
    with pytest.raises(RowCountError, match="has 1 row, but 2 were landed") as caught:
        manifest.check_rows()
    assert caught.value.manifest["unmatched"] == 1
    assert lander.statuses() == {"a": "succeeded", "stranger": "succeeded"}  # the good rows are safe


def test_input_that_no_longer_exists(lander: Lander) -> None:
    lander.put_output(answered("a"), answered("a"), answered("b"), answered(None, text="x"))
    manifest = lander.land()
    assert manifest.input_rows is None
    assert (counts(manifest), manifest.duplicates) == ({"succeeded": 3}, 1)


def test_no_output_lines_at_all(lander: Lander) -> None:
    """A job that was cancelled early leaves an empty file."""
    lander.put_input(asked("a"), asked("b"))
    lander.put_output()
    assert counts(lander.land(job=lander.job(state=JobState.CANCELLED))) == {"missing": 2}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output_location": None}, "does not say where its output is"),
        ({}, "left no predictions in gs://"),
        ({"state": JobState.RUNNING}, "it has not ended"),
    ],
)
def test_nothing_to_land(lander: Lander, changes: dict[str, Any], message: str) -> None:
    lander.put_input(asked("a"))
    with pytest.raises(OutputNotFoundError, match=message):
        lander.land(job=lander.job(**changes))
    assert lander.tables() == set()


def test_several_inputs_and_wildcards(lander: Lander) -> None:
    lander.put("in/a.jsonl", [asked("a")])
    lander.put("in/b.jsonl", [asked("b")])
    lander.put("in/c.txt", [asked("c")])
    lander.put("more.jsonl", [asked("d")])
    lander.put_output(answered("a"), answered("b"), answered("d"))
    place = f"gs://{lander.bucket}/{lander.job_id}"
    job = lander.job(input_uris=(f"{place}/in/*.jsonl", f"{place}/more.jsonl"))
    assert counts(lander.land(job=job)) == {"succeeded": 3}


def test_another_key_field(lander: Lander) -> None:
    line = json.loads(asked())
    lander.put_input(json.dumps({"custom_id": "a", **line}))
    lander.put_output(answered(None, custom_id="a"))
    assert lander.land(key_field="custom_id").joined_by["key"] == 1
    assert set(lander.rows()) == {"a"}


def test_a_key_field_is_a_name(lander: Lander) -> None:
    with pytest.raises(InvalidParameterError, match="key_field='a b'"):
        lander.land(key_field="a b")


def test_embeddings_succeed(lander: Lander) -> None:
    lander.put_input(asked("a"), asked("b"))
    lander.put_output(
        answered("a", {"tokenCount": "2", "embedding": {"values": [0.1, -2, 3e-7]}}),
        answered("b", {"tokenCount": "5", "embedding": {"values": [1, None]}}),
    )
    manifest = lander.land()
    assert counts(manifest) == {"succeeded": 2}
    assert manifest.tokens.prompt == 7
    rows = lander.rows()
    assert (rows["a"]["embedding"], rows["a"]["prompt_tokens"]) == ([0.1, -2.0, 3e-7], 2)
    assert rows["b"]["embedding"] == []


# The forms of a public report, and that of the older models.
EMBEDDINGS: dict[str, tuple[dict[str, Any], list[float], int | None]] = {
    "id_0": ({"tokenCount": "2", "embedding": {"values": [0.1, 0.2]}}, [0.1, 0.2], 2),
    "id_1": (
        {"embedding": {"values": [0.1, 0.2]}, "usageMetadata": {"promptTokenCount": 2}},
        [0.1, 0.2],
        2,
    ),
    "id_2": ({"embeddings": [{"values": [0.1, 0.2]}]}, [0.1, 0.2], None),
    "first": ({"embeddings": [{"values": [0.5, 1]}, {"values": [9, 9]}]}, [0.5, 1.0], None),
    "older": (
        {"embeddings": [{"values": [0.25], "statistics": {"token_count": 3, "truncated": False}}]},
        [0.25],
        3,
    ),
    "longer": ({"tokenCount": "1", "embedding": {"values": [0.125] * 3072}}, [0.125] * 3072, 1),
}


def test_every_published_form_of_an_embedding(lander: Lander) -> None:
    config = {"output_dimensionality": 768, "title": "a title", "task_type": "RETRIEVAL_DOCUMENT"}
    lines = [
        {"key": key, "request": {"content": {"parts": [{"text": key}]}, "embed_content_config": config}}
        for key in EMBEDDINGS
    ]
    lander.put_input(*map(json.dumps, lines))
    # Neither `status` nor `processed_time`, or an empty status.
    status: list[dict[str, Any]] = [{}, {"status": ""}]
    lander.put_output(
        *(
            json.dumps({**line, **status[at % 2], "response": EMBEDDINGS[line["key"]][0]})
            for at, line in enumerate(lines)
        )
    )
    prices = NegotiatedPrices.of({"input": 1_000, "output": 0})
    manifest = lander.land(prices=prices)
    assert counts(manifest) == {"succeeded": len(EMBEDDINGS)}
    assert lander.errors() == {}
    rows = lander.rows()
    for key, (_, vector, tokens) in EMBEDDINGS.items():
        assert (rows[key]["embedding"], rows[key]["prompt_tokens"]) == (vector, tokens), key
        assert rows[key]["text"] is None
        assert rows[key]["cost_usd"] == (None if tokens is None else Decimal(tokens) / 1_000), key


@pytest.mark.parametrize(
    "answer",
    [
        {"embedding": {}},
        {"embedding": {"values": []}},
        {"embeddings": []},
        {"embedding": None, "tokenCount": "2"},
    ],
    ids=json.dumps,
)
def test_an_answer_without_a_vector_failed(lander: Lander, answer: dict[str, Any]) -> None:
    lander.put_input(asked("a"))
    lander.put_output(json.dumps({"key": "a", "request": request(), "response": answer}))
    assert counts(lander.land()) == {"failed": 1}


SCHEMA = ResponseSchema.of(
    {
        "type": "object",
        "properties": {
            "label": {"type": "string", "enum": ["x", "y"]},
            "score": {"type": "number"},
            "count": {"type": "integer"},
            "sure": {"type": "boolean"},
            "day": {"type": "string", "format": "date"},
            "at": {"type": "string", "format": "date-time"},
            "tags": {"type": "array", "items": {"type": "string"}},
            "sizes": {"type": "array", "items": {"type": "integer"}},
            "detail": {"type": "object", "properties": {"a": {"type": "integer"}}},
            "maybe": {"type": ["string", "null"]},
        },
        "required": ["label", "maybe"],
    }
)


def test_typed_columns(lander: Lander) -> None:
    full = {
        "label": "x",
        "score": 0.5,
        "count": 9007199254740993,
        "sure": True,
        "day": "2026-02-28",
        "at": "2026-02-28T12:30:00Z",
        "tags": ["b", "a"],
        "sizes": [3, 1, 2],
        "detail": {"a": 1},
        "maybe": "m",
    }
    small = {"label": "y", "score": 2, "count": 3.0, "maybe": None, "tags": [], "detail": None}
    lander.put_input(asked("full"), asked("small"))
    lander.put_output(answered("full", json.dumps(full)), answered("small", json.dumps(small)))
    assert counts(lander.land(SCHEMA)) == {"succeeded": 2}
    rows = lander.rows()
    typed = {name: rows["full"][name] for name in full}
    typed |= {"day": str(typed["day"]), "at": typed["at"].strftime("%Y-%m-%dT%H:%M:%SZ")}
    assert typed == full
    assert {name: rows["small"][name] for name in full} == {
        **dict.fromkeys(full),
        "label": "y",
        "score": 2.0,
        "count": 3,
        "tags": [],
        "sizes": [],
    }


MISFITS: list[tuple[dict[str, Any], str]] = [
    ({"label": "z"}, "$.label is not one of its enum values"),
    ({"label": None}, "$.label is null"),
    ({"label": ...}, "$.label is missing"),
    ({"label": 3}, "$.label is not STRING"),
    ({"score": "1"}, "$.score is not FLOAT64"),
    ({"count": 1.5}, "$.count is not INT64"),
    ({"count": 10**20}, "$.count is not INT64"),
    ({"sure": "yes"}, "$.sure is not BOOL"),
    ({"day": "soon"}, "$.day is not DATE"),
    ({"at": 5}, "$.at is not TIMESTAMP"),
    ({"tags": "a"}, "$.tags is not an array"),
    ({"tags": ["a", 1, 2]}, "$.tags[1] is not STRING"),
    ({"sizes": [1, None]}, "$.sizes[1] is null"),
    ({"detail": []}, "$.detail is not an object"),
    ({"detail": {"a": "b"}}, "$.detail.a is not INT64"),
    ({"maybe": ...}, "$.maybe is missing"),
]


def test_responses_that_do_not_match(lander: Lander) -> None:
    texts = {}
    for number, (change, _) in enumerate(MISFITS):
        answer = {"label": "x", "maybe": "m", **change}
        texts[f"k{number}"] = json.dumps({k: v for k, v in answer.items() if v is not ...})
    texts["words"] = "Sure! {}"
    texts["list"] = "[]"
    lander.put_input(*(asked(key) for key in texts))
    lander.put_output(*(answered(key, text) for key, text in texts.items()))
    manifest = lander.land(SCHEMA)
    assert manifest.counts[RowStatus.INVALID] == len(texts)
    misfits = [row["error_message"].rpartition(": ")[2] for _, row in sorted(lander.errors().items())]
    wanted = {f"k{number}": misfit for number, (_, misfit) in enumerate(MISFITS)}
    wanted |= dict.fromkeys(("words", "list"), "$ is not a JSON object")
    assert misfits == [misfit for _, misfit in sorted(wanted.items())]
    assert {key: row["text"] for key, row in lander.rows().items()} == texts


def test_tokens_and_cost_count_what_is_charged(lander: Lander) -> None:
    usage = {"promptTokenCount": 1000, "cachedContentTokenCount": 400, "candidatesTokenCount": 50}
    usage |= {"thoughtsTokenCount": 30, "totalTokenCount": 1080}
    lander.put_input(asked("a"), asked("b"), asked("c"))
    lander.put_output(
        answered("a", response("x", usageMetadata=usage)),
        answered("b", response("y", finish="MAX_TOKENS", usageMetadata=usage)),
        failed("c", 400, "INVALID_ARGUMENT"),
    )
    result = lander.land().to_dict()
    assert result["tokens"] == {"prompt": 2000, "cached": 800, "output": 100, "thought": 60, "total": 2160}
    # 2.5 Flash: 1200 at 0.15, 800 cached at 0.03, 160 at 1.25, per million.
    assert result["cost_usd"] == pytest.approx(0.000404)
    assert len(json.dumps(result)) < 4096

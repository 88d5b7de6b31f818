"""Estimated cost of a job."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.cost.estimate import (
    check_limit,
    check_output_tokens,
    counted_scale,
    estimate,
)
from airflow_gemini_batch.cost.prices import BatchPrices
from airflow_gemini_batch.cost.ranges import Span
from airflow_gemini_batch.cost.row_tokens import RowSize, row_size
from airflow_gemini_batch.cost.sample import (
    WHOLE_BYTES,
    Sample,
    sample_objects,
    sample_table,
)
from airflow_gemini_batch.emulator.answers.prompt import prompt_tokens
from airflow_gemini_batch.exceptions import CostLimitError, InvalidParameterError
from airflow_gemini_batch.formats import dollars

if TYPE_CHECKING:
    from google.cloud import bigquery, storage

    from airflow_gemini_batch.cost.estimate import Estimate

PRICES = BatchPrices.listed("gemini-2.5-flash", "global", datetime(2026, 11, 1, tzinfo=UTC))
PRO = BatchPrices.listed("gemini-2.5-pro", "global", datetime(2026, 11, 1, tzinfo=UTC))


def request(*parts: dict[str, Any] | str, **config: Any) -> dict[str, Any]:
    ready = [{"text": part} if isinstance(part, str) else part for part in parts]
    return {"contents": [{"role": "user", "parts": ready}], "generationConfig": config}


def line(*parts: dict[str, Any] | str, **config: Any) -> bytes:
    return json.dumps({"key": "k", "request": request(*parts, **config)}).encode() + b"\n"


def of(*lines: bytes, prices: BatchPrices | None = PRICES, **more: Any) -> Estimate:
    return estimate(Sample([lines]), prices, **more)


def test_by_hand() -> None:
    """1,200 bytes are 200 to 600 tokens at 0.15; a response has up to 1,000 at 1.25."""
    found = of(*[line("x" * 1200, maxOutputTokens=1000)] * 1000)
    assert (found.rows, found.sampled_rows) == (1000, 1000)
    assert (found.input_tokens.low, found.input_tokens.high) == (200_000, 600_000)
    assert (found.output_tokens.low, found.output_tokens.high) == (0, 1_000_000)
    assert found.cost_usd
    assert found.cost_usd.low == Decimal("0.03")
    assert found.cost_usd.high == Decimal("0.09") + Decimal("1.25")
    assert str(found.cost_usd) == "$0.0300 to $1.34"


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0"),
        (0.0000042, "$0.0000042"),
        (Decimal("0.00009"), "$0.000090"),
        (Decimal("0.0001"), "$0.0001"),
        (0.0157, "$0.0157"),
        (Decimal("1234.5"), "$1,234.50"),
    ],
)
def test_small_amounts_keep_two_digits(amount: Decimal | float, text: str) -> None:
    assert dollars(amount) == text


def test_all_rows_of_an_earlier_output_are_estimated() -> None:
    """It is unknown what the service charges for rows that already have a response."""
    given = line("x" * 1200, maxOutputTokens=1000)
    written = json.dumps({**json.loads(given), "status": "", "response": {"candidates": []}}).encode() + b"\n"
    plain, found = of(given, given), of(given, written)
    assert found.cost_usd == plain.cost_usd
    assert (found.rows, found.input_tokens) == (plain.rows, plain.input_tokens)
    assert [reason for reason in found.reasons if reason not in plain.reasons] == [found.reasons[-1]]
    assert "output of an earlier job" in found.reasons[-1]
    table = estimate(Sample([[given]], is_output=True), PRICES)
    assert table.reasons[-1] == found.reasons[-1]


def test_a_long_prompt_is_priced_as_one() -> None:
    """2,400,000 bytes are 400,000 to 1,200,000 tokens: input at 1.25 and output at 7.5."""
    found = of(line("x" * 2_400_000, maxOutputTokens=1000), prices=PRO)
    assert found.cost_usd
    assert found.cost_usd.low == Decimal("0.5")
    assert found.cost_usd.high == Decimal("1.5") + Decimal("0.0075")


def test_output_without_a_limit_has_no_upper_bound() -> None:
    found = of(line("Hello"), line("Hello", maxOutputTokens=10))
    assert found.output_tokens.high is None
    assert found.cost_usd
    assert found.cost_usd.high is None
    assert "maxOutputTokens is not set in 1 of the 2 rows read" in " ".join(found.reasons)


def test_expected_output_tokens_apply_unless_a_request_has_a_lower_limit() -> None:
    found = of(line("Hello"), line("Hello", maxOutputTokens=10), output_tokens=100)
    assert found.output_tokens.high == 110


def test_every_candidate_is_billed() -> None:
    assert of(line("Hello", maxOutputTokens=10, candidateCount=3)).output_tokens.high == 30


def test_an_embedding_has_no_output_tokens() -> None:
    row = json.dumps({"request": {"content": {"parts": [{"text": "x" * 600}]}}}).encode()
    found = of(row)
    assert found.output_tokens.high == 0
    assert found.input_tokens.high == 300


def test_the_text_of_an_embedding_is_its_content_and_its_title() -> None:
    for named in ("title", "embed_content_config", "embedContentConfig"):
        title = "y" * 60
        given = title if named == "title" else {"title": title, "output_dimensionality": 768}
        row = {"request": {"content": {"parts": [{"text": "x" * 540}]}, named: given}}
        found = of(json.dumps(row).encode())
        assert (found.input_tokens.low, found.input_tokens.high, found.output_tokens.high) == (100, 300, 0)
        assert "Embeddings have no output tokens." in found.reasons
        assert not [reason for reason in found.reasons if "maxOutputTokens" in reason]
    both = of(json.dumps(row).encode() + b"\n", line("x", maxOutputTokens=7))
    assert both.output_tokens.high == 7
    assert "Output is estimated between 0 and each request's maxOutputTokens." in both.reasons


def test_a_line_without_a_request_costs_nothing() -> None:
    found = of(b"not json\n", b"[1]\n", b'{"request": 3}\n', line("x" * 600, maxOutputTokens=0))
    assert found.rows == 4
    assert found.input_tokens.low == 100


def test_lines_that_would_fail_the_job_are_counted_and_named() -> None:
    found = of(line("hello"), b'{"key": "a"}\n', b"not json\n")
    assert found.rows == 3
    assert any("not JSON: 2 of those read" in reason for reason in found.reasons)
    assert not any("not JSON" in reason for reason in of(line("hello")).reasons)


def test_audio_has_its_own_price_and_unknown_length() -> None:
    sound = {"fileData": {"mimeType": "audio/mpeg", "fileUri": "gs://b/a.mp3"}}
    row = line("Write it down", sound, maxOutputTokens=10)
    found = of(row)
    assert found.input_tokens.high is None
    assert "Rows with audio, video, documents or text files" in " ".join(found.reasons)
    scale = counted_scale([(4_000, row_size(json.loads(row)["request"]))] * 2)
    counted = of(row, scale=scale)
    assert counted.input_tokens.high == pytest.approx(4_080, abs=1)
    assert counted.cost_usd
    assert counted.cost_usd.high
    # 0.5 and not 0.15 a million.
    assert float(counted.cost_usd.high) == pytest.approx((4_080 * 0.5 + 10 * 1.25) / 1e6, rel=0.01)


EU = BatchPrices.listed("gemini-3.5-flash", "eu", datetime(2026, 11, 1, tzinfo=UTC))
SEARCH = {"googleSearch": {"excludeDomains": ["www2.example.com"]}}


def searching(*tools: dict[str, Any]) -> bytes:
    config = {"maxOutputTokens": 1000}
    given = {**request("x" * 1200, **config), "tools": tools}
    return json.dumps({"key": "k", "request": given}).encode() + b"\n"


def test_a_job_in_eu_with_searches_by_hand() -> None:
    """3.5 Flash in batch in eu: input 1.50 / 2 * 1.1 = 0.825, output 9.00 / 2 * 1.1 = 4.95 USD per million.

    1,200 bytes of text and 60 bytes of tools are 210 to 630 tokens: 0.00017325 to 0.00051975; up to 1,000
    tokens of output are 0.00495. One to five searches of 0.014 are 0.014 to 0.07. Times 1,000: 14.17325 to
    75.46975.
    """
    found = of(*[searching(SEARCH)] * 1000, prices=EU)
    assert (found.input_tokens.low, found.input_tokens.high) == (210_000, 630_000)
    assert found.search_queries
    assert (found.search_queries.low, found.search_queries.high) == (1_000, 5_000)
    assert found.cost_usd
    assert (found.cost_usd.low, found.cost_usd.high) == (Decimal("14.17325"), Decimal("75.46975"))
    reason = found.reasons[-1]
    assert (
        "1,000 of those read. Each is estimated at 1 to 5 search queries, 1,000 to 5,000 queries in all"
        in reason
    )
    assert "at $14.00 per 1,000 queries: $14.00 to $70.00 of the cost. If some are free" in reason


def test_free_searches_lower_the_estimate() -> None:
    assert EU
    lines = [searching(SEARCH)] * 1000
    plain, found = of(*lines, prices=EU), of(*lines, prices=replace(EU, free_searches=2_000))
    assert plain.cost_usd
    assert found.cost_usd
    assert plain.cost_usd.high
    assert found.cost_usd.low == plain.cost_usd.low - 14
    assert found.cost_usd.high == plain.cost_usd.high - 28
    assert "after 2,000 free ones: $0 to $42.00 of the cost." in found.reasons[-1]


@pytest.mark.parametrize(
    ("tools", "searches"),
    [
        ([{"google_search": {"timeRangeFilter": None}}], True),
        ([{"functionDeclarations": []}, {"googleSearchRetrieval": {"disableAttribution": True}}], True),
        ({"enterprise_web_search": {}}, True),
        ([{"googleSearch": None}, {"urlContext": {}}, "text"], False),
        (None, False),
    ],
)
def test_search_tools(tools: Any, searches: bool) -> None:
    assert row_size({**request("Hello"), "tools": tools}).searches is searches


def test_rows_without_a_search_tool_make_no_queries() -> None:
    found = of(searching(SEARCH), line("Hello", maxOutputTokens=1), prices=None)
    assert found.search_queries
    assert (found.search_queries.low, found.search_queries.high) == (1, 5)
    assert found.reasons[-1].endswith("1 to 5 queries in all.")
    assert of(line("Hello", maxOutputTokens=1)).search_queries is None


def test_embeddings_by_hand() -> None:
    """600 bytes are 100 to 300 tokens, with the first model at 0.12 USD per million.

    With the second, text is at 0.1 and an image is 64.5 to 2,580 tokens at 0.225: together at least 164.5
    tokens at 0.1, at most 2,880 at 0.225.
    """
    when = datetime(2026, 11, 1, tzinfo=UTC)
    text, image = {"text": "x" * 600}, {"fileData": {"mimeType": "image/png", "fileUri": "gs://b/a.png"}}

    def cost(model: str, *parts: Any) -> tuple[Decimal, Decimal | None]:
        row = json.dumps({"request": {"content": {"parts": parts}}}).encode() + b"\n"
        found = of(*[row] * 1000, prices=BatchPrices.listed(model, "us", when)).cost_usd
        assert found
        return found.low, found.high

    assert cost("gemini-embedding-001", text) == (Decimal("0.012"), Decimal("0.036"))
    assert cost("gemini-embedding-2", text) == (Decimal("0.01"), Decimal("0.03"))
    assert cost("gemini-embedding-2", text, image) == (Decimal("0.01645"), Decimal("0.648"))


def test_unknown_prices_leave_the_tokens() -> None:
    found = of(line("x" * 600, maxOutputTokens=10), prices=None)
    assert found.cost_usd is None
    assert found.input_tokens.low == 100
    assert found.to_dict()["cost_usd"] is None


def test_an_estimate_is_json_serializable() -> None:
    document = json.loads(json.dumps(of(line("x" * 600, maxOutputTokens=10)).to_dict()))
    assert document["cost_usd"] == {"low": 0.000015, "high": 0.000058}
    assert document["output_tokens"] == {"low": 0, "high": 10}


def test_camel_case_and_snake_case_give_the_same_size() -> None:
    picture = {"inline_data": {"mime_type": "image/png", "data": "AAAA"}}
    camel = {"inlineData": {"mimeType": "image/png", "data": "AAAA"}}
    snake = {
        "contents": [{"parts": [{"text": "Look"}, picture]}],
        "system_instruction": {"parts": [{"text": "Short"}]},
        "generation_config": {"max_output_tokens": "7", "response_schema": {"type": "STRING"}},
    }
    other = {
        "contents": [{"parts": [{"text": "Look"}, camel]}],
        "systemInstruction": {"parts": {"text": "Short"}},
        "generationConfig": {"maxOutputTokens": 7, "responseSchema": {"type": "STRING"}},
    }
    assert row_size(snake) == row_size(other)
    schema = len('{"type": "STRING"}')
    assert row_size(snake) == RowSize(text_bytes=9 + schema, images=1, max_output_tokens=7)


def test_the_emulators_count_is_within_the_range() -> None:
    """The emulator counts one token per four characters."""
    texts = ["Tell me about rivers. " * times for times in range(1, 60)]
    found = of(*[line(text, maxOutputTokens=1) for text in texts])
    counted = sum(sum(prompt_tokens(request(text)).values()) for text in texts)
    assert found.input_tokens.high
    assert found.input_tokens.low < counted < found.input_tokens.high


class TestLimit:
    def test_a_lower_cost_passes(self) -> None:
        of(line("x" * 600, maxOutputTokens=10)).check(Decimal("0.01"))

    @pytest.mark.parametrize(
        ("given", "more", "complaint"),
        [
            (
                {"maxOutputTokens": 1_000_000},
                {},
                r"1 request may cost \$0\.0000010 to \$1\.26, which is more",
            ),
            (
                {},
                {},
                r"1 request may cost more than max_cost_usd=0\.5: .* no upper limit\. .* set it, or ",
            ),
            (
                {"maxOutputTokens": 10},
                {"prices": None},
                r"cost of 1 request cannot be estimated, so max_cost_usd=0\.5 cannot be kept\. Set prices",
            ),
        ],
    )
    def test_a_possibly_higher_cost_is_refused(
        self, given: dict[str, Any], more: dict[str, Any], complaint: str
    ) -> None:
        found = of(line("x" * 60, **given), **more)
        with pytest.raises(CostLimitError, match=complaint) as error:
            found.check(Decimal("0.5"))
        assert "No batch job was created" in str(error.value)
        assert error.value.estimate is found
        assert error.value.limit == Decimal("0.5")

    @pytest.mark.parametrize("value", [0, -1, "much", float("nan"), float("inf"), True, None])
    def test_an_invalid_limit_is_refused(self, value: Any) -> None:
        with pytest.raises(InvalidParameterError, match=r"max_cost_usd=.*give US dollars"):
            check_limit(value)

    @pytest.mark.parametrize("value", [0, -1, 1.5, "7", True])
    def test_an_invalid_number_of_tokens_is_refused(self, value: Any) -> None:
        with pytest.raises(InvalidParameterError, match="give tokens"):
            check_output_tokens(value, "estimated_output_tokens")


class TestCounted:
    def test_equal_requests_have_a_margin_of_two_percent(self) -> None:
        scale = counted_scale([(200, RowSize(text_bytes=400))] * 10)
        assert scale
        assert (scale.low, scale.high, scale.counted) == (pytest.approx(1.96), pytest.approx(2.04), 10)

    def test_unequal_requests_have_a_larger_margin(self) -> None:
        pairs = [(100 * (1 + index % 3), RowSize(text_bytes=400)) for index in range(12)]
        scale = counted_scale(pairs)
        assert scale
        assert scale.low < 1.6
        assert scale.high > 2.4

    def test_without_counts_there_is_no_scale(self) -> None:
        assert counted_scale([]) is None


class TestObjects:
    def put(self, client: storage.Client, bucket: str, name: str, lines: list[bytes]) -> None:
        client.bucket(bucket).blob(name).upload_from_string(b"".join(lines))

    def test_small_input_is_read_completely(self, storage_client: storage.Client, bucket: str) -> None:
        self.put(storage_client, bucket, "in/1.jsonl", [line("a")] * 3)
        self.put(storage_client, bucket, "in/2.jsonl", [line("b")] * 4)
        sample = sample_objects([f"gs://{bucket}/in/*.jsonl"], storage_client)
        assert sample.whole_bytes is None
        assert estimate(sample, PRICES).rows == 7

    def test_large_input_is_sampled_and_extrapolated(
        self, storage_client: storage.Client, bucket: str
    ) -> None:
        """Rows grow from 200 bytes to 4 KB, so a sample from one place would be wrong."""
        lines = [line("x" * (200 + index % 10 * 400), maxOutputTokens=5) for index in range(4_000)]
        lines.sort(key=len)
        whole, rows = sum(map(len, lines * 4)), 4 * len(lines)
        assert whole > WHOLE_BYTES
        for number in range(4):
            self.put(storage_client, bucket, f"in/{number}.jsonl", lines)
        sample = sample_objects([f"gs://{bucket}/in/*.jsonl"], storage_client)
        read = [each for chunk in sample.chunks for each in chunk]
        assert sum(map(len, read)) < 0.5 * whole
        assert set(read) <= set(lines)
        found, exact = estimate(sample, PRICES), of(*lines * 4)
        assert found.rows == pytest.approx(rows, rel=0.1)
        assert found.input_tokens.high
        assert exact.input_tokens.high
        assert found.input_tokens.low <= exact.input_tokens.low
        assert found.input_tokens.high >= exact.input_tokens.high
        assert found.input_tokens.high < 1.5 * exact.input_tokens.high


class TestTable:
    @pytest.mark.parametrize("kind", ["STRING", "JSON"])
    @pytest.mark.parametrize("rows", [3, 2_000])
    def test_one_query(self, bigquery_client: bigquery.Client, dataset: str, kind: str, rows: int) -> None:
        text = json.dumps(request("x" * 600, maxOutputTokens=9))
        value = f"'{text}'" if kind == "STRING" else f"PARSE_JSON('{text}')"
        numbers = f"UNNEST(GENERATE_ARRAY(1, {rows}))"
        bigquery_client.query(
            f"CREATE TABLE `{dataset}.given` AS SELECT {value} AS request FROM {numbers}"
        ).result()
        found = estimate(sample_table(f"{dataset}.given", kind, None, bigquery_client), PRICES)
        assert found.rows == rows
        assert found.sampled_rows == min(rows, 640)
        assert found.input_tokens.low == pytest.approx(100 * rows, rel=0.03)
        assert found.output_tokens.high == pytest.approx(9 * rows, rel=0.03)

    def test_searches(self, bigquery_client: bigquery.Client, dataset: str) -> None:
        text = json.dumps({**request("x" * 600, maxOutputTokens=9), "tools": [SEARCH]})
        statement = f"SELECT PARSE_JSON('{text}') AS request FROM UNNEST(GENERATE_ARRAY(1, 2000))"
        bigquery_client.query(f"CREATE TABLE `{dataset}.given` AS {statement}").result()
        found = estimate(sample_table(f"{dataset}.given", "JSON", None, bigquery_client), EU)
        assert found.search_queries
        assert found.search_queries.low == pytest.approx(2_000, rel=0.03)
        assert found.search_queries.high == pytest.approx(10_000, rel=0.03)
        assert found.cost_usd
        assert found.cost_usd.low > 27

    def test_an_empty_table(self, bigquery_client: bigquery.Client, dataset: str) -> None:
        bigquery_client.query(f"CREATE TABLE `{dataset}.given` (request STRING)").result()
        found = estimate(sample_table(f"{dataset}.given", "STRING", None, bigquery_client), PRICES)
        assert found.rows == 0
        assert found.cost_usd
        assert found.cost_usd.high == 0


@pytest.mark.parametrize("nothing", [None, {}, {"fileUri": None, "mimeType": None}, ""])
@pytest.mark.parametrize("name", ["fileData", "file_data", "inlineData", "inline_data"])
def test_nulls_are_no_media(name: str, nothing: Any) -> None:
    part = {name: nothing, "text": "List objects.", "functionCall": None}
    assert row_size({"contents": [{"parts": [part]}]}) == RowSize(text_bytes=len("List objects."))
    assert row_size({"contents": [{"parts": [{"text": None, name: {"mimeType": "image/png"}}]}]}).images == 1


@pytest.mark.parametrize("limit", [-1, 0, -(2**31), "-5", 1e30, 10**30, float("inf"), True, "many"])
def test_a_limit_that_the_service_does_not_take_is_no_limit(limit: object) -> None:
    """Such a row may cost anything, if the service runs it at all; it must not lower what others cost."""
    rows = [{"contents": [], "generationConfig": {"maxOutputTokens": n}} for n in (100, limit)]
    lines = [json.dumps({"request": row}).encode() for row in rows]
    found = estimate(Sample((lines,)), PRICES)
    assert found.output_tokens.high is None
    with pytest.raises(CostLimitError):
        found.check(Decimal(1))


@pytest.mark.parametrize("count", [-3, 0, "x", 1e30])
def test_a_count_of_candidates_that_the_service_does_not_take_is_one(count: object) -> None:
    config = {"maxOutputTokens": 100, "candidateCount": count}
    line = json.dumps({"request": {"contents": [], "generationConfig": config}}).encode()
    assert estimate(Sample(((line,),)), PRICES).output_tokens.high == 100


@pytest.mark.parametrize(
    ("part", "is_known"),
    [
        ({"inlineData": {"mimeType": "text/plain", "data": "aGVsbG8gd29ybGQ="}}, True),
        ({"fileData": {"mimeType": "text/plain", "fileUri": "gs://bucket/a.txt"}}, False),
        ({"file_data": {"mime_type": "text/csv", "file_uri": "gs://bucket/a.csv"}}, False),
        (
            {"functionResponse": {"parts": [{"fileData": {"mimeType": "application/pdf", "fileUri": "x"}}]}},
            False,
        ),
        ({"text": "half of a pair: \ud800"}, True),
    ],
)
def test_files_whose_length_only_their_content_tells(part: dict[str, object], is_known: bool) -> None:
    request = {"contents": [{"parts": [part]}], "generationConfig": {"maxOutputTokens": 1}}
    found = estimate(Sample(((json.dumps({"request": request}).encode(),),)), PRICES).input_tokens
    assert (found.high is not None) is is_known
    assert found.high is None or found.high > 0


@pytest.mark.parametrize(
    ("span", "text"),
    [
        (Span(0, 1), "up to 1 token"),
        (Span(0, 2), "up to 2 tokens"),
        (Span(1, 1), "1 token"),
        (Span(0, 0), "0 tokens"),
        (Span(3, 4000), "3 to 4,000 tokens"),
        (Span(3, None), "3 or more tokens, no upper limit"),
        (Span(0, None), "no upper limit"),
    ],
)
def test_a_range_in_words(span: Span, text: str) -> None:
    assert span.of("token", "tokens") == text

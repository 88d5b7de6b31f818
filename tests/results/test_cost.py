"""The cost of a job: calculated by hand, and in the tables."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.batch_job import JobName
from airflow_gemini_batch.cost.prices import NegotiatedPrices, prices_of
from airflow_gemini_batch.jobs.identity import ESTIMATE_LABEL, RUN_LABEL
from airflow_gemini_batch.results.cost import Tokens, price_parameters
from tests.results.lines import answered, as_json, asked, failed, response

if TYPE_CHECKING:
    import pytest
    from google.cloud import bigquery

    from tests.results.conftest import Lander

PRO = "publishers/google/models/gemini-2.5-pro"


def used(key: str, prompt: int, output: int, finish: str = "STOP", **usage: Any) -> str:
    """A row and its tokens."""
    metadata = {"promptTokenCount": prompt, "candidatesTokenCount": output, **usage}
    metadata["totalTokenCount"] = prompt + output + usage.get("thoughtsTokenCount", 0)
    return answered(key, response("yes", finish=finish, usageMetadata=metadata))


def test_a_whole_job_by_hand(lander: Lander) -> None:
    """2.5 Pro, in USD per million tokens: prompts 0.625, cached 0.125, answers and thoughts 5; and 1.25, 0.25
    and 7.5 where the prompt is beyond 200,000 tokens."""
    lander.put_input(*map(asked, ("plain", "long", "edge", "cut", "refused", "lost", "garbled")))
    lander.put_output(
        used("plain", 100_000, 2_000, cachedContentTokenCount=40_000, thoughtsTokenCount=3_000),
        used("long", 300_000, 1_000, cachedContentTokenCount=100_000, thoughtsTokenCount=1_000),
        used("edge", 200_000, 10),
        used("cut", 1_000, 8_000, finish="MAX_TOKENS"),
        failed("refused", 429, "RESOURCE_EXHAUSTED"),
        '{"key": "garbled", "response": {',
    )
    labels = {"team": "search", RUN_LABEL: "0" * 24, ESTIMATE_LABEL: "1000-2000000"}
    manifest = lander.land(job=lander.job(model=PRO, labels=labels))

    by_hand = {
        "plain": Decimal("0.0375") + Decimal("0.005") + Decimal("0.025"),
        "long": Decimal("0.25") + Decimal("0.025") + Decimal("0.015"),
        "edge": Decimal("0.125") + Decimal("0.00005"),
        "cut": Decimal("0.000625") + Decimal("0.04"),
        "refused": Decimal(0),
        # Unknown.
        "lost": None,
        "garbled": None,
    }
    rows = lander.rows()
    assert {key: row["cost_usd"] for key, row in rows.items()} == by_hand
    total = Decimal("0.523175")
    assert sum(filter(None, by_hand.values())) == total
    assert manifest.cost_usd == total
    document = manifest.to_dict()
    assert document["cost_usd"] == 0.523175
    assert document["estimated_cost_usd"] == {"low": 0.001, "high": 2.0}
    assert "media" not in document["tokens"]
    assert {str(as_json(row["job_labels"])) for row in rows.values()} == {"{'team': 'search'}"}

    (usage,) = lander.query(f"SELECT * FROM `{lander.dataset}.results_usage`")
    assert usage["cost_usd"] == total
    assert (usage["dag_id"], usage["model"], usage["jobs"]) == ("dag", "gemini-2.5-flash", 1)
    assert (usage["job_rows"], usage["succeeded"], usage["thought_tokens"]) == (7, 3, 4_000)
    assert as_json(usage["labels"]) == {"team": "search"}
    assert usage["day"] == manifest.landed_at.date()


FLASH = "publishers/google/models/gemini-3.5-flash"


def searched(key: str, *queries: int, usage: dict[str, int]) -> str:
    """A row with as many candidates as numbers of search queries, and its tokens."""
    answer = response("yes", usageMetadata={**usage, "totalTokenCount": sum(usage.values())})
    candidate = answer["candidates"][0]
    answer["candidates"] = [
        {**candidate, "groundingMetadata": {"webSearchQueries": [f"river {n}" for n in range(number)]}}
        for number in queries
    ]
    return answered(key, answer)


def put_searches(lander: Lander) -> None:
    lander.put_input(*map(asked, ("a", "b", "c", "d", "e", "f")))
    lander.put_output(
        searched("e", 5, usage={"promptTokenCount": 1_000, "candidatesTokenCount": 100}),
        searched(
            "a",
            3,
            usage={
                "promptTokenCount": 10_000,
                "cachedContentTokenCount": 4_000,
                "candidatesTokenCount": 500,
                "thoughtsTokenCount": 1_500,
            },
        ),
        searched("b", 2, 1, usage={"promptTokenCount": 2_000, "candidatesTokenCount": 1_000}),
        used("c", 100_000, 10_000),
        failed("d", 429, "RESOURCE_EXHAUSTED"),
    )


def test_a_job_in_eu_with_searches_by_hand(lander: Lander) -> None:
    """3.5 Flash costs 1.50 USD per million prompt tokens, 0.15 cached and 9.00 for output and thoughts.

    In batch, in eu: prompts 1.50 / 2 * 1.1 = 0.825, output 9.00 / 2 * 1.1 = 4.95, and cached tokens, whose
    price batch does not lower, 0.15 * 1.1 = 0.165. Of 11 searches 4 are free, the others cost 0.014 each:

    a: 6,000 * 0.825 = 0.00495, 4,000 cached * 0.165 = 0.00066, 2,000 * 4.95 = 0.0099, no search:  0.01551
    b: 2,000 * 0.825 = 0.00165, 1,000 * 4.95 = 0.00495, 2 searches of 3 = 0.028:                   0.0346
    c: 100,000 * 0.825 = 0.0825, 10,000 * 4.95 = 0.0495:                                           0.132
    d: failed:                                                                                     0
    e: 1,000 * 0.825 = 0.000825, 100 * 4.95 = 0.000495, 5 searches = 0.07:                         0.07132
    together: 0.15543 for tokens and 7 * 0.014 = 0.098 for searches:                               0.25343
    """
    put_searches(lander)
    prices = NegotiatedPrices.of({"free_searches": 4})
    job = lander.job(model=FLASH, name=JobName("local-project", "eu", lander.job_id))
    manifest = lander.land(job=job, prices=prices)

    by_hand = {"a": "0.01551", "b": "0.0346", "c": "0.132", "d": "0", "e": "0.07132", "f": None}
    costs = {key: row["cost_usd"] for key, row in lander.rows().items()}
    assert costs == {key: cost and Decimal(cost) for key, cost in by_hand.items()}
    assert manifest.cost_usd == sum(filter(None, costs.values())) == Decimal("0.25343")
    queries = {key: row["search_queries"] for key, row in lander.rows().items()}
    assert queries == {"a": 3, "b": 3, "c": 0, "d": 0, "e": 5, "f": None}
    assert manifest.to_dict()["search_queries"] == 11
    assert "about $0.2534, 11 searches" in str(manifest)
    (usage,) = lander.query(f"SELECT search_queries, cost_usd FROM `{lander.dataset}.results_usage`")
    assert usage == {"search_queries": 11, "cost_usd": manifest.cost_usd}


def test_the_place_and_the_free_searches_decide_the_cost(lander: Lander) -> None:
    """In global, the tokens of the same job cost 0.15543 / 1.1 = 0.1413."""
    put_searches(lander)

    def cost(location: str, **prices: Any) -> Decimal | None:
        job = lander.job(model=FLASH, name=JobName("local-project", location, lander.job_id))
        return lander.land(job=job, prices=NegotiatedPrices.of(prices) if prices else None).cost_usd

    assert cost("global") == Decimal("0.1413") + 11 * Decimal("0.014")
    assert cost("global", free_searches=5_000) == Decimal("0.1413")
    assert cost("eu", search=35, free_searches=10) == Decimal("0.15543") + Decimal("0.035")
    # Negotiated: 113,000 prompt tokens at 1, cached ones too, and 13,100 of output at 2.
    negotiated = Decimal("0.113") + Decimal("0.0262")
    assert cost("eu", input=1, output=2, free_searches=11) == negotiated
    assert cost("eu", input=1, output=2) == negotiated + Decimal("0.154")


def test_rows_that_are_not_landed_use_no_free_searches(lander: Lander) -> None:
    """Four answers to three equal requests without keys: 6 or 13 searches are landed, of which 4 are free."""
    tokens = {"promptTokenCount": 0, "candidatesTokenCount": 0}
    line = searched("x", 2, usage=tokens).replace(', "key": "x"', "")
    lander.put_input(asked(), asked(), asked())
    lander.put_output(line, line, line, searched("x", 9, usage=tokens).replace(', "key": "x"', ""))
    manifest = lander.land(prices=NegotiatedPrices.of({"free_searches": 4}))
    costs = lander.query(f"SELECT cost_usd, search_queries FROM {lander.destination.quoted}")
    total = sum(row["search_queries"] for row in costs)
    assert manifest.search_queries == total
    assert sum(row["cost_usd"] for row in costs) == (total - 4) * Decimal("0.014") == manifest.cost_usd


def test_the_first_embedding_model_has_20_percent_off(lander: Lander) -> None:
    """0.15 * 0.8 = 0.12 USD per million tokens: 2,000,000 cost 0.24. There is no output."""
    lander.put_input(asked("a"))
    lander.put_output(answered("a", {"tokenCount": "2000000", "embedding": {"values": [0.5]}}))
    manifest = lander.land(job=lander.job(model="publishers/google/models/gemini-embedding-001"))
    assert manifest.cost_usd == Decimal("0.24")


def test_embeddings_are_priced_by_modality(lander: Lander) -> None:
    """Embedding 2 in batch, in USD per million: text 0.10, images and documents 0.225, audio 3.25, video 6.

    20,000 of text = 0.002, 258,000 of images = 0.05805, 2,000 of a document = 0.00045, 4,000 of audio = 0.013
    and 1,000 of video = 0.006.
    """
    counts = details(TEXT=20_000, IMAGE=258_000, DOCUMENT=2_000, AUDIO=4_000, VIDEO=1_000)
    usage = {"promptTokenCount": 285_000, "promptTokensDetails": counts}
    lander.put_input(asked("a"))
    lander.put_output(answered("a", {"usageMetadata": usage, "embedding": {"values": [0.5]}}))
    manifest = lander.land(job=lander.job(model="publishers/google/models/gemini-embedding-2"))
    assert manifest.cost_usd == Decimal("0.0795")
    # Negotiated: 0.00285 for 285,000 tokens at 0.01, 258,000 + 2,000 at 0.11 more, 1,000 at 0.99 more.
    prices = {"input": "0.01", "output": 0, "image": "0.12", "video": 1}
    again = lander.land(job=lander.job(), prices=NegotiatedPrices.of(prices))
    assert again.cost_usd == Decimal("0.00285") + Decimal("0.0286") + Decimal("0.00099")


def details(**counts: int) -> list[dict[str, Any]]:
    return [{"modality": name, "tokenCount": count} for name, count in counts.items()]


def test_audio_costs_more_and_modalities_are_counted(lander: Lander) -> None:
    """2.5 Flash: text 0.15, sound 0.5, cached 0.03 and 0.1, answers 1.25."""
    lander.put_input(asked("sound"), asked("text"))
    lander.put_output(
        used(
            "sound",
            10_000,
            100,
            cachedContentTokenCount=3_000,
            promptTokensDetails=details(TEXT=2_000, AUDIO=7_000, IMAGE=1_000),
            cacheTokensDetails=details(TEXT=1_000, AUDIO=2_000),
            candidatesTokensDetails=details(TEXT=100),
        ),
        used("text", 1_000, 0, promptTokensDetails=details(TEXT=1_000)),
    )
    manifest = lander.land()
    rows = lander.rows()
    # Not cached: 5,000 of sound, 2,000 of text and pictures. Cached: 2,000 of sound, 1,000 of text.
    sound = Decimal("0.0025") + Decimal("0.0003") + Decimal("0.0002") + Decimal("0.00003")
    assert rows["sound"]["cost_usd"] == sound + Decimal("0.000125")
    assert rows["text"]["cost_usd"] == Decimal("0.00015")
    assert manifest.tokens.media == {"prompt": {"AUDIO": 7_000, "IMAGE": 1_000}, "cached": {"AUDIO": 2_000}}
    assert as_json(rows["sound"]["usage_metadata"])["promptTokensDetails"] == details(
        TEXT=2_000, AUDIO=7_000, IMAGE=1_000
    )


def test_an_image_as_output_has_its_own_price(lander: Lander) -> None:
    lander.put_input(asked("a"))
    lander.put_output(used("a", 0, 1_300, candidatesTokensDetails=details(IMAGE=1_290, TEXT=10)))
    manifest = lander.land(job=lander.job(model="publishers/google/models/gemini-2.5-flash-image"))
    assert manifest.cost_usd == Decimal("0.01935") + Decimal("0.0000125")


def test_without_prices_there_are_tokens_and_no_cost(lander: Lander) -> None:
    lander.put_input(asked("a"), asked("b"))
    lander.put_output(used("a", 1_000, 10), failed("b", 400, "INVALID_ARGUMENT"))
    job = lander.job(model="projects/1/locations/us-central1/models/42")
    manifest = lander.land(job=job, usage_view=False)
    assert manifest.cost_usd is None
    assert manifest.to_dict()["cost_usd"] is None
    assert manifest.to_dict()["estimated_cost_usd"] is None
    assert manifest.tokens == Tokens(prompt=1_000, output=10, total=1_010)
    assert {row["cost_usd"] for row in lander.rows().values()} == {None}
    assert "results_usage" not in lander.tables()

    # Landing again with other prices is a new landing, and has a cost.
    prices = NegotiatedPrices.of({"input": 1, "output": 2})
    again = lander.land(job=job, prices=prices)
    assert again.cost_usd == Decimal("0.00102")
    assert lander.rows()["b"]["cost_usd"] == 0


def test_prices_are_integers_in_millionths_of_a_dollar() -> None:
    prices = {"input": "0.0375", "output": 0.15, "long": {"input": 1, "output": 2}, "free_searches": 7}
    found = prices_of("tuned", "global", datetime.now(UTC), NegotiatedPrices.of(prices))
    parameters = price_parameters(found)
    assert (parameters["price_search"], parameters["free_searches"]) == (14_000_000, 7)
    assert (parameters["price_input"], parameters["long_price_output"]) == (37_500, 2_000_000)
    assert set(price_parameters(None).values()) == {None}


def test_a_view_that_cannot_be_created_does_not_fail_the_landing(
    lander: Lander, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The emulator has no permissions."""
    from google.api_core.exceptions import Forbidden

    create = lander.bigquery.create_table

    def without_views(table: bigquery.Table, **more: Any) -> bigquery.Table:
        if table.view_query:
            raise Forbidden("bigquery.tables.create denied")
        return create(table, **more)

    monkeypatch.setattr(lander.bigquery, "create_table", without_views)
    lander.put_input(asked("a"))
    lander.put_output(used("a", 10, 10))
    assert lander.land().rows == 1
    assert "Could not create view" in caplog.text

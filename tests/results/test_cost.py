"""The cost of a job: calculated by hand, and in the tables."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

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

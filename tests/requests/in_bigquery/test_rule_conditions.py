"""The rules for single requests find the same in Python and in BigQuery."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.requests.checking.model_rules import place_rules, problems
from airflow_gemini_batch.requests.in_bigquery.preflight import statement
from airflow_gemini_batch.requests.in_bigquery.rule_conditions import RowConditions

if TYPE_CHECKING:
    from google.cloud import bigquery

CORPUS = Path(__file__).parents[1] / "checking" / "corpus"
STRICT = "gemini-3.7-flash"
ROWS = 400
SIZES = ("1K", "1k", "2K", "", None, 2, ["2K"])
SPELLINGS = {
    "generationConfig": "generation_config",
    "thinkingConfig": "thinking_config",
    "thinkingLevel": "thinking_level",
    "thinkingBudget": "thinking_budget",
    "maxOutputTokens": "max_output_tokens",
    "presencePenalty": "presence_penalty",
    "imageConfig": "image_config",
    "imageSize": "image_size",
    "responseFormat": "response_format",
    "functionDeclarations": "function_declarations",
    "vertexRagStore": "vertex_rag_store",
    "fileData": "file_data",
    "fileUri": "file_uri",
    "systemInstruction": "system_instruction",
    "cachedContent": "cached_content",
    "frequencyPenalty": "frequency_penalty",
}


def some(dice: random.Random, **members: Any) -> dict[str, Any]:
    """Return an object with some of the members, each in one of its spellings."""
    kept = {name: value for name, value in members.items() if dice.random() < 0.6}
    return {SPELLINGS.get(name, name) if dice.random() < 0.3 else name: value for name, value in kept.items()}


def few(dice: random.Random, value: Any) -> Any:
    """Return an array with the value, the value alone, or neither."""
    return dice.choice(([value], [{}, value], value, [], None, "text", [None]))


def request(dice: random.Random) -> dict[str, Any]:
    pick = dice.choice
    uris = (
        "gs://b/a.png",
        "gs://b",
        "https://youtu.be/a",
        "https://m.YouTube.com/shorts/a",
        "http://a.b/c",
        "",
    )
    file = some(dice, fileUri=pick((*uris, None, 5, "gs://b/a\n")), mimeType="image/png")
    parts = few(dice, some(dice, text="x", fileData=pick((file, file, None, "a"))))
    thinking = some(
        dice,
        thinkingLevel=pick(("LOW", "minimal", "MINIMAL", "thinking_level_unspecified", None, 1)),
        thinkingBudget=pick((0, 100, None)),
    )
    config = some(
        dice,
        presencePenalty=pick((0, 0.5, None)),
        frequencyPenalty=pick((1, None)),
        maxOutputTokens=pick((1, 65536, 65537, 65536.5, 1e9, "65537", "65536", "1e9", "", True, None, -5)),
        thinkingConfig=pick((thinking, thinking, None, "a")),
        imageConfig=some(dice, imageSize=pick(SIZES)),
        responseFormat=few(
            dice, {"image": some(dice, imageSize=pick(("IMAGE_SIZE_ONE_K", "IMAGE_SIZE_TWO_K")))}
        ),
        temperature=1,
    )
    names = ("f", "get weather!", "1st", "", "a.b:c-d", "é", "a" * 128, "a" * 129, "f\n", None, 5)
    tool = some(
        dice,
        functionDeclarations=few(dice, some(dice, name=pick(names), description="d")),
        retrieval=pick((some(dice, vertexRagStore=pick(({"a": 1}, {}, None))), None)),
    )
    role = pick(("user", "model", None))
    return some(
        dice,
        contents=pick(
            ([{"role": "user"}, {"role": role, "parts": parts}], {"role": role, "parts": parts}, "x")
        ),
        systemInstruction={"parts": parts},
        generationConfig=pick((config, config, config, None, "x")),
        tools=few(dice, tool),
        cachedContent=pick(("c", "", None)),
    )


def corpus() -> list[dict[str, Any]]:
    lines = [line for path in sorted(CORPUS.rglob("*.jsonl")) for line in path.read_bytes().split(b"\n")]
    requests = []
    for line in lines:
        try:
            requests.append(json.loads(line)["request"])
        except (ValueError, LookupError, TypeError, RecursionError):
            continue
    return [each for each in requests if isinstance(each, dict)]


def test_python_and_sql_find_the_same(bigquery_client: bigquery.Client) -> None:
    from google.cloud import bigquery

    dice = random.Random(5)
    requests = [*corpus(), *(request(dice) for _ in range(ROWS))]
    conditions = RowConditions.of(STRICT)
    texts = bigquery.ArrayQueryParameter("texts", "STRING", [json.dumps(each) for each in requests])
    # The statement of the product, row by row.
    counted = statement("rows", {"request": "STRING"}, conditions)
    _, _, source = counted.partition("FROM (")
    rows = "(SELECT request, number FROM UNNEST(@texts) AS request WITH OFFSET AS number)"
    flags = ", ".join(f"IFNULL({name}, FALSE) AS {name}" for name in conditions.columns)
    sql = f"SELECT {flags} FROM ({source.replace('`rows`', rows)} ORDER BY number"
    job = bigquery_client.query(sql, job_config=bigquery.QueryJobConfig(query_parameters=[texts]))
    found = [dict(row.items()) for row in job.result()]
    assert len(found) == len(requests)
    rules = {
        **{f"rule_{index}": (rule,) for index, rule in enumerate(conditions.rules)},
        "wrong_types": conditions.scalars,
    }
    seen = dict.fromkeys(rules, 0)
    for given, flagged in zip(requests, found, strict=True):
        expected = {name: any(problems(given, of_name)) for name, of_name in rules.items()}
        assert flagged == expected, given
        seen = {name: count + expected[name] for name, count in seen.items()}
    assert min(seen.values()) >= 2, seen


@pytest.mark.parametrize("model", [None, "gemini-99-flash", "projects/p/locations/us/endpoints/1"])
def test_of_an_unknown_model_only_the_rules_of_all_models_are_checked(model: str | None) -> None:
    names = {rule.rule.name for rule in place_rules(model)}
    assert names == {
        *("cached-content", "rag-store", "image-size", "function-name", "file-uri", "max-output-tokens")
    }
    assert {rule.rule.name for rule in place_rules(f"publishers/google/models/{STRICT}@default")} - names == {
        *("refused-by-model", "thinking-level", "level-and-budget", "ignored-by-model")
    }


def test_conditions_are_on_rows_that_fail() -> None:
    assert "ignored-by-model" not in {rule.rule.name for rule in RowConditions.of(STRICT).rules}

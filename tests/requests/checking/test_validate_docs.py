"""docs/validate.md says what the check does."""

from __future__ import annotations

import re
from pathlib import Path

from airflow_gemini_batch.models import LAST_TURN, Model, models
from airflow_gemini_batch.requests.checking import import_check, inferred_columns, model_rules, request_rules
from airflow_gemini_batch.requests.checking.findings import Rule

TEXT = (Path(__file__).parents[3] / "docs" / "validate.md").read_text(encoding="utf-8")
GOOD = Path(__file__).parent / "corpus" / "good"


def row_of(name: str, model: Model) -> str:
    """Return the row of the table of rules by model."""
    refused = ", ".join(each if each == LAST_TURN else f"`{each}`" for each in model.refuses)
    ignored = ", ".join(f"`{each}`" for each in model.ignores)
    limit = f"{model.max_output_tokens:,}" if model.max_output_tokens else ""
    return f"| `{name}` | {', '.join(model.thinking_levels)} | {refused} | {ignored} | {limit} |"


def test_the_table_of_rules_by_model_is_that_of_the_models() -> None:
    known = models()
    rows = [
        row_of(name, model)
        for name, model in sorted(known.models.items())
        if not model.is_embedding and (model.thinking_levels or model.refuses or model.max_output_tokens)
    ]
    assert "\n".join(rows) in TEXT, "\n".join(rows)
    assert f"as of {known.as_of}" in TEXT


def test_every_rule_is_described() -> None:
    modules = (import_check, inferred_columns, model_rules, request_rules)
    rules = {rule.name for module in modules for rule in vars(module).values() if isinstance(rule, Rule)}
    table = TEXT.partition("## What it checks")[2].partition("## --repair")[0]
    assert rules <= set(re.findall(r"`([a-z0-9-]+)`", table))


def test_each_published_shape_is_a_file_that_passes() -> None:
    """``test_corpus.py`` checks the files and runs them."""
    section = TEXT.partition("## Published shapes")[2].partition("\n## ")[0]
    named = re.findall(r"`(\w+\.jsonl)`", section)
    assert len(named) >= 12
    assert [name for name in named if not (GOOD / name).exists()] == []

"""The table of the page has what the package describes, in its order."""

from __future__ import annotations

import re

from airflow_gemini_batch.metrics.described import ENDED, METRICS, TOKENS
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")


def test_the_table_of_metrics() -> None:
    rows = re.findall(r"^\| `(gemini_batch\.\S+)` \| (.*) \|$", PAGE, re.M)
    assert [(name, *rest.split(" | ")) for name, rest in rows] == [
        (each.form, each.kind, each.unit, ", ".join(f"`{tag}`" for tag in each.tags), each.meaning)
        for each in METRICS
    ]


def test_the_last_parts_of_names() -> None:
    for metric in (ENDED, TOKENS):
        (sentence,) = re.findall(rf"`{metric.placeholder}` is ([^.]*)\.", PAGE)
        assert set(re.findall(r"`(\w+)`", sentence)) == set(metric.values)

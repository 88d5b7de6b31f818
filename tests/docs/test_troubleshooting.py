"""Every error that the page quotes is one that the package raises."""

from __future__ import annotations

import ast
import re
from functools import cache

from tests.docs.pages import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"


def quotes() -> list[str]:
    """The texts in the first column of the page's tables."""
    rows = re.findall(r"^\| (`.*?) \| ", PAGE.read_text(encoding="utf-8"), re.M)
    return [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]


@cache
def source_texts() -> str:
    """All texts in the package's code, without what is filled in."""
    package = ROOT / "airflow_gemini_batch"
    files = [file for file in package.rglob("*.py") if "emulator" not in file.relative_to(package).parts]
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in files]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    texts = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(texts)


def test_each_quoted_error_is_in_the_source() -> None:
    found = quotes()
    assert len(found) > 45
    pieces = [piece.strip() for quote in found for piece in quote.split("…")]
    assert [piece for piece in pieces if piece not in source_texts()] == []


def test_a_made_up_error_would_be_noticed() -> None:
    assert "The moon is too far away." not in source_texts()

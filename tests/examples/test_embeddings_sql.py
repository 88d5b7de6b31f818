"""The SQL of the example of embeddings and of its page, read by the GoogleSQL analyzer."""

from __future__ import annotations

import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.results.columns import RESULT_COLUMNS
from tests.results.test_sql import flat

if TYPE_CHECKING:
    from tests.results.google_sql import GoogleSql

ROOT = Path(__file__).parents[2]
pytestmark = [pytest.mark.analyzer, pytest.mark.xdist_group("analyzer")]


def example() -> Any:
    spec = spec_from_file_location("example", ROOT / "example_dags" / "gemini_batch_embeddings.py")
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def statements_of_page() -> list[str]:
    page = (ROOT / "docs" / "embeddings.md").read_text(encoding="utf-8")
    return re.findall(r"```sql\n(.*?)```", page, re.DOTALL)


def test_names_types_and_syntax_are_those_of_bigquery(analyzer: GoogleSql) -> None:
    from zetasql.core.exceptions import ServerError

    from tests.results.google_sql import column_types, sql_type

    module = example()
    text = sql_type("STRING")
    tables = {
        "my_dataset.article_embeddings": column_types(RESULT_COLUMNS),
        "my_dataset.article_requests": {"key": text, "request": sql_type("JSON")},
    }
    kinds = [type(each).__name__ for each in analyzer.check(readable(module.VECTORS), tables, {})]
    assert kinds == ["ResolvedCreateTableAsSelectStmt", "ResolvedQueryStmt", "ResolvedCreateIndexStmt"]
    with_vectors = {
        **tables,
        "my_dataset.article_vectors": {"key": text, "embedding": sql_type("FLOAT64", "REPEATED")},
    }
    (nearest,) = analyzer.check(readable(module.NEAREST), with_vectors, {})
    assert [each.name for each in nearest.column_definition_list] == ["key", "distance"]
    assert analyzer.check(module.TEXTS, {}, {})
    export, compare, search = map(readable, statements_of_page())
    assert analyzer.check(export, tables, {})
    assert analyzer.check(compare, with_vectors, {})
    made, searched = search.rsplit("\n\n", 1)
    assert len(analyzer.check(made, tables, {})) == 2
    # The analyzer reads it, but has no such function.
    with pytest.raises(ServerError, match="Table-valued function not found: VECTOR_SEARCH"):
        analyzer.check(searched, with_vectors, {})


def readable(script: str) -> str:
    """Write a script as the analyzer reads it: without templates and conditions, with quoted table names."""
    script = script.replace("{{ params.dataset }}", "my_dataset")
    script = flat(re.sub(r"^IF (.*) THEN$", r"IF\n\1\nTHEN", script, flags=re.MULTILINE))
    return re.sub(r"\bmy_dataset\.\w+", r"`\g<0>`", script).strip()

"""How large a statement is, and how deeply nested. BigQuery takes 1 MB of text, and publishes no depth."""

from __future__ import annotations

import itertools

MOST_BYTES = 500_000
"""Half of what BigQuery takes: no statement of ours may be larger."""

MOST_LEVELS = 60
"""How deeply parentheses may be nested: the deepest schema with columns, 15 arrays of RECORDs, takes 55."""


def depth(sql: str) -> int:
    """Return how deeply parentheses are nested."""
    return max(itertools.accumulate({"(": 1, ")": -1}.get(letter, 0) for letter in sql))


def assert_is_small(sql: str) -> None:
    """Check a statement or a script by both limits."""
    assert len(sql.encode()) < MOST_BYTES
    assert depth(sql) <= MOST_LEVELS

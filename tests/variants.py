"""Mark what `make test` leaves out and `make variants` runs: further cases of a test, and long scenarios."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from _pytest.mark import ParameterSet


def variant(*values: object, name: str | None = None) -> ParameterSet:
    """A case that takes seconds, and whose code is run by another case of the same test too."""
    return pytest.param(*values, id=name, marks=pytest.mark.variant)

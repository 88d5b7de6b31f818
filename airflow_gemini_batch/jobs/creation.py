"""The filter of a list by the creation of jobs. Imports next to nothing: it is read when a DAG is parsed."""

from __future__ import annotations

from datetime import UTC
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


def created(comparison: str, moment: datetime) -> str:
    """Return a filter for jobs by the time of their creation, in whole seconds, as a filter has them.

    :param comparison: ``>=``, ``<`` or ``<=``
    """
    return f'createTime{comparison}"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"'

"""Filters that list the jobs of an installation. They have only forms that Google documents."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from airflow_gemini_batch.jobs.creation import created
from airflow_gemini_batch.jobs.identity import INSTALLATION_LABEL, RUN_LABEL, label_value

if TYPE_CHECKING:
    from datetime import datetime


def jobs_filter(
    installation: str | None, *, since: datetime | None = None, before: datetime | None = None
) -> str:
    """Return a filter for jobs that this package created.

    :param installation: only jobs of this installation; ``None`` for those of all
    :param since: only jobs created since then
    :param before: only jobs created before then, give or take a second
    """
    label = f'labels.{INSTALLATION_LABEL}="{label_value(installation)}"' if installation else None
    terms = [label or f"labels.{RUN_LABEL}:*"]
    if since:
        terms.append(created(">=", since))
    if before:
        terms.append(created("<", before + timedelta(seconds=1)))
    return " AND ".join(terms)

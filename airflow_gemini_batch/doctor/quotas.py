"""The quotas of the project, beside what the package plans with. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow_gemini_batch.doctor import commands
from airflow_gemini_batch.doctor.facts import Problem
from airflow_gemini_batch.doctor.findings import Finding, Status
from airflow_gemini_batch.doctor.needs import LOOK_AT_SERVICES
from airflow_gemini_batch.service import READS_A_MINUTE, SUBMISSIONS_A_MINUTE

if TYPE_CHECKING:
    from airflow_gemini_batch.doctor.facts import Caller, Facts, Setup

# Google's page about quotas does not name the metrics, so they are recognized by a part of their names.
_EXPECTED = {"management": READS_A_MINUTE, "submission": SUBMISSIONS_A_MINUTE}


def check_quotas(setup: Setup, facts: Facts, caller: Caller) -> Finding:
    """Return the quotas that were seen; missing if one is lower than the package plans with."""
    check, title = "quotas", f"quotas of Vertex AI in {setup.location}"
    found = facts.quotas
    if isinstance(found, Problem):
        command = commands.to_read(found, setup, LOOK_AT_SERVICES, "project", caller.member)
        return Finding(check, title, Status.UNKNOWN, f"The quotas could not be read: {found.detail}", command)
    seen = {name: limit for name, limit in found.items() if _expected(name) is not None}
    if not seen:
        detail = f"None of {len(found)} limits is about batch jobs, as far as their names tell."
        return Finding(check, title, Status.UNKNOWN, detail)
    # A negative limit is none.
    text = ", ".join(
        f"{name} {f'{limit:,} a minute' if limit >= 0 else 'without a limit'}"
        for name, limit in sorted(seen.items())
    )
    low = [name for name, limit in seen.items() if 0 <= limit < (_expected(name) or 0)]
    if low:
        advice = f"the package plans with more for {', '.join(low)}, so limit submissions with a pool."
        return Finding(check, title, Status.MISSING, f"{text}; {advice}", _request(setup))
    return Finding(check, title, Status.OK, f"{text}.")


def _request(setup: Setup) -> str:
    """Return the command that shows the quotas, of which an increase can be requested."""
    return (
        f"gcloud beta quotas info list --service=aiplatform.googleapis.com --project={setup.project} "
        "--format='table(quotaId,metric)'"
    )


def _expected(metric: str) -> int | None:
    return next((limit for part, limit in _EXPECTED.items() if part in metric), None)

"""docs/doctor.md shows what the doctor prints."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.doctor.needs import (
    AGENT_OBJECTS,
    AGENT_QUERIES,
    AGENT_TABLES,
    APIS,
    READ_OBJECTS,
    RUN_QUERIES,
    USE_JOBS,
    WRITE_OBJECTS,
    WRITE_TABLES,
)
from airflow_gemini_batch.doctor.probe.assumptions import ASSUMPTIONS
from tests.doctor.clouds import BROKEN, HEALTHY

if TYPE_CHECKING:
    from airflow_gemini_batch.emulator.access.cloud import Cloud
    from tests.doctor.conftest import Doctor

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "doctor.md").read_text(encoding="utf-8")
SET_UP = (ROOT / "docs" / "google-cloud.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("cloud", [HEALTHY, BROKEN], ids=["healthy", "broken"])
def test_the_output_is_what_is_printed(cloud: Cloud, doctor: Doctor) -> None:
    _, text = doctor.text(cloud)
    assert f"```text\n{text}```" in TEXT, text


def test_every_check_is_described(doctor: Doctor) -> None:
    section = TEXT.partition("## What it checks")[2].partition("\n## ")[0]
    assert set(doctor.findings(HEALTHY)) <= set(re.findall(r"`([a-z_.]+)`", section))


def test_every_assumption_is_described() -> None:
    rows = "\n".join(
        f"| `{each.name}` | {each.question} | {each.assumed} | {each.if_not} |" for each in ASSUMPTIONS
    ).replace("*", r"\*")
    assert rows in TEXT, rows


def test_the_roles_are_those_of_the_page_about_the_set_up() -> None:
    steps, _, roles = SET_UP.partition("## Roles")
    assert all(f"`{api}`" in steps for api in APIS)
    callers, _, agents = roles.partition("For the Vertex AI service agent")
    for needs, table in (
        ((USE_JOBS, READ_OBJECTS, WRITE_OBJECTS, RUN_QUERIES, WRITE_TABLES), callers),
        ((AGENT_OBJECTS, AGENT_TABLES, AGENT_QUERIES), agents),
    ):
        for need in needs:
            assert re.search(rf"\| `{need.role}` \| {need.on}s? \|", table), need.role

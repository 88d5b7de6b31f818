"""Options of a landing that are checked before anything is created."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.tasks.land import check_landing
from airflow_gemini_batch.tasks.landing_options import LandingOptions

if TYPE_CHECKING:
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchHook


class Hook:
    """All that the check needs of a hook; a real one needs Airflow's database."""

    @staticmethod
    def resolve_project(project_id: str | None) -> str:
        return project_id or "local-project"


@pytest.mark.parametrize(
    "error_table", ["ds.answers", "bq://local-project.ds.answers", "`local-project`.ds.`answers`"]
)
def test_the_error_table_is_another_table(error_table: str) -> None:
    """Rows would be deleted as failures and as results."""
    hook = cast("GeminiBatchHook", Hook())
    with pytest.raises(InvalidParameterError, match="need a table of their own"):
        check_landing(LandingOptions(error_table=error_table), hook, "ds.answers", None)

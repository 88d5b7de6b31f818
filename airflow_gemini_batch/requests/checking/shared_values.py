"""Checks the values that all requests of a job share, before any request is built."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.checking.findings import Level
from airflow_gemini_batch.requests.checking.model_rules import place_rules, problems

if TYPE_CHECKING:
    from collections.abc import Mapping

log = logging.getLogger(__name__)

# Everything else comes from generation_config.
_PARAMETERS = {
    "tools": "tools",
    "safetySettings": "safety_settings",
    "systemInstruction": "system_instruction",
}


def check_shared(members: Mapping[str, Any], model: str | None) -> None:
    """Refuse values that would fail every request that has no value of its own.

    :param members: fields of a request, by their names in REST
    :param model: of the job, if it is known
    :raises InvalidParameterError: names the parameter that they come from
    """
    of_model = f" by {model}" if model else ""
    for problem in problems(members, place_rules(model)):
        place = problem.path.removeprefix("$.request.")
        if problem.rule.level is Level.ADVICE:
            log.warning("%s has no effect: it is ignored%s.", place, of_model)
        else:
            parameter = _PARAMETERS.get(place.partition(".")[0].partition("[")[0], "generation_config")
            fix = f"every request would be refused{of_model}: {problem.message} {problem.rule.fix}"
            raise InvalidParameterError(parameter, place, fix)

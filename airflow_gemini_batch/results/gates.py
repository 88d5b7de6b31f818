"""Quality gates: limits on the shares of succeeded and invalid rows, checked after all rows are landed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError, QualityGateError
from airflow_gemini_batch.formats import counted
from airflow_gemini_batch.results.row_status import RowStatus

if TYPE_CHECKING:
    from airflow_gemini_batch.results.retried import RetryManifest
    from airflow_gemini_batch.results.summary import LandedJobs, Manifest

    Landed = Manifest | LandedJobs | RetryManifest


@dataclass(frozen=True)
class Gates:
    """Limits on the shares of succeeded and invalid rows. The defaults never fail.

    :param min_success_ratio: share of input rows that must succeed, from 0 to 1
    :param max_invalid_ratio: share of input rows that may not match the response schema, from 0 to 1
    """

    min_success_ratio: float = 0.0
    max_invalid_ratio: float = 1.0

    @classmethod
    def of(cls, min_success_ratio: object, max_invalid_ratio: object) -> Gates:
        """Parse a user's values: numbers, or text rendered from a template.

        :raises InvalidParameterError: a value is not a number from 0 to 1
        """
        return cls(
            _ratio("min_success_ratio", min_success_ratio), _ratio("max_invalid_ratio", max_invalid_ratio)
        )

    def check(self, landed: Landed) -> None:
        """Check the ratios. If no row was landed, the share of succeeded rows is 0.

        :raises QualityGateError: a ratio is outside its limit
        """
        succeeded = _share(landed, RowStatus.SUCCEEDED)
        if succeeded < self.min_success_ratio:
            raise self._error(landed, RowStatus.SUCCEEDED, "min_success_ratio", succeeded)
        invalid = _share(landed, RowStatus.INVALID)
        if invalid > self.max_invalid_ratio:
            raise self._error(landed, RowStatus.INVALID, "max_invalid_ratio", invalid)

    def _error(self, landed: Landed, status: RowStatus, gate: str, ratio: float) -> QualityGateError:
        limit = getattr(self, gate)
        counts = ", ".join(f"{count:,} {each}" for each, count in landed.counts.items() if count)
        remedy = f"{landed.remedy} " if landed.remedy else ""
        did = "succeeded" if status is RowStatus.SUCCEEDED else f"are {status}"
        return QualityGateError(
            f"{landed.counts[status]:,} of {counted(landed.rows, 'row')} of "
            f"{landed.job_name or landed.destination_table} {did}, a ratio of {ratio:.6g}, but {gate} "
            f"is {limit:.6g}. All rows are landed in {landed.destination_table} with their status: "
            f"{counts or 'none'}. The reasons are in {landed.error_table}. {remedy}To accept the rows "
            f"as they are, change {gate} and clear this task: it finds the same rows, and costs nothing.",
            gate=gate,
            limit=limit,
            ratio=ratio,
            manifest=landed.to_dict(),
        )


def _share(landed: Landed, status: RowStatus) -> float:
    return landed.counts[status] / landed.rows if landed.rows else 0.0


def _ratio(parameter: str, value: object) -> float:
    fix = "give a number from 0 to 1, such as 0.95"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InvalidParameterError(parameter, value, fix)
    try:
        ratio = float(value)
    except ValueError:
        raise InvalidParameterError(parameter, value, fix) from None
    if not 0 <= ratio <= 1:  # Also true for NaN.
        raise InvalidParameterError(parameter, value, fix)
    return ratio

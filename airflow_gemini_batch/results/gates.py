"""Gates: limits on what was landed. They are looked at after landing, so no row depends on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_gemini_batch.exceptions import InvalidParameterError, QualityGateError
from airflow_gemini_batch.results.row_status import RowStatus

if TYPE_CHECKING:
    from airflow_gemini_batch.results.retried import RetryManifest
    from airflow_gemini_batch.results.summary import Manifest


@dataclass(frozen=True)
class Gates:
    """What share of the rows must be good, and how many may be invalid; by default both only report.

    :param min_success_ratio: rows that succeeded, of all rows of the input
    :param max_invalid_ratio: rows whose answer does not fit the response schema, of all rows of the input
    """

    min_success_ratio: float = 0.0
    max_invalid_ratio: float = 1.0

    @classmethod
    def of(cls, min_success_ratio: object, max_invalid_ratio: object) -> Gates:
        """Take them as a user gives them: numbers, or the text that a template renders to.

        :raises InvalidParameterError: one is no number from 0 to 1
        """
        return cls(
            _ratio("min_success_ratio", min_success_ratio), _ratio("max_invalid_ratio", max_invalid_ratio)
        )

    def check(self, landed: Manifest | RetryManifest) -> None:
        """Pass, or say what is wrong. Where nothing was landed, nothing has succeeded.

        :raises QualityGateError: a ratio is beyond its limit
        """
        succeeded = _share(landed, RowStatus.SUCCEEDED)
        if succeeded < self.min_success_ratio:
            raise self._error(landed, RowStatus.SUCCEEDED, "min_success_ratio", succeeded)
        invalid = _share(landed, RowStatus.INVALID)
        if invalid > self.max_invalid_ratio:
            raise self._error(landed, RowStatus.INVALID, "max_invalid_ratio", invalid)

    def _error(
        self, landed: Manifest | RetryManifest, bucket: RowStatus, gate: str, ratio: float
    ) -> QualityGateError:
        limit = getattr(self, gate)
        counts = ", ".join(f"{count:,} {each}" for each, count in landed.counts.items() if count)
        return QualityGateError(
            f"{landed.counts[bucket]:,} of {landed.rows:,} rows of "
            f"{landed.job_name or landed.destination_table} are {bucket}, a ratio of {ratio:.6g}, and {gate} "
            f"is {limit:.6g}. All rows are safe: {counts or 'none'}, each with its status in "
            f"{landed.destination_table}, the reasons in {landed.error_table}. A retry of this task pays "
            "nothing and changes nothing: it finds the same rows. Look at the reasons, then move "
            f"{gate} and clear this task, or submit a new job.",
            gate=gate,
            limit=limit,
            ratio=ratio,
            manifest=landed.to_dict(),
        )


def _share(landed: Manifest | RetryManifest, bucket: RowStatus) -> float:
    return landed.counts[bucket] / landed.rows if landed.rows else 0.0


def _ratio(parameter: str, value: object) -> float:
    fix = "give a number from 0 to 1, such as 0.95"
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise InvalidParameterError(parameter, value, fix)
    try:
        ratio = float(value)
    except ValueError:
        raise InvalidParameterError(parameter, value, fix) from None
    if not 0 <= ratio <= 1:  # Not a number is on neither side.
        raise InvalidParameterError(parameter, value, fix)
    return ratio

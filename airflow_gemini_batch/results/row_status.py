"""What became of a row: every row of a job's input ends in exactly one status."""

from __future__ import annotations

from enum import StrEnum


class RowStatus(StrEnum):
    """What became of one row of the input; the value is ``status`` in the tables."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The service answered with an error, or with no answer at all."""
    BLOCKED = "blocked"
    """A filter stopped the prompt or the answer."""
    TRUNCATED = "truncated"
    """The answer stops in the middle, at a limit of tokens."""
    INVALID = "invalid"
    """The answer does not fit the response schema."""
    MALFORMED = "malformed"
    """The output line is not JSON."""
    MISSING = "missing"
    """There is no output line."""

    def __str__(self) -> str:
        return self.value


FINISH_REASONS = {
    RowStatus.SUCCEEDED: ("STOP",),
    RowStatus.TRUNCATED: ("MAX_TOKENS", "CONTINUATION"),
    RowStatus.BLOCKED: (
        *("SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "MODEL_ARMOR"),
        *("IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION"),
    ),
    RowStatus.FAILED: (
        *("FINISH_REASON_UNSPECIFIED", "OTHER", "IMAGE_OTHER", "NO_IMAGE"),
        *("MALFORMED_FUNCTION_CALL", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"),
    ),
}
"""``candidates[].finishReason`` by row status. An unknown one counts as failed, never as good."""


def status_of(finish_reason: str) -> RowStatus:
    """Return the status of a row with this ``finishReason`` whose answer fits the schema."""
    for status, reasons in FINISH_REASONS.items():
        if finish_reason in reasons:
            return status
    return RowStatus.FAILED

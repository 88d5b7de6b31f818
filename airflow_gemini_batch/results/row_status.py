"""Row status: every input row of a job ends in exactly one."""

from __future__ import annotations

from enum import StrEnum


class RowStatus(StrEnum):
    """The outcome of one input row; the column ``status`` of the tables."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    """The service returned an error or nothing, or the answer is empty."""
    BLOCKED = "blocked"
    """A filter blocked the prompt or the response."""
    TRUNCATED = "truncated"
    """The response was cut off at a token limit."""
    INVALID = "invalid"
    """The response does not match the response schema."""
    MALFORMED = "malformed"
    """The output line is not JSON."""
    MISSING = "missing"
    """The output has no line for the row."""

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
"""``candidates[].finishReason`` by row status. An unknown one means failed, never succeeded."""


DESCRIPTIVE_MEMBERS = (
    *("text", "thought", "thoughtSignature", "mediaProcessing", "mediaResolution", "speechMetadata"),
    *("videoMetadata", "partMetadata"),
)
"""Members of a part that are no answer of their own. ``text`` is looked at apart."""


def status_of(finish_reason: str) -> RowStatus:
    """Return the status of a row with this ``finishReason`` whose response matches the schema."""
    for status, reasons in FINISH_REASONS.items():
        if finish_reason in reasons:
            return status
    return RowStatus.FAILED

"""The two places of a request's key, in its input line and in its output line.

The service copies members next to ``request`` to the output, according to most reports, and labels inside
the request according to all. But labels go to Cloud Billing, so a key is written there only if the user asks
for it. Without either, an output line is joined by its request.
"""

from __future__ import annotations

import hashlib
import re

KEY_FIELD = "key"
"""The field next to ``request`` in a line, or the column next to ``request`` in a table."""

KEY_LABEL = "gemini_batch_key"
"""Label in ``request.labels``, if there is one."""

LABEL_PATTERN = "^[a-z0-9_-]{1,63}$"
"""What the value of a label may be, for Python and for GoogleSQL."""

SAME_KEY = "results of rows with the same key cannot be told apart"
"""Why duplicate keys are a problem, for messages."""


def label_of(key: str) -> str:
    """Return the key as a label value: the key itself if it is a valid label, otherwise a hash of it."""
    if re.fullmatch(LABEL_PATTERN, key):
        return key
    return f"h-{hashlib.sha256(key.encode()).hexdigest()[:40]}"

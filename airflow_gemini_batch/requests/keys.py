"""Where the key of a request stands, in its input line and in the output line that answers it.

Whether the service copies a sibling of ``request`` to the output differs between reports, and the labels
inside the request are echoed with it, so a key is written in both places.
"""

from __future__ import annotations

import hashlib
import re

KEY_FIELD = "key"
"""Sibling of ``request`` in a line, or column beside ``request`` in a table."""

KEY_LABEL = "gemini_batch_key"
"""Label in ``request.labels``."""

LABEL_PATTERN = "^[a-z0-9_-]{1,63}$"
"""What the value of a label may be, for Python and for GoogleSQL."""

SAME_KEY = "results of rows with the same key cannot be told apart"
"""Why duplicate keys are a problem, for messages."""

_is_label = re.compile(LABEL_PATTERN).fullmatch


def label_of(key: str) -> str:
    """The key as a label value: itself where labels allow it, else a hash of it."""
    if _is_label(key):
        return key
    return f"h-{hashlib.sha256(key.encode()).hexdigest()[:40]}"

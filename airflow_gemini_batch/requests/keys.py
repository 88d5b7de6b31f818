"""Where the key of a request stands, in its input line and in the output line that answers it.

Whether the service copies a sibling of ``request`` to the output differs between reports, and the labels
inside the request are echoed with it, so a key is written in both places.
"""

from __future__ import annotations

KEY_FIELD = "key"
"""Sibling of ``request`` in a line, or column beside ``request`` in a table."""

KEY_LABEL = "gemini_batch_key"
"""Label in ``request.labels``."""

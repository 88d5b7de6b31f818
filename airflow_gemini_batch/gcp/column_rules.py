"""BigQuery's rules for columns."""

from __future__ import annotations

import re

COLUMN_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,299}")
"""Use with ``fullmatch``."""

MAX_RECORD_DEPTH = 15
"""How many RECORD columns can be nested inside each other."""

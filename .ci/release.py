#!/usr/bin/env python3
"""Check that a tag may be released: ``release.py v1.2.3``."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def problems(tag: str, root: Path = ROOT) -> list[str]:
    """Return why the tag must not be released, one sentence each."""
    source = (root / "airflow_gemini_batch" / "__init__.py").read_text(encoding="utf-8")
    found = re.search(r'^__version__ = "(.+)"$', source, re.M)
    version = found[1] if found else ""
    wrong = [] if tag == f"v{version}" else [f"The tag is {tag}, but the version is {version}."]
    changelog = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    if not re.search(rf"^## {re.escape(version)} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.M):
        wrong.append(f"CHANGELOG.md has no heading `## {version} (YYYY-MM-DD)`.")
    return wrong


if __name__ == "__main__":
    if wrong := problems(sys.argv[1]):
        sys.exit("\n".join(wrong))

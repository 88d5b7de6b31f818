"""PyPI shows the README without the repository around it, so its links have to be complete there."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_RELATIVE = re.compile(r"\]\((?!https?:|#)(?P<path>[^)]+)\)")


def with_complete_links(text: str, source: str) -> str:
    """Return Markdown with relative links pointed to the repository.

    :param source: URL of the repository
    """
    return _RELATIVE.sub(lambda link: f"]({source}/blob/main/{link['path']})", text)


class ReadmeHook(MetadataHookInterface):
    """Sets the description of the package."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set ``readme``."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": with_complete_links(text, metadata["urls"]["Source"]),
        }

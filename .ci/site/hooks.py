"""For MkDocs: links from the pages to other files of the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

ROOT = Path(__file__).parents[2]
# A page is in docs or in a folder of it. Links stay relative in the source, so that they work on GitHub too.
_OUTSIDE = re.compile(r"\]\((?P<up>(?:\.\./)+)(?P<path>[\w./-]+)(?P<anchor>#[\w-]+)?\)")


def on_page_markdown(markdown: str, page: Any, config: MkDocsConfig, **_: Any) -> str:
    """Point links that leave docs to the repository.

    :raises ValueError: there is no such file
    """
    folder = (Path(config.docs_dir) / page.file.src_uri).parent

    def in_repository(match: re.Match[str]) -> str:
        target = (folder / match["up"] / match["path"]).resolve()
        if target.is_relative_to(config.docs_dir):
            return match[0]
        if not target.exists():
            message = f"{page.file.src_uri} links to {match['up']}{match['path']}, which does not exist."
            raise ValueError(message)
        path = target.relative_to(ROOT).as_posix()
        return f"]({config.extra['repository']}/blob/main/{path}{match['anchor'] or ''})"

    return _OUTSIDE.sub(in_repository, markdown)

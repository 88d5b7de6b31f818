"""The code blocks of the README and the docs."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
_BLOCK = re.compile(
    r"^(?P<indent> *)```(?P<language>\w+)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^ *```$", re.M | re.S
)


@dataclass(frozen=True)
class Block:
    """A code block.

    :ivar line: the line of the page where it starts
    :ivar title: the name of the file that the page asks to save it as, or ``""``
    """

    page: str
    line: int
    language: str
    title: str
    text: str

    @property
    def name(self) -> str:
        """A name for a test: ``cost.md-7``."""
        return f"{self.page}-{self.line}"

    @property
    def commands(self) -> list[str]:
        """The commands of a shell block: without comments and prompts, continued lines as one."""
        joined = self.text.replace("\\\n", " ")
        lines = (line.split(" #")[0].strip() for line in joined.splitlines())
        if "$ " in self.text:
            return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
        return [line for line in lines if line and not line.startswith("#")]


def write_files(folder: Path) -> None:
    """Write the blocks that have a title as files."""
    for block in blocks("python"):
        if block.title:
            (folder / block.title).parent.mkdir(exist_ok=True)
            (folder / block.title).write_text(block.text)


def blocks(language: str) -> list[Block]:
    """Return the blocks in a language, in the order of the pages."""
    return [
        Block(
            page.name,
            text[: match.start()].count("\n") + 1,
            language,
            match["title"] or "",
            re.sub(f"^{match['indent']}", "", match["text"], flags=re.M),
        )
        for page in PAGES
        for text in (page.read_text(encoding="utf-8"),)
        for match in _BLOCK.finditer(text)
        if match["language"] == language
    ]


if __name__ == "__main__":
    write_files(Path(sys.argv[1]))

"""Escape control characters in what the command line prints: they come from files, names and messages.

On a terminal, escape sequences change its title, hide or overwrite text, or worse.
"""

from __future__ import annotations

import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO, cast

if TYPE_CHECKING:
    from collections.abc import Iterator

# All but tab and newline; also what changes the direction of text, and bytes of a path that are not UTF-8.
_CONTROL = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def escaped(text: str) -> str:
    r"""Return the text with control characters as ``\u001b``, which is also how JSON writes them."""
    return _CONTROL.sub(_escape, text)


def in_one_line(text: str) -> str:
    r"""Return the text escaped, line breaks and tabs too, so that none of it looks like a line of ours."""
    return escaped(re.sub("[\t\n]", _escape, text))


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"


class _EscapedStream:
    """A stream that escapes what is written to it."""

    def __init__(self, stream: TextIO) -> None:
        self.unescaped = stream

    def write(self, text: str) -> int:
        self.unescaped.write(escaped(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unescaped, name)


@contextmanager
def escaped_output() -> Iterator[None]:
    """Escape whatever this process prints: also the errors of argparse, and tracebacks."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast("TextIO", _EscapedStream(stream)) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before

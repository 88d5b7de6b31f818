"""SQL that lies in files beside the modules that run it, filled in.

Placeholders, ``{{so}}``, hold names and fragments that we write ourselves; values are query parameters.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")


def fill(package: str, name: str, **values: str) -> str:
    """Return a file's text with its placeholders filled.

    :param package: folder below this one, such as ``requests``
    :param name: of the file, without ``.sql``
    """
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], _text(package, name))


@cache
def _text(package: str, name: str) -> str:
    return (Path(__file__).parent / package / f"{name}.sql").read_text(encoding="utf-8")

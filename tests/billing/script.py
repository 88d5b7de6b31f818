"""Which statements of a script run, if it is known how its conditions turn out. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PART = re.compile(r"^IF\n(?P<condition>.*?)^THEN$|^(?P<word>ELSE|END IF;)$", re.DOTALL | re.MULTILINE)


def taken(script: str, holds: Callable[[str], bool]) -> str:
    """Return the script without the branches that are not taken. Conditions stay, as queries.

    :param holds: whether a condition holds
    :raises ValueError: an ``ELSE`` or ``END IF`` has no ``IF``, or the reverse
    """
    # Whether the statements of each open IF run, the innermost last.
    runs: list[bool] = []
    kept: list[str] = []
    end = 0
    for part in _PART.finditer(script):
        if all(runs):
            kept.append(script[end : part.start()])
        end = part.end()
        if part["word"] == "ELSE" and runs:
            runs[-1] = not runs[-1]
        elif part["word"] and runs:
            runs.pop()
        elif part["word"]:
            raise ValueError(f"{part['word']} without IF")
        else:
            if all(runs):
                kept.append(f"SELECT ({part['condition']});\n")
            runs.append(holds(part["condition"]))
    if runs:
        raise ValueError("IF without END IF")
    return "".join([*kept, script[end:]])

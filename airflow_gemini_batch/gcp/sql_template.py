"""SQL in ``.sql`` files next to the modules that run it, rendered with Jinja.

Templates receive names and fragments that this package writes; users' values are passed as query parameters.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Return the SQL of a template.

    :param template: path in this package without ``.sql``, such as ``results/landing``
    :raises jinja2.UndefinedError: the template uses a value that was not passed
    """
    return _environment().get_template(f"{template}.sql").render(values)


@cache
def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(  # noqa: S701  # SQL, not HTML
        loader=FileSystemLoader(Path(__file__).parents[1]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

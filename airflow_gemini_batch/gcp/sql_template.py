"""SQL in files beside the modules that run it, as Jinja templates.

Templates are given names and fragments that this package writes; values of users are query parameters.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jinja2 import Environment


def render(template: str, **values: Any) -> str:
    """Return the SQL of a template.

    :param template: its path in this package without ``.sql``, such as ``results/land``
    :raises jinja2.UndefinedError: a value that the template uses is not given
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

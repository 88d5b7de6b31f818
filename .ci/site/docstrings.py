"""For the reference pages: docstrings as they are at run time, in the words of Markdown."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

from griffe import Extension

if TYPE_CHECKING:
    from griffe import Class, Function, Module, Object

_ROLE = re.compile(r":(?:class|func|meth|attr|mod|data|exc):`~?(?P<path>[\w.]+)`")


class AtRunTime(Extension):
    """Shared parameters are added to docstrings when a module is imported; griffe only reads the source."""

    def on_module(self, *, mod: Module, **_: Any) -> None:
        """Rewrite the docstring of a module."""
        _rewrite(mod)

    def on_class(self, *, cls: Class, **_: Any) -> None:
        """Rewrite the docstring of a class."""
        _rewrite(cls)

    def on_function(self, *, func: Function, **_: Any) -> None:
        """Rewrite the docstring of a function or method."""
        _rewrite(func)


def _rewrite(found: Object) -> None:
    if found.docstring is None:
        return
    text = found.docstring.value
    if any("documented" in str(decorator.value) for decorator in getattr(found, "decorators", ())):
        text = inspect.cleandoc(getattr(import_module(found.module.path), found.name).__doc__ or "")
    text = _ROLE.sub(lambda role: f"`{role['path'].rsplit('.', 1)[-1]}`", text)
    # An indented block is code in both, but in Markdown nothing announces it.
    found.docstring.value = re.sub(r"^::$|(?<=:):$", "", text, flags=re.M)

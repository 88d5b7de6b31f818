"""Names of models: publisher models such as Gemini, tuned models, and endpoints."""

from __future__ import annotations

import re
from dataclasses import dataclass

_PARENT = r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/"
_FORMS = tuple(
    re.compile(form)
    for form in (
        rf"(?:{_PARENT})?publishers/(?P<publisher>[^/]+)/models/(?P<id>[^/@]+)(?P<version>@[^/]*)?",
        rf"{_PARENT}(?:models|endpoints)/(?P<id>[^/]+)",
        r"(?P<id>[A-Za-z0-9][A-Za-z0-9._-]*)(?P<version>@[A-Za-z0-9@._-]*)?",
    )
)


@dataclass(frozen=True)
class ModelName:
    """A model as users and the service name it.

    :param id: such as ``gemini-2.5-flash``, or the ID of a tuned model or endpoint
    :param version: with its ``@``; empty when there is none
    :param publisher: such as ``google``; ``None`` for a tuned model and for a bare ID
    :param project: of a full resource name
    :param location: of a full resource name
    """

    id: str
    version: str = ""
    publisher: str | None = None
    project: str | None = None
    location: str | None = None

    @classmethod
    def parse(cls, name: str) -> ModelName | None:
        """Parse any form of a model's name; ``None`` when it has none of them.

        The forms are ``ID``, ``publishers/PUBLISHER/models/ID``, both with an optional ``@VERSION``, the same
        after ``projects/P/locations/L/``, and ``projects/P/locations/L/models/ID`` or ``…/endpoints/ID``.
        """
        for form in _FORMS:
            if match := form.fullmatch(name):
                parts = match.groupdict()
                return cls(**{**parts, "version": parts.get("version") or ""})
        return None

    @property
    def is_tuned(self) -> bool:
        """Whether it names a tuned model or an endpoint, which exists in one location."""
        return self.publisher is None and self.location is not None

    @property
    def publisher_model(self) -> str:
        """``publishers/PUBLISHER/models/ID``; a bare ID is Google's. Undefined for a tuned model."""
        return f"publishers/{self.publisher or 'google'}/models/{self.id}{self.version}"

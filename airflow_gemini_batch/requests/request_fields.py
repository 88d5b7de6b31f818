"""The fields of both kinds of request, ``GenerateContentRequest`` and ``EmbedContentRequest``.

They are those of Google's discovery document.

The version is ``v1beta1``: google-genai submits through it, and it has every field of ``v1``.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.discovery import Schemas, elements, load_document, member, snake_case

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST = "GoogleCloudAiplatformV1beta1GenerateContentRequest"
EMBEDDING = "GoogleCloudAiplatformV1beta1EmbedContentRequest"
EMBED_CONFIG = "embedContentConfig"
"""The field of an EmbedContentRequest like ``generationConfig`` in the other kind."""

TITLE = "title"
"""The title of the text, in ``embedContentConfig`` and in a row that becomes a request."""

TITLE_IN_TEXT = "Write the title into the text: `title: … | text: …`."
"""What to do for a model that ignores titles; see docs/embeddings.md."""

_SEARCH_TOOLS = ("googleSearch", "googleSearchRetrieval", "enterpriseWebSearch")
_ONLY_IN_EMBEDDINGS = ("content", EMBED_CONFIG, snake_case(EMBED_CONFIG))


def is_embedding(request: Mapping[str, Any]) -> bool:
    """Whether a request asks for a vector."""
    return "contents" not in request and any(name in request for name in _ONLY_IN_EMBEDDINGS)


@lru_cache(maxsize=1)
def request_schemas() -> Schemas:
    """Return the schemas of both kinds of request and of all messages in them. Reads the document once.

    :raises ModuleNotFoundError: google-api-python-client is not installed
    """
    return Schemas(load_document("aiplatform", "v1beta1")["schemas"]).reachable_from(REQUEST, EMBEDDING)


def embedding_fields() -> Mapping[str, Mapping[str, Any]]:
    """Return the fields of ``embedContentConfig`` with their schemas."""
    config = request_schemas()[f"{EMBEDDING}EmbedContentConfig"]
    fields: Mapping[str, Mapping[str, Any]] = config["properties"]
    return fields


def names_with_checked_values() -> frozenset[str]:
    """Return the names, in both spellings, of fields whose value is checked and not only its JSON type."""
    schemas = request_schemas()
    names = {"role", "mimeType", "mime_type"}
    for schema in schemas:
        for name, (_, spec) in schemas.fields(schema).items():
            scalar = spec.get("items", spec)
            if scalar.get("type") in ("string", "integer", "number") and not _is_any_text(scalar):
                names.add(name)
    return frozenset(names)


def searches_the_web(request: Mapping[str, Any]) -> bool:
    """Whether a request has a tool that makes search queries."""
    tools = elements(member(request, "tools"))
    return any(member(tool, name) is not None for tool in tools for name in _SEARCH_TOOLS)


def _is_any_text(spec: Mapping[str, Any]) -> bool:
    """Whether a scalar field accepts any string."""
    return spec.get("type") == "string" and "enum" not in spec and not str(spec.get("format")).endswith("64")

"""Images, audio, video and documents in Cloud Storage as parts of a prompt."""

from __future__ import annotations

import re
from typing import Any

from airflow_gemini_batch.exceptions import InvalidParameterError

MIME_TYPES = {
    "pdf": "application/pdf",
    "txt": "text/plain",
    "md": "text/plain",
    "csv": "text/csv",
    "html": "text/html",
    "htm": "text/html",
    "json": "application/json",
    "xml": "text/xml",
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "webp": "image/webp",
    "heic": "image/heic",
    "heif": "image/heif",
    "gif": "image/gif",
    "bmp": "image/bmp",
    "mp3": "audio/mpeg",
    "wav": "audio/wav",
    "flac": "audio/flac",
    "ogg": "audio/ogg",
    "aac": "audio/aac",
    "m4a": "audio/mp4",
    "opus": "audio/opus",
    "aiff": "audio/aiff",
    "mp4": "video/mp4",
    "mov": "video/quicktime",
    "mpeg": "video/mpeg",
    "mpg": "video/mpeg",
    "webm": "video/webm",
    "wmv": "video/wmv",
    "flv": "video/x-flv",
    "3gp": "video/3gpp",
    "avi": "video/avi",
}
"""Mime type by the ending of a name, in small letters."""

_ENDING = re.compile(r"\.([A-Za-z0-9]+)$")


def media(uri: str, mime_type: str | None = None, *, parameter: str = "media_uri") -> dict[str, Any]:
    """A part of a prompt that stands for a file in Cloud Storage.

    :param uri: ``gs://bucket/object``
    :param mime_type: default: guessed from the ending of the name
    :param parameter: named in the error
    :raises InvalidParameterError: no such address, or an ending that tells no mime type
    """
    if not isinstance(uri, str) or not re.match(r"(gs|https)://[^/\s]+/.", uri):
        raise InvalidParameterError(parameter, uri, "give gs://bucket/object")
    ending = _ENDING.search(uri)
    kind = mime_type or MIME_TYPES.get(ending.group(1).lower() if ending else "")
    if not kind:
        raise InvalidParameterError(
            parameter, uri, "its ending tells no mime type; give one, such as 'application/pdf'"
        )
    return {"fileData": {"mimeType": kind, "fileUri": uri}}

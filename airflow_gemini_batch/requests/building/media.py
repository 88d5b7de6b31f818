"""Adds images, audio, video and documents in Cloud Storage to prompts."""

from __future__ import annotations

import re
from typing import Any

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.requests.checking.model_rules import FILE_URI_PATTERN

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
"""Lowercase file extension → MIME type."""

_EXTENSION = re.compile(r"\.([A-Za-z0-9]+)$")


def media(uri: str, mime_type: str | None = None, *, parameter: str = "media_uri") -> dict[str, Any]:
    """Return a prompt part that refers to a file in Cloud Storage, or to a video on YouTube.

    :param uri: ``gs://bucket/object``, or the URL of a public YouTube video
    :param mime_type: default: derived from the file extension
    :param parameter: name of the parameter in error messages
    :raises InvalidParameterError: the URI is invalid, or its extension is unknown and no MIME type was passed
    """
    if not isinstance(uri, str) or not re.fullmatch(FILE_URI_PATTERN, uri):
        fix = "use the form gs://bucket/object, or the URL of a public YouTube video"
        raise InvalidParameterError(parameter, uri, fix)
    extension = _EXTENSION.search(uri)
    kind = mime_type or MIME_TYPES.get(extension.group(1).lower() if extension else "")
    if not kind:
        raise InvalidParameterError(
            parameter,
            uri,
            "its extension has no known MIME type; pass one, such as 'application/pdf'",
        )
    return {"fileData": {"mimeType": kind, "fileUri": uri}}

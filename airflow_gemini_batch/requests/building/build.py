"""Builds request lines from prompts and rows, one at a time."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from airflow_gemini_batch.exceptions import Described, InvalidParameterError, shown_or_type
from airflow_gemini_batch.models import is_embedding_model, refuse_legacy_embedding
from airflow_gemini_batch.requests.building.embeddings import config_members, embedding_of, warn_of_titles
from airflow_gemini_batch.requests.building.prompts import (
    ROW_FIELDS,
    camel_case,
    fields_of,
    instruction_of,
    plain,
    request_of,
)
from airflow_gemini_batch.requests.building.template import PromptTemplate
from airflow_gemini_batch.requests.checking.likely_keys import LikelyKeys, is_identifier
from airflow_gemini_batch.requests.key_field import DEFAULT_KEY_FIELD, KeyField
from airflow_gemini_batch.requests.keys import KEY_FIELD, KEY_LABEL, label_of
from airflow_gemini_batch.requests.request_fields import EMBED_CONFIG, TITLE
from airflow_gemini_batch.requests.response_schema import ResponseSchema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

# Fields of a request that google-genai keeps in its config object, and REST outside of generationConfig.
_NOT_IN_CONFIG = (
    "systemInstruction",
    "safetySettings",
    "tools",
    "toolConfig",
    "labels",
    "cachedContent",
)
# Some readers treat these as line ends; JSON does not.
_LINE_ENDS = {0x85: "\\u0085", 0x2028: "\\u2028", 0x2029: "\\u2029"}
_LINE_END_BYTES = [(chr(code).encode(), escape.encode()) for code, escape in _LINE_ENDS.items()]
_MAX_KEY = 1024

# Between them, the line of a text prompt has the key, the text and, if asked for, the label.
log = logging.getLogger(__name__)

_TO_TEXT, _AFTER_TEXT = '"request":{"contents":[{"role":"user","parts":[{"text":', "}]}]"
_TO_EMBEDDED_TEXT, _AFTER_EMBEDDED_TEXT = '"request":{"content":{"parts":[{"text":', "}]}"

# Five times as fast as the standard library's, with the same result. It asks what subclasses of str are.
_write_text = msgspec.json.Encoder(enc_hook=str.__str__).encode
_write = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode
_canonical = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode


class Line(NamedTuple):
    """One request, as it is written to the file."""

    key: str
    data: bytes
    """``{"key": …, "request": …}`` in UTF-8, with a newline at the end."""


@dataclass(frozen=True)
class Defaults:
    """Fields that all requests share. The fields of a single request override them.

    :param system_instruction: text
    :param generation_config: ``GenerationConfig`` as a dict or an object of google.genai
    :param response_schema: what :meth:`ResponseSchema.of` takes; requests JSON output. None and False: no
        schema. False also disables typed columns
    :param safety_settings: list of ``SafetySetting``
    :param tools: list of ``Tool``
    :param key_label: also write the key into the request, as the label ``gemini_batch_key``
    :param embedding_config: ``EmbedContentConfig`` as a dict or an object of google.genai, for an embedding
        model
    :param model: of the job, in any form of its name; embedding models take another kind of request
    """

    system_instruction: str | None = None
    generation_config: Any = None
    response_schema: Any = None
    safety_settings: Sequence[Any] | None = None
    tools: Sequence[Any] | None = None
    key_label: bool = False
    embedding_config: Any = None
    model: str | None = None

    @property
    def are_embeddings(self) -> bool:
        """Whether the requests are EmbedContentRequests."""
        known = is_embedding_model(self.model) if self.model else None
        return self.embedding_config is not None if known is None else known

    def members(self) -> dict[str, Any]:
        """Return the fields of a request, as REST spells them.

        :raises InvalidParameterError: a value is invalid, or is for the other kind of models
        """
        if self.model:
            refuse_legacy_embedding(self.model)
        if self.are_embeddings:
            return self._members_of_embeddings()
        if self.embedding_config is not None:
            fix = f"{self.model} generates; leave it out, or use a model such as gemini-embedding-001"
            raise InvalidParameterError("embedding_config", self.embedding_config, fix)
        members: dict[str, Any] = {}
        if self.system_instruction:
            members["systemInstruction"] = instruction_of(self.system_instruction)
        for name, value in (("safetySettings", self.safety_settings), ("tools", self.tools)):
            if value:
                members[name] = [plain(each) for each in value]
        config = camel_case(_mapping("generation_config", self.generation_config))
        members.update({name: config.pop(name) for name in _NOT_IN_CONFIG if name in config})
        if self.response_schema is not None and self.response_schema is not False:
            if "responseSchema" in config or "responseJsonSchema" in config:
                raise InvalidParameterError(
                    "generation_config",
                    Described("has a response schema"),
                    "set either that or response_schema",
                )
            config["responseMimeType"] = "application/json"
            config["responseSchema"] = ResponseSchema.of(self.response_schema).for_request()
        if config:
            members["generationConfig"] = config
        return members

    def _members_of_embeddings(self) -> dict[str, Any]:
        for name in (
            "system_instruction",
            "generation_config",
            "response_schema",
            "safety_settings",
            "tools",
            "key_label",
        ):
            if (value := getattr(self, name)) is not None and value is not False:
                fix = (
                    f"{self.model or 'a model with embedding_config'} answers with vectors; leave {name} out"
                )
                raise InvalidParameterError(name, Described("is set"), fix)
        config = config_members(self.embedding_config, self.model)
        return {EMBED_CONFIG: config} if config else {}


def build_lines(
    prompts: Iterable[Any] | Mapping[str, Any],
    defaults: Defaults | None = None,
    *,
    template: str | PromptTemplate | None = None,
    key_field: KeyField = DEFAULT_KEY_FIELD,
) -> Iterator[Line]:
    """Build the input lines of a batch job, one per prompt, in order.

    A prompt is text; a list of parts (text, :func:`media`, dicts, objects of google.genai) or of contents;
    a dict ``{"prompt", "system_instruction", "media_uri", "media_mime_type"}``, ``{"contents", …}`` or
    ``{"request"}``, with or without a ``key``; or a pair ``(key, prompt)``. A mapping maps keys to prompts.
    For an embedding model, a request is ``{"content", …}``, and a row may have a ``title`` and has no
    ``system_instruction``. With a template, a prompt is a row (mapping, dataclass, named tuple, pydantic
    model) that has its fields.
    A prompt without a key gets a hash of its content as key.

    :param key_field: where a line has its key; a prompt that is a dict or a row may have it there as well
    :raises InvalidParameterError: a prompt is invalid; the message has the row number, never the prompt
    """
    builder = _Builder(defaults or Defaults(), template, key_field)
    if prompts is None or isinstance(prompts, (str, bytes)) or not hasattr(prompts, "__iter__"):
        fix = "pass a list or generator of prompts; a function must return or yield them"
        raise InvalidParameterError("prompts", shown_or_type(prompts), fix)
    return builder.lines(prompts.items() if hasattr(prompts, "items") else prompts)


class _Builder:
    def __init__(
        self, defaults: Defaults, template: str | PromptTemplate | None, key_field: KeyField
    ) -> None:
        self._defaults = defaults.members()
        self._template = PromptTemplate(template) if isinstance(template, str) else template
        self._are_embeddings = defaults.are_embeddings
        self._config = EMBED_CONFIG if self._are_embeddings else "generationConfig"
        self._model, self._has_titles = defaults.model, False
        # Rows in all, those of a template that have no key, and what these have instead.
        self._rows, self._keyless, self._likely_keys = 0, 0, LikelyKeys()
        if self._are_embeddings and key_field.is_label:
            fix = "requests to embedding models have no labels; name a member next to `request`"
            raise InvalidParameterError("key_field", str(key_field), fix)
        self._key_field = key_field
        self._label = key_field.names[-1] if key_field.is_label else KEY_LABEL if defaults.key_label else None
        to_text, after = _TO_TEXT, _AFTER_TEXT
        if self._are_embeddings:
            to_text, after = _TO_EMBEDDED_TEXT, _AFTER_EMBEDDED_TEXT
        # The parts of a line before and after the key, and before and after the label.
        self._head, self._to_text = b"", b"{" + to_text.encode()
        if not key_field.is_label:
            head, _, end = _write(key_field.line("\0", {})).partition("\\u0000")
            self._head = head.encode()
            self._to_text = (end.removesuffix('"request":{}}') + to_text).encode()
        labels = self._defaults.get("labels", {})
        shared = _members({name: each for name, each in self._defaults.items() if name != "labels"})
        self._to_label, end = b"", after if not labels else f'{after},"labels":{_write(labels)}'
        if self._label:
            self._to_label = f'{after},"labels":{{"{self._label}":"'.encode()
            end = f'"{_members(labels)}}}'
        self._tail = f"{end}{shared}}}}}\n".translate(_LINE_ENDS).encode()

    def lines(self, prompts: Iterable[Any]) -> Iterator[Line]:
        yield from self._lines(prompts)
        other = self._likely_keys.find()
        if self._keyless == self._rows and other and is_identifier(other):
            log.warning(
                "The rows have no key, so each gets a hash of its text as its key. Each row has a field %r: "
                "if it is the key, set key_field=%r on all tasks of the job.",
                other,
                other,
            )

    def _lines(self, prompts: Iterable[Any]) -> Iterator[Line]:
        row = 0
        try:
            for row, item in enumerate(prompts, 1):  # noqa: B007 - used in error messages
                if item.__class__ is str and self._template is None:
                    yield self._from_text(item)
                else:
                    yield self._from_item(item)
            self._rows = row
        except InvalidParameterError as error:
            place = f"prompts (row {row:,}): {error.parameter}"
            raise InvalidParameterError(place, error.value, error.fix) from error
        except UnicodeEncodeError:
            raise InvalidParameterError(
                f"prompts (row {row:,})",
                Described("has half of a surrogate pair"),
                "UTF-8 cannot encode it; remove it",
            ) from None

    def _from_text(self, text: str, key: str | None = None) -> Line:
        """The fast path, for text: everything except key and text is already encoded."""
        if not text:
            raise InvalidParameterError("prompt", text, "it is empty; remove the row or add text")
        if key is None:
            key = _key_of(text.encode())
            label = quoted = key.encode()
        else:
            label = self._label_of(key).encode() if self._label else b""
            quoted = _write_text(key)[1:-1]
        written = _write_text(text)
        if not text.isascii():
            for character, escape in _LINE_END_BYTES:
                written = written.replace(character, escape)
        if self._label:
            written = b"".join((written, self._to_label, label))
        if not self._head:
            quoted = b""
        return Line(key, b"".join((self._head, quoted, self._to_text, written, self._tail)))

    def _label_of(self, key: str) -> str:
        label = label_of(key)
        if self._key_field.is_label and label != key:
            fix = "as a label it may only have 63 lowercase letters, digits, '_' and '-'"
            raise InvalidParameterError(str(self._key_field), key[:80], fix)
        return label

    def _from_item(self, item: Any) -> Line:
        key = None
        if isinstance(item, tuple) and len(item) == 2 and not hasattr(item, "_fields"):
            key, item = item
        row = item
        if self._template:
            item = self._filled(self._template, item)
        item = plain(item)
        if isinstance(item, dict):
            key, item = self._taken(item, key)
        if key is not None:
            check_key(key)
        elif self._template:
            self._keyless += 1
            self._likely_keys.add(fields_of(row))
        if isinstance(item, str):
            return self._from_text(item, key)
        return self._from_request(self._embedding(item) if self._are_embeddings else request_of(item), key)

    def _embedding(self, item: Any) -> dict[str, Any]:
        request = embedding_of(item)
        if not self._has_titles and TITLE in request.get(EMBED_CONFIG, ()):
            self._has_titles = True
            warn_of_titles(self._model)
        return request

    def _taken(self, item: dict[str, Any], key: Any) -> tuple[Any, Any]:
        """Return the key of a prompt, and the prompt without it."""
        for name in dict.fromkeys((KEY_FIELD, self._key_field.names[0])):
            if name not in item or name == "request":
                continue
            if key is None:
                key = item[KEY_FIELD] if name == KEY_FIELD else self._key_field.read(item)
            item = {each: value for each, value in item.items() if each != name}
        if self._key_field.is_label and key is None:
            key = self._key_field.read(item)
        return key, item["prompt"] if set(item) == {"prompt"} else item

    def _from_request(self, request: dict[str, Any], key: str | None) -> Line:
        try:
            key = key or _key_of(_canonical(request).encode())
            merged = {**self._defaults, **request}
            shared = self._defaults.get(self._config)
            if shared and self._config in request:
                merged[self._config] = {**shared, **camel_case(request[self._config])}
            labels = {**self._defaults.get("labels", {}), **request.get("labels", {})}
            if self._label:
                labels[self._label] = self._label_of(key)
            # The import refuses an empty object.
            merged = {name: each for name, each in merged.items() if name != "labels"}
            line = _write(self._key_field.line(key, {**merged, "labels": labels} if labels else merged))
        except (TypeError, ValueError) as error:
            if isinstance(error, UnicodeError):
                raise
            raise InvalidParameterError("request", Described("is not valid JSON"), str(error)) from None
        data = line.encode() if line.isascii() else line.translate(_LINE_ENDS).encode()
        return Line(key, data + b"\n")

    def _filled(self, template: PromptTemplate, item: Any) -> dict[str, Any]:
        values = fields_of(item)
        try:
            prompt = template.fill(values)
        except KeyError as error:
            raise InvalidParameterError(
                "template", str(error.args[0]), f"the row has no such field; it has {sorted(values)}"
            ) from None
        names = [KEY_FIELD, self._key_field.names[0], *ROW_FIELDS[1:]]
        if self._are_embeddings and TITLE not in template.fields:
            names.append(TITLE)
        kept = {name: values[name] for name in names if values.get(name) is not None and name != "request"}
        return {**kept, "prompt": prompt}


def _key_of(content: bytes) -> str:
    # Keys of earlier versions are the same: rows of a merge are found by them.
    return f"r{hashlib.sha256(content).hexdigest()[:24]}"


def check_key(key: object) -> str:
    """Return the key if the service returns it unchanged.

    :raises InvalidParameterError: it is too long or does not start with a letter; the service changes keys
        that look like numbers
    """
    if not isinstance(key, str):
        raise InvalidParameterError(
            KEY_FIELD, key, f"pass text that starts with a letter, such as 'row-{key}'"
        )
    if not key or not key[0].isalpha() or len(key) > _MAX_KEY:
        raise InvalidParameterError(
            KEY_FIELD,
            key[:80],
            f"a key must start with a letter and have at most {_MAX_KEY:,} characters, such as "
            f"'row-{key[:20]}'. The service changes keys that look like numbers",
        )
    return key


def _members(values: Mapping[str, Any]) -> str:
    return "".join(f",{_write(name)}:{_write(value)}" for name, value in values.items())


def _mapping(parameter: str, value: Any) -> dict[str, Any]:
    members = plain(value) if value is not None else {}
    if not isinstance(members, dict):
        raise InvalidParameterError(
            parameter, shown_or_type(value), "pass a dict or an object of google.genai"
        )
    return {name: each for name, each in members.items() if each is not None}

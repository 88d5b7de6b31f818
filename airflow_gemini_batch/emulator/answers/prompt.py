"""Reads a request: fields in either spelling, text, and tokens per modality."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.gcp.discovery import elements, member

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Roughly what models count for an image, a minute of video or audio, a page.
_MEDIA_TOKENS = {"image": ("IMAGE", 258), "video": ("VIDEO", 1290), "audio": ("AUDIO", 1920)}
_DOCUMENT_TOKENS = ("DOCUMENT", 258)

# Only the start of long prompts is read: an answer needs only some of the words.
_READ_CHARACTERS = 1500
_LABEL = re.compile(r"[A-Za-z][\w .-]{0,40}$")
_SENTENCES = 4
_SENTENCE_END = re.compile(r"(?<=[.!])\s+(?=\W?[A-Z0-9])|(?<=\?)\s+")
_OPENING = tuple("\"'(“‘")
_WORD = re.compile(r"[^\W\d_][\w'-]{2,}")


def parts_of(request: Mapping[str, Any], *, system: bool = True) -> Iterator[Mapping[str, Any]]:
    """Yield the parts of a request, starting with the system instruction."""
    messages = elements(member(request, "systemInstruction")) if system else []
    for message in [*messages, *elements(member(request, "contents"))]:
        for part in elements(member(message, "parts")):
            if isinstance(part, dict):
                yield part


def count_tokens(text: str) -> int:
    """Estimate the tokens of a text, at four characters each."""
    return -(-len(text) // 4)


def prompt_tokens(request: Mapping[str, Any]) -> dict[str, int]:
    """Estimate the tokens of a request by modality, ``TEXT`` first."""
    tokens = {"TEXT": 0}
    for part in parts_of(request):
        tokens["TEXT"] += count_tokens(part.get("text") or "")
        data = member(part, "inlineData") or member(part, "fileData")
        if data:
            kind = str(member(data, "mimeType") or "").split("/")[0]
            modality, count = _MEDIA_TOKENS.get(kind, _DOCUMENT_TOKENS)
            tokens[modality] = tokens.get(modality, 0) + count
    return tokens


@dataclass(frozen=True)
class Prompt:
    """The text of a request, split into pieces for building an answer."""

    text: str

    @classmethod
    def of(cls, request: Mapping[str, Any]) -> Prompt:
        """Return the prompt of a request, without the system instruction, which says only how to answer."""
        texts = [part.get("text") or "" for part in parts_of(request, system=False)]
        return cls("\n\n".join(texts)[:_READ_CHARACTERS])

    @cached_property
    def labelled(self) -> dict[str, str]:
        """The values of lines ``Label: value``, by label in lowercase."""
        pairs = (_split_label(line) for line in self.text.split("\n"))
        return {label.lower(): value for label, value in pairs if label and value}

    @cached_property
    def sentences(self) -> list[str]:
        """The first sentences after the first paragraph, which usually is the question; else those of it."""
        question, *about = self.text.split("\n\n")
        found: list[str] = []
        for paragraph in about or [question]:
            found += _sentences_of(paragraph)
            if len(found) > _SENTENCES:
                break
        found = [sentence for sentence in found if not sentence.endswith("?")] or found
        return found[:_SENTENCES] or [" ".join(self.text.split()) or "Nothing was asked."]

    @cached_property
    def words(self) -> list[str]:
        """The distinct words in order."""
        return list(dict.fromkeys(_WORD.findall(self.text))) or ["nothing"]

    @cached_property
    def vocabulary(self) -> frozenset[str]:
        """The words in lowercase."""
        return frozenset(map(str.lower, self.words))


def _split_label(line: str) -> tuple[str, str]:
    """Split ``Label: value``; the label is empty when the line has none."""
    label, colon, value = line.partition(": ")
    label = label.strip(" -*#")
    if colon and _LABEL.match(label):
        return label, value.strip()
    return "", line


def _sentences_of(paragraph: str) -> list[str]:
    """Return the sentences of a paragraph; lines with a label are separate, lines of markup are skipped."""
    pieces = [""]
    for line in paragraph.split("\n"):
        label, value = _split_label(line)
        if label:
            pieces += [value, ""]
        elif line[:1].isalnum() or line[:1] in _OPENING:
            pieces[-1] += f" {line}"
    sentences = [" ".join(s.split()) for piece in pieces if piece for s in _SENTENCE_END.split(piece)]
    return [sentence for sentence in sentences if " " in sentence]

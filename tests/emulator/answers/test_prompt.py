"""Prompts: sentences, labels and token counts."""

from __future__ import annotations

import pytest

from airflow_gemini_batch.emulator.answers.prompt import Prompt, prompt_tokens


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("Say hello to all.", "Say hello to all."),
        ("Hi", "Hi"),
        ("", "Nothing was asked."),
        ("Who needs this? requests: Python HTTP for Humans.", "requests: Python HTTP for Humans."),
        ("What is it?", "What is it?"),
        ("Describe this.\n\nIt is a library. It is small.", "It is a library."),
        ("Describe this.\n\ngoogle-cloud.py_3: HTTP for Humans.", "HTTP for Humans."),
        ("Describe this.\n\nrequests: HTTP for Humans.\n\nIt is a library.", "HTTP for Humans."),
        ("Describe this.\n\n# Title\n[![badge](x)](y)\nIt is a\nlibrary.", "It is a library."),
        ('Describe this.\n\n```\n=== ===\n```\n\n"Quoted" text.', '"Quoted" text.'),
        ("Classify.\n\nName: requests\nSummary: HTTP for Humans.\nIt sends requests.", "HTTP for Humans."),
    ],
)
def test_the_first_sentence_is_from_the_text_after_the_question(text: str, first: str) -> None:
    assert Prompt(text).sentences[0] == first


def test_labels() -> None:
    prompt = Prompt("Classify.\n\n- Name: requests\n**Home page: x: y\nhttps://a: b\nEmpty: \nNo colon")
    assert prompt.labelled == {"name": "requests", "home page": "x: y"}


def test_text_and_media_are_counted() -> None:
    request = {
        "systemInstruction": {"parts": [{"text": "x" * 8}]},
        "contents": [
            {
                "parts": [
                    {"text": "y" * 9},
                    {"inlineData": {"mimeType": "image/png", "data": ""}},
                    {"file_data": {"mime_type": "video/mp4", "file_uri": "gs://b/v"}},
                    {"fileData": {"mimeType": "application/pdf", "fileUri": "gs://b/p"}},
                ]
            },
            {"parts": {"text": "z"}},
        ],
    }
    assert prompt_tokens(request) == {"TEXT": 6, "IMAGE": 258, "VIDEO": 1290, "DOCUMENT": 258}

"""The queries of docs/results.md, run on landed rows."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_gemini_batch.results.media import MediaFolder
from tests.results.lines import answered, as_json, asked, response

if TYPE_CHECKING:
    from tests.results.conftest import Lander

DOCS = Path(__file__).parents[2] / "docs" / "results.md"
QUERIES = dict(re.findall(r"```sql\n-- (.*?)\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL))
CALL = {"functionCall": {"name": "look_up", "args": {"city": "Bern"}}}
IMAGE = {"inlineData": {"mimeType": "image/png", "data": base64.b64encode(b"\x89PNG").decode()}}
SITE = {"web": {"title": "A site", "uri": "https://example.com/a"}}
SOURCE = {"uri": "https://example.com/b", "license": "MIT"}


def answer() -> dict[str, Any]:
    """A response with everything that a response may contain."""
    thoughts = [{"text": "First, ", "thought": True}, {"text": "second.", "thought": True}]
    found = response(*thoughts, "Hello", CALL, IMAGE)
    first = found["candidates"][0]
    first["groundingMetadata"] = {"groundingChunks": [SITE]}
    first["citationMetadata"] = {"citations": [SOURCE]}
    found["candidates"].append({**response("Hi")["candidates"][0], "index": 1})
    return found


def test_every_query_finds_its_part(lander: Lander) -> None:
    lander.put_input(asked("full"), asked("plain"))
    lander.put_output(answered("full", answer()), answered("plain"))
    lander.land()
    assert {key: row["text"] for key, row in lander.rows().items()} == {"full": "Hello", "plain": "hello"}

    queries = dict(QUERIES)

    def run(name: str) -> list[dict[str, Any]]:
        rows = lander.query(queries.pop(name).replace("my_dataset.answers", lander.destination.quoted))
        return [row for row in rows if row.pop("key") == "full"]

    assert run("Thoughts") == [{"thoughts": "First, second."}]
    candidates = [row["text"] for row in sorted(run("Every candidate"), key=lambda row: row["number"])]
    assert candidates == ["Hello", "Hi"]
    (call,) = run("Function calls")
    assert (call["name"], as_json(call["args"])) == ("look_up", {"city": "Bern"})
    assert run("Grounding") == [SITE["web"]]
    assert run("Citations") == [SOURCE]
    assert run("Images") == [{"mime_type": "image/png", "image": b"\x89PNG"}]
    lander.land(media=MediaFolder.parse(f"gs://{lander.bucket}/images"))
    (image,) = run("Images in Cloud Storage")
    assert image["mime_type"] == "image/png"
    assert image["uri"].startswith(f"gs://{lander.bucket}/images/")
    assert queries == {}, "a query of the page that nothing runs"

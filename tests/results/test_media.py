"""Images in responses: objects in Cloud Storage, and references to them in the table."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import random
from typing import TYPE_CHECKING, Any

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError, MediaError
from airflow_gemini_batch.results.media import MediaFolder
from tests.results.lines import answered, as_json, asked, response
from tests.variants import variant

if TYPE_CHECKING:
    from tests.results.conftest import Lander

PNG = b"\x89PNG\r\n\xfb\xff\xbf\xff\x00"


def media(content: bytes | str, mime_type: str | None = "image/png", **more: Any) -> dict[str, Any]:
    """A part with media, from bytes or from base64 text."""
    data = base64.b64encode(content).decode() if isinstance(content, bytes) else content
    return {"inlineData": {"data": data, **({"mimeType": mime_type} if mime_type else {})}, **more}


def name_of(content: bytes, ending: str) -> str:
    return hashlib.sha256(content).hexdigest() + ending


def reference(lander: Lander, content: bytes, mime_type: str, ending: str) -> dict[str, Any]:
    uri = f"gs://{lander.bucket}/images/{name_of(content, ending)}"
    return {"fileData": {"mimeType": mime_type, "fileUri": uri}}


def folder(lander: Lander, prefix: str = "/images") -> MediaFolder:
    return MediaFolder.parse(f"gs://{lander.bucket}{prefix}")


def parts(lander: Lander, key: str, candidate: int = 0) -> list[dict[str, Any]]:
    found = as_json(lander.rows()[key]["response"])["candidates"][candidate]["content"]["parts"]
    return list(found)


def objects(lander: Lander, prefix: str = "images/") -> dict[str, tuple[bytes, str, int]]:
    """Content, type and generation by name."""
    return {
        blob.name.removeprefix(prefix): (blob.download_as_bytes(), blob.content_type, blob.generation)
        for blob in lander.storage.list_blobs(lander.bucket, prefix=prefix)
    }


def test_images_are_objects_and_the_table_refers_to_them(
    lander: Lander, caplog: pytest.LogCaptureFixture
) -> None:
    """In every candidate; all other parts stay unchanged."""
    caplog.set_level(logging.INFO, "airflow_gemini_batch")
    full = response("Here: ", media(PNG, thoughtSignature="c2ln"), media(b"jpeg", "image/jpeg"), "done")
    full["candidates"].append(response(media(b"sound", "audio/L16;rate=24000"))["candidates"][0])
    full["candidates"].append({"index": 2, "finishReason": "SAFETY", "safetyRatings": None})
    lander.put_input(*(asked(key) for key in ("full", "again", "plain", "blocked")))
    lander.put_output(
        answered("full", full),
        answered("again", response(media(PNG))),
        answered("plain"),
        answered("blocked", {"promptFeedback": {"blockReason": '"inlineData": {'}}),
    )
    lander.land(media=folder(lander))
    png = reference(lander, PNG, "image/png", ".png")
    jpeg = reference(lander, b"jpeg", "image/jpeg", ".jpeg")
    expected = [{"text": "Here: "}, {"thoughtSignature": "c2ln", **png}, jpeg, {"text": "done"}]
    assert parts(lander, "full") == expected
    assert parts(lander, "full", 1) == [reference(lander, b"sound", "audio/L16;rate=24000", ".l16")]
    assert parts(lander, "again") == [png]
    rows = lander.rows()
    landed = as_json(rows["full"]["response"])
    for number in (0, 1):
        full["candidates"][number]["content"]["parts"] = parts(lander, "full", number)
    assert landed == full
    assert rows["full"]["text"] == "Here: done"
    assert as_json(rows["plain"]["response"]) == response("hello")
    assert as_json(rows["blocked"]["response"]) == {"promptFeedback": {"blockReason": '"inlineData": {'}}
    stored = objects(lander)
    assert {name: (content, kind) for name, (content, kind, _) in stored.items()} == {
        name_of(PNG, ".png"): (PNG, "image/png"),
        name_of(b"jpeg", ".jpeg"): (b"jpeg", "image/jpeg"),
        name_of(b"sound", ".l16"): (b"sound", "audio/L16;rate=24000"),
    }
    assert f"Stored media of responses in gs://{lander.bucket}/images: 4 objects" in caplog.messages
    assert lander.tables() == {"results", "results_errors", "results_usage"}


def test_landing_again_stores_the_same_objects(lander: Lander) -> None:
    """Even if the rows are gone, or a landing without media came first."""
    lander.put_input(asked("a"))
    lander.put_output(answered("a", response(media(PNG))))
    lander.land()
    assert parts(lander, "a") == [media(PNG)]
    lander.land(media=folder(lander, "/images/"))
    first = objects(lander)
    landed = parts(lander, "a")
    assert landed == [reference(lander, PNG, "image/png", ".png")]
    lander.land(media=folder(lander))
    lander.query(f"DELETE FROM {lander.destination.quoted} WHERE TRUE")
    lander.land(media=folder(lander))
    assert (objects(lander), parts(lander, "a")) == (first, landed)
    lander.land(media=folder(lander, ""))
    uri = f"gs://{lander.bucket}/{name_of(PNG, '.png')}"
    assert [part["fileData"]["fileUri"] for part in parts(lander, "a")] == [uri]
    assert lander.storage.bucket(lander.bucket).blob(name_of(PNG, ".png")).exists()


def test_every_spelling_of_base64(lander: Lander, caplog: pytest.LogCaptureFixture) -> None:
    """Anything else stays in the response and is counted in one log line."""
    urlsafe = base64.urlsafe_b64encode(PNG).decode()
    assert {"-", "_", "="} < set(urlsafe)
    good = {
        "standard": media(PNG),
        "urlsafe": media(urlsafe),
        "unpadded": media(urlsafe.rstrip("=")),
    }
    broken = {
        "letters": media("$$$$"),
        "length": media("abcde"),
        "empty": media(""),
        "none": {"inlineData": None},
    }
    lander.put_input(*(asked(key) for key in good | broken))
    lander.put_output(*(answered(key, response(part)) for key, part in (good | broken).items()))
    lander.land(media=folder(lander))
    for key in good:
        assert parts(lander, key) == [reference(lander, PNG, "image/png", ".png")], key
    for key, part in broken.items():
        assert parts(lander, key) == [part], key
    assert list(objects(lander)) == [name_of(PNG, ".png")]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert warning == "Left media that are not valid base64 in their responses: 2 parts"


def test_extensions_have_only_letters_and_digits(lander: Lander) -> None:
    endings = {"image/svg+xml": ".svg", "IMAGE/X-Icon": ".icon", "../../x": "", "image/../x": "", None: ""}
    contents = {mime_type: str(mime_type).encode() for mime_type in endings}
    lander.put_input(asked("a"))
    lander.put_output(answered("a", response(*(media(each, kind) for kind, each in contents.items()))))
    lander.land(media=folder(lander))
    assert {name: kind for name, (_, kind, _) in objects(lander).items()} == {
        name_of(content, endings[mime_type]): mime_type or "application/octet-stream"
        for mime_type, content in contents.items()
    }


@pytest.mark.parametrize("kind", ["JSON", variant("STRING")])
def test_output_in_a_table(lander: Lander, kind: str) -> None:
    answer = response(media(PNG))
    row = {"key": "a", "response": answer if kind == "JSON" else json.dumps(answer), "status": ""}
    place = lander.put_table("output", {"key": "STRING", "response": kind, "status": "STRING"}, [row])
    lander.land(job=lander.job(input_uris=(), output_location=place), media=folder(lander))
    assert parts(lander, "a") == [reference(lander, PNG, "image/png", ".png")]
    assert objects(lander)[name_of(PNG, ".png")][0] == PNG


def test_a_large_image(lander: Lander) -> None:
    """A line of 9 MB, as image models write it."""
    image = random.Random(1).randbytes(6_750_000)
    lander.put_input(asked("a"))
    lander.put_output(answered("a", response(media(image))))
    lander.land(media=folder(lander))
    assert parts(lander, "a") == [reference(lander, image, "image/png", ".png")]
    assert objects(lander)[name_of(image, ".png")][0] == image


def test_a_worker_killed_between_images_and_rows(lander: Lander, monkeypatch: pytest.MonkeyPatch) -> None:
    """The images are stored, the rows are not; the next try keeps the images and lands the rows."""
    lander.put_input(asked("a"))
    lander.put_output(answered("a", response(media(PNG))))
    query = lander.bigquery.query

    def die(*arguments: Any, **named: Any) -> Any:
        if (named.get("job_id") or "").startswith("gemini-batch-land-"):
            raise KeyboardInterrupt
        return query(*arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(lander.bigquery, "query", die)
        with pytest.raises(KeyboardInterrupt):
            lander.land(media=folder(lander))
    stored = objects(lander)
    assert list(stored) == [name_of(PNG, ".png")]
    assert lander.rows() == {}
    lander.land(media=folder(lander))
    assert objects(lander) == stored
    assert parts(lander, "a") == [reference(lander, PNG, "image/png", ".png")]
    assert lander.tables() == {"results", "results_errors", "results_usage"}


def test_a_bucket_that_refuses_leaves_nothing_landed(lander: Lander) -> None:
    lander.put_input(asked("a"))
    lander.put_output(answered("a", response(media(PNG))))
    place = MediaFolder.parse("gs://no-such-bucket/images")
    with pytest.raises(MediaError, match="The bucket no-such-bucket of media_uri_prefix does not exist"):
        lander.land(media=place)
    assert lander.rows() == {}
    lander.land(media=folder(lander))
    assert parts(lander, "a") == [reference(lander, PNG, "image/png", ".png")]


@pytest.mark.parametrize("uri", ["/tmp/images", "gs://", "gs:///a", "s3://bucket/a", "gs://bucket/a\nb", 7])
def test_an_invalid_media_folder(uri: Any) -> None:
    with pytest.raises(InvalidParameterError, match="media_uri_prefix=") as caught:
        MediaFolder.parse(uri)
    assert caught.value.value == uri

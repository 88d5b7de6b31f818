"""What landing sends and receives over HTTP."""

from __future__ import annotations

import base64
import os
import random
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.emulator.protocol.schema import Discovery
from airflow_gemini_batch.exceptions import MediaError
from airflow_gemini_batch.requests.response_schema import ResponseSchema
from airflow_gemini_batch.results.media import MediaFolder
from tests.recorder import Recorder, Seen
from tests.results.lines import answered, asked, response

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.results.conftest import Lander

SCHEMA = ResponseSchema.of(
    {"type": "object", "properties": {"label": {"type": "string", "enum": ["x"]}}, "required": ["label"]}
)


@pytest.fixture
def watched(lander: Lander) -> Iterator[tuple[Lander, list[Seen], list[Seen]]]:
    """A lander with recorded clients, the requests to BigQuery, the requests to Cloud Storage."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import bigquery, storage

    with (
        Recorder(os.environ["BIGQUERY_EMULATOR_HOST"]) as queries,
        Recorder(os.environ["STORAGE_EMULATOR_HOST"]) as objects,
    ):
        given = {"project": lander.bigquery.project, "credentials": AnonymousCredentials()}
        clients = (
            bigquery.Client(**given, client_options={"api_endpoint": queries.url}),
            storage.Client(**given, client_options={"api_endpoint": objects.url}),
        )
        yield replace(lander, bigquery=clients[0], storage=clients[1]), queries.seen, objects.seen
        for client in clients:
            client.close()


def put(lander: Lander, count: int) -> None:
    lander.put_input(*(asked(f"k{n}") for n in range(count)))
    lander.put_output(*(answered(f"k{n}", '{"label": "x"}') for n in range(count)))


def put_images(lander: Lander, count: int, size: int) -> None:
    """Responses with one image each, all different."""
    dice = random.Random(count)
    images = [base64.b64encode(dice.randbytes(size)).decode() for _ in range(count)]
    parts = [{"inlineData": {"mimeType": "image/png", "data": image}} for image in images]
    lander.put_input(*(asked(f"k{n}") for n in range(count)))
    lander.put_output(*(answered(f"k{n}", response(part)) for n, part in enumerate(parts)))


def bytes_received(seen: list[Seen]) -> int:
    """Sum the answers, without looks at jobs that run: how many there are depends on the machine."""
    return sum(each.answer_bytes for each in seen if each.method != "GET" or "/jobs/" not in each.path)


def test_every_request_matches_the_api(
    lander: Lander, watched: tuple[Lander, list[Seen], list[Seen]]
) -> None:
    worker, queries, objects = watched
    put(lander, 3)
    worker.land(SCHEMA)
    put_images(lander, 1, 10)
    worker.land(media=MediaFolder.parse(f"gs://{lander.bucket}/images"))
    for api, version, seen in (("bigquery", "v2", queries), ("storage", "v1", objects)):
        discovery = Discovery.load(api, version)
        assert seen
        for each in seen:
            method = discovery.method(each.method, each.path.removeprefix("/upload"))
            assert method, f"{each.method} {each.path} is no method of {api} {version}"
            # Google's own client adds `projection`, which the document does not know.
            assert set(each.query) - {"projection"} <= set(method.query), each.path
            if each.body is not None:
                assert method.request
                assert discovery.violations(method.request, each.body) == []
    kinds = {kind for each in queries if each.body for kind in each.body.get("configuration", {})}
    assert kinds - {"labels"} == {"load", "query"}


def test_no_row_passes_through_the_worker(
    lander: Lander, watched: tuple[Lander, list[Seen], list[Seen]]
) -> None:
    """It downloads no object, and a thousand rows take as many bytes and as much memory as ten."""
    worker, queries, objects = watched
    received, held = [], []
    for count in (10, 1000):
        queries.clear()
        objects.clear()
        put(lander, count)
        tracemalloc.start()
        worker.land(SCHEMA)
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert not any(each.is_download for each in objects)
        assert {each.method for each in objects} == {"GET"}
        received.append(bytes_received(queries) + bytes_received(objects))
    # The first landing creates the tables, the second finds them; 990 rows would have over 200,000 bytes.
    assert abs(received[1] - received[0]) < 5_000, received
    assert held[1] - held[0] < 1_000_000, held


def test_jobs_take_the_location_as_bigquery_spells_it(
    lander: Lander, watched: tuple[Lander, list[Seen], list[Seen]], regional: str
) -> None:
    worker, queries, _ = watched
    worker.dataset = regional
    put(lander, 3)
    worker.land(SCHEMA)
    jobs = [each for each in queries if each.method == "POST" and each.path.endswith("/jobs")]
    assert {each.body["jobReference"]["location"] for each in jobs} == {"us-central1"}


def test_prompts_are_in_no_request(lander: Lander, watched: tuple[Lander, list[Seen], list[Seen]]) -> None:
    worker, queries, objects = watched
    lander.put_input(asked("a", "a secret prompt"))
    lander.put_output(answered("a", "a secret answer", text="a secret prompt"))
    manifest = worker.land()
    assert "secret" not in repr((queries, objects, manifest.to_dict(), str(manifest)))


def test_images_pass_through_the_worker_a_few_at_a_time(
    lander: Lander, watched: tuple[Lander, list[Seen], list[Seen]]
) -> None:
    """Only images: 24 take as much memory as 8, and their responses are not downloaded."""
    worker, queries, objects = watched
    size, held = 500_000, []
    for count in (8, 24):
        queries.clear()
        objects.clear()
        put_images(lander, count, size)
        tracemalloc.start()
        worker.land(media=MediaFolder.parse(f"gs://{lander.bucket}/images"))
        held.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        received = bytes_received(queries)
        assert count * size * 4 / 3 < received < count * size * 1.4 + 1_000_000
        assert len([each for each in objects if each.path.startswith("/upload/")]) == count
        assert not any(each.is_download for each in objects)
    assert held[1] < held[0] * 1.25


def test_a_missing_role_is_named(lander: Lander) -> None:
    """Nothing is landed without the role, everything with it."""
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    put_images(lander, 6, 10)
    images = MediaFolder.parse(f"gs://{lander.bucket}/images")
    with Recorder(os.environ["STORAGE_EMULATOR_HOST"], forbidden="/upload/") as objects:
        options = {"api_endpoint": objects.url}
        client = storage.Client(lander.storage.project, AnonymousCredentials(), client_options=options)
        role = rf"403 .*roles/storage\.objectCreator on the bucket {lander.bucket}\. Nothing was landed"
        with pytest.raises(MediaError, match=role) as caught:
            replace(lander, storage=client).land(media=images)
        client.close()
    assert caught.value.uri.startswith(f"gs://{lander.bucket}/images/")
    assert lander.rows() == {}
    assert lander.land(media=images).rows == 6

"""Waiting for 1,000 and 5,000 jobs: requests a minute, processor time, longest block of the loop, memory.

Beside the shared poller, in one run: a trigger that reads its job once an interval, as before there was one,
and the Google provider's trigger for batch prediction jobs, of which fewer run. They wait for jobs that do
not end, at an interval of a minute, measured for three minutes after the first polls. The service is a
process that answers from memory.
"""

from __future__ import annotations

import asyncio
import gc
import json
import multiprocessing
import os
import random
import sys
import time
import tracemalloc
from concurrent import futures
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

sys.path.insert(0, str(Path(__file__).parents[2]))

from airflow_gemini_batch.testing.separate_airflow import separate_airflow
from tests.bench.emitting import emit
from tests.bench.figures import Figure, Report

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from multiprocessing.connection import Connection

INTERVAL = 60.0
WAITERS = (1000, 5000)
PROVIDER_WAITERS = 20
PROVIDER_INTERVAL = 5
# The first polls of 5,000 waiters come often, so the limit of requests a minute spreads them.
SETTLES = 180.0
# Several intervals: a minute may have the pages of two lists.
MEASURED = 3 * INTERVAL
PAGE = 100
PARENT = "projects/p/locations/us-central1"
MAX_KB = 20
MEASURES = (
    ("requests a minute", "requests", "", 60),
    ("share of a core", "core", "%", 2.0),
    ("longest block of the event loop", "block", "ms", 20),
    ("memory of a trigger", "kb", "KB", MAX_KB),
)


def job(number: int) -> dict[str, Any]:
    created = datetime.now(UTC) - timedelta(hours=2, seconds=number)
    return {
        "name": f"{PARENT}/batchPredictionJobs/{number}",
        "state": "JOB_STATE_RUNNING",
        "createTime": f"{created:%Y-%m-%dT%H:%M:%S.%fZ}",
        "labels": {"airflow_gemini_batch_run": "a" * 24},
        "completionStats": {"successfulCount": "12000", "incompleteCount": "88000"},
    }


def serve(jobs: int, pipe: Connection) -> None:
    """The service: reads of jobs over HTTP and gRPC, and how many there were."""
    resources, counted = [job(number) for number in range(jobs)], {"requests": 0}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            parts = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(parts.query).items()}
            counted["requests"] += 1
            if parts.path.endswith("batchPredictionJobs"):
                since = query["filter"].partition('createTime>="')[2][:19]
                found = [each for each in resources if each["createTime"] >= since]
                first = int(query.get("pageToken") or 0)
                answer: dict[str, Any] = {"batchPredictionJobs": found[first : first + PAGE]}
                if first + PAGE < len(found):
                    answer["nextPageToken"] = str(first + PAGE)
            else:
                answer = resources[int(parts.path.rpartition("/")[2])]
            self._send(answer)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self._send({"access_token": "t", "expires_in": 3599, "token_type": "Bearer"})

        def _send(self, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            """Say nothing."""

    import threading

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    pipe.send((server.server_port, serve_grpc(counted)))
    while pipe.recv() == "count":
        pipe.send(counted["requests"])


def serve_grpc(counted: dict[str, int]) -> int:
    import grpc
    from google.cloud.aiplatform_v1.types import BatchPredictionJob, GetBatchPredictionJobRequest

    def get(request: Any, _: Any) -> Any:
        counted["requests"] += 1
        return BatchPredictionJob(name=request.name, state="JOB_STATE_RUNNING")

    handler = grpc.unary_unary_rpc_method_handler(
        get,
        request_deserializer=GetBatchPredictionJobRequest.deserialize,
        response_serializer=BatchPredictionJob.serialize,
    )
    service = "google.cloud.aiplatform.v1.JobService"
    server = grpc.server(futures.ThreadPoolExecutor(2))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(service, {"GetBatchPredictionJob": handler}),)
    )
    port = int(server.add_insecure_port("127.0.0.1:0"))
    server.start()
    globals()["_kept"] = server
    return port


async def shared(number: int) -> None:
    """The trigger of this package."""
    from airflow_gemini_batch.triggers.gemini_batch import GeminiBatchJobTrigger

    trigger = GeminiBatchJobTrigger(f"{PARENT}/batchPredictionJobs/{number}", INTERVAL)
    async for _ in trigger.run():
        raise AssertionError("the job does not end")


async def one_get_each(number: int) -> None:
    """The loop of the trigger before polls were shared, in its steady state: a hook and a get for each."""
    from airflow_gemini_batch.batch_job import JobName
    from airflow_gemini_batch.hooks.gemini_batch import GeminiBatchAsyncHook
    from airflow_gemini_batch.jobs.polling import PollState, utc_now

    name = JobName.parse(f"{PARENT}/batchPredictionJobs/{number}")
    hook, polled = GeminiBatchAsyncHook(), PollState(INTERVAL, None, seed=str(name))
    await asyncio.sleep(random.uniform(0, INTERVAL))
    while True:
        polled, _ = polled.after_read(await hook.get_job(name), utc_now())
        await asyncio.sleep(INTERVAL)


async def of_the_provider(number: int) -> None:
    """The Google provider's trigger; its client is sent to the service here, without TLS."""
    from airflow.providers.google.cloud.triggers.vertex_ai import CreateBatchPredictionJobTrigger

    trigger = CreateBatchPredictionJobTrigger(
        conn_id="google_cloud_default",
        project_id="p",
        location="us-central1",
        job_id=str(number),
        poll_interval=PROVIDER_INTERVAL,
    )
    async for event in trigger.run():
        raise AssertionError(event.payload)


def redirect_provider(port: int) -> None:
    import grpc.aio
    from airflow.providers.google.cloud.hooks.vertex_ai import batch_prediction_job as hooks
    from google.cloud.aiplatform_v1.services.job_service.transports import JobServiceGrpcAsyncIOTransport

    client = hooks.JobServiceAsyncClient

    def without_tls(**_: Any) -> Any:
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{port}")
        return client(transport=JobServiceGrpcAsyncIOTransport(channel=channel))

    hooks.JobServiceAsyncClient = without_tls


def worker(kind: str, waiters: int, ports: tuple[int, int], traces: bool, pipe: Connection) -> None:
    """Wait, in a process of its own; send what it took in a minute."""
    # A line for each job; Airflow's loggers print.
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115
    separate_airflow(Path(__file__).parents[2] / "example_dags")
    from airflow_gemini_batch.emulator.credentials import service_account_info

    base = f"http://127.0.0.1:{ports[0]}"
    key = {"keyfile_dict": service_account_info(f"{base}/token", "p"), "project": "p"}
    connection = {"conn_type": "google_cloud_platform", "extra": key}
    os.environ["AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT"] = json.dumps(connection)
    os.environ["GOOGLE_VERTEX_BASE_URL"] = base
    if kind == "of_the_provider":
        redirect_provider(ports[1])
    run: Callable[[int], Coroutine[Any, Any, None]] = globals()[kind]
    pipe.send(asyncio.run(measured(run, waiters, traces, pipe)))


async def measured(
    run: Callable[[int], Coroutine[Any, Any, None]], waiters: int, traces: bool, pipe: Connection
) -> dict[str, float]:
    first = asyncio.create_task(run(0))
    await asyncio.sleep(3)
    gc.collect()
    if traces:
        tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0] if traces else 0
    tasks = []
    for number in range(1, waiters):
        tasks.append(asyncio.create_task(run(number)))
        if number % 50 == 0:
            await asyncio.sleep(0)
    settle = 20 if traces else SETTLES
    await asyncio.sleep(settle)
    gc.collect()
    kb = (tracemalloc.get_traced_memory()[0] - before) / waiters / 1024 if traces else 0.0
    if traces:
        failed = [task for task in tasks if task.done()]
        assert not failed, failed[0]
        return {"kb": kb}
    pipe.send("begin")
    pipe.recv()
    begun, used, blocks = time.monotonic(), time.process_time(), []
    while time.monotonic() < begun + MEASURED:
        own = time.thread_time()
        await asyncio.sleep(0.01)
        # The processor time of this thread: whatever else runs on the machine does not count.
        blocks.append(time.thread_time() - own)
    core = (time.process_time() - used) / (time.monotonic() - begun)
    failed = [task for task in (first, *tasks) if task.done()]
    assert not failed, failed[0]
    return {"core": core * 100, "block": max(blocks) * 1000}


def measure(kind: str, waiters: int) -> dict[str, float]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    service = context.Process(target=serve, args=(waiters, theirs), daemon=True)
    service.start()
    ports = ours.recv()
    found: dict[str, float] = {}
    for traces in (True, False):
        mine, its = context.Pipe()
        process = context.Process(target=worker, args=(kind, waiters, ports, traces, its), daemon=True)
        process.start()
        if not traces:
            assert mine.recv() == "begin"
            ours.send("count")
            before = ours.recv()
            mine.send("go")
        found |= mine.recv()
        if not traces:
            ours.send("count")
            found["requests"] = (ours.recv() - before) * 60 / MEASURED
        process.kill()
    service.kill()
    return found


def report() -> Report:
    cases = [(kind, count) for count in WAITERS for kind in ("shared", "one_get_each")]
    cases.append(("of_the_provider", PROVIDER_WAITERS))
    # Two at a time: processes that share a core also share its cache, and then each takes longer.
    with futures.ThreadPoolExecutor(2) as pool:
        found = dict(zip(cases, pool.map(lambda case: measure(*case), cases), strict=True))
    provider = found[cases[-1]]
    peer = "each trigger reads its own job"
    figures = []
    for count in WAITERS:
        ours, alone = found["shared", count], found["one_get_each", count]
        for what, key, unit, most in MEASURES:
            name = f"{count:,} waiters: {what}"
            figures.append(Figure(name, ours[key], unit, most, False, peer, alone[key]))
    beside = "Google provider's trigger for batch prediction"
    memory = found["shared", WAITERS[0]]["kb"]
    figures.append(Figure("memory of a trigger", memory, "KB", MAX_KB, False, beside, provider["kb"]))
    # Fewer triggers at a shorter interval; so for each of them, and each poll.
    each = [
        found["shared", WAITERS[0]]["core"] / 100 * INTERVAL * 1000 / WAITERS[0],
        provider["core"] / 100 * INTERVAL * 1000 / max(provider["requests"], 1),
    ]
    figures.append(Figure("processor time of a poll of a job", each[0], "ms", None, False, beside, each[1]))
    note = (
        f"An interval of {INTERVAL:.0f} s, over {MEASURED / 60:.0f} minutes, two cases at a time. A "
        "block is the time that the loop's thread computes without a break. Of the Google provider's trigger "
        f"{PROVIDER_WAITERS} run, every {PROVIDER_INTERVAL} s, with a client that has neither TLS nor "
        "credentials. Memory is that of Python alone."
    )
    return Report("Waiting", figures, [], note)


if __name__ == "__main__":
    raise SystemExit(emit(report()))

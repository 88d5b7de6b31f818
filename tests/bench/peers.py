"""The peers that requests and results are measured beside, through their own functions.

common-ai writes the batches of OpenAI and Anthropic, whose lines differ from those of Vertex AI: the prompt,
the instruction, the schema and the answer in them are the same.
"""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path


class _Files:
    """The files of OpenAI, in memory and on disk: what the SDK would send and receive."""

    def __init__(self, results: Path | None) -> None:
        self.sent = 0
        self._results = results
        self.with_streaming_response = SimpleNamespace(content=self._content)

    def create(self, file: tuple[str, bytes], purpose: str) -> Any:
        self.sent = len(file[1])
        return SimpleNamespace(id=purpose)

    @contextmanager
    def _content(self, _: str) -> Iterator[Any]:
        assert self._results
        with self._results.open(encoding="utf-8") as lines:
            yield SimpleNamespace(iter_lines=lambda: (line.rstrip("\n") for line in lines))


def adapter(results: Path | None = None) -> Any:
    """common-ai's adapter for OpenAI, over files instead of the network."""
    from airflow.providers.common.ai.batch.openai import OpenAIBatchAdapter

    batches = SimpleNamespace(
        create=lambda **_: SimpleNamespace(id="batch"),
        retrieve=lambda _: SimpleNamespace(output_file_id="output", error_file_id=None),
    )
    return OpenAIBatchAdapter(client=SimpleNamespace(files=_Files(results), batches=batches))


def build_with_common_ai(prompts: Sequence[str], instruction: str, answer: type) -> int:
    """Check and build a batch as ``LLMBatchOperator`` does; return its size in bytes."""
    from airflow.providers.common.ai.batch.output_schema import build_output_spec
    from airflow.providers.common.ai.operators.llm_batch import LLMBatchOperator

    requests = LLMBatchOperator._normalize_requests(list(prompts))
    spec, batch = build_output_spec(answer), adapter()
    shared: dict[str, Any] = {"model": "m", "output_spec": spec, "system_prompt": instruction}
    # Its limits are lower than the numbers of rows here: what they cost is measured, not what they refuse.
    batch.max_requests, batch.max_payload_bytes = 10**9, 10**12
    batch.validate_requests(requests, idempotency_key="0" * 16, **shared)
    batch.submit(requests, idempotency_key="0" * 16, input_fingerprint="0" * 16, **shared)
    return int(batch._client.files.sent)


def build_with_json(prompts: Iterable[str], shared: dict[str, Any]) -> int:
    """One ``json.dumps`` a row, into one buffer."""
    buffer = io.BytesIO()
    for number, prompt in enumerate(prompts):
        contents = [{"role": "user", "parts": [{"text": prompt}]}]
        line = {"key": f"r{number}", "request": {"contents": contents, **shared}}
        buffer.write(json.dumps(line).encode() + b"\n")
    return buffer.tell()


def build_with_pandas(prompts: Iterable[str], shared: dict[str, Any]) -> int:
    """A data frame written as lines, as in Google's notebook about batch prediction."""
    import pandas as pd

    requests = [{"contents": [{"role": "user", "parts": [{"text": text}]}], **shared} for text in prompts]
    frame = pd.DataFrame({"key": [f"r{number}" for number in range(len(requests))], "request": requests})
    return len(frame.to_json(orient="records", lines=True).encode())


def read_with_common_ai(lines: Path, rows: int, answer: type, target: Path) -> int:
    """Read, validate and write results as ``LLMBatchOperator`` does; return the rows that succeeded."""
    from airflow.providers.common.ai.batch.output_schema import build_output_spec
    from airflow.providers.common.ai.batch.results import stream_results_to_jsonl
    from airflow.sdk import ObjectStoragePath

    counts, _ = stream_results_to_jsonl(
        adapter=adapter(lines),
        batch_id="batch",
        output_spec=build_output_spec(answer),
        request_count=rows,
        custom_id_prefix="0" * 16,
        destination=ObjectStoragePath(f"file://{target}"),
    )
    return counts["success"]


def read_with_json(lines: Path) -> int:
    """One ``json.loads`` for each line and one for its answer; return the number of answers."""
    found = 0
    with lines.open("rb") as file:
        for line in file:
            row = json.loads(line)
            text = row["response"]["candidates"][0]["content"]["parts"][0]["text"]
            found += bool(json.loads(text))
    return found


def read_with_pandas(lines: Path) -> int:
    """A data frame of all lines and one of all answers, as in Google's notebook; return its rows."""
    import pandas as pd

    frame = pd.read_json(lines, lines=True)
    answers = frame["response"].map(lambda it: json.loads(it["candidates"][0]["content"]["parts"][0]["text"]))
    return len(frame.join(pd.json_normalize(list(answers))))

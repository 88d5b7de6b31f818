"""Output lines and random mutations of them; all randomness comes from the argument."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Mutation = Callable[[bytes, Random], "list[bytes]"]


def request(number: int) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": f"Say {number} and é \u2028 😀"}]}]}


def input_line(number: int) -> bytes:
    return _bytes({"key": f"k{number:06}", "request": request(number)})


def output_line(number: int) -> bytes:
    parts = [{"text": f'{{"n": {number}, "s": "a\u2028b\u0085c"}}'}]
    return _bytes(
        {
            "request": request(number),
            "status": "",
            "response": {
                "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}],
                "modelVersion": "gemini-3.5-flash",
                "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13},
            },
            "processed_time": "2026-11-01T18:13:16.826+00:00",
            "key": f"k{number:06}",
        }
    )


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _changed(**changes: Any) -> Mutation:
    def mutate(line: bytes, rng: Random) -> list[bytes]:
        members = json.loads(line)
        for path, value in changes.items():
            if value is ...:
                members.pop(path, None)
            else:
                members[path] = value(rng) if callable(value) else value
        return [_bytes(members)]

    return mutate


def _flip_bytes(line: bytes, rng: Random) -> list[bytes]:
    mutated = bytearray(line)
    for _ in range(rng.randint(1, 4)):
        # Any printable ASCII: the line may or may not stay valid JSON, and its key or response may change.
        mutated[rng.randrange(len(mutated))] = rng.randrange(0x20, 0x7F)
    return [bytes(mutated)]


def _junk(line: bytes, rng: Random) -> list[bytes]:
    return [bytes(rng.choice(b'{}[]",:\\ abc019.-\t') for _ in range(rng.randint(1, 60)))]


def _nested(line: bytes, rng: Random) -> list[bytes]:
    depth = rng.choice([5, 50, 200])
    return [
        _bytes({**json.loads(line), "deep": 0}).replace(b'"deep":0', b'"deep":' + b"[" * depth + b"]" * depth)
    ]


def _number(text: bytes) -> Mutation:
    return lambda line, rng: [b'{"n":' + text + b"," + line[1:]]


def _usage(text: bytes) -> Mutation:
    return lambda line, rng: [line.replace(b'"promptTokenCount":9', b'"promptTokenCount":' + text)]


MUTATIONS: dict[str, Mutation] = {
    "left as it is": lambda line, rng: [line],
    "dropped": lambda line, rng: [],
    "doubled": lambda line, rng: [line, line],
    "tripled": lambda line, rng: [line] * 3,
    "cut in the middle": lambda line, rng: [line[: rng.randrange(1, len(line))]],
    "cut at its start": lambda line, rng: [line[rng.randrange(1, len(line)) :]],
    "cut in two lines": lambda line, rng: [line[: len(line) // 2], line[len(line) // 2 :]],
    "bytes flipped": _flip_bytes,
    "junk": _junk,
    "whole and junk": lambda line, rng: [line, *_junk(line, rng)],
    "control characters": lambda line, rng: [
        line[:40] + bytes([rng.choice([1, 2, 8, 9, 12, 27])]) + line[40:]
    ],
    "carriage return": lambda line, rng: [line + b"\r"],
    "white space around": lambda line, rng: [b"  " + line + b" \t"],
    "not an object": lambda line, rng: [rng.choice([b"[]", b"7", b'"x"', b"null", b"true", b"-1.5e3"])],
    "empty object": lambda line, rng: [b"{}"],
    "failed": _changed(
        status='Bad Request: {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}', response={}
    ),
    "failed with random status": _changed(
        status=lambda rng: "".join(rng.choices('{}":e429 ', k=20)), response={}
    ),
    "status of another type": _changed(status=lambda rng: rng.choice([None, 0, 429, [], {"code": 8}, True])),
    "no response": _changed(response=...),
    "null response": _changed(response=None),
    "response of another type": _changed(response=lambda rng: rng.choice([[], "text", 7, True])),
    "response as text": lambda line, rng: [
        _bytes({**json.loads(line), "response": json.dumps(json.loads(line)["response"])})
    ],
    "no candidates": _changed(response={"candidates": []}),
    "candidates of another type": _changed(response={"candidates": {"a": 1}, "usageMetadata": [1]}),
    "blocked": _changed(response={"promptFeedback": {"blockReason": "SAFETY"}}),
    "no key": _changed(key=...),
    "null key": _changed(key=None),
    "key of another type": _changed(key=lambda rng: rng.choice([7, 1.5, True, [], {"a": 1}])),
    "no request": _changed(request=...),
    "neither key nor request": _changed(key=..., request=...),
    "request of another type": _changed(request=lambda rng: rng.choice([[], "x", 1, None]), key=...),
    "extra members": _changed(more={"a": [1, {"b": None}]}, **{"": "empty name", "\u2028": "unusual name"}),
    "key twice": lambda line, rng: [line[:-1] + b',"key":"k000000"}'],
    "huge integer": _number(b"9" * 60),
    "beyond float": _number(b"1e999"),
    "long fraction": _number(b"0." + b"123456789" * 9),
    "token counts": _usage(b'"many"'),
    "huge token counts": _usage(b"9" * 30),
    "negative token counts": _usage(b"-5"),
    "deep": _nested,
    "long": lambda line, rng: [line[:-1] + b',"long":"' + b"x" * 20_000 + b'"}'],
    "time of another kind": _changed(
        processed_time=lambda rng: rng.choice(["soon", "", None, 7, "2026-13-45T"])
    ),
    "text with escapes": lambda line, rng: [line.replace(b"Say", b"\\u0053\\u0061y\\n\\t\\ud83d\\ude00", 1)],
    "half a surrogate": lambda line, rng: [line.replace(b"a\xe2\x80\xa8b", b"\\ud83d")],
}

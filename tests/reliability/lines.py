"""Output lines and what may become of them on their way; all chance comes from the argument."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

    Mutation = Callable[[bytes, Random], "list[bytes]"]


def request(number: int) -> dict[str, Any]:
    return {"contents": [{"role": "user", "parts": [{"text": f"Say {number} and é \u2028 😀"}]}]}


def asked(number: int) -> bytes:
    return _bytes({"key": f"k{number:06}", "request": request(number)})


def answered(number: int) -> bytes:
    parts = [{"text": f'{{"n": {number}, "s": "a\u2028b\u0085c"}}'}]
    return _bytes(
        {
            "request": request(number),
            "status": "",
            "response": {
                "candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}],
                "modelVersion": "gemini-2.5-flash",
                "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13},
            },
            "processed_time": "2026-11-01T18:13:16.826+00:00",
            "key": f"k{number:06}",
        }
    )


def _bytes(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _changed(**changes: Any) -> Mutation:
    def mutate(line: bytes, chance: Random) -> list[bytes]:
        members = json.loads(line)
        for path, value in changes.items():
            if value is ...:
                members.pop(path, None)
            else:
                members[path] = value(chance) if callable(value) else value
        return [_bytes(members)]

    return mutate


def _flipped(line: bytes, chance: Random) -> list[bytes]:
    spoilt = bytearray(line)
    for _ in range(chance.randint(1, 4)):
        # Any printable ASCII: it may or may not stay JSON, change its key, or its answer.
        spoilt[chance.randrange(len(spoilt))] = chance.randrange(0x20, 0x7F)
    return [bytes(spoilt)]


def _junk(line: bytes, chance: Random) -> list[bytes]:
    return [bytes(chance.choice(b'{}[]",:\\ abc019.-\t') for _ in range(chance.randint(1, 60)))]


def _nested(line: bytes, chance: Random) -> list[bytes]:
    depth = chance.choice([5, 50, 200])
    return [
        _bytes({**json.loads(line), "deep": 0}).replace(b'"deep":0', b'"deep":' + b"[" * depth + b"]" * depth)
    ]


def _number(text: bytes) -> Mutation:
    return lambda line, chance: [b'{"n":' + text + b"," + line[1:]]


def _usage(text: bytes) -> Mutation:
    return lambda line, chance: [line.replace(b'"promptTokenCount":9', b'"promptTokenCount":' + text)]


MUTATIONS: dict[str, Mutation] = {
    "left as it is": lambda line, chance: [line],
    "dropped": lambda line, chance: [],
    "doubled": lambda line, chance: [line, line],
    "tripled": lambda line, chance: [line] * 3,
    "cut in the middle": lambda line, chance: [line[: chance.randrange(1, len(line))]],
    "cut at its start": lambda line, chance: [line[chance.randrange(1, len(line)) :]],
    "cut in two lines": lambda line, chance: [line[: len(line) // 2], line[len(line) // 2 :]],
    "bytes flipped": _flipped,
    "junk": _junk,
    "whole and junk": lambda line, chance: [line, *_junk(line, chance)],
    "control characters": lambda line, chance: [
        line[:40] + bytes([chance.choice([1, 2, 8, 9, 12, 27])]) + line[40:]
    ],
    "carriage return": lambda line, chance: [line + b"\r"],
    "white space around": lambda line, chance: [b"  " + line + b" \t"],
    "not an object": lambda line, chance: [chance.choice([b"[]", b"7", b'"x"', b"null", b"true", b"-1.5e3"])],
    "empty object": lambda line, chance: [b"{}"],
    "failed": _changed(
        status='Bad Request: {"error": {"code": 400, "status": "INVALID_ARGUMENT"}}', response={}
    ),
    "failed in odd words": _changed(
        status=lambda chance: "".join(chance.choices('{}":e429 ', k=20)), response={}
    ),
    "status of another type": _changed(
        status=lambda chance: chance.choice([None, 0, 429, [], {"code": 8}, True])
    ),
    "no response": _changed(response=...),
    "null response": _changed(response=None),
    "response of another type": _changed(response=lambda chance: chance.choice([[], "text", 7, True])),
    "response as text": lambda line, chance: [
        _bytes({**json.loads(line), "response": json.dumps(json.loads(line)["response"])})
    ],
    "no candidates": _changed(response={"candidates": []}),
    "candidates of another type": _changed(response={"candidates": {"a": 1}, "usageMetadata": [1]}),
    "blocked": _changed(response={"promptFeedback": {"blockReason": "SAFETY"}}),
    "no key": _changed(key=...),
    "null key": _changed(key=None),
    "key of another type": _changed(key=lambda chance: chance.choice([7, 1.5, True, [], {"a": 1}])),
    "no request": _changed(request=...),
    "neither key nor request": _changed(key=..., request=...),
    "request of another type": _changed(request=lambda chance: chance.choice([[], "x", 1, None]), key=...),
    "extra members": _changed(more={"a": [1, {"b": None}]}, **{"": "empty name", "\u2028": "odd name"}),
    "key twice": lambda line, chance: [line[:-1] + b',"key":"k000000"}'],
    "huge integer": _number(b"9" * 60),
    "beyond float": _number(b"1e999"),
    "long fraction": _number(b"0." + b"123456789" * 9),
    "token counts": _usage(b'"many"'),
    "huge token counts": _usage(b"9" * 30),
    "negative token counts": _usage(b"-5"),
    "deep": _nested,
    "long": lambda line, chance: [line[:-1] + b',"long":"' + b"x" * 20_000 + b'"}'],
    "time of another kind": _changed(
        processed_time=lambda chance: chance.choice(["soon", "", None, 7, "2026-13-45T"])
    ),
    "text with escapes": lambda line, chance: [
        line.replace(b"Say", b"\\u0053\\u0061y\\n\\t\\ud83d\\ude00", 1)
    ],
    "half a surrogate": lambda line, chance: [line.replace(b"a\xe2\x80\xa8b", b"\\ud83d")],
}

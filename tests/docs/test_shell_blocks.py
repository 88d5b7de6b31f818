"""The shell blocks of the README and the docs. Blocks marked ``shell`` need what a test does not have."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from airflow_gemini_batch.cli.main import parser
from airflow_gemini_batch.local_stack.service import isolated_environment
from tests.docs.pages import ROOT, blocks

COMMANDS = [(block.name, command) for block in blocks("console") for command in block.commands]
# These start servers, or run for long: tests/local_stack and tests/cli run them.
ONLY_PARSED = ("demo", "up", "down", "emulator", "report")
PLACEHOLDERS = {"DIR": ".", "FILE": "rows.jsonl", "MODEL": "gemini-3.5-flash"}
ROWS = [
    {"key": f"k{n}", "request": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}} for n in range(3)
]


def run(words: list[str], folder: Path) -> str:
    environment = {**isolated_environment(), "AIRFLOW_HOME": str(folder / "airflow")}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("where", "command"), COMMANDS, ids=[f"{where}-{c.split()[0]}" for where, c in COMMANDS]
)
def test_console_block(where: str, command: str, tmp_path: Path) -> None:
    program, *arguments = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)]
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(arguments) <= set(targets)
        return
    assert program in {"gemini-batch", "airflow"}, "mark a block that a test cannot run as `shell`"
    if program == "gemini-batch" and arguments[0] in ONLY_PARSED:
        parser().parse_args(arguments)
        return
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    assert run([program, *arguments], tmp_path)


def test_there_are_commands() -> None:
    print(f"{len(COMMANDS)} commands")
    assert len(COMMANDS) >= 10

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
# One database for all of them.
pytestmark = pytest.mark.xdist_group("docs")
# These start servers, or run for long: tests/local_stack and tests/cli run them.
ONLY_PARSED = ("doctor", "demo", "up", "down", "emulator", "report", "jobs", "cancel")
PLACEHOLDERS = {"DIR": ".", "FILE": "rows.jsonl", "MODEL": "gemini-3.5-flash"}
ROWS = [
    {"key": f"k{n}", "request": {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]}} for n in range(3)
]


@pytest.fixture(scope="session")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The home of an Airflow with a database."""
    home = tmp_path_factory.mktemp("airflow")
    run(["airflow", "db", "migrate"], home, home)
    return home


def run(words: list[str], folder: Path, home: Path) -> str:
    environment = {
        **isolated_environment(),
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__DATABASE__LOAD_DEFAULT_CONNECTIONS": "False",
    }
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("where", "command"), COMMANDS, ids=[f"{where}-{c.split()[0]}" for where, c in COMMANDS]
)
def test_console_block(
    where: str,
    command: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program, *arguments = [PLACEHOLDERS.get(word, word) for word in shlex.split(command)]
    program = program.removeprefix(".venv/bin/")
    if program == "make":
        targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(arguments) <= set(targets)
        return
    assert program in {"gemini-batch", "airflow"}, "mark a block that a test cannot run as `shell`"
    if program == "gemini-batch" and arguments[0] in ONLY_PARSED:
        (tmp_path / "dags").mkdir()
        monkeypatch.chdir(tmp_path)
        parser().parse_args(arguments)
        return
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    home = request.getfixturevalue("airflow") if program == "airflow" else tmp_path
    assert run([program, *arguments], tmp_path, home)


def test_there_are_commands() -> None:
    print(f"{len(COMMANDS)} commands")
    assert len(COMMANDS) >= 10

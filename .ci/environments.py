#!/usr/bin/env python3
"""Make the environments of this checkout, each from its lock file: ``environments.py NAME…``.

Runs on any python3 from 3.8 with the standard library alone. Everything it makes is stored in the checkout
(.tools, .venv*). An environment that is up to date is left alone, so the second run takes no time.
"""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools"
LOCAL_STACK = ROOT / "airflow_gemini_batch" / "local_stack"
UV_VERSION = "0.13.9"

# Loaded by its path: its package cannot be imported before the environments exist.
_spec = importlib.util.spec_from_file_location("python_env", str(LOCAL_STACK / "python_env.py"))
python_env = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(python_env)
SetupError = python_env.SetupError

Environment = namedtuple("Environment", "folder pythons lock has_package what")

LOCKS = ROOT / ".ci" / "locks"
ENVIRONMENTS = {
    "airflow3": Environment(".venv", ("3.13", "3.12", "3.11"), LOCKS / "airflow3.txt", True, "Airflow 3"),
    "airflow2": Environment(".venv-airflow2", ("3.11", "3.12"), LOCKS / "airflow2.txt", True, "Airflow 2.11"),
    "lowest": Environment(
        ".venv-lowest", ("3.11", "3.12"), LOCKS / "lowest.txt", True, "the lowest versions that are supported"
    ),
    "load": Environment(".venv-load", ("3.13", "3.12", "3.11"), LOCKS / "load.txt", True, "the load test"),
    "bench": Environment(
        ".venv-bench", ("3.13", "3.12", "3.11"), LOCKS / "bench.txt", True, "the packages to measure beside"
    ),
    "bigquery": Environment(
        ".venv-bigquery",
        ("3.13",),
        LOCAL_STACK / "bigquery" / "requirements.txt",
        False,
        "the BigQuery emulator",
    ),
}


def uv():
    """Return the path of a uv that runs: the one on the PATH, else our own in .tools, installed if absent."""
    own = TOOLS / "uv" / "bin" / "uv"
    found = python_env.find_uv(str(own))
    if found:
        return found
    say("Installing uv into .tools")
    wanted = "uv==" + UV_VERSION
    shutil.rmtree(str(TOOLS / "uv"), ignore_errors=True)
    attempts = (
        # Debian's python3 may come without ensurepip, or without pip, or without both.
        (
            [sys.executable, "-m", "venv", str(TOOLS / "uv")],
            [str(TOOLS / "uv/bin/pip"), "install", "-q", wanted],
        ),
        ([sys.executable, "-m", "pip", "install", "-q", "--target", str(TOOLS / "uv"), wanted],),
    )
    errors = []
    for commands in attempts:
        for command in commands:
            done = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            if done.returncode:
                errors.append("$ {}\n{}".format(" ".join(command), done.stdout.decode().strip()))
                break
        else:
            if python_env.output_of([str(own), "--version"]):
                return str(own)
    raise SetupError(
        "uv is not on the PATH and cannot be installed into .tools with {}:\n{}\n"
        "Install python3's venv or pip (Debian and Ubuntu: apt install python3-venv), or put uv on the "
        "PATH (https://docs.astral.sh/uv/), and run this again.".format(sys.executable, "\n".join(errors))
    )


def stamp_of(environment):
    """Return a hash of what the environment is made from."""
    # Installing the package writes its entry points down, so pyproject.toml counts as well.
    files = [environment.lock, ROOT / "pyproject.toml"] if environment.has_package else [environment.lock]
    return python_env.hash_of(files, str(ROOT))


def is_current(environment):
    """Return whether the environment exists, is complete and matches its lock file."""
    return python_env.is_current(ROOT / environment.folder, stamp_of(environment))


def make(environment):
    """Make one environment from scratch."""
    uv_path = uv()
    python = python_env.find_python(environment.pythons, uv_path, TOOLS / "python", report=say)
    folder = ROOT / environment.folder
    version = python_env.output_of([python, "-c", "import platform; print(platform.python_version())"])
    text = f"Installing {environment.what} into {environment.folder} (Python {version})"
    stamp = stamp_of(environment)
    install = python_env.make(folder, python, uv_path, environment.lock, ticking(text))
    if environment.has_package:
        patiently(text, [*install, "--no-build-isolation", "--editable", str(ROOT)])
    (folder / "stamp").write_text(stamp)


def ticking(text):
    """Return a function that shows ``text`` and the elapsed time, on terminals only."""
    return lambda elapsed: say(f"{text} … {elapsed}", end="")


def patiently(text, command):
    """Run a command and show the elapsed time on terminals; raise SetupError with its output if it fails."""
    python_env.run(command, ticking(text), ROOT)


def say(text, end="\n"):
    """Print a line to standard error; a line that the next one overwrites is printed on terminals only."""
    if sys.stderr.isatty():
        print("\r\033[K" + text, end=end, file=sys.stderr, flush=True)
    elif end:
        print(text, file=sys.stderr, flush=True)


def main(names):
    """Bring the named environments up to date; return the exit code."""
    if all(is_current(ENVIRONMENTS[name]) for name in names):
        return 0
    with python_env.exclusive(TOOLS):
        for name in names:
            environment = ENVIRONMENTS[name]
            if is_current(environment):
                continue
            start = time.time()
            try:
                make(environment)
            except SetupError as error:
                print(f"\n{error}", file=sys.stderr)
                return 1
            text = "Installed {} into {} in {:.0f} s"
            say(text.format(environment.what, environment.folder, time.time() - start))
    return 0


if __name__ == "__main__":
    try:
        if sys.argv[1:] == ["--uv"]:
            print(uv())
        else:
            sys.exit(main(sys.argv[1:]))
    except SetupError as failure:
        sys.exit(str(failure))
    except KeyboardInterrupt:
        sys.exit(130)

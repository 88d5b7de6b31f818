#!/usr/bin/env python3
"""Make the environments of this checkout, each from its lock: ``environments.py NAME…``.

Runs on any python3 from 3.8 with the standard library alone. Everything it makes lies in the checkout
(.tools, .venv*); what is up to date already is left alone, so the second run takes no time.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TOOLS = ROOT / ".tools"
UV_VERSION = "0.13.9"
SYSTEM = ("/usr/local/bin", "/opt/homebrew/bin")

Environment = namedtuple("Environment", "folder pythons lock has_package what")

ENVIRONMENTS = {
    "airflow3": Environment(".venv", ("3.13", "3.12", "3.11"), "airflow3.txt", True, "Airflow 3"),
    "airflow2": Environment(".venv-airflow2", ("3.11", "3.12"), "airflow2.txt", True, "Airflow 2.11"),
    "load": Environment(".venv-load", ("3.13", "3.12", "3.11"), "load.txt", True, "the load test"),
    "bigquery": Environment(".venv-bigquery", ("3.13",), "bigquery.txt", False, "the BigQuery stand-in"),
}


class SetupError(Exception):
    """Something that the machine lacks; says what and how to get it."""


def runs(command):
    """Return what ``command`` prints, or None when it cannot be run; a shim of pyenv may fail."""
    try:
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def uv():
    """Return a uv that runs: the one on the PATH, or our own in .tools."""
    own = TOOLS / "uv" / "bin" / "uv"
    for candidate in (shutil.which("uv"), own):
        if candidate and runs([str(candidate), "pip", "compile", "--help"]) is not None:
            return str(candidate)
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
            if runs([str(own), "--version"]):
                return str(own)
    raise SetupError(
        "uv is not on the PATH and cannot be installed into .tools with {}:\n{}\n"
        "Install python3's venv or pip (Debian and Ubuntu: apt install python3-venv), or put uv on the "
        "PATH (https://docs.astral.sh/uv/), and run this again.".format(sys.executable, "\n".join(errors))
    )


def pyenv_roots():
    """Yield where pyenv may keep Pythons, even when HOME is not the home of this user."""
    homes = [os.environ.get("HOME", ""), pwd.getpwuid(os.getuid()).pw_dir]
    shims = [folder for folder in os.environ.get("PATH", "").split(os.pathsep) if folder.endswith("/shims")]
    yield from [os.environ.get("PYENV_ROOT", "")] + [os.path.dirname(folder) for folder in shims]
    yield from [os.path.join(home, ".pyenv") for home in homes]


def candidates(version):
    """Yield paths that may be a Python of ``version``, the most likely first."""
    name = "python" + version
    for folder in [*os.environ.get("PATH", "").split(os.pathsep), *SYSTEM]:
        yield os.path.join(folder, name)
    for root in pyenv_roots():
        if root:
            yield from sorted(glob.glob(os.path.join(root, "versions", version + ".*", "bin", "python")))
    yield from sorted(glob.glob(str(TOOLS / "python" / f"cpython-{version}.*" / "bin" / "python")))


def find_python(versions, uv_path):
    """Return the path of the first Python of ``versions`` that works; download one when there is none."""
    # A Python that was built without these is not one that Airflow runs on.
    probe = "import ctypes, lzma, sqlite3, ssl, sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    for version in versions:
        for path in candidates(version):
            found = runs([path, "-c", probe]) if os.path.exists(path) else None
            if found and found.split(" ", 1)[0] == version:
                return found.split(" ", 1)[1]
    for version in versions:
        managed = ["python", "find", "--python-preference", "only-managed", "--no-python-downloads", version]
        found = runs([uv_path, *managed])
        if found and runs([found, "-c", probe]):
            return found
    say("No Python {} here; downloading one into .tools".format(" or ".join(versions)))
    environment = dict(os.environ, UV_PYTHON_INSTALL_DIR=str(TOOLS / "python"))
    command = [uv_path, "python", "install", "--no-bin", versions[0]]
    done = subprocess.run(
        command, check=False, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    for path in candidates(versions[0]) if done.returncode == 0 else ():
        if os.path.exists(path) and runs([path, "-c", probe]):
            return path
    raise SetupError(
        "Python {} is needed and is neither on the PATH, nor in pyenv, nor managed by uv, and uv cannot "
        "download it:\n{}\nInstall it (python.org, your package manager, or `pyenv install {}`) and run "
        "this again.".format(" or ".join(versions), done.stdout.decode().strip(), versions[0])
    )


def stamp_of(environment):
    """Return what the environment is made from, as a hash."""
    digest = hashlib.sha256((ROOT / ".ci" / "locks" / environment.lock).read_bytes())
    if environment.has_package:
        # Entry points are written down when the package is installed.
        digest.update((ROOT / "pyproject.toml").read_bytes())
    digest.update(str(ROOT).encode())
    return digest.hexdigest()


def is_current(environment):
    """Whether the environment exists, is finished and matches its lock."""
    folder = ROOT / environment.folder
    stamp = folder / "stamp"
    return stamp.exists() and stamp.read_text() == stamp_of(environment) and (folder / "bin/python").exists()


def make(environment):
    """Make one environment anew."""
    uv_path = uv()
    python = find_python(environment.pythons, uv_path)
    folder = ROOT / environment.folder
    version = runs([python, "-c", "import platform; print(platform.python_version())"])
    text = f"Installing {environment.what} into {environment.folder} (Python {version})"
    lock = str(ROOT / ".ci" / "locks" / environment.lock)
    target = ["--python", str(folder / "bin" / "python")]
    install = [uv_path, "pip", "install", "--quiet", "--no-deps", *target]
    stamp = stamp_of(environment)
    patiently(text, [uv_path, "venv", "--quiet", "--clear", "--python", python, str(folder)])
    patiently(text, [*install, "--require-hashes", "--requirements", lock])
    if environment.has_package:
        patiently(text, [*install, "--no-build-isolation", "--editable", str(ROOT)])
    (folder / "stamp").write_text(stamp)


def patiently(text, command):
    """Run a command, with the seconds ticking on a terminal; fail with all that it said."""
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    # Networks that inspect TLS have a root of their own, which the system knows and uv's list does not.
    environment.setdefault("UV_SYSTEM_CERTS", "true")
    environment.setdefault("UV_HTTP_TIMEOUT", "180")
    start = time.time()
    with subprocess.Popen(
        command, cwd=str(ROOT), env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as process:
        said = b""
        while True:
            try:
                said += process.communicate(timeout=1)[0]
                break
            except subprocess.TimeoutExpired:
                say(f"{text} … {time.time() - start:.0f} s", end="")
    if process.returncode:
        say("")
        raise SetupError("$ {}\n{}".format(" ".join(command), said.decode().strip()))
    say(f"{text} … {time.time() - start:.0f} s", end="")


def say(text, end="\n"):
    """Print for people; a line that will be overwritten is shown on terminals only."""
    if sys.stderr.isatty():
        print("\r\033[K" + text, end=end, file=sys.stderr, flush=True)
    elif end:
        print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def alone():
    """Let one process at a time make environments in this checkout."""
    TOOLS.mkdir(exist_ok=True)
    with open(str(TOOLS / "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def main(names):
    """Bring the named environments up to date."""
    if all(is_current(ENVIRONMENTS[name]) for name in names):
        return 0
    with alone():
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

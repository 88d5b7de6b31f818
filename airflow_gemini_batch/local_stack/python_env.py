"""Find a Python, and make a virtual environment from a lock file with hashes.

``.ci/environments.py`` loads this file by its path before anything is installed, so it needs nothing but
the standard library of Python 3.8.
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
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Report = Callable[[str], None]

SYSTEM_FOLDERS = ("/usr/local/bin", "/opt/homebrew/bin")
# Airflow and DuckDB do not run on a Python that was built without these modules.
_PROBE = "import ctypes, lzma, sqlite3, ssl, sys; print('%d.%d' % sys.version_info[:2], sys.executable)"


class SetupError(Exception):
    """The machine lacks something. The message says what, and how to get it."""


def output_of(command: Sequence[str]) -> str | None:
    """Return what ``command`` prints, or None when it fails, as a pyenv shim of an inactive version does."""
    try:
        done = subprocess.run(
            command, check=False, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode().strip() if done.returncode == 0 else None


def find_uv(*candidates: str) -> str | None:
    """Return the first uv that runs, on the PATH or in ``candidates``; None if there is none."""
    for candidate in (shutil.which("uv"), *candidates):
        if candidate and output_of([candidate, "pip", "compile", "--help"]) is not None:
            return candidate
    return None


def find_python(
    versions: Sequence[str],
    uv: str | None,
    downloads: Path,
    *,
    first: Sequence[str] = (),
    report: Report | None = None,
) -> str:
    """Return the path of the first Python of ``versions`` that runs.

    Looks on the PATH, in pyenv, and among the Pythons that uv manages; then has uv download one.

    :param uv: path of uv, or None to do without it
    :param downloads: folder for a downloaded Python
    :param first: interpreters to try before all others
    :param report: is called with a line about the download
    :raises SetupError: no such Python is installed and none can be downloaded
    """
    for version in versions:
        for path in (*first, *_candidates(version, downloads)):
            if found := _interpreter(path, version):
                return found
    for version in versions if uv else ():
        managed = ["python", "find", "--python-preference", "only-managed", "--no-python-downloads", version]
        if found := _interpreter(output_of([str(uv), *managed]) or "", version):
            return found
    if uv:
        return _download(versions, uv, downloads, report)
    raise SetupError(_missing(versions, "uv, which could download it, is not on the PATH either."))


def _interpreter(path: str, version: str) -> str | None:
    """Return the interpreter that ``path`` runs, or None if it does not run or has another version."""
    found = output_of([path, "-c", _PROBE]) if path and os.path.exists(path) else None
    return found.split(" ", 1)[1] if found and found.split(" ", 1)[0] == version else None


def _candidates(version: str, downloads: Path) -> Iterator[str]:
    """Yield paths that may be a Python of ``version``, the most likely first."""
    for folder in (*os.environ.get("PATH", "").split(os.pathsep), *SYSTEM_FOLDERS):
        yield os.path.join(folder, "python" + version)
    for root in filter(None, _pyenv_roots()):
        yield from sorted(glob.glob(os.path.join(root, "versions", version + ".*", "bin", "python")))
    yield from sorted(glob.glob(str(downloads / f"cpython-{version}.*" / "bin" / "python")))


def _pyenv_roots() -> Iterator[str]:
    """Yield the folders where pyenv may keep Pythons, even when HOME is not the home of this user."""
    folders = os.environ.get("PATH", "").split(os.pathsep)
    yield os.environ.get("PYENV_ROOT", "")
    yield from (os.path.dirname(folder) for folder in folders if folder.endswith("/shims"))
    yield os.path.join(os.environ.get("HOME", ""), ".pyenv")
    with contextlib.suppress(KeyError):  # A container may run as a user that has no entry.
        yield os.path.join(pwd.getpwuid(os.getuid()).pw_dir, ".pyenv")


def _download(versions: Sequence[str], uv: str, downloads: Path, report: Report | None) -> str:
    if report:
        report(f"No Python {' or '.join(versions)} on this machine; downloading one into {downloads}")
    done = subprocess.run(
        [uv, "python", "install", "--no-bin", versions[0]],
        check=False,
        env=dict(os.environ, UV_PYTHON_INSTALL_DIR=str(downloads)),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    for path in _candidates(versions[0], downloads) if done.returncode == 0 else ():
        if found := _interpreter(path, versions[0]):
            return found
    raise SetupError(_missing(versions, f"uv cannot download it:\n{done.stdout.decode().strip()}"))


def _missing(versions: Sequence[str], why: str) -> str:
    return (
        f"Python {' or '.join(versions)} is required but is not on the PATH, in pyenv, or managed by uv. "
        f"{why}\nInstall it (from python.org, with your package manager, or with `pyenv install "
        f"{versions[0]}`) and run this again."
    )


def hash_of(files: Iterable[Path], *more: str) -> str:
    """Return a hash over the content of ``files`` and over ``more``."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    for text in more:
        digest.update(text.encode())
    return digest.hexdigest()


def is_current(folder: Path, stamp: str) -> bool:
    """Return whether ``folder`` has a complete environment that was made with this stamp."""
    file = folder / "stamp"
    return file.exists() and file.read_text() == stamp and (folder / "bin" / "python").exists()


def make(folder: Path, python: str, uv: str | None, lock: Path, report: Report) -> list[str]:
    """Make ``folder`` a new environment with the packages of ``lock``, without a stamp.

    :param uv: path of uv, or None to use venv and pip
    :param report: is called every second with the elapsed time
    :return: the command that installs more into the environment, without dependencies
    :raises SetupError: a command failed
    """
    target = str(folder / "bin" / "python")
    if uv:
        create = [uv, "venv", "--quiet", "--clear", "--python", python, str(folder)]
        install = [uv, "pip", "install", "--quiet", "--no-deps", "--python", target]
    else:
        create = [python, "-m", "venv", "--clear", str(folder)]
        install = [
            target,
            "-m",
            "pip",
            "--disable-pip-version-check",
            "install",
            "--quiet",
            "--no-compile",
            "--no-deps",
        ]
    # uv reads the settings of the project in the current folder, which may be anybody's.
    run(create, report, folder.parent)
    run([*install, "--require-hashes", "--requirement", str(lock)], report, folder.parent)
    return install


def run(command: Sequence[str], report: Report, directory: Path) -> None:
    """Run a command in ``directory``; report the elapsed time every second, as in ``12 s``.

    :raises SetupError: the command failed; the message has all its output
    """
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"}
    # Networks that inspect TLS have their own root certificate, which only the system's store has.
    environment.setdefault("UV_SYSTEM_CERTS", "true")
    environment.setdefault("UV_HTTP_TIMEOUT", "180")
    start = time.time()
    try:
        process = subprocess.Popen(
            command,
            cwd=str(directory),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    except OSError as error:
        raise SetupError(f"$ {' '.join(command)}\n{error}") from None
    with process:
        output = b""
        while True:
            try:
                output += process.communicate(timeout=1)[0]
                break
            except subprocess.TimeoutExpired:
                report(f"{time.time() - start:.0f} s")
    if process.returncode:
        raise SetupError(f"$ {' '.join(command)}\n{output.decode(errors='replace').strip()}")


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Wait until no other process makes environments in ``folder``, and keep others waiting meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield

"""The environments of a checkout and of the BigQuery emulator, made on simulated machines."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

ROOT = Path(__file__).parents[1]
VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"


@pytest.fixture
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, on a machine with an empty PATH and home."""
    spec = importlib.util.spec_from_file_location("environments", ROOT / ".ci" / "environments.py")
    assert spec
    assert spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TOOLS", tmp_path / ".tools")
    empty_machine(module.python_env, tmp_path, monkeypatch)
    return module


def empty_machine(python_env: Any, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the Pythons, uv and pyenv of this machine; ``home/bin`` is the PATH."""
    monkeypatch.setattr(python_env, "SYSTEM_FOLDERS", ())
    monkeypatch.setenv("PATH", str(home / "bin"))
    monkeypatch.setenv("HOME", str(home / "home"))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    nobody = python_env.pwd.struct_passwd(["", "", 0, 0, "", "/-", ""])
    monkeypatch.setattr(python_env.pwd, "getpwuid", lambda _: nobody)


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def python(path: Path) -> Path:
    """Make ``path`` run the Python of this test."""
    return program(path, f'exec "{sys.executable}" "$@"')


def test_a_python_on_the_path_is_used(environments: Any, tmp_path: Path) -> None:
    python(tmp_path / "bin" / f"python{VERSION}")
    assert environments.python_env.find_python([VERSION], None, tmp_path) == sys.executable


def test_a_shim_that_does_not_run_is_skipped(
    environments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyenv puts a shim on the PATH for every version, which fails unless that version is active."""
    shims = tmp_path / "pyenv" / "shims"
    program(shims / f"python{VERSION}", "echo 'pyenv: command not found' >&2; exit 127")
    python(tmp_path / "pyenv" / "versions" / f"{VERSION}.0" / "bin" / "python")
    monkeypatch.setenv("PATH", str(shims))
    assert environments.python_env.find_python([VERSION], None, tmp_path) == sys.executable


def test_a_python_whose_version_differs_from_its_name_is_skipped(environments: Any, tmp_path: Path) -> None:
    python(tmp_path / "bin" / "python3.9")
    python(tmp_path / "bin" / f"python{VERSION}")
    assert environments.python_env.find_python(["3.9", VERSION], None, tmp_path) == sys.executable


def test_no_python_is_an_error_with_a_fix(environments: Any, tmp_path: Path) -> None:
    uv = program(tmp_path / "uv", "echo 'no internet here'; exit 2")
    with pytest.raises(
        environments.SetupError, match=r"(?s)Python 3\.13 is required.*no internet.*pyenv install"
    ):
        environments.python_env.find_python(["3.13"], str(uv), tmp_path)


def test_neither_venv_nor_pip_is_an_error_with_a_fix(
    environments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = program(tmp_path / "python3", 'echo "No module named $2" >&2; exit 1')
    monkeypatch.setattr(sys, "executable", str(bare))
    message = r"(?s)No module named venv.*No module named pip.*apt install python3-venv"
    with pytest.raises(environments.SetupError, match=message):
        environments.uv()


def test_an_environment_is_current_until_its_lock_file_changes(
    environments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    lock = tmp_path / "lock.txt"
    lock.write_text("one==1\n")
    environment = environments.ENVIRONMENTS["bigquery"]._replace(lock=lock)
    python(tmp_path / environment.folder / "bin" / "python")
    assert not environments.is_current(environment)
    (tmp_path / environment.folder / "stamp").write_text(environments.stamp_of(environment))
    assert environments.is_current(environment)
    lock.write_text("one==2\n")
    assert not environments.is_current(environment)


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script that provides the browser, on a machine that has only a shell."""
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    environments = importlib.import_module("environments")
    monkeypatch.setattr(environments, "TOOLS", tmp_path / ".tools")
    module = importlib.import_module("browser")
    monkeypatch.setattr(module, "FOLDER", tmp_path / ".tools" / "browser")
    monkeypatch.setattr(module, "RUN", tmp_path / ".tools" / "browser" / "run")
    monkeypatch.setattr(module, "MAC", "no Mac")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return module


def test_a_browser_on_the_path_is_used_if_it_can_read_the_checkout(browser: Any, tmp_path: Path) -> None:
    program(tmp_path / "bin" / "chromium", "exit 0")  # A snap cannot read hidden folders and prints nothing.
    chrome = program(tmp_path / "bin" / "google-chrome", "echo '<html><p>seen</p></html>'")
    assert browser.main() == 0
    assert f'exec "{chrome}" --headless' in browser.RUN.read_text()


def test_without_a_browser_the_message_says_what_is_checked_instead(
    browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin" / "chromium", "exit 0")
    assert browser.main() == browser.NONE == 3
    assert not browser.RUN.exists()
    output = capsys.readouterr().err
    assert "The browser tests are skipped on this machine" in output
    assert "this is not Debian" in output
    assert "checked as text by tests/results/report" in output


def test_make_without_a_target_lists_every_target() -> None:
    output = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    makefile = (ROOT / "Makefile").read_text()
    targets = makefile.split(".PHONY:", 1)[1].splitlines()[0].split()
    assert {line.split()[1] for line in output.splitlines()} == set(targets)
    assert all(len(line.split()) > 2 for line in output.splitlines())

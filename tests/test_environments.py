"""The set-up of a fresh machine, tried on pretended ones."""

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
    """The script as a module, on a machine with nothing on its PATH and nobody's home."""
    spec = importlib.util.spec_from_file_location("environments", ROOT / ".ci" / "environments.py")
    assert spec
    assert spec.loader
    module: ModuleType = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "TOOLS", tmp_path / ".tools")
    monkeypatch.setattr(module, "SYSTEM", ())
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("PYENV_ROOT", raising=False)
    monkeypatch.setattr(
        module.pwd, "getpwuid", lambda _: module.pwd.struct_passwd(["", "", 0, 0, "", "/-", ""])
    )
    return module


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


def python(path: Path) -> Path:
    """Put the Python that runs this at ``path``."""
    return program(path, f'exec "{sys.executable}" "$@"')


def test_a_python_on_the_path_is_taken(environments: Any, tmp_path: Path) -> None:
    python(tmp_path / "bin" / f"python{VERSION}")
    assert environments.find_python([VERSION], "no-uv") == sys.executable


def test_a_shim_that_does_not_run_is_passed_over(
    environments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """pyenv puts a command on the PATH for every version, which fails unless that version is chosen."""
    shims = tmp_path / "pyenv" / "shims"
    program(shims / f"python{VERSION}", "echo 'pyenv: command not found' >&2; exit 127")
    python(tmp_path / "pyenv" / "versions" / f"{VERSION}.0" / "bin" / "python")
    monkeypatch.setenv("PATH", str(shims))
    assert environments.find_python([VERSION], "no-uv") == sys.executable


def test_a_python_that_is_not_what_its_name_says_is_passed_over(environments: Any, tmp_path: Path) -> None:
    python(tmp_path / "bin" / "python3.9")
    python(tmp_path / "bin" / f"python{VERSION}")
    assert environments.find_python(["3.9", VERSION], "no-uv") == sys.executable


def test_no_python_is_an_error_that_says_what_to_do(environments: Any, tmp_path: Path) -> None:
    uv = program(tmp_path / "uv", "echo 'no internet here'; exit 2")
    with pytest.raises(
        environments.SetupError, match=r"(?s)Python 3\.13 is needed.*no internet.*pyenv install"
    ):
        environments.find_python(["3.13"], str(uv))


def test_neither_venv_nor_pip_is_an_error_that_says_what_to_do(
    environments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = program(tmp_path / "python3", 'echo "No module named $2" >&2; exit 1')
    monkeypatch.setattr(sys, "executable", str(bare))
    message = r"(?s)No module named venv.*No module named pip.*apt install python3-venv"
    with pytest.raises(environments.SetupError, match=message):
        environments.uv()


def test_an_environment_is_current_until_its_lock_or_its_place_changes(
    environments: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(environments, "ROOT", tmp_path)
    lock = tmp_path / ".ci" / "locks" / "bigquery.txt"
    lock.parent.mkdir(parents=True)
    lock.write_text("one==1\n")
    environment = environments.ENVIRONMENTS["bigquery"]
    python(tmp_path / environment.folder / "bin" / "python")
    assert not environments.is_current(environment)
    (tmp_path / environment.folder / "stamp").write_text(environments.stamp_of(environment))
    assert environments.is_current(environment)
    lock.write_text("one==2\n")
    assert not environments.is_current(environment)


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script that provides the browser, on a machine with a shell and nothing else."""
    monkeypatch.syspath_prepend(str(ROOT / ".ci"))
    environments = importlib.import_module("environments")
    monkeypatch.setattr(environments, "TOOLS", tmp_path / ".tools")
    module = importlib.import_module("browser")
    monkeypatch.setattr(module, "FOLDER", tmp_path / ".tools" / "browser")
    monkeypatch.setattr(module, "RUN", tmp_path / ".tools" / "browser" / "run")
    monkeypatch.setattr(module, "MAC", "no Mac")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return module


def test_a_browser_on_the_path_is_taken_if_it_can_read_the_checkout(browser: Any, tmp_path: Path) -> None:
    program(tmp_path / "bin" / "chromium", "exit 0")  # A snap may not read hidden folders, and says nothing.
    chrome = program(tmp_path / "bin" / "google-chrome", "echo '<html><p>seen</p></html>'")
    assert browser.main() == 0
    assert f'exec "{chrome}" --headless' in browser.RUN.read_text()


def test_a_machine_without_a_browser_is_told_what_is_done_instead(
    browser: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(tmp_path / "bin" / "chromium", "exit 0")
    assert browser.main() == browser.NONE == 3
    assert not browser.RUN.exists()
    said = capsys.readouterr().err
    assert "No page is looked at in a browser on this machine" in said
    assert "this is not Debian" in said
    assert "checked as text, by tests/results/test_report.py" in said


def test_make_alone_lists_every_target_with_a_line() -> None:
    said = subprocess.run(
        ["make", "--no-print-directory"], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    makefile = (ROOT / "Makefile").read_text()
    targets = makefile.split(".PHONY:", 1)[1].splitlines()[0].split()
    assert {line.split()[1] for line in said.splitlines()} == set(targets)
    assert all(len(line.split()) > 2 for line in said.splitlines())

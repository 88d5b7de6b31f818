"""The environment of the BigQuery emulator outside a checkout, made with a fake Python 3.13."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.local_stack import bigquery_python, python_env
from airflow_gemini_batch.local_stack.places import cache_directory
from airflow_gemini_batch.local_stack.service import StackError
from tests.test_environments import empty_machine, program

if TYPE_CHECKING:
    from pathlib import Path

# `python -m venv FOLDER` makes a copy of itself in FOLDER/bin; `python -m pip install` writes a line.
FAKE_PYTHON = """
case "$*" in
  -c*) echo "3.13 $0";;
  "-m venv"*) for folder; do :; done; mkdir -p "$folder/bin"; /bin/cp "$0" "$folder/bin/python";;
  "-m pip"*) sleep 0.1; echo "$*" >> "${0%/bin/python}/installs";;
esac
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without uv and with no checkout, whose lock file has one line."""
    empty_machine(python_env, tmp_path, monkeypatch)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}/bin{os.pathsep}/usr/bin")
    monkeypatch.setattr(python_env.shutil, "which", lambda _: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv(bigquery_python.VARIABLE, raising=False)
    monkeypatch.setattr(bigquery_python, "checkout", lambda: None)
    monkeypatch.setattr(bigquery_python, "LOCK", tmp_path / "requirements.txt")
    monkeypatch.setattr(sys, "executable", "/no/python")
    bigquery_python.LOCK.write_text("local-bigquery==1\n")
    return tmp_path


def installs(python: Path) -> list[str]:
    return (python.parents[1] / "installs").read_text().splitlines()


def test_it_is_made_on_first_use_and_used_again(machine: Path) -> None:
    program(machine / "bin" / "python3.13", FAKE_PYTHON)
    reported: list[str] = []
    python = bigquery_python.find_bigquery_python(reported.append)
    assert python.is_relative_to(machine / "cache" / "airflow-provider-gemini-batch")
    assert "installing the BigQuery emulator" in reported[0]
    assert bigquery_python.find_bigquery_python(reported.append) == python
    (install,) = installs(python)
    assert f"--no-deps --require-hashes --requirement {bigquery_python.LOCK}" in install


def test_processes_that_start_at_once_make_it_once(machine: Path) -> None:
    program(machine / "bin" / "python3.13", FAKE_PYTHON)
    barrier = threading.Barrier(4)

    def find(_: int) -> Path:
        barrier.wait()
        return bigquery_python.find_bigquery_python()

    with ThreadPoolExecutor(4) as pool:
        (python,) = set(pool.map(find, range(4)))
    assert len(installs(python)) == 1


def test_a_new_lock_file_makes_a_new_one(machine: Path) -> None:
    program(machine / "bin" / "python3.13", FAKE_PYTHON)
    first = bigquery_python.find_bigquery_python()
    bigquery_python.LOCK.write_text("local-bigquery==2\n")
    assert bigquery_python.find_bigquery_python() != first


def test_one_that_was_left_incomplete_is_made_again(machine: Path) -> None:
    program(machine / "bin" / "python3.13", FAKE_PYTHON.replace("sleep 0.1", "[ -e $HOME ] || exit 1"))
    with pytest.raises(StackError, match=r"-m pip .*install"):
        bigquery_python.find_bigquery_python()
    (machine / "home").mkdir()
    assert len(installs(bigquery_python.find_bigquery_python())) == 1


def test_no_python_and_no_uv_is_an_error_with_a_fix(machine: Path) -> None:
    message = r"(?s)Python 3\.13 is required .*uv, which could download it.*pyenv install.*GEMINI_BATCH_BIG"
    with pytest.raises(StackError, match=message):
        bigquery_python.find_bigquery_python()


@pytest.mark.parametrize("given", [sys.executable, "/etc/passwd"])
def test_a_python_without_the_packages_is_refused_by_the_name_of_its_variable(
    monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    monkeypatch.setenv(bigquery_python.VARIABLE, given)
    with pytest.raises(StackError, match=rf"^GEMINI_BATCH_BIGQUERY_PYTHON={given} is not the Python of"):
        bigquery_python.find_bigquery_python()


@pytest.mark.parametrize("given", ["", "relative/cache"])
def test_a_relative_cache_directory_is_ignored(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, given: str
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", given)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert tmp_path in cache_directory().parents


def test_a_user_without_an_entry_in_the_system_has_pythons_too(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_entry(_uid: int) -> None:
        raise KeyError("uid not found")

    monkeypatch.setattr(python_env.pwd, "getpwuid", no_entry)
    with pytest.raises(StackError, match=r"Python 3\.13 is required"):
        bigquery_python.find_bigquery_python()

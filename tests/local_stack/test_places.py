"""The commands that messages name work where the user stands."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from airflow_gemini_batch.local_stack import places


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The command line in an environment that is not on the PATH."""
    path = tmp_path / "my project" / "bin" / "gemini-batch"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(path)])
    return path


def test_a_program_on_the_path_is_called_by_its_name(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(script.parent))
    assert places.program() == "gemini-batch"


def test_a_program_below_the_current_folder_is_called_by_its_relative_path(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(script.parents[1])
    assert places.program() == "bin/gemini-batch"
    monkeypatch.setattr(sys, "argv", ["bin/gemini-batch"])
    assert places.program() == "bin/gemini-batch"


def test_a_program_elsewhere_is_called_by_its_path(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere := script.parents[2] / "elsewhere").mkdir()
    for folder in (elsewhere, script.parent):
        monkeypatch.chdir(folder)
        assert places.program() == f"'{script}'"


def test_a_module_is_called_with_its_python(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(Path(places.__file__).parents[1] / "cli" / "__main__.py")])
    assert places.program() == f"{sys.executable} -m airflow_gemini_batch.cli"


def test_a_folder_of_ones_own_is_named_by_the_command_that_stops(
    script: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(script.parent))
    assert places.stop_command(places.up_directory()) == "gemini-batch down"
    assert places.stop_command(Path("/my stack")) == "gemini-batch down --directory '/my stack'"

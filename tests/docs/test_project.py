"""The files around the code: workflows, issue forms, metadata, and the links between them."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from airflow_gemini_batch import __version__
from airflow_gemini_batch.provider_info import get_provider_info
from airflow_gemini_batch.service import REPOSITORY
from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
YAML = [*WORKFLOWS, *sorted((ROOT / ".github").rglob("*.yml")), ROOT / ".airflow-registry.yaml"]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = [ROOT / f"{name}.md" for name in ("README", "CONTRIBUTING", "SECURITY", "CODE_OF_CONDUCT")]
CI = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())


def script(path: Path) -> ModuleType:
    spec = spec_from_file_location(path.stem, path)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("file", YAML, ids=lambda file: file.name)
def test_yaml_can_be_read(file: Path) -> None:
    assert yaml.safe_load(file.read_text())


@pytest.mark.parametrize("file", WORKFLOWS, ids=lambda file: file.name)
def test_actions_are_pinned_and_permissions_are_few(file: Path) -> None:
    text = file.read_text()
    uses = re.findall(r"uses: (.+)$", text, re.M)
    assert uses
    assert not [each for each in uses if not re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)]
    workflow = yaml.safe_load(text)
    assert workflow["permissions"] == {}
    for job in workflow["jobs"].values():
        assert job["timeout-minutes"]
        assert job["permissions"]
        for step in job["steps"]:
            if "actions/checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False


def test_an_action_has_the_same_hash_everywhere() -> None:
    text = "".join(file.read_text() for file in WORKFLOWS)
    pins = set(re.findall(r"uses: ([\w./-]+)@(\S+ # \S+)", text))
    assert len(pins) == len({action for action, _ in pins})


def test_ci_runs_what_the_package_supports() -> None:
    matrix = CI["jobs"]["versions"]["strategy"]["matrix"]["include"]
    classifiers = [each.rpartition(" ")[2] for each in PROJECT["classifiers"]]
    pythons = {each for each in classifiers if re.fullmatch(r"3\.\d+", each)}
    assert {each["python"] for each in matrix} == pythons
    lowest, above = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    assert pythons == {f"3.{minor}" for minor in range(int(lowest), int(above))}
    for each in matrix:
        lock = (ROOT / ".ci" / "locks" / f"{each['lock']}.txt").read_text()
        assert f"\napache-airflow=={each['airflow']}." in lock


def test_ci_uses_targets_and_tests_that_exist() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.M))
    steps = [
        step
        for file in WORKFLOWS
        for job in yaml.safe_load(file.read_text())["jobs"].values()
        for step in job["steps"]
    ]
    commands = [step["run"] for step in steps if "run" in step]
    used = {word for command in commands if command.startswith("make ") for word in command.split()[1:]}
    assert used - {"${{", "matrix.part", "}}"} <= targets
    assert set(CI["jobs"]["tests"]["strategy"]["matrix"]["part"]) <= targets
    paths = re.findall(r"\btests/[\w./]+", "".join(commands))
    assert len(paths) == 5
    assert all((ROOT / path).exists() for path in paths)


def test_a_release_needs_the_version_as_its_tag_and_a_date(tmp_path: Path) -> None:
    problems = script(ROOT / ".ci" / "release.py").problems
    package = tmp_path / "airflow_gemini_batch"
    package.mkdir()
    (package / "__init__.py").write_text('__version__ = "1.2.3"\n')
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (2027-01-15)\n")
    assert problems("v1.2.3", tmp_path) == []
    assert problems("v1.2.4", tmp_path) == ["The tag is v1.2.4, but the version is 1.2.3."]
    (tmp_path / "CHANGELOG.md").write_text("# Changelog\n\n## 1.2.3 (unreleased)\n")
    assert len(problems("v1.2.3", tmp_path)) == 1
    assert not [each for each in problems(f"v{__version__}") if "The tag" in each]


def test_the_repository_has_one_address() -> None:
    owner, name = REPOSITORY.removeprefix("https://github.com/").split("/")
    pattern = rf"github\.com/[A-Za-z0-9_-]+/{name}"
    command = ["git", "grep", "--untracked", "-IhoE", pattern]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    found = set(done.stdout.splitlines())
    assert found == {f"github.com/{owner}/{name}"}
    assert PROJECT["urls"]["Source"] == REPOSITORY
    assert yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())["source-url"] == REPOSITORY


def test_the_registry_lists_what_there_is() -> None:
    registry = yaml.safe_load((ROOT / ".airflow-registry.yaml").read_text())
    assert registry["package-name"] == PROJECT["name"]
    paths = [each["module"] for kind in ("operators", "other") for each in registry[kind]]
    for path in paths:
        module, _, name = path.rpartition(".")
        assert hasattr(import_module(module), name), path
    modules = get_provider_info()["operators"][0]["python-modules"]
    assert {path.rpartition(".")[0] for path in paths} >= set(modules)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text(encoding="utf-8")):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def test_the_guides_that_airflow_shows_exist() -> None:
    guides = get_provider_info()["integrations"][0]["how-to-guide"]
    assert len(guides) >= 5
    assert all((ROOT / guide.removeprefix(f"{REPOSITORY}/blob/main/")).exists() for guide in guides)


def test_links_of_the_readme_are_complete_on_pypi() -> None:
    complete: Any = script(ROOT / "hatch_build.py").with_complete_links
    text = complete((ROOT / "README.md").read_text(encoding="utf-8"), REPOSITORY)
    assert f"]({REPOSITORY}/blob/main/docs/start.md)" in text
    assert re.findall(r"\]\((?!https://|#)[^)]*\)", text) == []

"""Every block of the pages is run or parsed by a test, or marked as not run by its language."""

from __future__ import annotations

import configparser
import json
import re
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from airflow_gemini_batch.settings import SECTION, SETTINGS
from tests.docs.pages import PAGES, blocks

if TYPE_CHECKING:
    from tests.docs.pages import Block

# By test_python_blocks, test_shell_blocks, tests/testing, tests/results, tests/examples and here.
TESTED = {"python", "sql", "console", "json", "ini"}
# What a test has not got, such as an account, a registry or an image; and output.
NOT_RUN = {"shell": 11, "dockerfile": 1, "text": 9}
# `make bench` writes it, with a profile of whatever is slower than a peer.
WRITTEN = "benchmarks.md"


def test_each_block_is_tested_or_marked() -> None:
    found: Counter[str] = Counter()
    for page in (page for page in PAGES if page.name != WRITTEN):
        fences = re.findall(r"^ *```(.*)$", page.read_text(encoding="utf-8"), re.M)
        assert set(fences[1::2]) <= {""}, page.name
        found.update(fence.split(" ")[0] for fence in fences[::2])
    print(dict(found))
    assert set(found) == TESTED | set(NOT_RUN)
    assert {language: found[language] for language in NOT_RUN} == NOT_RUN
    assert sum(found[language] for language in TESTED) == sum(len(blocks(language)) for language in TESTED)


@pytest.mark.parametrize("block", blocks("json"), ids=lambda block: block.name)
def test_json_block(block: Block) -> None:
    """One value, or one in each line."""
    try:
        json.loads(block.text)
    except json.JSONDecodeError:
        assert [json.loads(line) for line in block.text.splitlines()]


@pytest.mark.parametrize("block", blocks("ini"), ids=lambda block: block.name)
def test_configuration_block(block: Block) -> None:
    read = configparser.ConfigParser()
    read.read_string(block.text)
    assert read.sections() in ([SECTION], ["openlineage"])
    if SECTION in read:
        assert set(read[SECTION]) <= {setting.option for setting in SETTINGS}


def test_a_command_of_ours_is_never_marked_as_not_run() -> None:
    marked = [command for block in blocks("shell") for command in block.commands]
    assert not [command for command in marked if command.startswith("gemini-batch ")]

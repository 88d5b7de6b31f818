"""Which files go into which job."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.jobs.grouping import GroupLimits, InputFile, group_files

LIMITS = GroupLimits(rows=100, size=10_000, files=7)
FILES = st.lists(st.builds(InputFile, st.text(), st.integers(1, 100), st.integers(1, 10_000)), max_size=40)


def of_rows(*rows: int) -> list[InputFile]:
    return [InputFile(f"gs://bucket/{number}", each, each) for number, each in enumerate(rows)]


def rows_of(groups: list[list[InputFile]]) -> list[list[int]]:
    return [[each.rows for each in group] for group in groups]


def test_no_files_are_no_jobs() -> None:
    assert group_files([], LIMITS) == []


def test_what_fits_is_one_job() -> None:
    assert rows_of(group_files(of_rows(50, 49, 1), LIMITS)) == [[50, 49, 1]]


@pytest.mark.parametrize(
    ("rows", "groups"),
    [
        # Not 100, 100, 10.
        ([10] * 21, [[10] * 7] * 3),
        ([60, 60, 60], [[60]] * 3),
        ([90, 5, 5, 10], [[90], [5, 5, 10]]),
        ([100, 1, 1, 1], [[100], [1, 1, 1]]),
        ([1] * 8, [[1] * 4] * 2),
    ],
)
def test_jobs_are_few_and_even(rows: list[int], groups: list[list[int]]) -> None:
    assert rows_of(group_files(of_rows(*rows), LIMITS)) == groups


def test_bytes_count_as_well() -> None:
    files = [InputFile(str(number), 1, 4_000) for number in range(4)]
    assert [len(group) for group in group_files(files, LIMITS)] == [2, 2]


@given(FILES)
def test_each_file_is_in_one_job_within_its_limits(files: list[InputFile]) -> None:
    groups = group_files(files, LIMITS)
    assert [each for group in groups for each in group] == files
    for group in groups:
        assert 0 < len(group) <= 7
        assert sum(each.rows for each in group) <= LIMITS.rows
        assert sum(each.size for each in group) <= LIMITS.size
    # Two neighbours could not be one job: there are no more jobs than needed.
    assert len(groups) <= 1 or any(
        len(a + b) > 7
        or sum(each.rows for each in a + b) > LIMITS.rows
        or sum(each.size for each in a + b) > LIMITS.size
        for a, b in pairwise(groups)
    )


def test_files_that_are_too_large_are_named_with_the_fix() -> None:
    files = [*of_rows(1, 250), InputFile("gs://bucket/huge", 1, 20_000)]
    with pytest.raises(InvalidParameterError) as caught:
        group_files(files, LIMITS)
    message = str(caught.value)
    assert "gs://bucket/1 (250 requests, 250 bytes), gs://bucket/huge (1 request, 20,000 bytes)" in message
    assert "100 requests and 10,000 bytes" in message
    assert "split --lines" in message

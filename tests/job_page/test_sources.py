from __future__ import annotations

import pytest

from airflow_gemini_batch.exceptions import InvalidParameterError
from airflow_gemini_batch.job_page.sources import Source, parse_sources

DEFAULT = Source("google_cloud_default", None, "global")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", [DEFAULT]),
        (" , ", [DEFAULT]),
        ("my-project/global", [Source("google_cloud_default", "my-project", "global")]),
        ("conn@p/us-central1", [Source("conn", "p", "us-central1")]),
        ("example.com:p/eu", [Source("google_cloud_default", "example.com:p", "eu")]),
        (
            "a/global, b/global,\n a/global",
            [Source("google_cloud_default", "a", "global"), Source("google_cloud_default", "b", "global")],
        ),
    ],
)
def test_the_option(text: str, found: list[Source]) -> None:
    assert list(parse_sources(text, DEFAULT)) == found


@pytest.mark.parametrize(
    "text", ["p", "p/", "/global", "p/evil.com#", "p/x/y", "@", "P/global", "a/global,b"]
)
def test_another_form_is_refused(text: str) -> None:
    with pytest.raises(InvalidParameterError, match=r"page_sources=.*give PROJECT/LOCATION or"):
        parse_sources(text, DEFAULT)

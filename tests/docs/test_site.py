"""The site builds without network, strictly, and a reader's browser asks no other host for anything."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from typing import TYPE_CHECKING

import pytest

from tests.docs.pages import ROOT

if TYPE_CHECKING:
    from pathlib import Path

# It uses the cores as long as Airflow's import does, so let the tests of one worker share it.
pytestmark = pytest.mark.xdist_group("site")
OWN = re.compile(r"(?!(?:[a-z]+:)?//|https?:)")
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


class Loads(HTMLParser):
    """Collects what a browser loads with a page. Links that a reader may follow are none of it."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        names = ["src", "srcset", "poster", "data"]
        if tag == "link" and given.get("rel") not in {"canonical", "next", "prev"}:
            names.append("href")
        self.found |= {value for name in names if (value := given.get(name))}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, **NO_NETWORK, "NO_MKDOCS_2_WARNING": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_each_page_is_built(site: Path) -> None:
    pages = {page.relative_to(ROOT / "docs").with_suffix(".html") for page in (ROOT / "docs").rglob("*.md")}
    built = {page.relative_to(site) for page in site.rglob("*.html")}
    assert pages <= built
    assert len(pages) > 30


def test_nothing_is_loaded_from_another_host(site: Path) -> None:
    loads = {page: Loads(page.read_text(encoding="utf-8")).found for page in site.rglob("*.html")}
    assert not [(page.name, url) for page, urls in loads.items() for url in urls if not OWN.match(url)]
    styles = "".join(file.read_text(encoding="utf-8") for file in site.rglob("*.css"))
    used = re.findall(r"(?:url\(|@import )[\"']?([^\"')]+)", styles)
    assert used
    assert not [url for url in used if not OWN.match(url) and not url.startswith("data:")]
    assert all((site / "index.html").parent.joinpath(url).exists() for url in loads[site / "index.html"])


def test_the_reference_has_the_parameters_that_classes_share(site: Path) -> None:
    page = re.sub(r"<[^>]+>", "", (site / "reference" / "operators.html").read_text(encoding="utf-8"))
    assert "longest interval between two polls" in page
    assert ":param" not in page
    assert ":class:" not in page


@pytest.mark.browser
def test_the_search_finds_a_page_without_a_server(site: Path) -> None:
    from tests.results.report.chromium import RUN

    url = f"{(site / 'index.html').as_uri()}?q=on_incomplete"
    done = subprocess.run(
        [RUN, "--virtual-time-budget=10000", "--dump-dom", url],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    results = done.stdout.partition('class="md-search-result__list"')[2]
    assert "submit.html" in results

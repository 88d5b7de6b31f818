"""The page in a real browser."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from tests.job_page.page_server import Answer, jobs, listing, served
from tests.results.report.chromium import dump, found_by, screenshot

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.browser, pytest.mark.any_airflow, pytest.mark.xdist_group("browser")]

NOW = datetime.now(UTC)
LOADING = {"at": None, "interval": 60, "is_looking": True, "jobs": [], "problems": [], "is_cut": False}
# A page that has the page in a frame, as Airflow has, and looks at it once it has jobs.
FRAME = """<!doctype html><body style="margin:0"><script>BEFORE</script>
<iframe src="/gemini_batch/" style="border:0;width:WIDTHpx;height:900px"
  sandbox="allow-scripts allow-same-origin allow-forms allow-downloads"></iframe><script>
const frame = document.querySelector("iframe");
const look = () => {
  const page = frame.contentDocument;
  if (!page || !page.querySelector("#rows tr")) return setTimeout(look, 20);
  const found = {};
  LOOK
  document.body.dataset.found = JSON.stringify(found);
};
look();
</script>"""


def framed(look: str, *, width: int = 1280, before: str = "", number: int = 16) -> Any:
    page = FRAME.replace("BEFORE", before).replace("WIDTH", str(width)).replace("LOOK", look)
    with served(listing(jobs(number, NOW)), page) as url:
        return found_by(f"{url}test.html")


@pytest.mark.parametrize("dark", [False, True])
def test_light_and_dark(dark: bool, tmp_path: Path) -> None:
    with served(listing(jobs(16, NOW))) as url:
        picture = screenshot(url, tmp_path / "page.png", width=1280, height=900, dark=dark)
    assert (picture.width, picture.height) == (1280, 900)
    assert picture.light < 0.25 if dark else picture.light > 0.85
    assert picture.colors > 100
    assert 0.5 < picture.commonest < 0.95


def test_all_that_is_known_is_shown_as_text() -> None:
    with served(listing(jobs(16, NOW))) as url:
        html = dump(url)
    assert html.count("<tr") == 17
    for text in ("3,535 of 8,419", "$1.47 to $2.29", "estimated", "gemini_batch.job.submit", ">for "):
        assert text in html
    assert "Failed to import data." in html
    assert "&lt;b&gt;&amp;\"'&lt;/b&gt;" in html
    assert "<b>" not in html


@pytest.mark.parametrize(
    ("answer", "texts"),
    [
        (listing([]), ["No batch jobs in the last 7 days"]),
        (lambda: (200, LOADING), ["Loading…"]),
        (lambda: (401, {}), ["You are logged out of Airflow."]),
        (lambda: (500, {}), ["Airflow answered with an error (500)."]),
        (
            listing(jobs(2, NOW), "p/eu: Vertex AI returned 403", is_cut=True),
            [
                "Some jobs cannot be listed. p/eu",
                "There are more jobs than this page shows",
                "product_reviews",
            ],
        ),
    ],
    ids=["empty", "loading", "logged out", "error of Airflow", "error of a place"],
)
def test_without_jobs_the_page_says_why(answer: Answer, texts: list[str]) -> None:
    with served(answer) as url:
        html = dump(url)
    for text in texts:
        assert text in html


def test_a_thousand_jobs() -> None:
    found = framed('found.rows = page.querySelectorAll("#rows tr").length;', number=1000)
    assert found == {"rows": 1000}


@pytest.mark.parametrize("width", [340, 500, 780, 1000, 1280])
def test_nothing_is_wider_than_the_window(width: int) -> None:
    look = """const root = page.documentElement;
      found.scroll = root.scrollWidth; found.client = root.clientWidth;"""
    found = framed(look, width=width)
    assert found["scroll"] == found["client"]


def test_filters() -> None:
    look = """
      const count = () => page.querySelectorAll("#rows tr").length, text = page.getElementById("text");
      const dags = page.getElementById("dags"), kinds = () => [...page.querySelectorAll("#kinds button")];
      found.all = count();
      found.options = dags.options.length;
      kinds()[1].click();
      found.queued = count();
      found.pressed = kinds().map(each => each.getAttribute("aria-pressed"));
      kinds()[1].click();
      dags.value = "invoices"; dags.dispatchEvent(new Event("change"));
      found.invoices = count();
      text.value = "RETRY embedding"; text.dispatchEvent(new Event("input"));
      found.words = count();
      text.value = "no such"; text.dispatchEvent(new Event("input"));
      found.none = [count(), page.getElementById("nothing").textContent];
    """
    found = framed(look)
    assert (found["all"], found["options"], found["queued"]) == (16, 6, 2)
    assert found["pressed"] == ["false", "true", "false", "false"]
    assert 0 < found["words"] <= found["invoices"] < 16
    assert found["none"] == [0, "No job matches the filters"]


def test_links_open_outside_of_airflows_frame() -> None:
    before = "window.opened = []; HTMLAnchorElement.prototype.click = function () {"
    before += " window.opened.push([this.href, this.target, this.rel]); };"
    look = """
      for (const link of [...page.querySelectorAll("#rows tr:nth-child(2) a")])
        link.dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
      found.opened = window.opened; found.path = frame.contentWindow.location.pathname;
    """
    found = framed(look, before=before)
    (dag, job, output) = found["opened"]
    assert dag[0].endswith("/dags/support.Tickets_daily")
    assert dag[1] == "_self"
    assert job[0].startswith("https://console.cloud.google.com/agent-platform/")
    assert output[0].startswith("https://console.cloud.google.com/storage/browser/my-bucket/")
    assert job[1:] == output[1:] == ["_blank", "noopener noreferrer"]
    assert found["path"] == "/gemini_batch/"


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_theme_is_that_of_airflow(theme: str) -> None:
    look = "found.theme = page.documentElement.dataset.theme;"
    assert framed(look, before=f'localStorage.setItem("theme", "{theme}");') == {"theme": theme}

"""The page of benchmarks, and its pictures."""

from __future__ import annotations

import time
import xml.etree.ElementTree as ET

import msgspec
import pytest

from tests.bench.figures import Figure, Growth, Report, is_good, page, table
from tests.bench.svg import HEIGHT, WIDTH, picture

FAST = Figure("build", 200.0, "rows/s", 100.0, True, "json", 50.0)
SLOW = Figure("land", 20.0, "rows/s", 100.0, True, "pandas", 50.0, "99% sleep")
SMALL = Figure("memory", 5.0, "MB", 10.0, peer="pandas", peer_value=50.0)
GROWTH = Growth("seconds", "Seconds", "s", {"ours": [(1000, 0.02), (10_000, 3.0)], "a < b": [(1000, 0.5)]})


def test_a_ratio_above_one_is_better_for_rates_and_for_sizes() -> None:
    assert (FAST.ratio, SLOW.ratio, SMALL.ratio) == (4.0, 0.4, 10.0)
    assert [figure.is_worse_than_peer for figure in (FAST, SLOW, SMALL)] == [False, True, False]
    assert [figure.meets_target for figure in (FAST, SLOW, SMALL)] == [True, False, True]
    assert not Figure("zero", 0.0, "objects", 0.0).is_worse_than_peer
    assert Figure("zero", 0.0, "objects", 0.0, peer="x", peer_value=3.0).ratio is None


def test_what_is_worse_than_a_peer_stands_first_with_its_profile() -> None:
    text = page(
        [Report("First", [FAST], []), Report("Second", [SLOW, SMALL], [GROWTH], "A note.")], ["- facts"]
    )
    sections = text.split("\n## ")
    assert [section.partition("\n")[0] for section in sections[1:]] == [
        "Worse than a peer",
        "Targets that are missed",
        "First",
        "Second",
    ]
    assert "| land |" in sections[1]
    assert "99% sleep" in sections[1]
    assert "build" not in sections[1] + sections[2]
    assert "![Seconds](benchmarks/seconds.svg)" in sections[4]
    assert "| 1,000 | 0.02 s | 0.50 s |" in sections[4]
    assert not is_good([Report("", [SLOW], [])])


def test_only_what_is_worse_is_profiled() -> None:
    def run() -> None:
        time.sleep(0.01)

    assert "sleep" in SLOW.explained_by(run).profile
    assert not FAST.explained_by(run).profile


def test_a_report_passes_between_processes() -> None:
    report = Report("All", [FAST, SLOW, SMALL], [GROWTH], "A note.")
    found = msgspec.json.decode(msgspec.json.encode(report), type=Report)
    assert table(found.figures) == table(report.figures)
    assert picture(found.growths[0]) == picture(GROWTH)


def test_a_picture_is_svg_with_all_points_inside() -> None:
    root = ET.fromstring(picture(GROWTH))  # noqa: S314 - it is ours
    space = "{http://www.w3.org/2000/svg}"
    circles = root.findall(f"{space}circle")
    assert len(circles) == 3
    for circle in circles:
        assert 0 < float(circle.attrib["cx"]) < WIDTH
        assert 0 < float(circle.attrib["cy"]) < HEIGHT
    shown = [each.text for each in root.findall(f"{space}text")]
    assert "a < b" in shown
    assert {"1,000", "10,000", "0.01", "10"} <= set(shown)
    assert "prefers-color-scheme:dark" in (root.findtext(f"{space}style") or "")


def test_a_picture_of_zeros_is_refused() -> None:
    with pytest.raises(ValueError, match="above zero"):
        picture(Growth("x", "x", "s", {"ours": [(1000, 0.0)]}))

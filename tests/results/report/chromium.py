"""A headless Chromium: screenshots and layouts of pages."""

from __future__ import annotations

import base64
import json
import re
import subprocess
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

RUN = Path(__file__).parents[3] / ".tools" / "browser" / "run"

# A canvas gives access to the pixels of a screenshot.
_LOOK = """<!doctype html><body><img src="data:image/png;base64,{png}"><script>
onload = () => {{
  const image = document.images[0], canvas = document.createElement("canvas"), seen = new Map();
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const data = context.getImageData(0, 0, canvas.width, canvas.height).data;
  let light = 0;
  for (let i = 0; i < data.length; i += 4) {{
    light += (data[i] + data[i + 1] + data[i + 2]) / 3;
    const color = (data[i] << 16) + (data[i + 1] << 8) + data[i + 2];
    seen.set(color, (seen.get(color) || 0) + 1);
  }}
  const pixels = data.length / 4;
  document.body.dataset.found = JSON.stringify({{
    width: canvas.width, height: canvas.height, light: light / pixels / 255, colors: seen.size,
    commonest: Math.max(...seen.values()) / pixels,
  }});
}};
</script>"""
# The page is loaded unchanged in a frame of the width to test.
_MEASURE = """<!doctype html><body style="margin:0">
<iframe src="{uri}" style="border:0;width:{width}px;height:800px"></iframe><script>
onload = () => {{
  const frame = document.querySelector("iframe").contentWindow, root = frame.document.documentElement;
  document.body.dataset.found = JSON.stringify({{
    client: root.clientWidth, scroll: root.scrollWidth, height: root.scrollHeight,
    text: root.innerText,
    fetched: frame.performance.getEntriesByType("resource").map(each => each.name),
    problems: [...root.querySelectorAll("*")].filter(
      each => each.getBoundingClientRect().right > {width} + 0.5).map(each => each.outerHTML.slice(0, 200)),
  }});
}};
</script>"""


@dataclass(frozen=True)
class Picture:
    """A screenshot.

    :param light: mean brightness, from 0 (black) to 1 (white)
    :param colors: number of different colors
    :param commonest: share of the pixels with the most common color
    """

    width: int
    height: int
    light: float
    colors: int
    commonest: float


@dataclass(frozen=True)
class Layout:
    """A page in a window.

    :param client: width of the window
    :param fetched: URLs that the page has loaded
    :param scroll: width of the content
    :param problems: elements that overflow on the right
    """

    client: int
    scroll: int
    height: int
    text: str
    fetched: list[str]
    problems: list[str]


def screenshot(page: Path | str, png: Path, *, width: int, height: int, dark: bool) -> Picture:
    """Take a screenshot of a page and measure its colors.

    :param page: a file, or a URL
    """
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    address = page if isinstance(page, str) else page.as_uri()
    wait = "--virtual-time-budget=4000"
    _run(f"--window-size={width},{height}", scheme, wait, f"--screenshot={png}", address)
    data = base64.b64encode(png.read_bytes()).decode()
    return Picture(**_ask(png.with_name("look.html"), _LOOK.format(png=data)))


def layout(page: Path, width: int) -> Layout:
    """Lay out a page in a window of a given width."""
    wrapper = page.with_suffix(f".{width}.html")
    return Layout(**_ask(wrapper, _MEASURE.format(uri=page.as_uri(), width=width)))


def _ask(file: Path, html: str) -> Any:
    """Run a test page and return the values it found."""
    file.write_text(html, encoding="utf-8")
    return found_by(file.as_uri())


def dump(url: str) -> str:
    """Return the HTML of a page after its scripts have run."""
    return _run("--allow-file-access-from-files", "--virtual-time-budget=10000", "--dump-dom", url)


def found_by(url: str) -> Any:
    """Run a test page and return the values that it has left in ``data-found`` of its body."""
    dumped = dump(url)
    found = re.search(r'data-found="([^"]*)"', dumped)
    assert found, f"the test page returned no values: {dumped[-500:]}"
    return json.loads(unescape(found.group(1)))


def _run(*arguments: str) -> str:
    assert RUN.exists(), "no browser found: run `make browser`, which installs one or says why it cannot"
    done = subprocess.run(
        [RUN, "--hide-scrollbars", *arguments], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

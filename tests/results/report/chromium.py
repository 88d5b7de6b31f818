"""A headless Chromium: what it shows, and what it makes of a page."""

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

# Drawn on a canvas, a picture can be asked for its colours.
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
    const colour = (data[i] << 16) + (data[i + 1] << 8) + data[i + 2];
    seen.set(colour, (seen.get(colour) || 0) + 1);
  }}
  const pixels = data.length / 4;
  document.body.dataset.found = JSON.stringify({{
    width: canvas.width, height: canvas.height, light: light / pixels / 255, colours: seen.size,
    commonest: Math.max(...seen.values()) / pixels,
  }});
}};
</script>"""
# The page is shown as it is, in a frame as wide as the screen that is meant.
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

    :param light: mean, from 0 (black) to 1 (white)
    :param colours: how many there are
    :param commonest: the share of the pixels that has the commonest colour
    """

    width: int
    height: int
    light: float
    colours: int
    commonest: float


@dataclass(frozen=True)
class Layout:
    """A page in a window.

    :param client: the width of the window
    :param fetched: what it has loaded
    :param scroll: the width of what is in it
    :param problems: the elements that stand out on the right
    """

    client: int
    scroll: int
    height: int
    text: str
    fetched: list[str]
    problems: list[str]


def screenshot(page: Path, png: Path, *, width: int, height: int, dark: bool) -> Picture:
    """Take a picture of a page, and look at it."""
    scheme = f"--blink-settings=preferredColorScheme={0 if dark else 1}"
    _run(f"--window-size={width},{height}", scheme, f"--screenshot={png}", page.as_uri())
    data = base64.b64encode(png.read_bytes()).decode()
    return Picture(**_ask(page.with_name("look.html"), _LOOK.format(png=data)))


def layout(page: Path, width: int) -> Layout:
    """Lay a page out in a window of some width."""
    wrapper = page.with_suffix(f".{width}.html")
    return Layout(**_ask(wrapper, _MEASURE.format(uri=page.as_uri(), width=width)))


def _ask(file: Path, html: str) -> Any:
    """Let a page of ours run, and return what it has found."""
    file.write_text(html, encoding="utf-8")
    dumped = _run(
        "--allow-file-access-from-files", "--virtual-time-budget=10000", "--dump-dom", file.as_uri()
    )
    found = re.search(r'data-found="([^"]*)"', dumped)
    assert found, f"the page has found nothing: {dumped[-500:]}"
    return json.loads(unescape(found.group(1)))


def _run(*arguments: str) -> str:
    assert RUN.exists(), "there is no browser: run `make browser`, which provides one or says why not"
    done = subprocess.run(
        [RUN, "--hide-scrollbars", *arguments], check=False, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout

"""Pictures of growth: lines over two logarithmic axes, as SVG text. Pure."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from tests.bench.figures import number

if TYPE_CHECKING:
    from tests.bench.figures import Growth

WIDTH, HEIGHT = 720, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 190, 44, 52
# Told apart on white and on black, and by people who see fewer colours.
_COLOURS = ("#1b7fd4", "#d95f02", "#1b9e77", "#b455b0", "#a6761d", "#7f7f7f")
_STYLE = (
    "text{font:13px sans-serif;fill:#333}.grid{stroke:#ccc;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}.grid{stroke:#555}}"
)


def picture(growth: Growth) -> str:
    """Return the picture, readable on light and on dark ground.

    :raises ValueError: there is no point, or a value that has no logarithm
    """
    points = [point for line in growth.lines.values() for point in line]
    if not points or min(min(point) for point in points) <= 0:
        raise ValueError("a logarithmic picture needs values above zero")
    x_low, x_high = _decades([x for x, _ in points])
    y_low, y_high = _decades([y for _, y in points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - x_low) / (x_high - x_low)
        up = (math.log10(y) - y_low) / (y_high - y_low)
        return (
            _LEFT + across * (WIDTH - _LEFT - _RIGHT),
            HEIGHT - _BOTTOM - up * (HEIGHT - _TOP - _BOTTOM),
        )

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(growth.title)}</title>",
        f"<style>{_STYLE}</style>",
        f'<text x="{_LEFT}" y="24" font-weight="bold">{escape(growth.title)}, {escape(growth.unit)}</text>',
    ]
    for power in range(x_low, x_high + 1):
        x, bottom = place(10**power, 10**y_low)
        parts.append(f'<line class="grid" x1="{x:.1f}" y1="{_TOP}" x2="{x:.1f}" y2="{bottom:.1f}"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 20:.1f}" text-anchor="middle">{10**power:,}</text>')
    for power in range(y_low, y_high + 1):
        left, y = place(10**x_low, 10**power)
        parts.append(f'<line class="grid" x1="{left}" y1="{y:.1f}" x2="{WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        label = f"{10**power:,}" if power >= 0 else f"{10.0**power:.{-power}f}"
        parts.append(f'<text x="{left - 8:.1f}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(f'<text x="{middle}" y="{HEIGHT - 10}" text-anchor="middle">rows</text>')
    labels: list[float] = []
    for index, (name, line) in enumerate(growth.lines.items()):
        colour = _COLOURS[index % len(_COLOURS)]
        places = [place(x, y) for x, y in sorted(line)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        dot = f'r="3.5" fill="{colour}"'
        parts += [
            f'<circle cx="{x:.1f}" cy="{y:.1f}" {dot}><title>{number(value)}</title></circle>'
            for (x, y), (_, value) in zip(places, sorted(line), strict=True)
        ]
        end = _free(places[-1][1], labels)
        labels.append(end)
        parts.append(
            f'<text x="{WIDTH - _RIGHT + 10}" y="{end + 4:.1f}" style="fill:{colour}">{escape(name)}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


def _decades(values: list[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return low, max(high, low + 1)


def _free(y: float, taken: list[float], apart: float = 16) -> float:
    """Return the nearest height below at which a label covers no other."""
    while any(abs(y - other) < apart for other in taken):
        y += apart / 4
    return y

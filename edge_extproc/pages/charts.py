"""The geometry of SVG charts. The templates draw it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 600, 120


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar of a chart with 600 × 120 units, with the part that is drawn in another color at its foot."""

    x: float
    width: float
    y: float
    height: float
    part_y: float
    part_height: float
    label: str
    """For the tooltip."""


@dataclass(frozen=True, slots=True)
class BarChart:
    bars: tuple[Bar, ...]
    maximum: float
    """The value of the full height."""


def bar_chart(values: Sequence[tuple[str, float, float]], slots: int = 0, *, at_right: bool = False) -> BarChart:
    """`values`: label, value and the part of it. `slots`: the number of bars for which there is room; fewer values are
    drawn at the left, or at the right as the newest of a time."""
    count = max(slots, len(values), 1)
    maximum = max((value for _, value, _ in values), default=0.0)
    scale = HEIGHT / maximum if maximum > 0 else 0.0
    step = WIDTH / count
    first = count - len(values) if at_right else 0
    bars = []
    for n, (label, value, part) in enumerate(values):
        height, part_height = max(0.0, value) * scale, max(0.0, min(part, value)) * scale
        bars.append(
            Bar(
                round((first + n) * step, 1),
                round(max(step * 0.85, 0.5), 1),
                round(HEIGHT - height, 1),
                round(height, 1),
                round(HEIGHT - part_height, 1),
                round(part_height, 1),
                label,
            )
        )
    return BarChart(tuple(bars), maximum)

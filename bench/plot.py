"""A picture of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol


class Shown(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def connections(self) -> int: ...
    @property
    def rate(self) -> float | None: ...
    @property
    def of_plain(self) -> float | None: ...


def requests_per_second(measurements: Sequence[Shown], path: Path) -> None:
    """Bars: requests a second as a part of plain Envoy's, for each contestant and number of connections. Raises
    SystemExit without matplotlib."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        raise SystemExit("bench: --plot needs matplotlib: pip install matplotlib") from None
    closed = [each for each in measurements if each.rate is None and each.of_plain is not None]
    names = list(dict.fromkeys(each.name for each in closed))
    loads = list(dict.fromkeys(each.connections for each in closed))
    figure = Figure(figsize=(8, 0.6 + 0.45 * len(names) * max(1, len(loads)) ** 0.5), layout="constrained")
    axes: Any = figure.subplots()
    height = 0.8 / max(1, len(loads))
    for place, connections in enumerate(loads):
        ratios = {each.name: each.of_plain for each in closed if each.connections == connections}
        rows = [number + place * height for number in range(len(names))]
        axes.barh(rows, [ratios.get(name) or 0.0 for name in names], height, label=f"{connections} connections")
    axes.set_yticks([number + height * (len(loads) - 1) / 2 for number in range(len(names))], names)
    axes.invert_yaxis()
    axes.set_xlabel("requests a second, as a part of plain Envoy's")
    axes.legend()
    figure.savefig(path, dpi=150)

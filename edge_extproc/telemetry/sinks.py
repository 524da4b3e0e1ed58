"""Passes each settlement to the sinks: planner, journal, metrics, access log, limits and traces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeAlias

from ..model.settlement import Settlement

Sink: TypeAlias = Callable[[Settlement], None]


def to_all(sinks: Iterable[Sink], report: Callable[[BaseException], None]) -> Sink:
    """One sink that calls `sinks` in their order. An exception of one goes to `report`, and the others are still
    called: an error in the access log must not prevent the settlement of limits."""
    each = tuple(sinks)

    def settle(settlement: Settlement) -> None:
        for sink in each:
            try:
                sink(settlement)
            except Exception as bug:  # noqa: BLE001  # a last resort: the next sink must be called after any exception
                report(bug)

    return settle

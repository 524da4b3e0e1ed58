"""Cells to a table. A cell is one way under one load; what is told of it is the median of its rounds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from .load import Load

DIRECT, ENVOY, PASS, CROSS = "direct", "plain Envoy", "agent, passed on", "agent, translated"
WAYS = (DIRECT, ENVOY, PASS, CROSS)


@dataclass(frozen=True, slots=True)
class Round:
    """One round of a cell: what the load saw, and the CPU time that it took, in seconds."""

    load: Load
    envoy_cpu: float
    agent_cpu: float
    supervisor_cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Cell:
    way: str
    stream: bool
    connections: int
    rounds: tuple[Round, ...]

    @property
    def errors(self) -> int:
        return sum(r.load.errors for r in self.rounds)

    def times(self) -> tuple[float, float]:
        """p50 and p99 in milliseconds: of the whole answer, or of a stream's first byte."""
        loads = [r.load for r in self.rounds]
        if self.stream:
            return median(x.first_byte_p50 for x in loads), median(x.first_byte_p99 for x in loads)
        return median(x.p50 for x in loads), median(x.p99 for x in loads)

    @property
    def per_second(self) -> float:
        return median(r.load.per_second for r in self.rounds)

    def cpu_ms(self, of: str) -> float:
        """Of `envoy_cpu`, `agent_cpu` or `supervisor_cpu`, a request. Over all rounds: the clock ticks at 10 ms."""
        return 1000 * sum(getattr(r, of) for r in self.rounds) / max(1, sum(r.load.sent for r in self.rounds))


@dataclass(frozen=True, slots=True)
class Row:
    """A cell beside the direct one and that of plain Envoy under the same load. Times in milliseconds."""

    way: str
    stream: bool
    connections: int
    p50: float
    p99: float
    added_p50: float
    added_p99: float
    over_envoy_p50: float
    """Times the p50 of plain Envoy."""
    per_second: float
    of_envoy_per_second: float
    """As a part of what plain Envoy does."""
    envoy_cpu_ms: float
    agent_cpu_ms: float
    supervisor_cpu_ms: float
    agent_cpu_ms_per_chunk: float | None
    errors: int


def rows(cells: Iterable[Cell], frames: Mapping[str, int]) -> list[Row]:
    """`frames`: how many events a provider's stream has, by the way. The first rows of each load are the yardsticks."""
    found = {(c.way, c.stream, c.connections): c for c in cells}
    return [_row(cell, found[DIRECT, *key], found[ENVOY, *key], frames) for (_, *key), cell in found.items()]


def _row(cell: Cell, direct: Cell, envoy: Cell, frames: Mapping[str, int]) -> Row:
    p50, p99 = cell.times()
    direct_p50, direct_p99 = direct.times()
    agent = cell.cpu_ms("agent_cpu")
    return Row(
        way=cell.way,
        stream=cell.stream,
        connections=cell.connections,
        p50=p50,
        p99=p99,
        added_p50=p50 - direct_p50,
        added_p99=p99 - direct_p99,
        over_envoy_p50=p50 / envoy.times()[0],
        per_second=cell.per_second,
        of_envoy_per_second=cell.per_second / envoy.per_second,
        envoy_cpu_ms=cell.cpu_ms("envoy_cpu"),
        agent_cpu_ms=agent,
        supervisor_cpu_ms=cell.cpu_ms("supervisor_cpu"),
        agent_cpu_ms_per_chunk=agent / frames[cell.way] if cell.stream and cell.way in frames else None,
        errors=cell.errors,
    )


_HEAD = (
    ("way", "<20"),
    ("conns", ">5"),
    ("p50 ms", ">8"),
    ("p99 ms", ">8"),
    ("+p50", ">8"),
    ("+p99", ">8"),
    ("x Envoy", ">7"),
    ("req/s", ">8"),
    ("of Envoy", ">8"),
    ("cpu Envoy", ">9"),
    ("cpu agent", ">9"),
    ("a chunk", ">8"),
    ("errors", ">6"),
)


def table(found: Sequence[Row]) -> str:
    """Whole answers first, then streams (whose times are those of the first byte)."""
    lines: list[str] = []
    for stream in (False, True):
        some = sorted((r for r in found if r.stream is stream), key=lambda r: (r.connections, WAYS.index(r.way)))
        if not some:
            continue
        lines += ["", "Streams; times to the first byte" if stream else "Whole answers"]
        lines.append(" ".join(format(name, spec) for name, spec in _HEAD))
        lines += [_line(row) for row in some]
    return "\n".join(lines[1:])


def _line(r: Row) -> str:
    chunk = "" if r.agent_cpu_ms_per_chunk is None else f"{r.agent_cpu_ms_per_chunk:.3f}"
    values = (
        r.way,
        r.connections,
        f"{r.p50:.2f}",
        f"{r.p99:.2f}",
        f"{r.added_p50:+.2f}",
        f"{r.added_p99:+.2f}",
        f"{r.over_envoy_p50:.1f}",
        f"{r.per_second:.0f}",
        f"{r.of_envoy_per_second:.2f}",
        f"{r.envoy_cpu_ms:.3f}",
        f"{r.agent_cpu_ms:.3f}",
        chunk,
        r.errors,
    )
    return " ".join(format(str(value), spec) for value, (_, spec) in zip(values, _HEAD, strict=True))


@dataclass(frozen=True, slots=True)
class Verdict:
    what: str
    measured: float
    target: float
    holds: bool


def verdicts(found: Sequence[Row], cold_start: float, rss_start: float, rss_end: float) -> list[Verdict]:
    """The project's own targets for two cores."""
    by = {(r.way, r.stream, r.connections): r for r in found}
    passed = [r for (way, stream, _), r in by.items() if way == PASS and not stream]
    alone = min(passed, key=lambda r: r.connections)
    chunks = [r.agent_cpu_ms_per_chunk for r in found if r.agent_cpu_ms_per_chunk is not None]
    return [
        _most("added p50 at one connection, ms", alone.added_p50, 1.5),
        _least("requests/s passed on", max(r.per_second for r in passed), 1000),
        _most("agent CPU for a chunk of a stream, ms", max(chunks), 0.2),
        _most("RSS of a worker at the end, MiB", rss_end, 120),
        _most("growth of a worker's RSS, MiB", rss_end - rss_start, 20),
        _most("cold start, s", cold_start, 3),
    ]


def _most(what: str, measured: float, target: float) -> Verdict:
    return Verdict(what, measured, target, measured <= target)


def _least(what: str, measured: float, target: float) -> Verdict:
    return Verdict(what, measured, target, measured >= target)


def as_json(**parts: Any) -> dict[str, Any]:
    """Rows and verdicts as plain values; what is plain already stays."""
    return {name: [asdict(p) for p in part] if isinstance(part, list) else part for name, part in parts.items()}


def growth(samples: Sequence[tuple[float, float]]) -> float:
    """The slope of (seconds, MiB) by least squares, in MiB an hour: what a leak would show as."""
    n = len(samples)
    mean_x, mean_y = sum(x for x, _ in samples) / n, sum(y for _, y in samples) / n
    spread = sum((x - mean_x) ** 2 for x, _ in samples)
    if not spread:
        return 0.0
    return 3600 * sum((x - mean_x) * (y - mean_y) for x, y in samples) / spread

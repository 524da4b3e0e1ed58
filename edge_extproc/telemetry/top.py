"""`edge-extproc top`: live traffic in a terminal, from two scrapes of the admin port's /metrics.

It shows the differences between the two scrapes. It needs only the port, so it also works over ssh and for a remote
gateway.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from http.client import HTTPException
from typing import TypeAlias
from urllib.error import URLError
from urllib.request import urlopen

from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from ..errors import StartError
from ..model.settlement import HITS
from .rates import FAILED, quantile

ROWS = 8
"""The number of rows in each table, the busiest first."""
_TIMEOUT = 5.0

Labels: TypeAlias = frozenset[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Scrape:
    """All samples of one scrape."""

    at: float
    """Seconds of a monotonic clock."""
    values: Mapping[str, Mapping[Labels, float]]
    """By sample name and labels."""


def read(text: str, at: float) -> Scrape:
    values: dict[str, dict[Labels, float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values.setdefault(sample.name, {})[frozenset(sample.labels.items())] = sample.value
    return Scrape(at, values)


@dataclass(frozen=True, slots=True)
class TopRow:
    name: str
    requests: float
    """A second."""
    failed: float
    """Share of the requests, 0 to 1."""
    tokens: float
    """A second."""
    dollars: float
    """An hour."""
    p50: float | None = None
    """Seconds. None: nothing was measured."""
    p99: float | None = None


@dataclass(frozen=True, slots=True)
class TopFrame:
    """The traffic between two scrapes."""

    seconds: float
    total: TopRow
    hits: float | None
    """Share of cache lookups that hit, 0 to 1; None without lookups."""
    open: int
    sockets: int
    workers: int
    rows: Mapping[str, tuple[TopRow, ...]]
    """By provider, model and tenant."""


def frame(before: Scrape, now: Scrape) -> TopFrame:
    seconds = max(now.at - before.at, 0.001)
    moved = _Growth(before, now)

    def row(name: str, where: Callable[[Mapping[str, str]], bool], *, timed: bool = True) -> TopRow:
        requests = moved.sum("edge_requests_total", where)
        failed = moved.sum("edge_requests_total", lambda labels: where(labels) and labels["outcome"] in FAILED)
        buckets = moved.buckets("edge_request_duration_seconds_bucket", where) if timed else {}
        return TopRow(
            name,
            requests / seconds,
            failed / requests if requests else 0.0,
            moved.sum("edge_tokens_total", where) / seconds,
            moved.sum("edge_cost_usd_total", where) / seconds * 3600,
            quantile(0.5, buckets),
            quantile(0.99, buckets),
        )

    def having(kind: str, name: str) -> Callable[[Mapping[str, str]], bool]:
        return lambda labels: labels.get(kind) == name

    rows = {}
    for kind in ("provider", "model", "tenant"):
        kind_rows = [
            row(name, having(kind, name), timed=kind != "tenant") for name in moved.names("edge_requests_total", kind)
        ]
        rows[kind] = tuple(sorted(kind_rows, key=lambda each: (-each.requests, each.name))[:ROWS])
    lookups = moved.sum("edge_cache_requests_total", lambda labels: labels["result"] in (*HITS, "miss"))
    hits = moved.sum("edge_cache_requests_total", lambda labels: labels["result"] in HITS)
    return TopFrame(
        seconds,
        row("all", lambda _: True),
        hits / lookups if lookups else None,
        int(_gauge(now, "edge_open_requests")),
        int(_gauge(now, "edge_open_sockets")),
        int(_gauge(now, "edge_workers")),
        rows,
    )


class _Growth:
    """The growth of each counter."""

    def __init__(self, before: Scrape, now: Scrape) -> None:
        self._before = before.values
        self._now = now.values

    def _each(self, name: str) -> Iterable[tuple[Mapping[str, str], float]]:
        before = self._before.get(name, {})
        for labels, value in self._now.get(name, {}).items():
            was = before.get(labels, 0.0)
            # After a restart the gateway counts from zero.
            yield dict(labels), value - was if value >= was else value

    def sum(self, name: str, where: Callable[[Mapping[str, str]], bool]) -> float:
        return sum(grown for labels, grown in self._each(name) if where(labels))

    def names(self, name: str, label: str) -> set[str]:
        return {labels[label] for labels, grown in self._each(name) if grown}

    def buckets(self, name: str, where: Callable[[Mapping[str, str]], bool]) -> dict[float, float]:
        counts: dict[float, float] = {}
        for labels, grown in self._each(name):
            if where(labels):
                counts[float(labels["le"])] = counts.get(float(labels["le"]), 0.0) + grown
        return counts


def _gauge(scrape: Scrape, name: str) -> float:
    return sum(scrape.values.get(name, {}).values())


# --- on a terminal


def show(frame: TopFrame, where: str) -> RenderableType:
    head = Text.assemble(
        ("edge-extproc top", "bold"),
        f"  {where}  over {frame.seconds:.1f} s  workers {frame.workers}  open {frame.open}  sockets {frame.sockets}"
        "  cache hits ",
        "-" if frame.hits is None else f"{frame.hits:.0%}",
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "req/s", "failed", "p50", "p99", "tokens/s", "$/h"):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    _add(table, frame.total)
    for kind, rows in frame.rows.items():
        table.add_section()
        table.add_row(Text(kind, "dim"))
        for row in rows:
            _add(table, row, "  ")
    return Group(head, table)


def _add(table: Table, row: TopRow, indent: str = "") -> None:
    table.add_row(
        Text(indent + row.name),
        f"{row.requests:.1f}",
        Text(f"{row.failed:.1%}", "red" if row.failed > 0.01 else ""),
        _seconds(row.p50),
        _seconds(row.p99),
        f"{row.tokens:.0f}",
        f"{row.dollars:.4f}",
    )


def _seconds(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def scrape(admin: str) -> Scrape:
    """The metrics of the gateway at `admin` (http://host:port). Raises StartError if it does not answer."""
    if not admin.startswith(("http://", "https://")):
        raise StartError(f"--admin {admin}: this is not an address; write http://127.0.0.1:10001")
    try:
        with urlopen(f"{admin.rstrip('/')}/metrics", timeout=_TIMEOUT) as answer:  # noqa: S310 - checked above
            return read(answer.read().decode(), time.monotonic())
    except (URLError, HTTPException, OSError, ValueError) as error:
        raise StartError(f"no metrics at {admin}: {error}; give the admin port with --admin") from error


def run(admin: str, interval: float, *, once: bool, console: Console | None = None) -> None:
    """Shows a frame each interval until Ctrl-C, or one frame. Raises StartError if the gateway does not answer the
    first scrape."""
    screen = console if console is not None else Console()
    views = _views(admin, interval, scrape(admin), patient=not once)
    if once:
        screen.print(next(views))
    elif screen.is_terminal and not screen.is_dumb_terminal:
        with Live(console=screen, auto_refresh=False, screen=True) as live:
            for view in views:
                live.update(view, refresh=True)
    else:  # a pipe, or a terminal without cursor control: print each frame below the last one
        for view in views:
            screen.print(view, "")
            screen.file.flush()


def _views(admin: str, interval: float, before: Scrape, *, patient: bool) -> Iterator[RenderableType]:
    """`patient`: do not raise if the gateway does not answer, because it may be restarting."""
    while True:
        time.sleep(interval)
        try:
            now = scrape(admin)
        except StartError as error:
            if not patient:
                raise
            yield Text(f"{datetime.now().astimezone():%H:%M:%S}  {error.message}", "red")
            continue
        yield show(frame(before, now), admin)
        before = now

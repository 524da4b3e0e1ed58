"""What a terminal shows of two scrapes."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from rich.console import Console
from settlements import settlement

from edge_extproc.errors import StartError
from edge_extproc.model.usage import Usage
from edge_extproc.telemetry import top
from edge_extproc.telemetry.metrics import LabelNames, Metrics

NAMES = LabelNames(frozenset({"acme"}), frozenset({"gpt-4o", "claude"}), frozenset({"openai", "anthropic"}))
DONE = settlement(
    tenant="acme",
    model="gpt-4o",
    provider="openai",
    usage=Usage(input=30, output=6),
    cost=Decimal("0.000001"),
)


def fresh() -> Metrics:
    return Metrics(NAMES, version="1", started_at=1.0)


def scraped(metrics: Metrics, at: float) -> top.Scrape:
    return top.read(metrics.exposition().decode(), at)


def two() -> tuple[top.Scrape, top.Scrape]:
    """Ten seconds apart: ten good replies by one provider, ten errors by another."""
    metrics = fresh()
    metrics.settle(DONE)
    before = scraped(metrics, 100.0)
    for _ in range(10):
        metrics.settle(replace(DONE, duration=0.07))
        metrics.settle(replace(DONE, provider="anthropic", model="claude", outcome="upstream_error", usage=None))
    metrics.settle(replace(DONE, cache="hit", outcome="rejected", provider=None, tenant=None))
    metrics.settle(replace(DONE, cache="miss", outcome="rejected", provider=None, tenant=None))
    return before, scraped(metrics, 110.0)


def test_a_frame_is_what_moved_in_between() -> None:
    found = top.frame(*two())

    assert (found.seconds, found.total.requests, found.hits, found.workers) == (10.0, 2.2, 0.5, 1)
    assert [row.name for row in found.rows["provider"]] == ["anthropic", "openai", "none"]
    bad, good, _ = found.rows["provider"]
    assert (bad.failed, bad.tokens, good.failed, good.tokens) == (1.0, 0.0, 0.0, 36.0)
    assert good.dollars == pytest.approx(0.0036)
    assert good.p50 is not None
    assert 0.05 < good.p50 <= 0.1
    assert found.rows["tenant"][0] == replace(found.rows["tenant"][0], name="acme", p50=None, p99=None)


def test_where_nothing_moved_there_is_nothing_to_tell() -> None:
    before, _ = two()
    found = top.frame(before, replace(before, at=before.at))

    assert (found.total.requests, found.total.p99, found.hits) == (0.0, None, None)
    assert not any(found.rows.values())


def test_a_gateway_that_was_started_anew_counts_from_zero() -> None:
    before, now = two()

    assert top.frame(replace(now, at=0.0), before).total.requests == pytest.approx(1 / 100)


@pytest.mark.parametrize(
    ("q", "buckets", "found"),
    [
        (0.5, {}, None),
        (0.5, {1.0: 0.0, float("inf"): 0.0}, None),
        (0.5, {1.0: 10.0, float("inf"): 10.0}, 0.5),
        (0.5, {1.0: 0.0, 2.0: 10.0, float("inf"): 10.0}, 1.5),
        (0.99, {1.0: 0.0, float("inf"): 10.0}, 1.0),
    ],
)
def test_a_quantile_lies_within_its_bucket(q: float, buckets: dict[float, float], found: float | None) -> None:
    assert top.quantile(q, buckets) == found


@contextmanager
def admin_port(*, restarts: bool = False) -> Iterator[str]:
    """Each scrape is the next one of two. `restarts`: between them are two that fail."""
    before, now = fresh(), fresh()
    now.settle(DONE)
    bad = (503, b"starting"), (200, b"<html>")
    answers = iter([(200, before.exposition()), *(bad if restarts else ()), (200, now.exposition())])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = next(answers)
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_one_frame_is_printed_for_scripts() -> None:
    text = io.StringIO()
    with admin_port() as admin:
        top.run(admin, 0.01, once=True, console=Console(file=text, width=100))

    assert admin in text.getvalue()
    for word in ("req/s", "p99", "tokens/s", "$/h", "provider", "openai", "gpt-4o", "acme", "1.8 s", "2.5 s"):
        assert word in text.getvalue()


class UntilAFrame(io.StringIO):
    """Somebody presses Ctrl-C once there is one."""

    def flush(self) -> None:
        if "req/s" in self.getvalue():
            raise KeyboardInterrupt


@pytest.mark.parametrize("terminal", [{}, {"force_terminal": True, "_environ": {"TERM": "dumb"}}], ids=["pipe", "dumb"])
def test_without_a_cursor_frames_come_one_below_the_other_and_a_restart_is_waited_for(terminal: dict[str, Any]) -> None:
    text = UntilAFrame()
    with admin_port(restarts=True) as admin, pytest.raises(KeyboardInterrupt):
        top.run(admin, 0.01, once=False, console=Console(file=text, width=200, **terminal))

    assert 2 == text.getvalue().count("no metrics at")
    assert "gpt-4o" in text.getvalue()


@pytest.mark.parametrize("admin", ["http://127.0.0.1:9", "file:///etc/passwd", "localhost"])
def test_where_there_is_no_gateway_one_line_says_so(admin: str) -> None:
    with pytest.raises(StartError, match="--admin"):
        top.run(admin, 0.01, once=True)


def test_the_open_websockets_are_shown() -> None:
    before, now = two()
    metrics = fresh()
    metrics.sockets.opened()
    found = top.frame(before, scraped(metrics, now.at + 1))

    assert 1 == found.sockets

"""Spans on their way out: a bounded queue, emptied once a second by a thread of its own.

The library's own queue writes a line for each span that does not fit, on the path of the request that it tells of, and
nobody can ask it how many it has dropped.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from opentelemetry.context import Context
from opentelemetry.sdk.trace import ReadableSpan, Span, SpanProcessor
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from .logs import report

EVERY = 1.0
# Some seconds of a busy worker. More would only be older when the collector is back.
MOST = 16_384
# Of what was said, with which spans are as large as prompts are.
MOST_SAID = 64 << 20
# Of that, so much goes out together: collectors take 4 MiB, and say it in up to three ways.
_TOGETHER = 1 << 20
# Of the last ones at the end: a collector that is gone must not hold up a stop.
_PATIENCE = 10.0


class SpanQueue(SpanProcessor):
    """`batch`: how many spans go out together. `prepare` is called before that, and may put some. `weigh`: how much of
    what was said a span holds, in characters; whoever puts such spans does so from one thread."""

    def __init__(
        self,
        exporter: SpanExporter,
        batch: int,
        every: float = EVERY,
        prepare: Callable[[], None] = lambda: None,
        weigh: Callable[[ReadableSpan], int] = lambda _: 0,
    ) -> None:
        self._exporter = exporter
        self._batch = batch
        self._every = every
        self._prepare = prepare
        self._weigh = weigh
        self._said_in = self._said_out = 0  # each of one thread alone: one number of both would lose some
        self._queue: deque[ReadableSpan] = deque()
        self._stop = threading.Event()
        self.sent = self.failed = self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="otlp-spans", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """How many wait."""
        return len(self._queue)

    def put(self, span: ReadableSpan) -> None:
        """Never waits; what does not fit is counted and dropped."""
        weight = self._weigh(span)
        if len(self._queue) >= MOST or (weight and self._said_in - self._said_out + weight > MOST_SAID):
            self.dropped += 1
            return
        self._said_in += weight
        self._queue.append(span)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._send()
        self._send()

    def _send(self) -> None:
        """What waits now; what comes meanwhile is for the next time."""
        self._prepare()
        left = len(self._queue)
        while left > 0:
            some = self._some(min(left, self._batch))
            left -= len(some)
            try:
                done = self._exporter.export(some) is SpanExportResult.SUCCESS
            except Exception as error:  # noqa: BLE001 - this thread must go on, whatever a library raises
                report(error)
                done = False
            if done:
                self.sent += len(some)
            else:
                self.failed += len(some)
                if self._stop.is_set():
                    return

    def _some(self, most: int) -> list[ReadableSpan]:
        """At least one."""
        some, weight = list[ReadableSpan](), 0
        while len(some) < most and weight < _TOGETHER:
            span = self._queue.popleft()
            weight += self._weigh(span)
            some.append(span)
        self._said_out += weight
        return some

    # --- a SpanProcessor, for spans that a library makes

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Nothing yet."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self.put(span)

    def shutdown(self) -> None:
        """Sends what waits; blocks for as long as that takes, ten seconds at most."""
        self._stop.set()
        self._thread.join(_PATIENCE)
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Nobody waits for it: `shutdown` sends all."""
        del timeout_millis
        return True

"""The queue of finished spans: bounded, and sent once a second by a thread of its own.

The OpenTelemetry library's queue is not used: it logs a line for each span that does not fit, on the path of the
request, and does not report how many spans it has dropped.
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
# Spans: some seconds of a busy worker. A longer queue would only send older spans when the collector is back.
MOST = 16_384
# Characters of content (prompts and replies) in the queue.
MOST_CONTENT = 64 << 20
# Characters of content in one export: collectors accept 4 MiB, and a span contains its content up to three times.
_CONTENT_PER_EXPORT = 1 << 20
# Seconds for the last export at shutdown: an unreachable collector must not delay it longer.
_SHUTDOWN_TIMEOUT = 10.0


class SpanQueue(SpanProcessor):
    """`batch`: the number of spans in one export. `prepare` is called before each export and may put spans. `weigh`:
    the size of a span's content, in characters. All spans with content must be put from the same thread."""

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
        # Two counters, each written by one thread only: a single one would lose updates.
        self._content_in = self._content_out = 0
        self._queue: deque[ReadableSpan] = deque()
        self._stop = threading.Event()
        self.sent = self.failed = self.dropped = 0
        self._thread = threading.Thread(target=self._run, name="otlp-spans", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """The number of waiting spans."""
        return len(self._queue)

    def put(self, span: ReadableSpan) -> None:
        """Adds a span without waiting. A span that does not fit is dropped and counted."""
        weight = self._weigh(span)
        if len(self._queue) >= MOST or (weight and self._content_in - self._content_out + weight > MOST_CONTENT):
            self.dropped += 1
            return
        self._content_in += weight
        self._queue.append(span)

    def _run(self) -> None:
        while not self._stop.wait(self._every):
            self._send()
        self._send()

    def _send(self) -> None:
        """Sends the spans that wait now. Spans that arrive in the meantime are sent next time."""
        self._prepare()
        remaining = len(self._queue)
        while remaining > 0:
            spans = self._next(min(remaining, self._batch))
            remaining -= len(spans)
            try:
                done = self._exporter.export(spans) is SpanExportResult.SUCCESS
            except Exception as error:  # noqa: BLE001 - no exception of a library may end this thread
                report(error)
                done = False
            if done:
                self.sent += len(spans)
            else:
                self.failed += len(spans)
                if self._stop.is_set():
                    return

    def _next(self, most: int) -> list[ReadableSpan]:
        """Removes between one and `most` spans from the queue, limited by the size of their content."""
        spans, weight = list[ReadableSpan](), 0
        while len(spans) < most and weight < _CONTENT_PER_EXPORT:
            span = self._queue.popleft()
            weight += self._weigh(span)
            spans.append(span)
        self._content_out += weight
        return spans

    # --- the SpanProcessor interface, for spans that instrumentation libraries make

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:
        """Does nothing."""

    def on_end(self, span: ReadableSpan) -> None:
        if span.context is not None and span.context.trace_flags.sampled:
            self.put(span)

    def shutdown(self) -> None:
        """Sends the waiting spans. Blocks until they are sent, ten seconds at most."""
        self._stop.set()
        self._thread.join(_SHUTDOWN_TIMEOUT)
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Does nothing: `shutdown` sends all spans."""
        del timeout_millis
        return True

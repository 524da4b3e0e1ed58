"""A collector of OTLP for tests, over gRPC and HTTP: it keeps what it is sent.

with Collector() as collector:
    ... export to collector.grpc or collector.http ...
    collector.span("chat gpt-4o")
"""

from __future__ import annotations

import gzip
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import grpc
from gateway import until
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"


@dataclass(frozen=True)
class Span:
    name: str
    service: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    resource: dict[str, Any]
    error: bool
    kind: int
    times: tuple[int, int]


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    return getattr(value, kind) if kind is not None else None


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs}


def spans_of(requests: Iterable[ExportTraceServiceRequest]) -> list[Span]:
    return [
        Span(
            span.name,
            _attributes(group.resource.attributes).get("service.name", ""),
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            _attributes(span.attributes),
            [(event.name, _attributes(event.attributes)) for event in span.events],
            _attributes(group.resource.attributes),
            span.status.code == 2,
            span.kind,
            (span.start_time_unix_nano, span.end_time_unix_nano),
        )
        for request in requests
        for group in request.resource_spans
        for scope in group.scope_spans
        for span in scope.spans
    ]


class Collector:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.requests: list[Message] = []
        self.headers: list[dict[str, str]] = []
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((_Service(self),))
        self.grpc = f"http://127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.http = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        self._server.start()
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(None).wait()
        self._http.shutdown()
        self._http.server_close()

    def take(self, request: Message, headers: dict[str, str]) -> None:
        with self._lock:
            self.requests.append(request)
            self.headers.append(headers)

    @property
    def text(self) -> str:
        """All that came, to look for what must not."""
        with self._lock:
            return "\n".join(str(request) for request in self.requests)

    def exports(self) -> list[list[Span]]:
        """The spans that came together."""
        with self._lock:
            trace_requests = [each for each in self.requests if isinstance(each, ExportTraceServiceRequest)]
        return [spans_of([each]) for each in trace_requests]

    def spans(self) -> list[Span]:
        return [span for export in self.exports() for span in export]

    def until(self, wanted: Callable[[Span], bool], count: int = 1) -> list[Span]:
        """Waits for so many spans that are wanted."""
        matching: list[Span] = []

        def there() -> bool:
            matching[:] = [span for span in self.spans() if wanted(span)]
            return len(matching) >= count

        until(there, 60)
        return matching

    def metrics(self) -> dict[str, Any]:
        """The last of each, by name."""
        with self._lock:
            requests = [each for each in self.requests if isinstance(each, ExportMetricsServiceRequest)]
        return {
            metric.name: metric
            for request in requests
            for group in request.resource_metrics
            for scope in group.scope_metrics
            for metric in scope.metrics
        }


class _Service(grpc.GenericRpcHandler):
    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        match handler_call_details.method:
            case name if name == TRACES:
                kind, answer = ExportTraceServiceRequest, ExportTraceServiceResponse
            case name if name == METRICS:
                kind, answer = ExportMetricsServiceRequest, ExportMetricsServiceResponse
            case _:
                return None

        def take(request: Message, context: grpc.ServicerContext) -> Message:
            self._collector.take(request, dict(context.invocation_metadata()))
            return answer()

        return grpc.unary_unary_rpc_method_handler(take, kind.FromString, answer.SerializeToString)


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = self.headers["content-length"]
            body = self.rfile.read(int(length)) if length is not None else b"".join(self._chunks())
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            kind = ExportTraceServiceRequest if self.path.endswith("/v1/traces") else ExportMetricsServiceRequest
            collector.take(kind.FromString(body), {k.lower(): v for k, v in self.headers.items()})
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def _chunks(self) -> Iterator[bytes]:
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()

        def log_message(self, *_: Any) -> None:
            pass

    return Handler

"""An endpoint picker of the Gateway API Inference Extension, as a script: it reads the whole request and names an
endpoint of the pool, as pickers do."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent import futures
from dataclasses import dataclass, field
from typing import Any

import grpc

from edge_extproc.pb import ext_proc_pb2 as pb

PICKED = "x-gateway-destination-endpoint"
NAMESPACE = "envoy.lb"


@dataclass
class Picker:
    """Picks the endpoint of this port for each request, and keeps what it saw."""

    endpoint: int = 0
    headers: list[dict[str, str]] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    def process(self, messages: Iterator[pb.ProcessingRequest], _: Any) -> Iterator[pb.ProcessingResponse]:
        body = b""
        for message in messages:
            match message.WhichOneof("request"):
                case "request_headers":
                    pairs = message.request_headers.headers.headers
                    self.headers.append({each.key: (each.raw_value or each.value.encode()).decode() for each in pairs})
                case "request_body":
                    body += message.request_body.body
                    if message.request_body.end_of_stream:
                        self.bodies.append(body)
                        yield self._pick()
                        yield _unchanged(body)

    def _pick(self) -> pb.ProcessingResponse:
        answer = pb.ProcessingResponse()
        option = answer.request_headers.response.header_mutation.set_headers.add()
        option.header.key, option.header.raw_value = PICKED, f"127.0.0.1:{self.endpoint}".encode()
        # Pickers set both.
        answer.dynamic_metadata.update({NAMESPACE: {PICKED: f"127.0.0.1:{self.endpoint}"}})
        return answer


def _unchanged(body: bytes) -> pb.ProcessingResponse:
    answer = pb.ProcessingResponse()
    streamed = answer.request_body.response.body_mutation.streamed_response
    streamed.body, streamed.end_of_stream = body, True
    return answer


@contextlib.contextmanager
def serving(picker: Picker) -> Iterator[int]:
    handler = grpc.stream_stream_rpc_method_handler(
        picker.process, pb.ProcessingRequest.FromString, pb.ProcessingResponse.SerializeToString
    )
    server = grpc.server(futures.ThreadPoolExecutor(8))
    service = "envoy.service.ext_proc.v3.ExternalProcessor"
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Process": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()

"""What one exchange costs the agent without Envoy and gRPC: `python -m bench.exchange [--profile WAY] [--rounds N]`.

    pass     a reply in the caller's own dialect: four messages in, four out, settled, counted and logged
    cross    the same through another dialect
    stream   a stream of 64 events, in the caller's own dialect
    hit      a reply from the cache: two messages in, two out
    tries    the second try of a request, as its upstream stream makes it

Messages are bytes on both sides, as a transport would bring them. Microseconds of the process' CPU time for one
exchange, its access line included; the best of some runs: what else the machine does only adds. `--profile` shows where
the time of one way goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import itertools
import json
import pstats
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path

from edge_extproc.accounting import prices
from edge_extproc.config import load
from edge_extproc.exchange.attempt import AttemptExchange
from edge_extproc.exchange.handler import Handler
from edge_extproc.exchange.open import OpenExchanges
from edge_extproc.exchange.ports import Gateway
from edge_extproc.exchange.router import RouterExchange
from edge_extproc.model.settlement import Settlement
from edge_extproc.pb.ext_proc_pb2 import ProcessingRequest
from edge_extproc.server import wire
from edge_extproc.telemetry import logs
from edge_extproc.telemetry.metrics import Metrics
from edge_extproc.worker.wiring import gateway as app
from edge_extproc.worker.wiring.cache import build_cache

from . import stand

RUNS = 60
IDS = 256
"""The number of request ids, used in turn. They look random, as Envoy's are: a cost that depends on it must show."""
REQUEST_IDS = [str(uuid.uuid5(uuid.NAMESPACE_DNS, str(n))) for n in range(IDS)]
ASKED = {
    "model": "gpt-4o-mini",
    "messages": [
        {"role": "system", "content": "You are a terse assistant who answers in plain words and never repeats."},
        {"role": "user", "content": "What does a gateway add to the way of a request, and what must it not add?"},
    ],
    "max_tokens": 100,
    "temperature": 0,
}
REPLY = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1700000000,
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 300}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 20, "completion_tokens": 80, "total_tokens": 100},
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-3-5-haiku-20241022",
    "content": [{"type": "text", "text": "x" * 300}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 20, "output_tokens": 80},
}


def chunk(delta: object, finish: str | None = None, usage: object = None) -> bytes:
    choices = [] if usage else [{"index": 0, "delta": delta, "finish_reason": finish}]
    told = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini", "choices": choices}
    return b"data: " + json.dumps({**told, "usage": usage}).encode() + b"\n\n"


STREAM = (
    chunk({"role": "assistant", "content": ""}),
    *(chunk({"content": "word "}) for _ in range(60)),
    chunk({}, "stop"),
    chunk({}, usage=REPLY["usage"]),
    b"data: [DONE]\n\n",
)


def request_headers(request_id: str, *more: tuple[str, str]) -> bytes:
    message = ProcessingRequest()
    pairs = (
        (":authority", "gateway.example"),
        (":path", "/v1/chat/completions"),
        (":method", "POST"),
        (":scheme", "http"),
        ("accept", "application/json"),
        ("content-type", "application/json"),
        ("content-length", "315"),
        ("user-agent", "OpenAI/Python 2.8.0"),
        ("x-stainless-lang", "python"),
        ("x-stainless-package-version", "2.8.0"),
        ("x-stainless-os", "Linux"),
        ("x-stainless-runtime", "CPython"),
        ("authorization", f"Bearer {stand.KEY}"),
        ("x-forwarded-proto", "http"),
        ("x-request-id", request_id),
        *more,
    )
    for name, value in pairs:
        message.request_headers.headers.headers.add(key=name, raw_value=value.encode())
    return message.SerializeToString()


def again(exchange_id: str) -> bytes:
    """The headers of a second try, as the upstream level tells them."""
    message = ProcessingRequest.FromString(request_headers(REQUEST_IDS[0], ("x-envoy-attempt-count", "2")))
    message.attributes[wire.ATTRIBUTES].fields["upstream.request_attempt_count"].number_value = 2
    message.metadata_context.filter_metadata["edge"].fields["exchange"].string_value = exchange_id
    return message.SerializeToString()


def request_body(body: object) -> bytes:
    message = ProcessingRequest()
    message.request_body.body, message.request_body.end_of_stream = json.dumps(body).encode(), True
    return message.SerializeToString()


def response_headers(content_type: str) -> bytes:
    message = ProcessingRequest()
    pairs = ((":status", "200"), ("content-type", content_type), ("date", "x"), ("x-request-id", "req_1"))
    for name, value in (*pairs, ("openai-organization", "o"), ("x-envoy-upstream-service-time", "5")):
        message.response_headers.headers.headers.add(key=name, raw_value=value.encode())
    told = message.attributes[wire.ATTRIBUTES].fields
    told["upstream.request_attempt_count"].number_value = 1
    told["response.code_details"].string_value = "via_upstream"
    return message.SerializeToString()


def response_body(body: bytes, *, end: bool) -> bytes:
    message = ProcessingRequest()
    message.response_body.body, message.response_body.end_of_stream = body, end
    return message.SerializeToString()


def messages(
    model: str, answer: Sequence[bytes], *, stream: bool = False, body: Mapping[str, object] = ASKED
) -> Iterator[tuple[bytes, ...]]:
    """All that Envoy says of one request, without an end. Only the request's id changes."""
    last = len(answer) - 1
    rest = (
        request_body({**body, "model": model, "stream": stream}),
        response_headers("text/event-stream" if stream else "application/json"),
        *(response_body(each, end=n == last) for n, each in enumerate(answer)),
    )
    return itertools.cycle([(request_headers(each), *rest) for each in REQUEST_IDS])


async def told(handler: Handler, said: Sequence[bytes]) -> None:
    """Speaks as a transport does."""
    for message in said:
        event = wire.to_event(message)
        wire.to_answers(event, await handler.handle(event))


class Ways:
    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lines = (directory / "access.log").open("wb")
        self._log = logs.AccessLog(self._lines)
        self._plain, self._cached = self._gateway(""), self._gateway("cache: {}\n")
        reply = json.dumps(REPLY).encode()
        self._pass = messages("gpt-4o-mini", [reply])
        self._cross = messages("claude-3-5-haiku-20241022", [json.dumps(MESSAGE).encode()])
        self._stream = messages("gpt-4o-mini", STREAM, stream=True)
        self._exchanges = OpenExchanges()
        self._open = RouterExchange(self._plain, self._exchanges)
        self._again: Sequence[bytes] = ()
        self.by_name: dict[str, Callable[[], Awaitable[object]]] = {
            "pass": lambda: self._exchange(self._plain, next(self._pass)),
            "cross": lambda: self._exchange(self._plain, next(self._cross)),
            "stream": lambda: self._exchange(self._plain, next(self._stream)),
            "hit": lambda: self._exchange(self._cached, next(self._pass)[:2]),
            "tries": self._try,
        }

    async def begin(self) -> None:
        await self._exchange(self._cached, next(self._pass))
        await told(self._open, next(self._pass)[:2])
        self._again = (again(self._open.id),)

    def close(self) -> None:
        self._log.close()
        self._lines.close()

    def _gateway(self, more: str) -> Gateway:
        path = self._directory / "edge.yaml"
        path.write_text(stand.config(1, 2, "http://127.0.0.1:3", 1) + more)
        config = load.load(path)
        metrics = Metrics(app.metric_names(config), version="bench", started_at=0)

        def settle(settlement: Settlement) -> None:
            metrics.closed()
            metrics.settle(settlement)
            self._log.write(settlement)

        def report(bug: BaseException) -> None:
            raise bug

        table = prices.load(prices.compiled(self._directory))
        gateway = app.build_gateway(config, table, (settle,), report, build_cache(config, metrics))
        self._opened = metrics.opened
        return gateway

    async def _exchange(self, gateway: Gateway, said: Sequence[bytes]) -> None:
        exchange = RouterExchange(gateway, self._exchanges)
        await told(exchange, said)
        exchange.closed("done")

    async def _try(self) -> None:
        attempt = AttemptExchange(self._plain, self._exchanges)
        await told(attempt, self._again)
        attempt.closed("done")


async def measured(way: Callable[[], Awaitable[object]], rounds: int) -> float:
    """Microseconds of one."""
    began = time.process_time()
    for _ in range(rounds):
        await way()
    return (time.process_time() - began) / rounds * 1e6


async def yardstick() -> None:
    """Work of the same kind that never changes: what an hour's or a machine's speed is told by."""
    asked = json.dumps(ASKED)
    for n in range(12):
        found = json.loads(asked)
        found["model"] = f"{found['model']}-{n}"


async def run(profiled: str | None, rounds: int) -> None:
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as directory:
        ways = Ways(Path(directory))
        await ways.begin()
        gc.collect()
        gc.freeze()
        for name, way in ways.by_name.items():
            if profiled is None:
                took = unit = float("inf")
                for _ in range(RUNS):
                    took = min(took, await measured(way, rounds))
                    unit = min(unit, await measured(yardstick, rounds))
                print(f"{name:8} {took:7.1f} µs of CPU, {took / unit:5.2f} yardsticks of {unit:.1f} µs")
            elif profiled == name:
                await measured(way, rounds)
                profile = cProfile.Profile()
                profile.enable()
                await measured(way, rounds)
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        ways.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", choices=("pass", "cross", "stream", "hit", "tries"))
    parser.add_argument("--rounds", type=int, default=50, help="exchanges in each of the runs of which the best counts")
    asked = parser.parse_args()
    asyncio.run(run(asked.profile, asked.rounds))


if __name__ == "__main__":
    main()

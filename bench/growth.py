"""How the cost of an exchange grows: `python -m bench.growth [--rounds N] [--json FILE]`.

    messages    a conversation of so many messages, passed on and translated
    kilobytes   one message of this length, passed on and translated
    events      a streamed reply with so many events, passed on and translated
    providers   the exchange of a gateway with so many providers and models
    keys        the exchange of a gateway with so many callers

The exchange is that of bench.exchange, without Envoy and gRPC. Each number is the CPU time of one exchange in
microseconds: the least of some runs, because other work on the machine can only add to it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from edge_extproc.accounting import prices
from edge_extproc.config import load
from edge_extproc.exchange.open import OpenExchanges
from edge_extproc.exchange.ports import Gateway
from edge_extproc.exchange.router import RouterExchange
from edge_extproc.telemetry.metrics import Metrics
from edge_extproc.worker.wiring import gateway as app
from edge_extproc.worker.wiring.cache import build_cache

from . import exchange, stand

RUNS = 12
OPENAI, CLAUDE = "gpt-4o-mini", "claude-3-5-haiku-20241022"
_WORDS = "What does a gateway add to the way of a request, and what must it not add? "

SIZES: dict[str, Sequence[int]] = {
    "messages": (1, 10, 100, 1000),
    "kilobytes": (1, 16, 128, 1024),
    "events": (10, 100, 1000),
    "providers": (1, 100, 1000),
    "keys": (1, 100, 10_000),
}


def conversation(messages: int, length: int = len(_WORDS)) -> dict[str, object]:
    """A chat of so many messages, each of `length` characters."""
    text = (_WORDS * (length // len(_WORDS) + 1))[:length]
    roles = ("user", "assistant")
    return {
        "messages": [{"role": roles[number % 2], "content": text} for number in range(messages)],
        "max_tokens": 100,
        "temperature": 0,
    }


def stream_of(events: int) -> list[bytes]:
    """A reply of OpenAI with so many events, each in a message of its own."""
    words = [exchange.chunk({"content": "word "})] * (events - 4)
    return [exchange.STREAM[0], *words, *exchange.STREAM[-3:]]


def events_of_claude(events: int) -> list[bytes]:
    """The same in the format of Anthropic."""
    start = {**exchange.MESSAGE, "content": [], "stop_reason": None}
    delta = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "word "}}
    end = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 80}}
    said: list[dict[str, object]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *[delta] * (events - 5),
        {"type": "content_block_stop", "index": 0},
        end,
        {"type": "message_stop"},
    ]
    return [b"event: %s\ndata: %s\n\n" % (str(each["type"]).encode(), json.dumps(each).encode()) for each in said]


def config(providers: int = 1, keys: int = 1) -> str:
    """That of the benchmark, with more providers, models and callers."""
    text = stand.config(1, 2, "http://127.0.0.1:3", 1)
    hosts = [
        f'  host-{number}: {{kind: openai_compatible, base_url: "http://127.0.0.1:3/v1", api_key: x}}\n'
        for number in range(1, providers)
    ]
    models = [f"  model-{number}: [{{provider: host-{number}}}]\n" for number in range(1, providers)]
    callers = [f"{{id: key-{number}, key: a-key-of-one-caller-{number}}}" for number in range(1, keys)]
    text = text.replace("models:\n", "".join(hosts) + "models:\n") + "".join(models)
    return text.replace(f"key: {stand.KEY}}}]", ", ".join([f"key: {stand.KEY}}}", *callers]) + "]")


def build(directory: Path, text: str) -> Gateway:
    path = directory / "edge.yaml"
    path.write_text(text)
    parsed = load.load(path)
    metrics = Metrics(app.metric_names(parsed), version="bench", started_at=0)

    def settle(settlement: object) -> None:
        metrics.closed()
        metrics.settle(settlement)  # type: ignore[arg-type]  # the sink of a settlement

    def report(bug: BaseException) -> None:
        raise bug

    table = prices.load(prices.compiled(directory))
    return app.build_gateway(parsed, table, (settle,), report, build_cache(parsed, metrics))


async def cost(gateway: Gateway, said: Iterator[tuple[bytes, ...]], rounds: int) -> float:
    """Microseconds of CPU time."""
    exchanges = OpenExchanges()

    async def once() -> None:
        one = RouterExchange(gateway, exchanges)
        await exchange.told(one, next(said))
        one.closed("done")

    await exchange.measured(once, 3)
    least = float("inf")
    for _ in range(RUNS):
        least = min(least, await exchange.measured(once, rounds))
    return least


def cases(kind: str, size: int) -> dict[str, tuple[str, Iterator[tuple[bytes, ...]]]]:
    """The configuration and the messages of each way."""
    reply, message = json.dumps(exchange.REPLY).encode(), json.dumps(exchange.MESSAGE).encode()
    ways = {"passed on": (OPENAI, [reply]), "translated": (CLAUDE, [message])}
    text, body, stream = config(), conversation(2), False
    match kind:
        case "messages":
            body = conversation(size)
        case "kilobytes":
            body = conversation(1, size * 1024)
        case "events":
            stream = True
            ways = {"passed on": (OPENAI, stream_of(size)), "translated": (CLAUDE, events_of_claude(size))}
        case "providers":
            text = config(providers=size)
        case _:
            text = config(keys=size)
    return {
        way: (text, exchange.messages(model, answer, stream=stream, body=body)) for way, (model, answer) in ways.items()
    }


async def measure_all(rounds: int, show: Callable[[str], object]) -> dict[str, dict[str, dict[int, float]]]:
    """By kind, way and size."""
    results: dict[str, dict[str, dict[int, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as directory:
        for kind, sizes in SIZES.items():
            for size in sizes:
                for way, (text, said) in cases(kind, size).items():
                    gateway = build(Path(directory), text)
                    gc.collect()
                    large = kind in ("messages", "kilobytes", "events") and size >= 100
                    took = await cost(gateway, said, max(1, rounds // 10) if large else rounds)
                    results.setdefault(kind, {}).setdefault(way, {})[size] = took
                    show(f"{kind:>10} {size:>6}  {way:<10} {took:>9.0f} µs")
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=30, help="exchanges of one run; a tenth of it for long ones")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    options = parser.parse_args()
    results = asyncio.run(measure_all(options.rounds, print))
    if options.json is not None:
        options.json.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()

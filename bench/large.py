"""Callers with small requests while another one sends large bodies: `python -m bench.large [--rate N] [--seconds N]`.

The small requests come at a modest rate, open loop: a request is late from when it was due. They are measured alone and
beside each kind of large body: 300,000 messages in 9 MB, which the bounds of the shape refuse; and 9,000 messages in
9 MB, which a provider of the caller's format gets. The gateway has one worker, so all requests are in one event loop.
The load generators share this machine.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import threading
from pathlib import Path

from . import build, load
from .stand import KEY, Stand, standing

SMALL_PER_SECOND = 50.0
ROUNDS = 3
MEGABYTES = 9
MOST_TIMES = 3


def body_of(messages: int) -> str:
    """A chat of so many messages that has MEGABYTES megabytes."""
    empty = '{"role":"user","content":""},'
    text = "x" * (MEGABYTES * 1_000_000 // messages - len(empty))
    message = {"role": "user", "content": text}
    return json.dumps({"model": "gpt-4o-mini", "messages": [message] * messages}, separators=(",", ":"))


def measured(
    tools: build.Tools, found: Stand, small: Path, large: Path | None, rate: float, seconds: float
) -> tuple[load.Load, load.Load | None]:
    """What became of the small requests, and of the large ones."""
    url = f"{found.gateway}/v1/chat/completions"
    headers = (("authorization", f"Bearer {KEY}"),)
    beside: list[load.Load] = []

    def send(body: Path) -> None:
        target = load.Target(url, body, headers)
        beside.append(
            load.run(
                tools.loadgen, target, connections=4, seconds=seconds + 2, warm_up=0, rate=rate, source="127.0.0.2"
            )
        )

    sending = threading.Thread(target=send, args=(large,)) if large is not None else None
    if sending is not None:
        sending.start()
    target = load.Target(url, small, headers)
    good = load.run(tools.loadgen, target, connections=16, seconds=seconds, warm_up=1, rate=SMALL_PER_SECOND)
    if sending is not None:
        sending.join()
    return good, beside[0] if beside else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rate", type=float, default=2.0, help="large bodies a second")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    asked = parser.parse_args()
    tools = build.tools()
    with tempfile.TemporaryDirectory(prefix="edge-large-") as name, standing(tools, workers=1) as found:
        small = Path(name) / "small.json"
        small.write_text(json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}))
        for messages in (300_000, 9_000):
            large = Path(name) / f"{messages}.json"
            large.write_text(body_of(messages))
            rounds = [
                (
                    measured(tools, found, small, None, asked.rate, asked.seconds)[0],
                    *measured(tools, found, small, large, asked.rate, asked.seconds),
                )
                for _ in range(ROUNDS)
            ]
            alone, beside = (statistics.median(each[n].p99 for each in rounds) for n in (0, 1))
            print(f"{messages} messages in {MEGABYTES} MB, {asked.rate:g} a second")
            print(
                f"    p50, alone and beside  {statistics.median(each[0].p50 for each in rounds):8.2f} "
                f"{statistics.median(each[1].p50 for each in rounds):8.2f} ms"
            )
            print(
                f"    p99, alone and beside  {alone:8.2f} {beside:8.2f} ms: "
                f"{beside / alone:.2f} times (at most {MOST_TIMES})"
            )
            print(f"    small requests that failed: {sum(each[0].errors + each[1].errors for each in rounds)}")
            print(
                f"    large bodies: {sum(each[2].sent for each in rounds)} sent, "
                f"{sum(each[2].errors for each in rounds)} without a 200"
            )


if __name__ == "__main__":
    main()

"""Good callers at a modest rate while wrong keys come as fast as they can: `python -m bench.access --flood`.

The good ones come from 127.0.0.1 and the wrong keys from 127.0.0.2, both open loop: a request is late from when it was
due. They are measured alone and in the flood, without and with Envoy's bound of each source (`envoy.source_limit`).
`--wrong` says how many wrong keys are offered: no more than the machine can bring forth, or the queue before it is what
is measured. All of it, load generators too, shares this machine.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from . import build, load, proc
from .stand import KEY, Stand, standing

GOOD_PER_SECOND = 50.0
SECONDS = 6.0
ROUNDS = 3
WRONG = "bench-key-that-nobody-has"


@dataclass(frozen=True, slots=True)
class Seen:
    good: load.Load
    wrong: load.Load | None
    worker_ms: float
    """CPU of the worker for each second."""
    envoy_ms: float


def main(more: str, wrong: float) -> None:
    tools = build.tools()
    with tempfile.TemporaryDirectory(prefix="edge-flood-") as directory:
        body = Path(directory) / "body.json"
        body.write_text(json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}))
        for name, envoy in (("as it is", more), ("bounded by source", ", ".join(filter(None, (more, BOUNDED))))):
            with standing(tools, workers=1, envoy=envoy) as found:
                rounds = [(_round(tools, found, body, None), _round(tools, found, body, wrong)) for _ in range(ROUNDS)]
            _tell(name, wrong, rounds)


BOUNDED = "source_limit: {requests_per_second: 60, burst: 60}"


def _round(tools: build.Tools, found: Stand, body: Path, wrong: float | None) -> Seen:
    url = f"{found.gateway}/v1/chat/completions"
    flood: list[load.Load] = []

    def come(rate: float) -> None:
        target = load.Target(url, body, (("authorization", f"Bearer {WRONG}"),))
        flood.append(
            load.run(
                tools.loadgen, target, connections=64, seconds=SECONDS + 2, warm_up=0, rate=rate, source="127.0.0.2"
            )
        )

    coming = threading.Thread(target=come, args=(wrong,)) if wrong is not None else None
    if coming is not None:
        coming.start()
    before = [proc.cpu_seconds(pid) for pid in (found.worker_pids[0], found.gateway_envoy_pid)]
    target = load.Target(url, body, (("authorization", f"Bearer {KEY}"),))
    good = load.run(tools.loadgen, target, connections=16, seconds=SECONDS, warm_up=1, rate=GOOD_PER_SECOND)
    after = [proc.cpu_seconds(pid) for pid in (found.worker_pids[0], found.gateway_envoy_pid)]
    if coming is not None:
        coming.join()
    worker, envoy = ((b - a) / (SECONDS + 1) * 1000 for a, b in zip(before, after, strict=True))
    return Seen(good, flood[0] if flood else None, worker, envoy)


def _tell(name: str, wrong: float, rounds: list[tuple[Seen, Seen]]) -> None:
    def middle(*values: float) -> float:
        return statistics.median(values)

    alone = middle(*(quiet.good.p99 for quiet, _ in rounds))
    flooded = middle(*(loud.good.p99 for _, loud in rounds))
    answered = middle(*(loud.wrong.per_second for _, loud in rounds if loud.wrong is not None))
    print(f"{name}: {GOOD_PER_SECOND:.0f} good requests a second, {wrong:.0f} wrong keys offered")
    print(f"    wrong keys answered                  {answered:8.0f} a second")
    print(
        f"    p50 of good ones, alone and flooded  {middle(*(q.good.p50 for q, _ in rounds)):8.2f} "
        f"{middle(*(f.good.p50 for _, f in rounds)):8.2f} ms"
    )
    times = f"{flooded / alone:.2f} times (at most 2)"
    print(f"    p99 of good ones, alone and flooded  {alone:8.2f} {flooded:8.2f} ms: {times}")
    print(
        f"    CPU in the flood: worker {middle(*(f.worker_ms for _, f in rounds)):.0f} ms a second, "
        f"Envoy {middle(*(f.envoy_ms for _, f in rounds)):.0f}"
    )
    print(f"    good ones that failed: {sum(f.good.errors for _, f in rounds)}")

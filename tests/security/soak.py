"""All attacks again and again, beside a tenant with a good provider: python tests/security/soak.py --seconds 600

It fails if a call of that tenant fails, if its p99 is over three times that of the quiet begin, or if the memory of the
gateway grows. What the attacks see is not compared here, because they disturb each other's provider.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import random
import sys
import threading
import time
from multiprocessing.queues import SimpleQueue
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import TypeAlias

sys.path[:0] = [str(Path(__file__).resolve().parents[1]), str(Path(__file__).resolve().parent)]

import httpx2 as httpx  # noqa: E402 - the path comes first
from attacks import ATTACKS  # noqa: E402
from gateway import until  # noqa: E402
from target import Target, attacked, chat  # noqa: E402

CALLERS, ATTACKERS = 2, 2
# Seconds between two calls of one good caller.
PAUSE = 0.05
# Calls, of all callers, from which on they count as started.
FIRST = 20
MOST_SLOWER = 3.0
# Milliseconds. A p99 below it is not told from the noise of a machine.
NOISE_MS = 50.0
MOST_GROWTH = 1.25


Sample: TypeAlias = tuple[float, float, str]
"""When a call began (monotonic), its milliseconds, and what went wrong; "": nothing."""


def call_until(url: str, key: str, stop: Event, samples: SimpleQueue[Sample]) -> None:
    """A good caller at a steady rate, in a process of its own: the attackers' work must not delay its clock."""
    with httpx.Client(base_url=url, timeout=30, headers={"authorization": f"Bearer {key}"}) as client:
        while not stop.is_set():
            began, wrong = time.monotonic(), ""
            try:
                reply = client.post("/v1/chat/completions", json=chat("Hello", model="other"))
                if reply.status_code != 200:
                    wrong = f"{reply.status_code} {reply.text[:200]}"
            except httpx.HTTPError as error:
                wrong = type(error).__name__
            samples.put((began, 1000 * (time.monotonic() - began), wrong))
            stop.wait(PAUSE)


def p99(latencies: list[float]) -> float:
    return sorted(latencies)[int(0.99 * (len(latencies) - 1))]


def memory(target: Target) -> int:
    """Bytes of the resident memory of all processes of the gateway."""
    pages = 0
    for pid in target.gateway.processes().values():
        with contextlib.suppress(OSError):
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096


def attack_until(target: Target, stop: Event, seed: int) -> None:
    order = random.Random(seed)
    while not stop.is_set():
        # An assertion is about a provider that another attack has changed meanwhile.
        with contextlib.suppress(AssertionError, httpx.HTTPError, OSError, KeyError, ValueError, IndexError):
            order.choice(ATTACKS).run(target)


def soak(seconds: float) -> list[str]:
    """What does not hold."""
    processes = multiprocessing.get_context("spawn")
    with attacked() as target:
        stop, samples = processes.Event(), processes.SimpleQueue()
        arguments = (target.gateway.url, target.key("umbrella"), stop, samples)
        callers = [processes.Process(target=call_until, args=arguments) for _ in range(CALLERS)]
        attackers = [threading.Thread(target=attack_until, args=(target, stop, n)) for n in range(ATTACKERS)]
        kept: list[Sample] = []
        reader = threading.Thread(target=lambda: kept.extend(iter(samples.get, None)))
        reader.start()
        for caller in callers:
            caller.start()
        until(lambda: len(kept) >= FIRST)  # on a busy machine, a process takes long to start
        time.sleep(max(10.0, seconds / 10))
        begin = time.monotonic()
        for attacker in attackers:
            attacker.start()
        sizes = []
        while time.monotonic() < begin + seconds:
            time.sleep(min(5.0, seconds / 20))
            sizes.append(memory(target))
        stop.set()
        for caller in callers:
            caller.join(120)
        for attacker in attackers:
            attacker.join(120)
        samples.put(None)
        reader.join(10)
    # The first seconds of a caller are those of its start.
    first = min(began for began, _, _ in kept) + 2
    quiet = p99([took for began, took, _ in kept if first < began < begin])
    under = p99([took for began, took, _ in kept if began > begin])
    failures = [wrong for _, _, wrong in kept if wrong]
    bound = max(MOST_SLOWER * quiet, NOISE_MS)
    # The first half fills caches and buffers.
    half = len(sizes) // 2
    growth = max(sizes[half:]) / max(sizes[:half])
    print(
        f"calls of the good tenant: {len(kept)}, failed: {len(failures)}\n"
        f"p99: {quiet:.0f} ms quiet, {under:.0f} ms under attack (at most {bound:.0f})\n"
        f"memory: {max(sizes[:half]) >> 20} MiB in the first half, {max(sizes[half:]) >> 20} in the second"
    )
    return [
        *(f"a call failed: {each}" for each in failures[:5]),
        *([f"p99 is {under:.0f} ms"] if under > bound else []),
        *([f"memory grew by {growth:.2f}"] if growth > MOST_GROWTH else []),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0)
    broken = soak(parser.parse_args().seconds)
    for each in broken:
        print(f"does not hold: {each}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

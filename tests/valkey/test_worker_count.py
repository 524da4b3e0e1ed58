"""Workers of several gateways count themselves in a real Valkey, and divide a budget while it is gone."""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import config_kit
import pytest
from limits_kit import dollars, limiter, until
from prometheus_client import CollectorRegistry
from valkeys import Valkey

from edge_extproc import registry
from edge_extproc.errors import LimitReached, PolicyUnavailable
from edge_extproc.limits.base import LimitStoreSettings, ReservationRequest
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.redis import RedisLimitStore
from edge_extproc.limits.worker_count import CountTiming, WorkerCount
from edge_extproc.model.principal import Principal
from edge_extproc.worker.wiring.limits import build_limits

# As in a gateway, but sooner.
TIMING = CountTiming(interval=0.05, settled=0.1, expires=5.0, hold=0.6)
LIMITED = "callers: [{tenant: dev, limits: {requests_per_minute: 9}, keys: [{id: dev, key: {env: KEY}}]}]\n"
BUDGET = 1_200_000
STEP = 1_000


def store_of(valkey: Valkey) -> RedisLimitStore:
    store: RedisLimitStore = registry.load("limits", "redis").build(LimitStoreSettings(valkey.url, 5.0))
    return store


@asynccontextmanager
async def worker(valkey: Valkey, tenant: str, timing: CountTiming = TIMING) -> AsyncIterator[PolicyLimiter]:
    rule = dollars(BUDGET / 1_000_000, "month", tenant=tenant, name=tenant, local=True)
    by = limiter(rule, store=store_of(valkey), now=time.time, share_of=None, workers=WorkerCount(timing))
    by.start()
    try:
        yield by
    finally:
        await by.close()


async def admitted(by: PolicyLimiter, tenant: str, amount: int = STEP) -> bool:
    rules = by.rules(Principal(tenant, "k"))
    assert rules is not None
    try:
        await by.admit(uuid.uuid4().hex, rules, ReservationRequest(0, amount))
    except LimitReached:
        return False
    return True


@pytest.fixture
def tenant() -> str:
    return uuid.uuid4().hex


async def spend_all(by: PolicyLimiter, tenant: str) -> int:
    """How much it admits while the store is gone."""
    spent = 0
    while True:
        try:
            if not await admitted(by, tenant):
                return spent
            spent += STEP
        except PolicyUnavailable:
            return spent


async def test_workers_divide_what_is_left_by_the_number_of_them_that_there_is(tenant: str) -> None:
    with Valkey() as valkey:
        async with AsyncExitStack() as stack:
            three = [await stack.enter_async_context(worker(valkey, tenant)) for _ in range(3)]
            await until(lambda: [3, 3, 3] == [by.shares for by in three])
            assert all([await admitted(by, tenant) for by in three])
            # What each of them saw last is what the fourth one leaves.
            three += [await stack.enter_async_context(worker(valkey, tenant))]
            await until(lambda: [4, 4, 4, 4] == [by.shares for by in three])
            assert await admitted(three[3], tenant)
            valkey.kill()
            spent = [await spend_all(by, tenant) for by in three]

    assert all(spent)
    assert BUDGET - 5 * STEP * len(three) < sum(spent) + 4 * STEP <= BUDGET


async def test_the_metrics_show_the_workers_and_the_shares(tenant: str) -> None:
    """As the service of a worker from its configuration: with `auto` it has no share yet, and with a number it has."""
    text = "limiter: {{url: '{url}', replicas: {replicas}}}\nagent: {{workers: 2}}\n"
    with Valkey() as valkey:
        found = []
        async with worker(valkey, tenant):
            for replicas in ("auto", 3):
                registry = CollectorRegistry()
                config = config_kit.read(LIMITED + text.format(url=valkey.url, replicas=replicas))
                service = build_limits(config, registry, print)
                assert service is not None
                service.start()
                await until(lambda registry=registry: registry.get_sample_value("edge_limit_workers") == 2)
                found.append(registry.get_sample_value("edge_limit_shares"))
                await service.close()

    assert [0, 6] == found


async def test_a_worker_that_starts_without_the_store_admits_nothing(tenant: str) -> None:
    with Valkey() as valkey:
        valkey.kill()
        async with worker(valkey, tenant) as by:
            with pytest.raises(PolicyUnavailable):
                await admitted(by, tenant)
            valkey.start()
            await until(lambda: by.shares == 1)
            await until(lambda: not by._is_down)
            assert await admitted(by, tenant)


async def test_a_worker_that_leaves_is_not_counted_and_one_that_is_killed_expires(tenant: str) -> None:
    short = CountTiming(interval=0.05, settled=0.1, expires=0.3, hold=0.2)
    with Valkey() as valkey:
        async with worker(valkey, tenant, short) as stays:
            async with worker(valkey, tenant, short):
                await until(lambda: stays.shares == 2)
            await until(lambda: stays.shares == 1)

            store, gone = store_of(valkey), WorkerCount(short)
            task = asyncio.create_task(gone.run(store))
            await until(lambda: stays.shares == 2)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
            await until(lambda: stays.shares == 1)
            await store.close()


async def test_an_empty_store_in_the_place_of_the_first_one_enlarges_no_share(tenant: str) -> None:
    with Valkey() as valkey:
        async with AsyncExitStack() as stack:
            workers = [await stack.enter_async_context(worker(valkey, tenant)) for _ in range(2)]
            await until(lambda: [2, 2] == [by.shares for by in workers])
            client = store_of(valkey)
            await client.connection.send("FLUSHALL")
            await client.close()
            seen = set[int | None]()

            def known_again() -> bool:
                seen.update(by.shares for by in workers)
                return [2, 2] == [by.workers.counted for by in workers]

            await until(known_again)

    assert {2} == seen

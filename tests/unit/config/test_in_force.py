"""A worker takes over another configuration: whole or not at all, and without forgetting what it knows."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import structlog
from config_kit import ENVIRON, read
from gateway import with_prices
from settlements import settlement
from tokens import RSA

from edge_extproc import __version__
from edge_extproc.accounting import prices as price_table
from edge_extproc.auth.identity import IdentitySources
from edge_extproc.config.schema import Config
from edge_extproc.errors import ConfigError, Unauthenticated, Unavailable
from edge_extproc.limits.base import ReservationRequest
from edge_extproc.model.call import Call
from edge_extproc.model.managed import EMPTY
from edge_extproc.model.plan import AttemptResult, Candidate, Plan
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.routing.base import RoutingRequest
from edge_extproc.telemetry.metrics import Metrics
from edge_extproc.worker.state import WorkerState
from edge_extproc.worker.wiring import gateway as app
from edge_extproc.worker.wiring.cache import build_cache, change_cache

NEW = "callers: [{tenant: late, limits: {requests_per_minute: 3}, keys: [{id: late-1, key: {env: OTHER}}]}]\n"


@pytest.fixture(autouse=True)
def _logs_as_they_were() -> Iterator[None]:
    root, before = logging.getLogger(), structlog.get_config()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.configure(**before)


def config(directory: Path, more: str = "") -> Config:
    return read(f"agent: {{state_dir: '{directory}', workers: 1}}\ncache: {{}}\n{more}")


@pytest.fixture
async def force(tmp_path: Path) -> AsyncIterator[WorkerState]:
    with_prices(tmp_path)
    first = config(tmp_path)
    first.agent.socket_dir.mkdir(parents=True)
    metrics = Metrics(app.metric_names(first), version=__version__, started_at=0.0)
    found = WorkerState(first, 0, metrics, (), EMPTY)
    await found.start()
    yield found
    await found.close()


def tenant_of(force: WorkerState, key: str) -> str | None:
    try:
        return force.gateway.authenticator.authenticate([("authorization", f"Bearer {ENVIRON[key]}")]).tenant
    except Unauthenticated:
        return None


async def test_other_callers_are_known_and_what_is_under_way_stays(force: WorkerState, tmp_path: Path) -> None:
    before = force.gateway
    await force.reload(lambda: config(tmp_path, NEW))

    assert (None, "late") == (tenant_of(force, "KEY"), tenant_of(force, "OTHER"))
    after = force.gateway
    assert after is not before
    assert (after.large_body_runner, after.providers, after.planner, after.cache) == (
        before.large_body_runner,
        before.providers,
        before.planner,
        before.cache,
    )


async def test_prices_of_ones_own_are_asked_before_the_lists_from_then_on(force: WorkerState, tmp_path: Path) -> None:
    usage = Usage(input=1_000_000, output=500_000)
    assert force.gateway.prices.cost("openai", "house-model", usage, host="p") is None
    planner = force.gateway.planner
    row = "{provider: p, model: 'house-*', input: 0.000002, output: 3}"
    await force.reload(lambda: config(tmp_path, f"prices: [{row}]\n"))

    assert force.gateway.prices.cost("openai", "house-model", usage, host="p") == Decimal("1.500002")
    assert force.gateway.prices.cost("openai", "gpt-4o", usage, host="p") is not None
    assert force.gateway.planner is not planner


async def test_a_contracts_own_factors_of_a_tier_are_used(force: WorkerState, tmp_path: Path) -> None:
    row = "{provider: p, model: 'house-*', input: 1, output: 1, tiers: {flex: 0.5, priority: '3'}}"
    await force.reload(lambda: config(tmp_path, f"prices: [{row}]\n"))
    usage = Usage(input=1_000_000)

    assert [Decimal("0.5"), Decimal(3)] == [
        force.gateway.prices.cost("", "house-model", usage, host="p", tiers=[tier]) for tier in ("flex", "priority")
    ]


async def test_a_limit_that_was_not_there_is_kept_from_then_on_and_counts_on_through_the_next_one(
    force: WorkerState, tmp_path: Path
) -> None:
    assert force.gateway.limiter is None
    await force.reload(lambda: config(tmp_path, NEW))
    principal = force.gateway.authenticator.authenticate([("authorization", f"Bearer {ENVIRON['OTHER']}")])
    limiter = force.gateway.limiter
    assert limiter is not None
    rules = limiter.rules(principal)
    assert rules is not None
    await limiter.admit("one", rules, ReservationRequest(1, None))
    await force.reload(lambda: config(tmp_path, NEW.replace("requests_per_minute: 3", "requests_per_minute: 9")))
    again = limiter.rules(principal)
    assert again is not None
    told = dict((await limiter.admit("two", again, ReservationRequest(1, None))).headers)

    assert force.gateway.limiter is limiter
    assert ("9", "7") == (told["x-ratelimit-limit-requests"], told["x-ratelimit-remaining-requests"])


async def test_other_models_are_planned_anew(force: WorkerState, tmp_path: Path) -> None:
    before = force.gateway
    await force.reload(lambda: config(tmp_path, "models: {other: [{provider: p}]}\n"))

    assert force.gateway.planner is not before.planner
    assert ("other",) == force.gateway.models.names
    assert ("m",) == before.models.names


async def test_another_key_of_a_provider_is_sent_from_then_on(force: WorkerState, tmp_path: Path) -> None:
    before = force.gateway
    await force.reload(lambda: config(tmp_path, "providers: {p: {kind: openai, api_key: {env: OTHER}}}\n"))

    assert force.gateway.providers is not before.providers


async def test_one_that_cannot_be_read_changes_nothing(force: WorkerState) -> None:
    def bad() -> Config:
        raise ConfigError("f:1:1: this is wrong")

    before = force.gateway
    with pytest.raises(ConfigError):
        await force.reload(bad)

    assert force.gateway is before


async def test_where_nothing_is_newer_nothing_changes(force: WorkerState) -> None:
    before = force.gateway
    await force.reload(lambda: None)

    assert force.gateway is before


# --- what has its own way of going on


class Deaf:
    """Whom nobody tells anything."""

    def cache_looked_up(self, *_: object, found: bool) -> None: ...
    def cache_wrote(self, *_: object) -> None: ...
    def cache_failed(self, *_: object) -> None: ...
    def cache_is_down(self, *_: object, down: bool) -> None: ...


def test_a_cache_keeps_what_lies_in_it_under_other_rules(tmp_path: Path) -> None:
    cache = build_cache(config(tmp_path), Deaf())
    assert cache is not None
    l1 = cache.l1
    change_cache(cache, read("cache: {ttl: 7s, models: {m: {enabled: false}}, max_entry: 1KiB}\n"))

    assert cache.l1 is l1
    assert (False, 7.0) == (cache._rules.policy_for("dev", "m").enabled, cache._rules.policy_for("dev", "m").ttl)
    assert 1024 == cache.bounds.max_entry


ISSUER = '{{issuer: "https://{0}/", jwks_url: "https://{0}/keys", audiences: [edge], tenant: acme}}'


def issuers(*names: str) -> Config:
    jwt = ", ".join(ISSUER.format(name) for name in names)
    return read(f"auth: {{pepper: pepper-pepper-pepper, jwt: [{jwt}]}}\ncallers: [{{tenant: acme}}]\n")


def test_the_keys_of_an_issuer_that_stays_are_not_fetched_again() -> None:
    before = IdentitySources(issuers("a", "b"), print)
    after = IdentitySources(issuers("b", "c"), print, before)
    named = {named[0]: source for named, source in before._issuers.items()}
    kept = {named[0]: source for named, source in after._issuers.items()}

    assert named["https://b/keys"] is kept["https://b/keys"]
    assert {"https://b/keys", "https://c/keys"} == kept.keys()


async def test_a_worker_serves_after_the_first_fetch_of_its_issuers_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, may_answer = asyncio.Event(), asyncio.Event()

    async def fetch(url: str) -> bytes:
        asked.set()
        await may_answer.wait()
        if "down" in url:
            raise OSError("refused")
        return json.dumps({"keys": [RSA.as_dict(private=False)]}).encode()

    errors: list[BaseException] = []
    monkeypatch.setattr("edge_extproc.auth.jwks.fetch", fetch)
    identity = IdentitySources(issuers("a", "down"), errors.append)
    started = asyncio.create_task(identity.start(30))
    await asyncio.wait_for(asked.wait(), 10)
    assert not started.done()
    may_answer.set()
    await asyncio.wait_for(started, 10)

    assert ["OSError"] == [type(error).__name__ for error in errors]
    assert [True, False] == [bool(keys.find("rsa")) for keys in identity._issuers.values()]
    later = IdentitySources(issuers("a", "hung"), print, identity)
    may_answer.clear()
    await asyncio.wait_for(later.start(0.01), 10)  # one that does not answer does not hold the others
    await identity.close(after=later)
    await later.close()


class BrokenPlanner:
    def record(self, *result: object) -> None:
        raise RuntimeError("a bug in a strategy")


def test_what_a_strategy_learns_is_a_sink_of_its_own_before_the_others(tmp_path: Path) -> None:
    """An exchange calls each sink by itself (tests/unit/exchange/test_settled.py), so a fault in one costs no other."""
    first = config(tmp_path)
    table = price_table.load(price_table.compiled(tmp_path))
    broken: Any = BrokenPlanner()
    before = replace(app.build_gateway(first, table, (), print), planner=broken)
    settled: list[Settlement] = []
    gateway = app.build_gateway(first, table, (settled.append,), print, before=app.Previous(first, before))
    done = settlement(model="m", plan=Plan((Candidate("p", "m"),)))
    learn, sink = gateway.sinks
    sink(done)

    assert [done] == settled
    with pytest.raises(RuntimeError, match="a bug in a strategy"):
        learn(done)


def test_a_planner_learns_whose_calls_failed(tmp_path: Path) -> None:
    table = price_table.load(price_table.compiled(tmp_path))
    gateway = app.build_gateway(config(tmp_path), table, (), print)
    candidate = Candidate("p", "m")
    learn, failed = gateway.sinks[0], AttemptResult(candidate, "failed", 503)
    for _ in range(5):
        learn(settlement(model="m", tenant="hostile", plan=Plan((candidate,)), attempt_results=(failed,)))
    call = Call("openai_chat", "chat", "m", False, b"{}")

    assert (candidate,) == gateway.planner.plan(RoutingRequest(call, "good"), (candidate,)).candidates
    with pytest.raises(Unavailable):
        gateway.planner.plan(RoutingRequest(call, "hostile"), (candidate,))


async def test_the_circuit_of_one_tenant_is_shown_as_open(force: WorkerState) -> None:
    name = force.gateway.models.names[0]
    candidate = force.gateway.models.candidates(name)[0]
    tenant = force.config.callers[0].tenant
    learn, failed = force.gateway.sinks[0], AttemptResult(candidate, "failed", 503)
    for _ in range(5):
        learn(settlement(model=name, tenant=tenant, plan=Plan((candidate,)), attempt_results=(failed,)))

    assert 1.0 == force._metrics.registry.get_sample_value("edge_circuits_open", {"provider": candidate.provider})


async def test_idempotency_keys_follow_the_configuration(force: WorkerState, tmp_path: Path) -> None:
    repeats = force.gateway.repeats
    assert repeats is not None
    await force.reload(lambda: config(tmp_path, "idempotency: {window: 1m, max_reply: 1KiB}\n"))
    assert (60.0, 1024) == (repeats.settings.window, repeats.settings.max_reply)
    assert force.gateway.repeats is repeats
    await force.reload(lambda: config(tmp_path, "idempotency: {enabled: false}\n"))

    assert force.gateway.repeats is None
    assert "records" not in force.stores()

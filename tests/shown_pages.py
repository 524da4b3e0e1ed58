"""The admin pages with the same traffic at each run, on a port: for pictures, for axe, and for what a page weighs."""

from __future__ import annotations

import asyncio
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from admin_kit import Api, open_api
from pages_kit import AdminPort
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.routing import compile_path

from edge_extproc.model.limit_use import LimitKey, LimitUse
from edge_extproc.model.managed import ManagedBudget
from edge_extproc.pages.app import PAGES
from edge_extproc.server.admin import server
from edge_extproc.store.managed import Actor, StoredKey
from edge_extproc.telemetry import snapshot
from edge_extproc.telemetry.merge import Totals
from edge_extproc.telemetry.traffic import INTERVAL, TrafficHistory

ADMIN = Actor("root", "admin")
USERS = ("ann", "ben", "cho", "dee", "eli")
MODELS = (
    ("fast", "openai", "gpt-4o-mini"),
    ("deep", "anthropic", "claude-sonnet-4-5"),
    ("fast", "azure", "gpt-4o-mini"),
)
RECORDS = 150


class _Workers:
    """Counters as the workers have them."""

    def __init__(self, api: Api) -> None:
        self.registry = CollectorRegistry()
        names = ("tenant", "model", "provider")
        self.requests = Counter("edge_requests", "x", (*names, "outcome"), registry=self.registry)
        self.tokens = Counter("edge_tokens", "x", (*names, "kind"), registry=self.registry)
        self.cost = Counter("edge_cost_usd", "x", names, registry=self.registry)
        self.cache = Counter("edge_cache_requests", "x", ("result", "tier"), registry=self.registry)
        self.saved = Counter("edge_cache_saved_cost_usd", "x", ("model",), registry=self.registry)
        self.tries = Counter("edge_provider_tries", "x", ("provider", "verdict"), registry=self.registry)
        labels = ("model", "provider", "stream")
        self.times = Histogram("edge_request_duration_seconds", "x", labels, registry=self.registry, buckets=(1, 2, 4))
        self.at = 1000.0
        providers = sorted({provider for _, provider, _ in MODELS})
        api.traffic = TrafficHistory(
            lambda: providers, lambda: (2, 2), now=lambda: api.now / 1000, clock=lambda: self.at
        )

    def pass_time(self, api: Api, chance: random.Random) -> None:
        for _ in range(chance.randrange(4, 20)):
            model, provider, _ = chance.choice(MODELS)
            outcome = "ok" if chance.random() < 0.96 else "upstream_error"
            self.requests.labels("acme", model, provider, outcome).inc()
            self.tokens.labels("acme", model, provider, "input").inc(chance.randrange(100, 4000))
            self.cost.labels("acme", model, provider).inc(chance.random() / 100)
            self.times.labels(model, provider, "true").observe(chance.random() * 3)
            self.tries.labels(provider, "ok").inc()
            self.cache.labels(*chance.choice((("hit", "memory"), ("miss", ""), ("miss", "")))).inc()
        self.saved.labels("fast").inc(0.01)
        self.at += INTERVAL
        api.now += int(INTERVAL * 1000)
        totals = Totals()
        totals.add(snapshot.read(snapshot.take(self.registry)))
        api.traffic.record(totals)


def fill(api: Api) -> None:
    """The same at each run."""
    chance = random.Random(19)
    api.now -= 6 * 86_400_000
    for number in range(240):
        model, provider, upstream = chance.choice(MODELS)
        user = chance.choice(USERS)
        outcome, status = (
            ("ok", 200) if chance.random() < 0.93 else chance.choice((("rejected", 429), ("upstream_error", 502)))
        )
        is_ok = outcome == "ok"
        api.now += 2_100_000
        api.settle(
            f"{chance.getrandbits(64):016x}",
            chance.choice(("acme", "acme", "umbrella")),
            outcome=outcome,
            status=status,
            team=("search", "support")[len(user) % 2],
            user=user,
            key=f"{user}-laptop",
            operation="chat",
            dialect=chance.choice(("openai_chat", "anthropic_messages")),
            model=model,
            provider=provider,
            upstream_model=upstream,
            response_model=upstream if is_ok else None,
            attempts=1 if chance.random() < 0.9 else 2,
            stream=chance.random() < 0.5,
            cache=chance.choice(("hit", "miss", "miss", "bypass")),
            input=chance.randrange(200, 9000) if is_ok else 0,
            cache_read=chance.randrange(0, 3000) if is_ok else 0,
            output=chance.randrange(20, 900) if is_ok else 0,
            cost=chance.randrange(10**9, 4 * 10**11) if is_ok else None,
            saved_tokens=chance.randrange(0, 500),
            saved_cost=chance.randrange(0, 10**10),
            run=f"nightly-{number // 30}" if number % 3 == 0 else None,
            trace_id=f"{chance.getrandbits(128):032x}",
        )
    for user in USERS:
        key = StoredKey(f"{user}-laptop", "acme", "search", user, "on a laptop", ("*",), (), 0, None, None)
        api.store.add_key(ADMIN, key, user.ljust(64, "0"))
    api.store.set_budget(ADMIN, ManagedBudget("acme", "team", "search", {"dollars_per_day": "50"}))
    limit: LimitKey = ("acme", "team", "search", "dollars", "day")
    api.uses[limit] = LimitUse(limit, 50_000_000, 33_250_000, 2_000_000, api.now // 1000 + 3600)
    workers = _Workers(api)
    for _ in range(RECORDS):
        workers.pass_time(api, chance)


@contextmanager
def serving() -> Iterator[tuple[AdminPort, str]]:
    """The port, and its address."""
    api = open_api()
    fill(api)
    port = AdminPort(api)
    ready = threading.Event()
    admin = server(port.app, "127.0.0.1", 0)

    async def serve() -> None:
        running = asyncio.ensure_future(admin.serve())
        await admin.until_started()
        ready.set()
        await running

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    ready.wait()
    try:
        yield port, f"http://127.0.0.1:{admin.servers[0].sockets[0].getsockname()[1]}"
    finally:
        admin.should_exit = True
        thread.join()
        api.uses.clear()
        api.engine.dispose()


ROUTES = tuple(path for method, path in PAGES if method == "GET" and not path.endswith(".csv"))
"""The pages, from the list that the application has. A page with a name in its path is found by a link to it."""


QUERIES = {"/money": "?by=user&first_day=2027-01-09&last_day=2027-01-15"}
"""Of a page whose first content depends on the day."""


def example(route: str, links: list[str]) -> str:
    """A path of the page, of which `links` has one if it has names in it."""
    if "{" not in route:
        return route + QUERIES.get(route, "")
    pattern, _, _ = compile_path(route)
    paths = [link.removeprefix("/ui").partition("?")[0] for link in links]
    return next(path for path in paths if pattern.match(path) and path not in ROUTES)


def name_of(route: str) -> str:
    """The name of a page's picture."""
    return re.sub(r"[^a-z_-]+", "-", route.strip("/").replace("{", "of-").replace("}", "")).strip("-") or "overview"

"""Plays Envoy for an exchange, in memory: `talk(exchange, headers(), body(...))` returns the commands."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Any

from edge_extproc import registry
from edge_extproc.auth.base import AuthSettings, KeySettings
from edge_extproc.dialects.base import ModelCard
from edge_extproc.exchange.attempt import AttemptExchange
from edge_extproc.exchange.commands import Command
from edge_extproc.exchange.events import Event, RequestBody, RequestHeaders, ResponseBody, ResponseHeaders
from edge_extproc.exchange.first_token import GuardExchange
from edge_extproc.exchange.open import OpenExchanges
from edge_extproc.exchange.path_router import PathRouter as Routes
from edge_extproc.exchange.ports import Gateway
from edge_extproc.exchange.router import RouterExchange
from edge_extproc.model.plan import Candidate
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import BUCKETS, Usage
from edge_extproc.providers.base import ProviderSettings
from edge_extproc.routing.base import ModelTable, PassthroughEndpoint, PassthroughEndpoints, StrategySettings
from edge_extproc.routing.planner import PlannerSettings, RowPlanner

KEY = "edge-key-of-acme"
DIALECTS = {name: registry.load("dialects", name) for name in registry.names("dialects")}
FORMATS = {name: registry.load("operations", name) for name in registry.names("operations")}
ENDPOINTS = PassthroughEndpoints(
    [PassthroughEndpoint("/v1/files", "openai", ("acme",)), PassthroughEndpoint("/v1/messages/batches", "anthropic")]
)
MODELS = {
    "chat": [Candidate("openai", "gpt-4o-mini")],
    "claude": [Candidate("anthropic", "claude-haiku-4-5")],
    "both": [Candidate("openai", "gpt-4o-mini"), Candidate("anthropic", "claude-haiku-4-5")],
    "guarded": [Candidate("openai", "gpt-4o-mini"), Candidate("anthropic", "claude-haiku-4-5")],
    "claude-first": [Candidate("anthropic", "claude-haiku-4-5"), Candidate("openai", "gpt-4o-mini")],
    "gemini": [Candidate("google", "gemini-2.5-flash")],
    "vectors": [Candidate("openai", "text-embedding-3-small"), Candidate("google", "gemini-embedding-001")],
    "gemini-vectors": [Candidate("google", "gemini-embedding-001")],
    "gpt-*": [Candidate("openai", "")],
}


class Ticks:
    """A clock that moves a millisecond at each call."""

    def __init__(self) -> None:
        self._now = itertools.count()

    def monotonic(self) -> float:
        return next(self._now) / 1000

    def time(self) -> float:
        return 1_700_000_000.0


class ADollarPerToken:
    def cost(self, provider: str, model: str, usage: Usage, **_: object) -> Decimal | None:
        return Decimal(usage.total) if model != "unpriced" else None

    def costs(self, provider: str, model: str, usage: Usage, **_: object) -> dict[str, Decimal]:
        return {name: Decimal(count) for name in BUCKETS if (count := getattr(usage, name))}

    def batch_factor(self, provider: str, model: str, *, host: str = "") -> Decimal:
        return Decimal("0.5")

    def search_cost(self, provider: str, model: str, searches: int, *, host: str = "") -> Decimal | None:
        return Decimal(searches) / 100

    def max_cost(self, provider: str, model: str, prompt: int, completion: int, **_: object) -> Decimal | None:
        return self.cost(provider, model, Usage(input=prompt, output=completion))


@dataclass
class Stage:
    """A gateway in memory, and what it recorded."""

    settled: list[Settlement] = field(default_factory=list)
    bugs: list[BaseException] = field(default_factory=list)
    gateway: Gateway = field(init=False)

    def __post_init__(self) -> None:
        keys = (
            KeySettings("acme-1", "acme", secret=lambda: KEY),
            KeySettings("umbrella-1", "umbrella", secret=lambda: "edge-key-of-umbrella", models=("claude",)),
        )
        numbers = itertools.count(1)
        models = ModelTable(MODELS)
        self.open = OpenExchanges()
        self.gateway = Gateway(
            dialects=DIALECTS,
            routes=Routes(DIALECTS, FORMATS, ENDPOINTS.paths),
            default_dialect="openai_chat",
            authenticator=registry.load("auth", "api_key").build(
                AuthSettings(keys, b"a pepper of the tests"), lambda: 1_700_000_000.0
            ),
            models=models,
            planner=planner(models),
            formats=FORMATS,
            endpoints=ENDPOINTS,
            providers={name: provider(name) for name in ("openai", "anthropic", "google")},
            clusters={"openai": "provider_openai", "anthropic": "provider_anthropic", "google": "provider_google"},
            prices=ADollarPerToken(),
            cards=tuple(ModelCard(name, "us") for name in models.names),
            sinks=(self.settled.append,),
            clock=Ticks(),
            new_id=lambda: f"exchange-{next(numbers)}",
            report=self.bugs.append,
        )

    def having(self, **changes: Any) -> Stage:
        self.gateway = replace(self.gateway, **changes)
        return self

    def exchange(self) -> RouterExchange:
        return RouterExchange(self.gateway, self.open)

    def attempt(self) -> AttemptExchange:
        return AttemptExchange(self.gateway, self.open)

    def guard(self) -> GuardExchange:
        return GuardExchange(self.gateway, self.open)


def planner(models: ModelTable, **more: Any) -> RowPlanner:
    settings = StrategySettings(
        price=lambda candidate, usage: Decimal(usage.total), chance=lambda: 0.5, clock=lambda: 0.0
    )
    names = registry.names("routing")
    built = PlannerSettings(
        **{
            "rows": {},
            "label": models.label,
            "build": lambda name: registry.load("routing", name).build(settings),
            "strategies": names,
            **more,
        }
    )
    return RowPlanner(built)


def provider(kind: str) -> Any:
    settings = ProviderSettings(kind, f"https://{kind}.example/v1", lambda: f"secret-of-{kind}")
    return registry.load("providers", kind).build(settings)


def talk(exchange: Any, *events: Event) -> list[Command]:
    """The exchange's command for each event."""

    async def play() -> list[Command]:
        return [await exchange.handle(event) for event in events]

    return asyncio.run(play())


def headers(
    path: str = "/v1/chat/completions",
    *more: tuple[str, str],
    method: str = "POST",
    key: str | None = KEY,
    end: bool = False,
) -> RequestHeaders:
    pairs = [(":method", method), (":path", path), (":authority", "gateway"), ("x-request-id", "request-1")]
    if key is not None:
        pairs.append(("authorization", f"Bearer {key}"))
    return RequestHeaders((*pairs, *more), end)


def body(content: Mapping[str, Any] | bytes) -> RequestBody:
    return RequestBody(content if isinstance(content, bytes) else json.dumps(content).encode(), True)


def tried(number: int, exchange_id: str = "exchange-1") -> RequestHeaders:
    """The first event of an attempt at the upstream level."""
    metadata = {"edge": {"exchange": exchange_id}}
    return RequestHeaders(headers().headers, False, {"upstream.request_attempt_count": number}, metadata)


def answered(
    status: int = 200,
    *more: tuple[str, str],
    content_type: str = "application/json",
    attempt: int = 1,
    details: str = "via_upstream",
    end: bool = False,
) -> ResponseHeaders:
    pairs = ((":status", str(status)), ("content-type", content_type), *more)
    attributes = {"upstream.request_attempt_count": attempt, "response.code_details": details}
    return ResponseHeaders(pairs, end, attributes)


def chunks(*parts: bytes, end: bool = True) -> Sequence[ResponseBody]:
    """A streamed body. It ends with an empty last chunk, as it often does."""
    return [*(ResponseBody(part, False) for part in parts), *([ResponseBody(b"", True)] if end else [])]


def whole(reply: Mapping[str, Any] | bytes) -> ResponseBody:
    return ResponseBody(reply if isinstance(reply, bytes) else json.dumps(reply).encode(), True)

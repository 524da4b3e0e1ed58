"""A gateway in memory with a semantic cache, and calls to it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from player import Stage, answered, body, chunks, headers, whole

from edge_extproc import registry
from edge_extproc.cache.base import TierCounts
from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.policy import CachePolicies, CachePolicy
from edge_extproc.cache.semantic.base import Embedder, SemanticFailure, Vector, VectorStore, Verifier
from edge_extproc.cache.semantic.memory_store import MemoryVectorStore
from edge_extproc.cache.semantic.partition import QuestionBounds
from edge_extproc.cache.semantic.shadow import ShadowSettings
from edge_extproc.cache.semantic.tier import SemanticClock, SemanticSettings, SemanticTier
from edge_extproc.cache.tiered import CacheBounds, TieredCache
from edge_extproc.config.semantic import VERIFIERS
from edge_extproc.exchange.commands import ImmediateResponse
from edge_extproc.model.settlement import Settlement

SETTINGS = SemanticSettings(
    similarity=0.75,
    neighbours=5,
    budget=5.0,
    ttl=3600.0,
    bounds=QuestionBounds(max_tokens=200, structured_output=False),
    max_call=65536,
    shadow=ShadowSettings(share=0.0, agreement=0.9, max_false_hits=0.05, min_compared=20, window=500),
)


def all_verifiers() -> dict[str, Verifier]:
    return {name: registry.load(VERIFIERS, name) for name in registry.names(VERIFIERS)}


class LetterEmbedder:
    """Counts letters: similar texts have similar vectors. It records what it gets, and fails on request."""

    identity = "letters"

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.tenants: list[str] = []
        self.failure: Exception | None = None
        self.closed = False

    async def embed(self, texts: Sequence[str], tenant: str) -> Sequence[Vector]:
        self.texts += texts
        self.tenants.append(tenant)
        if self.failure is not None:
            raise self.failure
        return [self.vector(text) for text in texts]

    @staticmethod
    def vector(text: str) -> Vector:
        counts = np.ones(128, np.float32) * 0.01
        for letter in text.lower():
            counts[ord(letter) % 128] += 1
        return counts / np.float32(np.sqrt(counts @ counts))

    async def close(self) -> None:
        self.closed = True


class SemanticEvents:
    """Records what the semantic cache counts."""

    def __init__(self) -> None:
        self.results: list[str] = []
        self.refusals: Counter[str] = Counter()
        self.failures: list[tuple[str, str]] = []
        self.hits: list[tuple[str, str]] = []
        self.compared: list[tuple[bool, str]] = []
        self.estimates: list[tuple[float, float, float, bool]] = []

    def semantic_looked_up(self, result: str, seconds: float) -> None:
        assert seconds >= 0
        self.results.append(result)

    def semantic_refused(self, verifier: str) -> None:
        self.refusals[verifier] += 1

    def semantic_hit(self, model: str, tenant: str) -> None:
        self.hits.append((model, tenant))

    def semantic_failed(self, part: str, why: str) -> None:
        self.failures.append((part, why))

    def semantic_compared(self, model: str, tenant: str, *, agreed: bool, how: str) -> None:
        self.compared.append((agreed, how))

    def semantic_estimate(self, model: str, tenant: str, rate: float, low: float, high: float, *, is_off: bool) -> None:
        self.estimates.append((rate, low, high, is_off))


class _CacheEvents:
    def cache_looked_up(self, tier: str, seconds: float, *, found: bool) -> None: ...
    def cache_wrote(self, tier: str) -> None: ...
    def cache_failed(self, tier: str, why: str) -> None: ...
    def cache_is_down(self, tier: str, *, down: bool) -> None: ...


class SemanticGateway(Stage):
    """A gateway in memory. `now` is the clock of the cache, and `drawn` what shadow mode draws."""

    now = 1_700_000_000.0
    drawn = 0.5
    monotonic = 0.0

    def with_semantic(
        self,
        embedder: Embedder | None = None,
        store: VectorStore | None = None,
        rules: CachePolicy | None = None,
        tenants: Mapping[str, Any] | None = None,
        models: Mapping[str, Any] | None = None,
        shadow: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> SemanticGateway:
        self.embedder = embedder or LetterEmbedder()
        self.records = store or MemoryVectorStore(1000, 1 << 24)
        self.events = SemanticEvents()
        of_shadow = replace(SETTINGS.shadow, **(shadow or {}))
        self.tier = SemanticTier(
            replace(SETTINGS, shadow=of_shadow, **settings),
            self.embedder,
            self.records,
            all_verifiers(),
            b"a secret of the tests",
            self.events,
            SemanticClock(lambda: self.now, lambda: self.monotonic),
            lambda: self.drawn,
        )
        policies = CachePolicies(rules or CachePolicy(), models or {}, tenants or {})
        bounds = CacheBounds(1 << 20, 5.0, 5.0)
        memory = MemoryTier(100, 1 << 22, 300)
        self.cache = TieredCache(policies, bounds, memory, None, _CacheEvents(), lambda: self.now)
        self.cache.l3 = self.tier
        self.having(cache=self.cache)
        return self

    async def ask(
        self,
        question: str | Mapping[str, Any],
        *more: tuple[str, str],
        answer: str = "An answer",
        key: str | None = None,
        path: str = "/v1/chat/completions",
        stream: bool = False,
        finish: str = "stop",
        **fields: Any,
    ) -> tuple[Any, Settlement]:
        """The last command for the request, and the settlement. The provider is called only if the cache has no
        reply."""
        if isinstance(question, str):
            content: Mapping[str, Any] = {
                "model": "chat",
                "messages": [{"role": "user", "content": question}],
                "temperature": 0,
                **({"stream": True} if stream else {}),
                **fields,
            }
        else:
            content = {**question, **fields}
        exchange = self.exchange()
        first = headers(path, *more) if key is None else headers(path, *more, key=key)
        await exchange.handle(first)
        command = await exchange.handle(body(content))
        if not isinstance(command, ImmediateResponse):
            if content.get("stream"):
                events = (answered(content_type="text/event-stream"), *chunks(*streamed(answer)))
            else:
                of_provider = anthropic_reply(answer) if content["model"] == "claude" else reply(answer, finish)
                events = (answered(), whole(of_provider))
            for event in events:
                await exchange.handle(event)
        exchange.closed("done")
        await self.tier.settled()
        assert not self.bugs
        return command, self.settled[-1]

    async def result(self, *arguments: Any, **more: Any) -> str | None:
        """The result of the cache lookup."""
        return (await self.ask(*arguments, **more))[1].cache


def reply(answer: str, finish: str = "stop") -> dict[str, Any]:
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini-2024-07-18",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": answer}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
    }


def anthropic_reply(answer: str) -> dict[str, Any]:
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": answer}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 5, "output_tokens": 2},
    }


def streamed(answer: str) -> tuple[bytes, ...]:
    def chunk(delta: object, finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        value = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [choice]}
        return b"data: " + json.dumps(value).encode() + b"\n\n"

    return (
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": answer}),
        chunk({}, "stop"),
        b"data: [DONE]\n\n",
    )


class DownStore:
    """A store that does not answer as it should."""

    shared = True
    down: str | None = None

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure or SemanticFailure("unreachable")
        self.uses = 0

    async def nearest(self, *_: object) -> Any:
        self.uses += 1
        raise self.failure

    async def put(self, *_: object) -> None:
        raise self.failure

    async def purge(self, _: object) -> int:
        raise self.failure

    def counts(self) -> TierCounts:
        return TierCounts(0, 0, 0)

    async def close(self) -> None:
        """Nothing is open."""

"""Builds the semantic cache from the configuration. It is loaded only if the configuration has one."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable
from functools import partial

from ... import registry
from ...accounting.base import Prices
from ...cache.semantic.base import EmbedderTools, EmbeddingUse, SemanticListener
from ...cache.semantic.partition import QuestionBounds
from ...cache.semantic.shadow import ShadowSettings
from ...cache.semantic.tier import SemanticClock, SemanticSettings, SemanticTier
from ...config.extras import SEMANTIC
from ...config.secrets import Secret
from ...config.semantic import VERIFIERS, SemanticCacheConfig
from ...exchange.ports import LedgerSink, Sink
from ...model.settlement import QUESTION_VECTORS, Settlement
from ...providers.credentials.refresh import CredentialRefreshers
from .providers import current_secret

# The refreshers' names are those of providers elsewhere. A space is in no provider's name.
_NAME = "semantic cache"


def build_semantic(
    settings: SemanticCacheConfig,
    pepper: str,
    listener: SemanticListener,
    refreshers: CredentialRefreshers,
    meter: Callable[[EmbeddingUse], None],
) -> SemanticTier:
    """Raises ConfigError if an extra is missing, or a plugin's options cannot work."""
    SEMANTIC.require("cache.semantic")
    # numpy reads it when it is imported. One thread: a search takes less time than to wake another thread, and each
    # worker would have idle ones.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    secret: Callable[[Secret], Callable[[], str]] = partial(_current, refreshers)
    (key, embedders, of_embedder), (_, stores, of_store) = settings.plugin_options()
    extra = embedders.required_extra(of_embedder)
    if extra is not None:
        extra.require(f"cache.semantic.{key}")
    shadow = settings.shadow
    return SemanticTier(
        SemanticSettings(
            settings.similarity,
            settings.neighbours,
            settings.budget.total_seconds(),
            settings.ttl.total_seconds(),
            QuestionBounds(settings.max_tokens, settings.structured_output),
            settings.max_call,
            ShadowSettings(shadow.share, shadow.agreement, shadow.max_false_hits, shadow.min_compared, shadow.window),
        ),
        embedders.build(of_embedder, EmbedderTools(secret, meter)),
        stores.build(of_store, secret),
        {name: registry.load(VERIFIERS, name) for name in settings.verifiers()},
        pepper.encode(),
        listener,
        SemanticClock(time.time, time.perf_counter),
        secrets.SystemRandom().random,
    )


def _current(refreshers: CredentialRefreshers, secret: Secret) -> Callable[[], str]:
    return current_secret(_NAME, secret, refreshers)


class EmbeddingMeter:
    """Sends each request for embeddings to the ledger and the sums of usage, as a booking of its tenant."""

    def __init__(
        self, prices: Callable[[], Prices], ledger: LedgerSink | None, sinks: Callable[[], tuple[Sink, ...]]
    ) -> None:
        self._prices = prices
        self._ledger = ledger
        self._sinks = sinks

    def __call__(self, use: EmbeddingUse) -> None:
        cost = self._prices().cost(use.provider, use.model, use.usage)
        settlement = Settlement(
            exchange_id=f"embedding-{secrets.token_urlsafe(18)}",
            outcome="ok",
            status=200,
            code=None,
            started_at=time.time() - use.seconds,
            duration=use.seconds,
            overhead=0.0,
            tenant=use.tenant,
            operation=QUESTION_VECTORS,
            provider=use.provider,
            upstream_model=use.model,
            usage=use.usage,
            cost=cost,
            unpriced=cost is None,
            booking="usage",
        )
        if self._ledger is not None:
            self._ledger(settlement, None)
        for sink in self._sinks():
            sink(settlement)

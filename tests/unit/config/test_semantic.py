"""The section `cache.semantic`, and what the worker builds of it."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

import pytest
from semantic_kit import SemanticEvents

from edge_extproc import registry
from edge_extproc.cache.semantic.base import EmbeddingUse
from edge_extproc.cache.semantic.memory_store import MemoryVectorStore
from edge_extproc.cache.semantic.tier import SemanticTier
from edge_extproc.config.changes import needing_restart
from edge_extproc.config.load import parse
from edge_extproc.config.schema import Config
from edge_extproc.config.semantic import VERIFIERS
from edge_extproc.errors import ConfigError
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.providers.credentials.refresh import CredentialRefreshers
from edge_extproc.worker.wiring.cache import build_cache
from edge_extproc.worker.wiring.semantic import EmbeddingMeter, build_semantic

REST = """
auth: {pepper: "pepper-pepper-pepper"}
callers: [{tenant: dev, keys: [{id: dev, key: edge-0123456789abcdef0123456789}]}]
providers: {p: {kind: openai, api_key: secret}}
models: {m: [{provider: p}], "gpt-*": [{provider: p}]}
"""


class _Silent:
    def cache_looked_up(self, *_: object, found: bool) -> None: ...
    def cache_wrote(self, *_: object) -> None: ...
    def cache_failed(self, *_: object) -> None: ...
    def cache_is_down(self, *_: object, down: bool) -> None: ...


def read(semantic: str, more: str = "") -> Config:
    return parse(f"cache: {{semantic: {semantic}{more}}}\n{REST}", "f", environ={"KEY": "sk-1"})


def built(config: Config) -> SemanticTier:
    assert config.cache is not None
    assert config.cache.semantic is not None
    refreshers = CredentialRefreshers(lambda: 0.0, lambda *_: None)
    return build_semantic(config.cache.semantic, "a pepper", SemanticEvents(), refreshers, lambda _: None)


def test_there_is_none_unless_it_is_asked_for() -> None:
    config = parse(f"cache: {{}}\n{REST}", "f")
    assert config.cache is not None
    assert config.cache.semantic is None
    assert "off" == config.cache.common()["semantic"]

    def refuse(_: object) -> Any:
        raise AssertionError

    cache = build_cache(config, _Silent(), refuse)
    assert cache is not None
    assert cache.l3 is None


def test_without_it_nothing_of_it_is_loaded() -> None:
    code = f"""
import sys
from edge_extproc.config.load import parse
from edge_extproc.worker.wiring.cache import build_cache
import edge_extproc.worker.state
build_cache(parse({f"cache: {{}}{chr(10)}{REST}"!r}, "f"), None)
print([name for name in sys.modules if name.startswith("edge_extproc.cache.semantic") or name == "numpy"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]\n" == done.stdout


def test_everything_has_a_default() -> None:
    config = read("{}")
    assert config.cache is not None
    said = config.cache.semantic
    assert said is not None
    assert ("all", "static", "memory", timedelta(milliseconds=20)) == (
        said.calls,
        said.embedder.name,
        said.store.name,
        said.budget,
    )
    assert registry.names(VERIFIERS) == said.verifiers()
    tier = built(config)
    assert "static/l2_supercat_256" == tier.embedder.identity
    assert isinstance(tier.store, MemoryVectorStore)
    assert set(registry.names(VERIFIERS)) == set(tier.verifiers)
    assert "all" == config.cache.common()["semantic"]


def test_verifiers_are_asked_in_the_given_order() -> None:
    assert ["words", "numbers"] == list(built(read("{verify: [words, numbers]}")).verifiers)


@pytest.mark.parametrize(
    ("semantic", "message"),
    [
        ("{verify: [guesses]}", "there is no such verifier"),
        ("{verify: []}", "this list is empty"),
        ("{similarity: 2}", "this is no share"),
        ("{similarity: true}", "this is no share"),
        ("{budget: 3s}", "this is too long"),
        ("{embedder: {oracle: {}}}", "there is no such embedder; have openai, static"),
        ("{store: {drawer: {}}}", "there is no such store of vectors"),
        ("{embedder: {openai: {base_url: 'ftp://x', model: m}}}", "does not begin with https"),
        ("{calls: some}", "all, on_request, off"),
        ("{shadow: {share: 5}}", "this is no share"),
    ],
)
def test_what_cannot_be_is_refused(semantic: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read(semantic)


def test_rules_differ_by_model_and_tenant() -> None:
    config = read("{calls: on_request}", ", models: {m: {semantic: all}}, tenants: {dev: {semantic: 'off'}}")

    assert config.cache is not None
    assert {"semantic": "all"} == config.cache.models["m"].given()
    assert {"semantic": "off"} == config.cache.tenants["dev"].given()


def test_a_change_needs_a_restart_and_a_change_of_rules_does_not() -> None:
    def nothing(_: Config) -> None:
        return None

    assert ["cache.semantic"] == [
        ".".join(each.split(".")[:2]) for each in needing_restart(read("{}"), read("{similarity: 0.9}"), nothing)
    ]
    assert [] == needing_restart(read("{}"), read("{}", ", tenants: {dev: {semantic: 'off'}}"), nothing)


def test_the_secret_of_an_endpoint_is_not_shown() -> None:
    config = read("{embedder: {openai: {base_url: 'https://e.example/v1', model: m, api_key: {env: KEY}}}}")

    assert "sk-1" not in repr(config.cache)
    assert built(config).embedder.identity.startswith("https://e.example/v1 m")


def test_the_schema_and_a_configuration_do_not_load_the_packages_of_the_extra() -> None:
    """They may be used where the packages are not installed."""
    code = f"""
import sys
from edge_extproc.config.json_schema import file_schema
from edge_extproc.config.load import parse
file_schema()
parse({f"cache: {{semantic: {{}}}}{chr(10)}{REST}"!r}, "f")
print(sorted({{"numpy", "tokenizers", "qdrant_client"}} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]\n" == done.stdout


def test_requests_for_vectors_are_booked_for_the_tenant() -> None:
    booked: list[Settlement] = []

    class Prices:
        def cost(self, provider: str, model: str, usage: Usage) -> Any:
            return usage.input if (provider, model) == ("openai", "known") else None

    prices: Any = Prices()
    sinks: tuple[Any, ...] = (booked.append,)
    in_ledger: list[Settlement] = []
    meter = EmbeddingMeter(lambda: prices, lambda settlement, _: in_ledger.append(settlement), lambda: sinks)
    meter(EmbeddingUse("acme", "openai", "known", Usage(input=7), 0.1))
    meter(EmbeddingUse("acme", "openai", "other", Usage(input=3), 0.1))

    one, other = booked
    assert in_ledger == booked
    assert ("acme", "question_vectors", "usage", 7, False, 7) == (
        one.tenant,
        one.operation,
        one.booking,
        one.cost,
        one.unpriced,
        one.usage.input if one.usage is not None else None,
    )
    assert (None, True) == (other.cost, other.unpriced)
    assert one.exchange_id != other.exchange_id

"""The store of records and the shared accounts, as the configuration has them."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_kit import read

from edge_extproc.config.schema import Config
from edge_extproc.records.base import RecordStoreDown, record_name
from edge_extproc.records.file import FileRecords
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.owners import ObjectOwners
from edge_extproc.records.redis import RedisRecords
from edge_extproc.records.watched import WatchedRecords
from edge_extproc.worker.wiring.gateway import build_dialects
from edge_extproc.worker.wiring.providers import build_providers
from edge_extproc.worker.wiring.records import build_owners, build_reasoning, build_records

TWO = "callers: [{tenant: a, keys: [{id: a, key: {env: KEY}}]}, {tenant: b}]\n"


def providers(*rows: str) -> str:
    return "providers: {" + ", ".join(f"p{n}: {{kind: openai, {row}}}" for n, row in enumerate(rows)) + "}\n"


def config(text: str = "", *rows: str) -> Config:
    return read(TWO + providers(*(rows or ("api_key: sk-1",))) + "models: {m: [{provider: p0}]}\n" + text)


async def known(owners: ObjectOwners, provider: str, tenant: str = "a") -> bool:
    return (await owners.owned(provider, tenant, ["x"]))[0]


async def test_providers_of_one_address_and_key_are_one_account() -> None:
    url = "base_url: 'https://one.example/v1'"
    found = build_owners(
        config("", "api_key: sk-1", "api_key: sk-1", "api_key: sk-2", f"{url}, api_key: sk-1"), MemoryRecords()
    )
    assert found is not None
    await found.record("p1", "a", ["x"])

    assert [True, True, False, False] == [await known(found, f"p{n}") for n in range(4)]


async def test_an_account_that_is_not_shared_has_no_owners() -> None:
    found = build_owners(config("", "api_key: sk-1", "api_key: sk-2, shared_account: false"), MemoryRecords())
    assert found is not None

    assert [True, False] == [found.is_shared(f"p{n}") for n in range(2)]
    assert build_owners(config("", "api_key: sk-1, shared_account: false"), MemoryRecords()) is None


async def test_objects_of_the_operator_are_named_by_globs() -> None:
    found = build_owners(config("", "api_key: sk-1, shared_objects: ['x*']"), MemoryRecords())
    assert found is not None

    assert await known(found, "p0")


async def test_what_the_only_tenant_made_stays_its_own_when_another_one_comes() -> None:
    store, both = MemoryRecords(), config()
    alone = build_owners(both.model_copy(update={"callers": both.callers[:1]}), store)
    assert alone is not None
    assert await known(alone, "p0")
    await alone.record("p0", "a", ["x"])
    found = build_owners(both, store)
    assert found is not None

    assert [True, False] == [await known(found, "p0", tenant) for tenant in ("a", "b")]


async def test_the_store_is_a_file_or_the_redis_of_several_gateways(tmp_path: Path) -> None:
    state = f"agent: {{state_dir: {tmp_path}}}\n"
    redis = "url: 'redis://127.0.0.1:1/0'"
    texts = {
        "": FileRecords,
        f"limiter: {{{redis}}}\n": FileRecords,
        f"limiter: {{{redis}, replicas: 2}}\n": RedisRecords,
        f"limiter: {{{redis}, replicas: auto}}\n": RedisRecords,
        f"records: {{{redis}, timeout: 1s}}\n": RedisRecords,
    }
    for text, kind in texts.items():
        store = build_records(config(state + text))

        assert isinstance(store._store, kind)
        await store.close()
    assert (tmp_path / "records.db").exists()


async def test_a_store_that_fails_says_so_until_it_works_again(capsys: pytest.CaptureFixture[str]) -> None:
    memory = MemoryRecords()
    store = WatchedRecords(memory)
    name = record_name("one")
    memory.down = True
    for _ in range(3):
        for step in (
            lambda: store.get([name]),
            lambda: store.add([name], b"", None),
            lambda: store.claim(name, b"", 1.0),
            lambda: store.replace(name, b"", b"", 1.0),
            lambda: store.remove(name, b""),
        ):
            with pytest.raises(RecordStoreDown):
                await step()
    assert "switched off" == store.down
    memory.down = False
    await store.add([name], b"a", None)
    told = capsys.readouterr()

    assert (None, [b"a"]) == (store.down, await store.get([name]))
    assert 1 == (told.out + told.err).count("record store down")
    assert 1 == (told.out + told.err).count("record store back")
    await store.close()


def reasoning(*rows: str, models: str = "{m: [{provider: p0}]}") -> list[str] | None:
    """The account of each provider. None: encrypted reasoning needs no records."""
    text = "providers: {" + ", ".join(f"p{n}: {{{row}}}" for n, row in enumerate(rows)) + "}\n"
    found = read(f"{TWO}{text}models: {models}\n")
    built = build_reasoning(found, build_providers(found, None), build_dialects(), MemoryRecords())
    return None if built is None else [built.account(f"p{n}") for n in range(len(rows))]


async def test_accounts_of_encrypted_reasoning_are_those_that_speak_its_format() -> None:
    one, other, claude = "kind: openai, api_key: sk-1", "kind: openai, api_key: sk-2", "kind: anthropic, api_key: a"
    host = "kind: openai_compatible, base_url: 'https://h.example/v1', api_key: sk-3"

    assert reasoning(one, claude, one, host) is None
    assert ["p0", "p0", "p2", "p3"] == reasoning(one, one, other, claude)
    assert ["p0", "p1"] == reasoning(one, host, models="{m: [{provider: p1, api: responses}]}")

"""The kept replies of idempotency keys are encrypted in every store that is outside of the process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from config_kit import read

from edge_extproc.errors import AlreadyAnswered
from edge_extproc.records.base import RecordStore, record_name
from edge_extproc.records.file import FileRecords
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.redis import RedisRecords
from edge_extproc.records.repeats import IdempotentReply, RepeatClaim, Repeats, RepeatSettings
from edge_extproc.worker.wiring.records import reply_cipher

FINGERPRINT = b"f" * 16
REPLY = IdempotentReply(200, "application/json", b'{"answer": "a secret plan"}')
PLAIN = "auth: {pepper: pepper-of-the-tests-0123456789}\n"
KEYED = "limiter: {url: 'redis://127.0.0.1:1/0'}\nconversations: {key: conversation-key-0123456789%s}\n"


def repeats(store: RecordStore, text: str = "") -> Repeats:
    config = read(
        "providers: {p: {kind: openai, api_key: sk-1}}\nmodels: {m: [{provider: p}]}\n"
        "callers: [{tenant: acme, keys: [{id: a, key: {env: KEY}}]}]\n" + PLAIN + text
    )
    return Repeats(store, RepeatSettings(60.0, 10_000, 0.0), lambda: reply_cipher(config))


async def at_once(_: float) -> None:
    """More time is not needed."""


async def begin(of: Repeats, tenant: str = "acme") -> RepeatClaim | IdempotentReply:
    return await of.begin(tenant, "key-1", FINGERPRINT, at_once)


async def keep(of: Repeats) -> None:
    claim = await begin(of)
    assert isinstance(claim, RepeatClaim)
    await claim.finish(REPLY)


@pytest.fixture(params=["file", "valkey"])
async def outside(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[tuple[RecordStore, Any]]:
    """A store, and a function that returns all bytes that it holds."""
    built: RecordStore
    held: Callable[[], bytes]
    if request.param == "file":
        built = FileRecords(tmp_path / "records.db")

        def held() -> bytes:
            return b"".join(path.read_bytes() for path in tmp_path.iterdir())
    else:
        server = request.getfixturevalue("valkey")
        server.command("FLUSHALL")
        built = RedisRecords(server.url, 5.0)

        def held() -> bytes:
            import redis

            with redis.Redis.from_url(server.url) as client:
                return b"".join(key + client.get(key) for key in client.keys("*"))

    yield built, held
    await built.close()


@pytest.mark.parametrize("text", ["", KEYED % ""])
async def test_no_store_sees_a_kept_reply(outside: tuple[RecordStore, Callable[[], bytes]], text: str) -> None:
    store, held = outside
    await keep(repeats(store, text))

    assert FINGERPRINT in held()
    for part in (b"secret plan", b"application/json", b"acme", b"key-1"):
        assert part not in held()
    assert REPLY == await begin(repeats(store, text))


async def test_a_former_key_reads_and_a_lost_one_does_not_send_the_request_again() -> None:
    store = MemoryRecords()
    await keep(repeats(store, KEYED % ""))

    rotated = "limiter: {url: 'redis://127.0.0.1:1/0'}\nconversations: {key: another-key-0123456789%s}\n"
    assert REPLY == await begin(repeats(store, rotated % ", previous_keys: [conversation-key-0123456789]"))
    with pytest.raises(AlreadyAnswered, match="no longer has its key"):
        await begin(repeats(store, rotated % ""))


async def test_replies_that_were_kept_before_the_key_was_configured_are_read() -> None:
    store = MemoryRecords()
    await keep(repeats(store))

    assert REPLY == await begin(repeats(store, KEYED % ""))


async def test_a_plain_reply_of_an_earlier_version_is_read() -> None:
    store = MemoryRecords()
    name = record_name("repeat", "acme", "key-1")
    await store.add([name], b"D" + FINGERPRINT + msgspec.msgpack.encode(REPLY), 60.0)

    assert REPLY == await begin(repeats(store))


@pytest.mark.parametrize("state", [b"D", b"E"])
@pytest.mark.parametrize("rest", [b"", b"damaged", b"\x93\xa1x\x02\x03", b"\x01" * 40], ids=repr)
async def test_a_damaged_reply_is_not_sent_again_and_is_no_bug(state: bytes, rest: bytes) -> None:
    store = MemoryRecords()
    await store.add([record_name("repeat", "acme", "key-1")], state + FINGERPRINT + rest, 60.0)

    with pytest.raises(AlreadyAnswered, match="the record was changed"):
        await begin(repeats(store))


async def test_a_record_that_was_copied_to_another_tenant_is_not_read() -> None:
    store = MemoryRecords()
    await keep(repeats(store))
    (sealed,) = await store.get([record_name("repeat", "acme", "key-1")])
    assert sealed is not None
    await store.add([record_name("repeat", "umbrella", "key-1")], sealed, 60.0)

    with pytest.raises(AlreadyAnswered):
        await begin(repeats(store), "umbrella")

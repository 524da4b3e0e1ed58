"""The connection to the store of limits: shared by all callers, and never believed after an error."""

from __future__ import annotations

import asyncio
import queue
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import certificates
import pytest
from limits_kit import until
from running_valkey import RunningValkey

from edge_extproc.limits.base import LimitStoreDown
from edge_extproc.limits.store_connection import (
    StoreConnection,
    Transport,
    TransportOf,
    _PipelinedConnection,
    bulk,
    transport_of,
)


def no_transport(connection: object) -> None:
    """As of a redis-py that keeps its connection elsewhere."""


WAYS_OF, NAMES = (transport_of, no_transport), ("own wire", "by turns")
WAYS = pytest.mark.parametrize("way", WAYS_OF, ids=NAMES)


@pytest.fixture(params=WAYS_OF, ids=NAMES)
async def link(valkey: RunningValkey, request: pytest.FixtureRequest):
    found = StoreConnection(valkey.url, 5.0, request.param)
    yield found
    await found.close()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_redis_py_that_is_installed_hands_its_connection_over(valkey: RunningValkey, loop: str) -> None:
    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None
    handed: list[bool] = []

    def watched(connection: object) -> Transport | None:
        found = transport_of(connection)
        handed.append(found is not None)
        return found

    async def asked() -> bytes:
        link = StoreConnection(valkey.url, 5.0, watched)
        answer = await link.send("PING")
        await link.close()
        return answer

    with asyncio.Runner(loop_factory=factory) as runner:
        assert b"PONG" == runner.run(asked())

    assert [True] == handed


async def connections(link: StoreConnection) -> int:
    return (await link.send("CLIENT", "LIST")).count(b"id=")


async def test_many_callers_share_one_connection_and_each_has_its_own_answer(link: StoreConnection) -> None:
    answers = await asyncio.gather(*(link.send("ECHO", f"{n}") for n in range(200)))
    before = await connections(link)
    await asyncio.gather(*(link.send("PING") for _ in range(50)))

    assert [f"{n}".encode() for n in range(200)] == answers
    assert before == await connections(link)


async def test_a_caller_who_leaves_takes_nobodys_answer_away(link: StoreConnection) -> None:
    await link.send("PING")
    asking = [asyncio.create_task(link.send("ECHO", f"{n}")) for n in range(4)]
    await asyncio.sleep(0)
    asking[1].cancel()
    answers = await asyncio.gather(*asking, return_exceptions=True)

    assert [b"0", b"2", b"3"] == [each for each in answers if isinstance(each, bytes)]


async def test_a_script_that_the_server_has_lost_is_sent_again(link: StoreConnection) -> None:
    script, rest = "return {1, ARGV[1]}", bulk(0) + bulk("x")
    name = b"0" * 40

    assert [1, b"x"] == await link.script(name, script, rest, 2)


async def test_after_a_loss_it_connects_anew(link: StoreConnection, valkey: RunningValkey) -> None:
    mine = (await link.send("CLIENT", "ID"),)
    valkey.command("CLIENT", "KILL", "ID", str(mine[0]))
    if isinstance(link._connection, _PipelinedConnection):
        await until(lambda: link._connection.lost)
    else:  # it hears of it when it asks
        with pytest.raises(LimitStoreDown):
            await link.send("PING")

    assert mine != (await link.send("CLIENT", "ID"),)


@WAYS
async def test_a_server_that_does_not_answer_in_time_is_down_for_all_who_wait(
    valkey: RunningValkey, way: TransportOf
) -> None:
    link = StoreConnection(valkey.url, 0.1, way)
    await link.send("PING")
    valkey.command("CLIENT", "PAUSE", "400", "ALL")
    found = await asyncio.gather(*(link.send("PING") for _ in range(3)), return_exceptions=True)

    assert ["timed out"] * 3 == [str(each) for each in found]
    patient = StoreConnection(valkey.url, 5.0)
    assert b"PONG" == await patient.send("PING")
    await patient.close()
    await link.close()


async def test_an_error_of_the_server_is_told_in_a_word_and_its_text_is_not(link: StoreConnection) -> None:
    with pytest.raises(LimitStoreDown) as found:
        await link.send("EVAL", "return redis.error_reply('OOM secret of somebody')", 0)

    assert "it is out of memory" == str(found.value)
    assert b"PONG" == await link.send("PING")


async def test_who_asks_while_it_connects_waits_for_the_same_connection(valkey: RunningValkey) -> None:
    link = StoreConnection(valkey.url, 5.0)
    ids = await asyncio.gather(*(link.send("CLIENT", "ID") for _ in range(20)))
    await link.close()

    assert 1 == len(set(ids))


@WAYS
async def test_it_can_be_closed_while_somebody_waits(valkey: RunningValkey, way: TransportOf) -> None:
    link = StoreConnection(valkey.url, 5.0, way)
    await link.send("PING")
    asking = [asyncio.create_task(link.send("BLPOP", "nothing", 0)) for _ in range(2)]
    await until(lambda: b"blpop" in valkey.command("CLIENT", "LIST"))
    await link.close()
    found = await asyncio.gather(*asking, return_exceptions=True)

    assert [LimitStoreDown] * 2 == [type(each) for each in found]


async def test_it_can_be_closed_while_it_connects(valkey: RunningValkey) -> None:
    link = StoreConnection(valkey.url, 5.0)
    asking = asyncio.create_task(link.send("PING"))
    await asyncio.sleep(0)
    await link.close()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)

    assert asking.done()


@contextmanager
def behind_tls(valkey: RunningValkey, pems: certificates.Pems) -> Iterator[int]:
    """A port that speaks TLS in front of a Valkey, served by a thread of its own."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pems.certificate, pems.private_key)
    found: queue.Queue[tuple[int, Callable[[], object]]] = queue.Queue()

    async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                writer.write(data)
        finally:
            writer.transport.abort()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_unix_connection(str(valkey.socket))
        await asyncio.gather(passed(reader, back), passed(there, writer), return_exceptions=True)

    async def run() -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
        found.put((server.sockets[0].getsockname()[1], lambda: loop.call_soon_threadsafe(stop.set)))
        await stop.wait()
        server.close()

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    port, stop = found.get(timeout=10)
    yield port
    stop()
    thread.join(10)


@WAYS
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_it_is_the_same_over_tls_and_in_another_database(
    valkey: RunningValkey, tmp_path: Path, loop: str, way: TransportOf
) -> None:
    factory = pytest.importorskip("uvloop").new_event_loop if loop == "uvloop" else None
    pems = certificates.mutual(tmp_path, "localhost")

    async def asked(port: int) -> tuple[list[bytes], bytes]:
        link = StoreConnection(f"rediss://localhost:{port}/3?ssl_ca_certs={pems.ca}", 5.0, way)
        answers = await asyncio.gather(*(link.send("ECHO", f"{n}") for n in range(50)))
        told = await link.send("CLIENT", "INFO")
        await link.close()
        return answers, told

    with behind_tls(valkey, pems) as port, asyncio.Runner(loop_factory=factory) as runner:
        answers, told = runner.run(asked(port))

    assert [f"{n}".encode() for n in range(50)] == answers
    assert b" db=3 " in told

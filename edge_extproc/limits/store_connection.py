"""One connection to a Redis or Valkey, for steps that are asked and answered in order.

redis-py opens it (addresses, TLS, passwords and databases are its business) and hands it over: what it does for each
command costs more than a step of ours. Any number of callers share it; each command goes out at once, and answers come
back in the order of their questions. Where redis-py does not hand it over (no part of its API says that it does), it
asks for us, one question at a time. It knows nothing of counters.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol, TypeAlias

import hiredis
import structlog
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from redis.retry import Retry

from ..telemetry.store_reasons import reason_of, reason_of_reply
from .base import LimitStoreDown


class Missing(Exception):
    """The server does not have the script: it was started anew, or flushed."""


class Transport(Protocol):
    """What is used of asyncio's or uvloop's, which have no class in common."""

    def set_protocol(self, protocol: asyncio.BaseProtocol, /) -> None: ...
    def write(self, data: bytes, /) -> None: ...
    def is_closing(self) -> bool: ...
    def abort(self) -> None: ...


def transport_of(connection: Any) -> Transport | None:
    """Of a connection of redis-py's, which keeps it to itself. None where it is not where it was."""
    found = getattr(getattr(connection, "_writer", None), "transport", None)
    named = ("set_protocol", "write", "is_closing", "abort")
    return found if all(callable(getattr(found, name, None)) for name in named) else None


TransportOf: TypeAlias = Callable[[Any], Transport | None]


class _Asked(Protocol):
    """A connection that answers."""

    lost: bool

    def ask(self, command: bytes) -> Awaitable[Any]:
        """Raises StoreDown or Missing, at once or when awaited."""
        ...

    async def hang_up(self) -> None: ...


class _Wire(asyncio.Protocol):
    def __init__(self, connection: Any, transport: Transport, timeout: float) -> None:
        """`connection`: redis-py's, which would close its socket if it were forgotten."""
        self.connection = connection
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._reader = hiredis.Reader()
        self._asked: deque[tuple[asyncio.Future[Any], float]] = deque()
        """What is not answered yet, and when it must be."""
        self._look_again: asyncio.TimerHandle | None = None
        self.lost = False
        self._transport = transport
        transport.set_protocol(self)

    def ask(self, command: bytes) -> asyncio.Future[Any]:
        """Raises StoreDown, as the answer does."""
        if self.lost or self._transport.is_closing():
            raise LimitStoreDown("the connection was lost")
        answer = self._loop.create_future()
        self._asked.append((answer, self._loop.time() + self._timeout))
        if self._look_again is None:
            self._look_again = self._loop.call_later(self._timeout, self._look)
        self._transport.write(command)
        return answer

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            answer = reader.gets()
            while answer is not False and self._asked:  # False is never an answer in this version of the protocol
                waiting, _ = self._asked.popleft()
                if not waiting.done():  # its caller left
                    self._tell(waiting, answer)
                answer = reader.gets()
        except hiredis.ProtocolError:
            answer = None
        if answer is not False:  # nobody asked for it, or it is none
            self.close("what it answers is not the protocol of Redis")

    def _tell(self, waiting: asyncio.Future[Any], answer: Any) -> None:
        if not isinstance(answer, hiredis.ReplyError):
            waiting.set_result(answer)
        elif str(answer).startswith("NOSCRIPT"):
            waiting.set_exception(Missing())
        else:
            # Only its first word: the rest may quote what we sent. A replica, or one that is being loaded, says so to
            # every step; the next one finds its way anew.
            waiting.set_exception(LimitStoreDown(reason_of_reply(str(answer))))
            self.close("after an error")

    def _look(self) -> None:
        """Whether the oldest question waits for too long. Then nothing that follows can be trusted to come."""
        self._look_again = None
        if not self._asked:
            return
        left = self._asked[0][1] - self._loop.time()
        if left <= 0:
            self.close("timed out")
        else:
            self._look_again = self._loop.call_later(left, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(reason_of(exc) if exc is not None else "it closed the connection")

    def close(self, why: str = "closed") -> None:
        self.lost = True
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        while self._asked:
            waiting, _ = self._asked.popleft()
            if not waiting.done():
                waiting.set_exception(LimitStoreDown(why))
        # Nobody waits for what was not sent, and a farewell of TLS would outlive the event loop.
        self._transport.abort()

    async def hang_up(self) -> None:
        self.close()
        # Nothing is waited for: its own protocol hears of nothing any more.
        await self.connection.disconnect(nowait=True)


class _ByTurns:
    """By redis-py's own API alone: each question waits until the one before is answered."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.lost = False
        self._why = ""
        self._turn = asyncio.Lock()

    async def ask(self, command: bytes) -> Any:
        asking = asyncio.create_task(self._ask(command), name="ask the store of limits")
        asking.add_done_callback(_hear)
        # A caller who leaves must not leave its answer to the next one.
        return await asyncio.shield(asking)

    async def _ask(self, command: bytes) -> Any:
        async with self._turn:
            if self.lost:
                raise LimitStoreDown(self._why)
            try:
                await self.connection.send_packed_command(command, check_health=False)
                return await self.connection.read_response(disable_decoding=True)
            except NoScriptError:
                raise Missing from None
            except (RedisError, OSError) as error:
                # As above: a word for it, nothing of its text, and not this connection again.
                self.close(reason_of(error))
            raise LimitStoreDown(self._why)

    def close(self, why: str = "closed") -> None:
        if not self.lost:
            self.lost, self._why = True, why

    async def hang_up(self) -> None:
        self.close()
        await self.connection.disconnect()


def _hear(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # told to those who wait, if anybody still does


class StoreConnection:
    """Connects when it is first asked, and again after a loss. Nothing is sent twice: what was done is not known after
    an error."""

    def __init__(self, url: str, timeout: float, transport_of: TransportOf = transport_of) -> None:
        self._timeout = timeout
        self._transport_of = transport_of
        # Its annotations leave most of it untyped.
        self._pool: Any = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,
        ).connection_pool
        self._wire: _Asked | None = None
        self._connecting: asyncio.Task[_Asked] | None = None

    async def script(self, name: bytes, text: str, rest: bytes, words: int) -> Any:
        """A script by its SHA-1, in hexadecimal digits; `rest` is what follows it, packed, in so many words. Raises
        StoreDown."""
        wire = self._wire
        if wire is None or wire.lost:
            wire = await self._connected()
        try:
            return await wire.ask(b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n%b" % (words + 2, name, rest))
        except Missing:
            return await wire.ask(b"*%d\r\n$4\r\nEVAL\r\n%b%b" % (words + 2, bulk(text), rest))

    async def ask(self, *words: str | int) -> Any:
        """Any command. Raises StoreDown."""
        wire = self._wire
        if wire is None or wire.lost:
            wire = await self._connected()
        return await wire.ask(pack(words))

    async def _connected(self) -> _Asked:
        """One attempt for all who wait for it."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="connect to the store of limits")
            self._connecting.add_done_callback(self._is_over)
        return await asyncio.shield(self._connecting)

    def _is_over(self, task: asyncio.Task[_Asked]) -> None:
        self._connecting = None
        _hear(task)

    async def _connect(self) -> _Asked:
        await self._hang_up()
        connection = self._pool.make_connection()
        try:
            await connection.connect()
        except (RedisError, OSError, TimeoutError) as error:
            # Its text may hold the address and its password.
            raise LimitStoreDown(reason_of(error)) from None
        transport = self._transport_of(connection)
        if transport is None:
            structlog.get_logger().warning("store_asked_by_turns", reason="this redis-py hands no connection over")
            self._wire = _ByTurns(connection)
        else:
            self._wire = _Wire(connection, transport, self._timeout)
        return self._wire

    async def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            await wire.hang_up()

    async def close(self) -> None:
        connecting = self._connecting
        if connecting is not None:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, LimitStoreDown):
                await connecting
        await self._hang_up()


def bulk(word: str | int) -> bytes:
    """One word, as it goes over the wire."""
    raw = str(word).encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def pack(words: Sequence[str | int]) -> bytes:
    return b"*%d\r\n%b" % (len(words), b"".join(map(bulk, words)))

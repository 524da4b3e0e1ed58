"""One connection to a Redis or Valkey, for steps that are asked and answered in order.

redis-py opens it (addresses, TLS, passwords and databases are its business) and hands it over: what it does for each
command costs more than a step of ours. Any number of callers share it; each command goes out at once, and answers come
back in the order of their questions. It knows nothing of counters.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from typing import Any, cast

import hiredis
from redis.asyncio import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from .base import StoreDown


class Missing(Exception):
    """The server does not have the script: it was started anew, or flushed."""


class _Wire(asyncio.Protocol):
    def __init__(self, connection: Any, timeout: float) -> None:
        """`connection`: redis-py's, which would close its socket if it were forgotten."""
        self.connection = connection
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._reader = hiredis.Reader()
        self._asked: deque[tuple[asyncio.Future[Any], float]] = deque()
        """What is not answered yet, and when it must be."""
        self._look_again: asyncio.TimerHandle | None = None
        self.lost = False
        self._transport = cast("asyncio.Transport", connection._writer.transport)
        self._transport.set_protocol(self)

    def ask(self, command: bytes) -> asyncio.Future[Any]:
        """Raises StoreDown, as the answer does."""
        if self.lost or self._transport.is_closing():
            raise StoreDown("the connection was lost")
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
            self.close("ProtocolError")

    def _tell(self, waiting: asyncio.Future[Any], answer: Any) -> None:
        if not isinstance(answer, hiredis.ReplyError):
            waiting.set_result(answer)
        elif str(answer).startswith("NOSCRIPT"):
            waiting.set_exception(Missing())
        else:
            # Only its first word: the rest may quote what we sent. A replica, or one that is being loaded, says so to
            # every step; the next one finds its way anew.
            waiting.set_exception(StoreDown(str(answer).partition(" ")[0]))
            self.close("after an error")

    def _look(self) -> None:
        """Whether the oldest question waits for too long. Then nothing that follows can be trusted to come."""
        self._look_again = None
        if not self._asked:
            return
        left = self._asked[0][1] - self._loop.time()
        if left <= 0:
            self.close("TimeoutError")
        else:
            self._look_again = self._loop.call_later(left, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(type(exc).__name__ if exc is not None else "the connection was closed")

    def close(self, why: str = "closed") -> None:
        self.lost = True
        if self._look_again is not None:
            self._look_again.cancel()
            self._look_again = None
        while self._asked:
            waiting, _ = self._asked.popleft()
            if not waiting.done():
                waiting.set_exception(StoreDown(why))
        # Nobody waits for what was not sent, and a farewell of TLS would outlive the event loop.
        self._transport.abort()


class Link:
    """Connects when it is first asked, and again after a loss. Nothing is sent twice: what was done is not known after
    an error."""

    def __init__(self, url: str, timeout: float) -> None:
        self._timeout = timeout
        # Its annotations leave most of it untyped.
        self._pool: Any = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,
        ).connection_pool
        self._wire: _Wire | None = None
        self._connecting: asyncio.Task[_Wire] | None = None

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

    async def _connected(self) -> _Wire:
        """One attempt for all who wait for it."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="connect to the store of limits")
            self._connecting.add_done_callback(self._is_over)
        return await asyncio.shield(self._connecting)

    def _is_over(self, task: asyncio.Task[_Wire]) -> None:
        self._connecting = None
        if not task.cancelled():
            task.exception()  # told to those who wait, if anybody still does

    async def _connect(self) -> _Wire:
        await self._hang_up()
        connection = self._pool.make_connection()
        try:
            await connection.connect()
        except (RedisError, OSError, TimeoutError) as error:
            # Its text may hold the address and its password.
            raise StoreDown(type(error).__name__) from None
        self._wire = _Wire(connection, self._timeout)
        return self._wire

    async def _hang_up(self) -> None:
        wire, self._wire = self._wire, None
        if wire is not None:
            wire.close()
            # Nothing is waited for: its own protocol hears of nothing any more.
            await wire.connection.disconnect(nowait=True)

    async def close(self) -> None:
        connecting = self._connecting
        if connecting is not None:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, StoreDown):
                await connecting
        await self._hang_up()


def bulk(word: str | int) -> bytes:
    """One word, as it goes over the wire."""
    raw = str(word).encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def pack(words: Sequence[str | int]) -> bytes:
    return b"*%d\r\n%b" % (len(words), b"".join(map(bulk, words)))

"""A pipelined connection to Redis or Valkey, which any number of callers share.

redis-py opens the connection (addresses, TLS, passwords, databases). Then this module uses its transport directly,
because redis-py's work for each command costs more than a step of the limiter. Each command is sent at once, and
replies arrive in the order of the commands. The transport is not a part of redis-py's API. If it cannot be reached, the
commands go through redis-py, one at a time. This module knows nothing of counters.
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


class ScriptMissing(Exception):
    """The server does not have the script, because it was restarted or its scripts were flushed (NOSCRIPT)."""


class Transport(Protocol):
    """The used part of asyncio's and uvloop's transports, which have no common class."""

    def set_protocol(self, protocol: asyncio.BaseProtocol, /) -> None: ...
    def write(self, data: bytes, /) -> None: ...
    def is_closing(self) -> bool: ...
    def abort(self) -> None: ...


def transport_of(connection: Any) -> Transport | None:
    """The transport of a redis-py connection, from a private attribute. None: this redis-py version has none there."""
    transport = getattr(getattr(connection, "_writer", None), "transport", None)
    named = ("set_protocol", "write", "is_closing", "abort")
    return transport if all(callable(getattr(transport, name, None)) for name in named) else None


TransportOf: TypeAlias = Callable[[Any], Transport | None]


class _Connection(Protocol):
    """An open connection."""

    lost: bool

    def send(self, command: bytes) -> Awaitable[Any]:
        """The server's reply. Raises LimitStoreDown or ScriptMissing, at once or when awaited."""
        ...

    async def disconnect(self) -> None: ...


class _PipelinedConnection(asyncio.Protocol):
    def __init__(self, connection: Any, transport: Transport, timeout: float) -> None:
        """`connection`: redis-py's. It is kept because its destructor closes the socket."""
        self.connection = connection
        self._loop = asyncio.get_running_loop()
        self._timeout = timeout
        self._reader = hiredis.Reader()
        self._pending: deque[tuple[asyncio.Future[Any], float]] = deque()
        """The commands without a reply, oldest first, and each one's deadline (the event loop's time)."""
        self._timeout_timer: asyncio.TimerHandle | None = None
        self.lost = False
        self._transport = transport
        transport.set_protocol(self)

    def send(self, command: bytes) -> asyncio.Future[Any]:
        """Raises LimitStoreDown, and so may the returned future."""
        if self.lost or self._transport.is_closing():
            raise LimitStoreDown("the connection was lost")
        answer = self._loop.create_future()
        self._pending.append((answer, self._loop.time() + self._timeout))
        if self._timeout_timer is None:
            self._timeout_timer = self._loop.call_later(self._timeout, self._check_timeout)
        self._transport.write(command)
        return answer

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        try:
            reader.feed(data)
            answer = reader.gets()
            while answer is not False and self._pending:  # False means "incomplete": RESP2 has no booleans
                waiting, _ = self._pending.popleft()
                if not waiting.done():  # its caller left
                    self._deliver(waiting, answer)
                answer = reader.gets()
        except hiredis.ProtocolError:
            answer = None
        if answer is not False:  # a reply without a command, or no valid reply
            self.close("it does not answer in the Redis protocol")

    def _deliver(self, waiting: asyncio.Future[Any], answer: Any) -> None:
        if not isinstance(answer, hiredis.ReplyError):
            waiting.set_result(answer)
        elif str(answer).startswith("NOSCRIPT"):
            waiting.set_exception(ScriptMissing())
        else:
            # Only the error's first word, because the rest may quote the command. A replica or a loading server sends
            # errors for every command, so the connection is closed, and the next command connects again.
            waiting.set_exception(LimitStoreDown(reason_of_reply(str(answer))))
            self.close("after an error")

    def _check_timeout(self) -> None:
        """Closes the connection if the oldest command has passed its deadline: it blocks all later replies."""
        self._timeout_timer = None
        if not self._pending:
            return
        remaining = self._pending[0][1] - self._loop.time()
        if remaining <= 0:
            self.close("timed out")
        else:
            self._timeout_timer = self._loop.call_later(remaining, self._check_timeout)

    def connection_lost(self, exc: Exception | None) -> None:
        self.close(reason_of(exc) if exc is not None else "it closed the connection")

    def close(self, why: str = "closed") -> None:
        self.lost = True
        if self._timeout_timer is not None:
            self._timeout_timer.cancel()
            self._timeout_timer = None
        while self._pending:
            waiting, _ = self._pending.popleft()
            if not waiting.done():
                waiting.set_exception(LimitStoreDown(why))
        # Not `close`: it would wait for unsent data and for the TLS shutdown, which may outlive the event loop.
        self._transport.abort()

    async def disconnect(self) -> None:
        self.close()
        # nowait, because redis-py's own protocol object no longer gets events.
        await self.connection.disconnect(nowait=True)


class _SerialConnection:
    """A connection through redis-py's public API: each command waits until the previous one is answered."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.lost = False
        self._why = ""
        self._lock = asyncio.Lock()

    async def send(self, command: bytes) -> Any:
        task = asyncio.create_task(self._exchange(command), name="send the store of limits")
        task.add_done_callback(_retrieve_exception)
        # Shielded: if a cancelled caller's reply were not read, the next caller would get it.
        return await asyncio.shield(task)

    async def _exchange(self, command: bytes) -> Any:
        async with self._lock:
            if self.lost:
                raise LimitStoreDown(self._why)
            try:
                await self.connection.send_packed_command(command, check_health=False)
                return await self.connection.read_response(disable_decoding=True)
            except NoScriptError:
                raise ScriptMissing from None
            except (RedisError, OSError) as error:
                # As above: a fixed text, without the error's own, and the connection is closed.
                self.close(reason_of(error))
            raise LimitStoreDown(self._why)

    def close(self, why: str = "closed") -> None:
        if not self.lost:
            self.lost, self._why = True, why

    async def disconnect(self) -> None:
        self.close()
        await self.connection.disconnect()


def _retrieve_exception(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()  # waiting callers get it; without this call, asyncio would log it if there are none


class StoreConnection:
    """Connects at the first command, and again after a loss. A command is never sent twice, because after an error it
    is not known whether it was executed."""

    def __init__(self, url: str, timeout: float, transport_of: TransportOf = transport_of) -> None:
        self._timeout = timeout
        self._transport_of = transport_of
        # Any, because redis-py's annotations are incomplete.
        self._pool: Any = Redis.from_url(
            url,
            socket_timeout=timeout,
            socket_connect_timeout=timeout,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            protocol=2,
        ).connection_pool
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None

    async def script(self, name: bytes, text: str, rest: bytes, words: int) -> Any:
        """Runs a script. `name`: its SHA-1 in hexadecimal. `rest`: the encoded arguments, which are `words` words.
        Raises LimitStoreDown."""
        connection = self._connection
        if connection is None or connection.lost:
            connection = await self._get_connection()
        try:
            return await connection.send(b"*%d\r\n$7\r\nEVALSHA\r\n$40\r\n%b\r\n%b" % (words + 2, name, rest))
        except ScriptMissing:
            return await connection.send(b"*%d\r\n$4\r\nEVAL\r\n%b%b" % (words + 2, bulk(text), rest))

    async def send(self, *words: str | int) -> Any:
        """Runs any command. Raises LimitStoreDown."""
        connection = self._connection
        if connection is None or connection.lost:
            connection = await self._get_connection()
        return await connection.send(pack(words))

    async def _get_connection(self) -> _Connection:
        """Connects. Concurrent callers share one attempt."""
        if self._connecting is None:
            self._connecting = asyncio.create_task(self._connect(), name="connect to the store of limits")
            self._connecting.add_done_callback(self._on_connect_done)
        return await asyncio.shield(self._connecting)

    def _on_connect_done(self, task: asyncio.Task[_Connection]) -> None:
        self._connecting = None
        _retrieve_exception(task)

    async def _connect(self) -> _Connection:
        await self._disconnect()
        connection = self._pool.make_connection()
        try:
            await connection.connect()
        except (RedisError, OSError, TimeoutError) as error:
            # The error's text may contain the address and the password.
            raise LimitStoreDown(reason_of(error)) from None
        transport = self._transport_of(connection)
        if transport is None:
            structlog.get_logger().warning(
                "limit_store_not_pipelined", reason="this redis-py version does not expose its transport"
            )
            self._connection = _SerialConnection(connection)
        else:
            self._connection = _PipelinedConnection(connection, transport, self._timeout)
        return self._connection

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect()

    async def close(self) -> None:
        connecting = self._connecting
        if connecting is not None:
            connecting.cancel()
            with contextlib.suppress(asyncio.CancelledError, LimitStoreDown):
                await connecting
        await self._disconnect()


def bulk(word: str | int) -> bytes:
    """One word of a command, encoded as a RESP bulk string."""
    raw = str(word).encode()
    return b"$%d\r\n%b\r\n" % (len(raw), raw)


def pack(words: Sequence[str | int]) -> bytes:
    """A command, encoded as a RESP array."""
    return b"*%d\r\n%b" % (len(words), b"".join(map(bulk, words)))

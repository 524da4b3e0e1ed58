"""Runs the rehearsal provider as a process: `python -m edge_extproc.rehearsal --port 9100`.

One line on stdout says that it is ready and where; SIGTERM and SIGINT end it.
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
        # Windows has none.
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
        description="A provider for rehearsals: speaks OpenAI and Anthropic, needs no key, fails when told to.",
        epilog=script.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=0, help="port to listen on (default: any that is free)")
    parser.add_argument("--record", action="store_true", help="show the last requests at GET /rehearsal/requests")
    asked = parser.parse_args(arguments)
    # Where the loop has no signal handlers, Ctrl-C arrives as an exception.
    with contextlib.suppress(KeyboardInterrupt):
        try:
            _run(rehearse(asked.host, asked.port, record=asked.record))
        except OSError as exc:
            print(f"the rehearsal provider cannot listen on {asked.host}:{asked.port}: {exc.strerror}", file=sys.stderr)
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

"""How many Python functions the agent calls for one exchange: `python -m bench.calls [--write]`.

The ways are those of bench.exchange. A count does not depend on how busy a machine is, so a test holds each to the
committed one in calls.json (tests/unit/bench/test_calls.py). `--write` renews that file, where a rise is meant, and
after a fall, so that the next rise shows.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import FrameType

import edge_extproc

from .exchange import Ways

COMMITTED = Path(__file__).with_name("calls.json")
ALLOWED = 0.05
"""By how much a count may rise."""
WARM_UP, COUNTED = 50, 20
"""Exchanges. The first ones fill what is remembered of callers and models."""

_PACKAGE = str(Path(edge_extproc.__file__).parent)
_GENERATED = "<string>"
"""The file of the methods of dataclasses."""


def is_counted(file: str) -> bool:
    """Functions of the package. Those of libraries differ between their versions."""
    return file.startswith(_PACKAGE) or file == _GENERATED


async def count(way: Callable[[], Awaitable[object]]) -> float:
    """Of one exchange, on average."""
    for _ in range(WARM_UP):
        await way()
    calls = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal calls
        del argument
        if event == "call" and is_counted(frame.f_code.co_filename):
            calls += 1

    gc.disable()  # finalizers are functions too, and run at any time
    sys.setprofile(note)
    try:
        for _ in range(COUNTED):
            await way()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls / COUNTED


async def count_all() -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as directory:
        ways = Ways(Path(directory))
        await ways.begin()
        try:
            return {name: round(await count(way), 1) for name, way in ways.by_name.items()}
        finally:
            ways.close()


def committed() -> dict[str, float]:
    return dict(json.loads(COMMITTED.read_text()))


def risen(counted: Mapping[str, float], before: Mapping[str, float]) -> list[str]:
    """The ways that call more functions than is allowed, in words."""
    return [
        f"{name}: {now} calls, {before[name]} before"
        for name, now in counted.items()
        if now > before[name] * (1 + ALLOWED)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help=f"renew {COMMITTED.name}")
    asked = parser.parse_args()
    counted = asyncio.run(count_all())
    if asked.write:
        COMMITTED.write_text(json.dumps(counted, indent=2) + "\n")
    for name, calls in counted.items():
        print(f"{name:8} {calls:7.1f} calls")


if __name__ == "__main__":
    main()

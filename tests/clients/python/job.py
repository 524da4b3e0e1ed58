"""What each client written in Python reads and writes: jobs as a JSON list on standard input, a JSON line for each."""

from __future__ import annotations

import asyncio
import json
import sys
import traceback
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

Job = dict[str, Any]
Seen = dict[str, Any]


class Weather(BaseModel):
    """The weather of a city."""

    city: str
    degrees: int
    tags: list[str]


def look_up(city: str) -> str:
    """Looks up the weather of a city.

    Args:
        city: The name of the city.
    """
    return f"In {city} it is 21 °C."


def add(a: int, b: int) -> str:
    """Adds two numbers.

    Args:
        a: The first number.
        b: The second number.
    """
    return f"The sum is {a + b}."


def serve(run: Callable[[Job], Awaitable[Seen]]) -> None:
    """Runs each job. An exception is told in the job's line, with its trace on standard error."""

    async def each() -> None:
        for job in json.load(sys.stdin):
            try:
                seen = await run(job)
            except Exception as error:  # noqa: BLE001 - whatever a client raises is its result
                traceback.print_exc()
                seen = {"error": f"{type(error).__name__}: {error}"}
            print(json.dumps({"id": job["id"], **seen}), flush=True)

    asyncio.run(each())

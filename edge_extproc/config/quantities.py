"""Types of the configuration for durations, sizes, counts and instants."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from .wrong import wrong

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)")
_DURATION_RIGHT = "write a number and its unit: 250ms, 5s, 2m, 1h"
# Envoy refuses durations over 292 years. A duration over one year is a mistake.
_LONGEST = timedelta(days=366)

# The longest extension of the message timeout (Envoy's max_message_timeout) that the agent requests for one message.
MAX_MESSAGE_TIMEOUT = timedelta(seconds=30)

_BYTES = {
    "B": 1,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
}
_SIZE = re.compile(rf"(\d+(?:\.\d+)?) ?({'|'.join(_BYTES)})")
_SIZE_RIGHT = "write a number and its unit: 64KiB, 32MiB, 1GiB"
# Envoy's buffer limits are 32 bits.
_LARGEST = (1 << 32) - 1

MAX_COUNT = 1_000_000
MAX_PORT = 65_535
_INTEGER = re.compile(r"-?\d{1,18}")


def read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if not isinstance(value, str):
        raise wrong("this is not a duration", _DURATION_RIGHT)
    if _DURATION.fullmatch(value) is None:
        raise wrong("this is not a duration", _DURATION_RIGHT)
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(value))
    if seconds > _LONGEST.total_seconds():
        raise wrong("this duration is over a year", _DURATION_RIGHT)
    return timedelta(seconds=seconds)


def write_duration(value: timedelta) -> str:
    """The duration as text, in the largest unit without a fraction."""
    milliseconds = round(value.total_seconds() * 1000)
    for unit, size in (("h", 3_600_000), ("m", 60_000), ("s", 1000)):
        if milliseconds >= size and milliseconds % size == 0:
            return f"{milliseconds // size}{unit}"
    return f"{milliseconds}ms" if milliseconds else "0s"


def read_size(value: object) -> int:
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise wrong("this is not a size", _SIZE_RIGHT)
    size = int(float(match[1]) * _BYTES[match[2]])
    if not 0 < size <= _LARGEST:
        raise wrong("this size is not between 1B and 4GiB", _SIZE_RIGHT)
    return size


def write_size(value: int) -> str:
    for unit in ("GiB", "MiB", "KiB"):
        if value % _BYTES[unit] == 0:
            return f"{value // _BYTES[unit]}{unit}"
    return f"{value}B"


def read_integer(value: object) -> int:
    """Accepts a number or its digits as text, because environment variables give text."""
    if isinstance(value, str) and _INTEGER.fullmatch(value):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise wrong("this is not a whole number", "write one in digits")


def read_port(value: object) -> int:
    port = read_integer(value)
    if not 1 <= port <= MAX_PORT:
        raise wrong("this number is out of range", f"write one from 1 to {MAX_PORT}")
    return port


def read_boolean(value: object) -> bool:
    """Accepts only true and false. The meaning of `on`, `y` and `1` differs between YAML versions."""
    if isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise wrong("this is not true or false", "write true or false")


def read_instant(value: object) -> datetime:
    if isinstance(value, datetime):
        return value
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        moment = None
    if moment is None:
        raise wrong("this is not a date", "write 2027-01-31 or 2027-01-31T18:00:00+01:00")
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def _positive(value: timedelta) -> timedelta:
    # Envoy's shortest duration.
    if value < timedelta(milliseconds=1):
        raise wrong("this duration is too short", "write 1ms or more")
    return value


def _between(low: int, high: int) -> AfterValidator:
    def check(value: int) -> int:
        if not low <= value <= high:
            raise wrong("this number is out of range", f"write one from {low} to {high}")
        return value

    return AfterValidator(check)


Duration = Annotated[
    timedelta,
    BeforeValidator(read_duration),
    PlainSerializer(write_duration, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_DURATION.pattern}$"}),
]
"""0s means "no limit" for some settings."""
PositiveDuration = Annotated[Duration, AfterValidator(_positive)]
Size = Annotated[
    int,
    BeforeValidator(read_size),
    PlainSerializer(write_size, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": f"^{_SIZE.pattern}$"}),
]
Boolean = Annotated[bool, BeforeValidator(read_boolean)]
Instant = Annotated[
    datetime, BeforeValidator(read_instant), WithJsonSchema({"type": "string", "examples": ["2027-01-31"]})
]
Port = Annotated[
    int,
    BeforeValidator(read_port),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_PORT}),
]
Count = Annotated[
    int,
    BeforeValidator(read_integer),
    _between(1, MAX_COUNT),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": MAX_COUNT}),
]
Percent = Annotated[
    int,
    BeforeValidator(read_integer),
    _between(0, 100),
    WithJsonSchema({"type": "integer", "minimum": 0, "maximum": 100}),
]
ErrorStatus = Annotated[
    int,
    BeforeValidator(read_integer),
    _between(400, 599),
    WithJsonSchema({"type": "integer", "minimum": 400, "maximum": 599}),
]

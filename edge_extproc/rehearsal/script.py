"""The options of a request to the rehearsal provider, mainly simulated faults.

They are given in the model's name, because a gateway may remove unknown headers:

    rehearsal                               a plain answer
    rehearsal(delay=200ms,status=503)       options, on any model name
    rehearsal-slow, rehearsal-cut, …        an alias (see ALIASES)
    rehearsal-529                           an alias for a status

A request header `x-rehearsal-<option>` has the same effect (`x-rehearsal-retry-after: 1`) and overrides the name.

N is a number of chunks: the events of a stream, or the 32-byte pieces of a body that is not a stream. N = 0 means
directly after the headers. An N beyond the end means: just before the end.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Literal

Body = Literal["json", "html", "empty", "gzip"]

HEADER_PREFIX = "x-rehearsal-"


class BadScript(ValueError):
    """An option that does not exist, or a value that it cannot have."""


@dataclass(frozen=True, slots=True)
class Script:
    """The options of one request. By default the reply is correct and immediate."""

    delay: float = 0.0
    """Wait before the status line."""
    first: float = 0.0
    """Wait between the headers and the first byte of the body."""
    pace: float = 0.0
    """Wait between one chunk and the next."""
    status: int = 200
    """Answer this status with an error."""
    retry_after: str = ""
    """Send this `retry-after` with it."""
    body: Body = "json"
    """The body: the correct JSON, an HTML page, an empty body, or the correct JSON compressed with gzip."""
    content_type: str = ""
    """Send this content type with any body."""
    refuse: bool = False
    """Reset the connection before any response."""
    cut: int | None = None
    """Reset the connection after N chunks."""
    drop: int | None = None
    """Close the connection after N chunks, without the end of the HTTP message."""
    end: int | None = None
    """End the HTTP message after N chunks, without the final event of the format."""
    stall: int | None = None
    """Send nothing more after N chunks, and keep the connection open."""
    error: int | None = None
    """Send an error inside the stream after N chunks, and end."""
    malformed: int | None = None
    """Send an event that is not JSON after N chunks, and continue. A body that is not a stream ends there."""
    split: int | None = None
    """Write the body N bytes at a time, so that events are cut anywhere."""
    tokens: int | None = None
    """Reply with exactly this many words."""
    cached: int = 0
    """Report this many of the input tokens as read from the prompt cache."""
    fail_first: int | None = None
    """Apply the options to the first N requests only. Without other options, they get status 503."""
    key: str = ""
    """`fail_first` counts requests with the same key. Default: the model's name."""
    lenient: bool = False
    """Accept fields that the API does not know."""

    def healed(self) -> Script:
        """The options without faults, for requests after the first N."""
        return Script(tokens=self.tokens, cached=self.cached, lenient=self.lenient)

    def failing(self) -> Script:
        """The options for the first N requests."""
        return replace(self, status=503) if replace(self, fail_first=None, key="") == self.healed() else self

    @property
    def is_paced(self) -> bool:
        """Whether a body that is not a stream must be split into pieces."""
        return self.pace > 0 or any(n is not None for n in (self.cut, self.drop, self.end, self.stall, self.malformed))


def _duration(text: str) -> float:
    """`200ms`, `1.5s`, or seconds without a unit."""
    matched = re.fullmatch(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s)?", text)
    if matched is None:
        raise ValueError(text)
    return float(matched[1]) / (1000 if matched[2] == "ms" else 1)


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text):
        raise ValueError(text)
    return int(text)


def _at_least_one(text: str) -> int:
    if (count := _count(text)) < 1:
        raise ValueError(text)
    return count


def _status(text: str) -> int:
    status = _count(text)
    if status != 200 and not 400 <= status <= 599:
        raise ValueError(text)
    return status


def _body(text: str) -> Body:
    match text:
        case "json" | "html" | "empty" | "gzip":
            return text
        case _:
            raise ValueError(text)


def _flag(text: str) -> bool:
    if text not in ("", "1", "0", "true", "false"):
        raise ValueError(text)
    return text in ("", "1", "true")


def _visible(text: str) -> str:
    """A text that is valid as a header value."""
    if not re.fullmatch(r"[\x21-\x7e](?:[\x20-\x7e]{0,198}[\x21-\x7e])?", text):
        raise ValueError(text)
    return text


_READ: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "delay": _duration,
        "first": _duration,
        "pace": _duration,
        "status": _status,
        "retry_after": _visible,
        "body": _body,
        "content_type": _visible,
        "refuse": _flag,
        "cut": _count,
        "drop": _count,
        "end": _count,
        "stall": _count,
        "error": _count,
        "malformed": _count,
        "split": _at_least_one,
        "tokens": _count,
        "cached": _count,
        "fail_first": _count,
        "key": _visible,
        "lenient": _flag,
    }
)

OPTIONS: tuple[str, ...] = tuple(field.name for field in fields(Script))

# After five events, a stream of either format contains a word or two.
ALIASES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "slow": {"delay": "1s", "pace": "50ms"},
        "cut": {"cut": "5"},
        "drop": {"drop": "5"},
        "end": {"end": "5"},
        "stall": {"stall": "5"},
        "error": {"error": "5"},
        "error-first": {"error": "0"},
        "malformed": {"malformed": "5"},
        "refuse": {"refuse": "1"},
        "html": {"status": "502", "body": "html"},
        "empty": {"body": "empty"},
        "gzip": {"body": "gzip"},
        "429": {"status": "429", "retry_after": "1"},
    }
)

_MODEL = re.compile(r"(?P<name>[^()]*)(?:\((?P<options>[^()]*)\))?")
_STATUS_ALIAS = re.compile(r"[45][0-9][0-9]")


def read_script(model: str, headers: Iterable[tuple[str, str]] = ()) -> Script:
    """The options in the model's name and in the request's headers. Raises BadScript."""
    options = _of_model(model)
    for name, value in headers:
        if name.startswith(HEADER_PREFIX):
            options[name.removeprefix(HEADER_PREFIX).replace("-", "_")] = value
    read: dict[str, Any] = {}
    for option, value in options.items():
        if option not in _READ:
            raise BadScript(f"there is no rehearsal option {option!r}; have {', '.join(OPTIONS)}")
        try:
            read[option] = _READ[option](value)
        except ValueError as exc:
            raise BadScript(f"{value!r} is not a valid value for the rehearsal option {option!r}") from exc
    return Script(**read)


def _of_model(model: str) -> dict[str, str]:
    matched = _MODEL.fullmatch(model)
    if matched is None:
        return {}
    options: dict[str, str] = {}
    alias = matched["name"].strip().partition("rehearsal-")[2] if matched["name"].startswith("rehearsal-") else ""
    if alias in ALIASES:
        options.update(ALIASES[alias])
    elif _STATUS_ALIAS.fullmatch(alias):
        options["status"] = alias
    for option in filter(None, (part.strip() for part in (matched["options"] or "").split(","))):
        name, _, value = option.partition("=")
        options[name.strip()] = value.strip()
    return options

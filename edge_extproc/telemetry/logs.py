"""What the gateway writes down: events for humans and collectors, and one access line a request.

Events go through structlog, and so does whatever a library logs. What is logged with an exception shows its type and
where it was raised, never its text, which may quote a caller or a provider. All events pass `redacted`, which takes
secrets and what names a person out wherever they stand (redaction.py).

Access lines are JSON, made and written by a thread of their own, so that a slow sink never holds up a request. What
does not fit its queue is dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import select
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from types import TracebackType
from typing import BinaryIO, Literal, TextIO, TypeAlias

import orjson
import structlog

from ..model.checked import AuthzDecision
from ..model.settlement import Settlement
from ..model.usage import BUCKETS
from . import redaction
from .redaction import MASK

Level: TypeAlias = Literal["debug", "info", "warning", "error"]

# --- what may not be written

# Named so, a value is a credential whatever it looks like.
_SECRET_NAMES = frozenset(
    {
        "authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key", "api_key", "apikey",
        "cookie", "set-cookie", "password", "secret", "pepper", "token", "access_token", "client_secret",
    }
)  # fmt: skip
# And so does a name that ends so: x-amz-security-token, cf-access-client-secret, X-My-Api-Key.
_SECRET_ENDS = ("token", "secret", "password", "passphrase", "api-key", "api_key", "apikey", "private_key", "cookie")
# An event is flat or nearly so; what is nested deeper was not meant for a log.
_DEEPEST = 6
_LONGEST_TEXT = 16_384
_LONGEST_READ = 65_536
_INT64 = 1 << 63


def redact(text: str) -> str:
    """The text without what redaction.py finds, and with what UTF-8 cannot say written as an escape."""
    # In this order: half a secret looks like none.
    clean = redaction.redact(text[:_LONGEST_READ])
    return clean if len(clean) <= _LONGEST_TEXT else clean[:_LONGEST_TEXT] + "…"


def redacted(value: object, depth: int = 0) -> object:
    """A value for a log: JSON's own types only, none of them with a secret in it."""
    match value:
        case bool() | float() | None:
            return value
        case str():
            return redact(value)
        case int():
            return value if -_INT64 <= value < _INT64 else str(value)
        case bytes() | bytearray() | memoryview():
            return f"<{len(value)} bytes>"
        case _ if depth >= _DEEPEST:
            return "…"
        case Mapping():
            return {
                redact(str(name)): MASK if _is_secret(str(name)) else redacted(each, depth + 1)
                for name, each in value.items()
            }
        case list() | tuple() | set() | frozenset():
            return [redacted(each, depth + 1) for each in value]
        case BaseException():
            return type(value).__qualname__
        case _:
            return redact(str(value))


def _is_secret(name: str) -> bool:
    low = name.lower()
    return low in _SECRET_NAMES or low.endswith(_SECRET_ENDS)


# --- exceptions without their text


def told(error: BaseException) -> dict[str, object]:
    """What happened and where, with no word of the exception's own: its type, what caused it, and the frames."""
    return {"exception": " from ".join(type(each).__qualname__ for each in _chain(error)), "frames": _frames(error)}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _frames(error: BaseException) -> list[str]:
    """Outermost first."""
    frames = []
    at: TracebackType | None = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        frames.append(f"{code.co_filename}:{at.tb_lineno} {code.co_qualname}")
        at = at.tb_next
    return frames


# --- events


def set_up(level: Level = "info", *, stream: TextIO | None = None, console: bool | None = None) -> None:
    """Sends structlog's events and the standard library's to one stream: JSON lines, or for a terminal, text."""
    sink = stream if stream is not None else sys.stderr
    for_humans = sink.isatty() if console is None else console
    number = logging.getLevelNamesMapping()[level.upper()]
    common: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        without_exception_text,
        without_credentials,
    ]
    render: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(colors=sink.isatty(), timestamp_key="time") if for_humans else as_json
    )
    structlog.configure(
        processors=[*common, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(sink),
        cache_logger_on_first_use=True,
    )
    handler = _Handler(sink)
    handler.addFilter(_without_exceptions)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, structlog.stdlib.ExtraAdder()],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *common, render],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    # What libraries say below a warning is for their authors.
    root.setLevel(max(number, logging.WARNING) if level != "debug" else number)
    logging.captureWarnings(True)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """A line that cannot be made, of which the library would print all arguments as they are."""
        structlog.get_logger().warning("line_not_written", logger=record.name, exc_info=sys.exception())


# asyncio says this and then shows the task or the callback, with the text of its exception and its arguments.
_SHOWN_BY_ASYNCIO = re.compile(r"[\n<(]")


def _without_exceptions(record: logging.LogRecord) -> bool:
    """An exception that a library puts into its words is told by its type, as every other."""
    args = record.args
    if isinstance(args, tuple) and any(isinstance(each, BaseException) for each in args):
        record.args = tuple(type(a).__qualname__ if isinstance(a, BaseException) else a for a in args)
    if isinstance(record.msg, BaseException):
        record.msg = type(record.msg).__qualname__
    if record.name == "asyncio" and record.exc_info:
        record.msg, record.args = _SHOWN_BY_ASYNCIO.split(record.getMessage(), maxsplit=1)[0].rstrip(), ()
    return True


def catch_all() -> None:
    """What nobody catches, in any thread, is told as every bug is: Python itself would print the exception's text."""

    def uncaught(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, at)
        else:
            report(error.with_traceback(at))

    sys.excepthook = uncaught
    threading.excepthook = lambda found: report(found.exc_value) if found.exc_value is not None else None
    sys.unraisablehook = lambda found: report(found.exc_value) if found.exc_value is not None else None


def report(error: BaseException) -> None:
    """Tells of a bug of ours."""
    structlog.get_logger().error("bug", exc_info=error)


def without_exception_text(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """`exc_info`, in any of the forms that logging knows, becomes what `told` tells."""
    info = event.pop("exc_info", None)
    match info:
        case BaseException():
            event.update(told(info))
        case (_, BaseException() as error, _):
            event.update(told(error))
        case True if (current := sys.exception()) is not None:
            event.update(told(current))
        case _:
            pass
    return event


def without_credentials(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    return {name: MASK if _is_secret(name) else redacted(value) for name, value in event.items()}


def as_json(_: object, __: str, event: structlog.typing.EventDict) -> str:
    return orjson.dumps(event, option=orjson.OPT_SORT_KEYS).decode()


# --- access lines

# Longer than any that we serve; what a caller makes longer is cut.
_LONGEST_FIELD = 512
# So much of it is looked at: a path may have 60 KiB, all of it escapes. The last of that may be half a secret.
_LOOKED_AT, _IN_DOUBT = 2048, 256
_MOST_DROPPED = 32

_TOKENS = tuple(sorted((f"tokens_{name}", name) for name in BUCKETS))


def access_line(s: Settlement) -> bytes:
    """One JSON object and a line end. Every line has the same keys, sorted; null is "there was none"."""
    said = (
        s.path,
        s.request_id,
        s.code,
        s.model,
        s.upstream_model,
        s.method,
        s.finish,
        s.trace_id,
        *s.dropped[:_MOST_DROPPED],
    )
    # Nearly no text holds what a secret looks like: looking once saves looking in every field.
    if redaction.is_clean("\n".join(filter(None, said))):
        # Bytes that are not UTF-8, or a number over 64 bits: these need the careful way, too.
        with contextlib.suppress(orjson.JSONEncodeError):
            return _line(s, _cut, _as_it_is)
    return _line(s, _redacted_and_cut, redacted)


def _line(s: Settlement, text: Callable[[str | None], str | None], number: Callable[[int], object]) -> bytes:
    usage = s.usage
    line: dict[str, object] = {  # sorted as it stands
        "attempts": s.attempts,
        "bytes_in": s.request_bytes,
        "bytes_out": s.response_bytes,
        "cache": s.cache,
        "cache_tier": s.cache_tier,
        "code": text(s.code),
        "cost_usd": None if s.cost is None else plain(s.cost),
        "dialect": s.dialect,
        "dropped": [text(each) for each in s.dropped[:_MOST_DROPPED]],
        "estimated": s.estimated,
        "exchange": s.exchange_id,
        "finish": text(s.finish),
        "first_token_ms": _milliseconds(s.time_to_first_token),
        "garbled": s.garbled,
        "key": s.key_id,
        "lane": s.lane,
        "method": text(s.method),
        "model": text(s.model),
        "ms": _milliseconds(s.duration),
        "operation": s.operation,
        "outcome": s.outcome,
        "overhead_ms": _milliseconds(s.overhead),
        "path": text(s.path),
        "provider": s.provider,
        "request_id": text(s.request_id),
        "saved_tokens": None if s.saved is None else number(s.saved.total),
        "saved_usd": None if s.saved_cost is None else plain(s.saved_cost),
        "status": s.status,
        "stream": s.stream,
        "tenant": s.tenant,
        "time": _rfc3339(s.started_at),
        **{key: None if usage is None else number(getattr(usage, name)) for key, name in _TOKENS},
        "trace_id": text(s.trace_id),
        "unpriced": s.unpriced,
        "upstream_model": text(s.upstream_model),
    }
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def check_line(c: AuthzDecision) -> bytes:
    """As `access_line`, of a request that ext_authz was asked about: `check` says what became of it."""
    texts = (c.method, c.path, c.host, c.code, c.reason, c.user, c.request_id)
    if redaction.is_clean("\n".join(filter(None, texts))):
        with contextlib.suppress(orjson.JSONEncodeError):
            return _check_line(c, _cut)
    return _check_line(c, _redacted_and_cut)


def _check_line(c: AuthzDecision, text: Callable[[str | None], str | None]) -> bytes:
    line: dict[str, object] = {
        "check": c.result,
        "code": text(c.code),
        "host": text(c.host),
        "key": text(c.key_id),
        "method": text(c.method),
        "ms": _milliseconds(c.duration),
        "operation": c.operation,
        "path": text(c.path),
        "reason": text(c.reason),
        "request_id": text(c.request_id),
        "status": c.status,
        "team": text(c.team),
        "tenant": c.tenant,
        "time": _rfc3339(c.started_at),
        "user": text(c.user),
    }
    return orjson.dumps(line, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def _any_line(told: Settlement | AuthzDecision) -> bytes:
    return access_line(told) if isinstance(told, Settlement) else check_line(told)


def plain(amount: Decimal) -> str:
    """Without an exponent and without zeros at the end: what every reader of money can read."""
    return format(amount.normalize(), "f")


def _cut(text: str | None) -> str | None:
    return None if text is None else text[:_LONGEST_FIELD]


def _redacted_and_cut(text: str | None) -> str | None:
    """In this order: half a credential looks like none."""
    if text is None:
        return None
    if len(text) <= _LOOKED_AT:
        return redact(text)[:_LONGEST_FIELD]
    return redact(text[:_LOOKED_AT])[:-_IN_DOUBT][:_LONGEST_FIELD]


def _as_it_is(number: int) -> int:
    return number


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 3)


def _rfc3339(moment: float) -> str:
    second, milliseconds = divmod(round(moment * 1e6) // 1000, 1000)
    return f"{_second(second)}.{milliseconds:03d}Z"


@lru_cache(maxsize=4)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class AccessLog:
    """Writes settlements, and what ext_authz decided, to a binary stream from a thread of its own: make it in the
    process that uses it.

    `on_drop` hears how many lines were lost, from whichever thread loses them.
    """

    # A pipe takes up to PIPE_BUF bytes whole: workers that share one do not cut each other's lines.
    WHOLE_WRITE = select.PIPE_BUF
    # Seconds in which lines gather. A thread that woke for each of them would take the interpreter's lock from the
    # requests as often: 0.3 ms a request, measured.
    GATHERING = 0.02

    def __init__(
        self,
        stream: BinaryIO,
        *,
        most_waiting: int = 10_000,
        on_drop: Callable[[int], None] = lambda _: None,
        refused_per_second: int | None = None,
        on_spare: Callable[[], None] = lambda: None,
    ) -> None:
        """Of more than `refused_per_second` requests whose credential is good for nobody, only `on_spare` hears; None:
        all are written."""
        self._stream = stream
        self.refused_per_second = refused_per_second
        self._on_spare = on_spare
        self._second, self._refused = 0, 0
        self._most_waiting = most_waiting
        self._on_drop = on_drop
        self._waiting: queue.SimpleQueue[Settlement | AuthzDecision | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._thread.start()

    def write(self, told: Settlement | AuthzDecision) -> None:
        """Never waits."""
        if told.status == 401 and told.tenant is None and self._is_spared(told.started_at):
            self._on_spare()
        elif self._closed.is_set() or self._waiting.qsize() >= self._most_waiting:
            self._on_drop(1)
        else:
            self._waiting.put(told)

    @property
    def waiting(self) -> int:
        """How many lines are still to be written."""
        return self._waiting.qsize()

    def _is_spared(self, at: float) -> bool:
        if self.refused_per_second is None:
            return False
        second = int(at)
        if second != self._second:
            self._second, self._refused = second, 0
        self._refused += 1
        return self._refused > self.refused_per_second

    def close(self, patience: float = 5.0) -> None:
        """Writes what waits. A stream that takes nothing for `patience` seconds is left alone. Once or more."""
        self._closed.set()
        self._waiting.put(None)
        self._thread.join(patience)

    def _run(self) -> None:
        while True:
            batch, last = self._batch()
            for count, text in _whole_writes(map(_any_line, batch), self.WHOLE_WRITE):
                try:
                    self._stream.write(text)
                    self._stream.flush()
                except (OSError, ValueError):  # ValueError: the stream was closed
                    self._on_drop(count)
            if last:
                return

    def _batch(self) -> tuple[list[Settlement | AuthzDecision], bool]:
        """All that waits, at least one; and whether the end is among it."""
        batch: list[Settlement | AuthzDecision] = []
        told = self._waiting.get()
        self._closed.wait(self.GATHERING)
        with contextlib.suppress(queue.Empty):
            while told is not None:
                batch.append(told)
                told = self._waiting.get_nowait()
            return batch, True
        return batch, False


def _whole_writes(lines: Iterable[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Lines put together up to `size` bytes, with their number; a longer one goes alone."""
    count, text = 0, b""
    for line in lines:
        if text and len(text) + len(line) > size:
            yield count, text
            count, text = 0, b""
        count, text = count + 1, text + line
    if text:
        yield count, text

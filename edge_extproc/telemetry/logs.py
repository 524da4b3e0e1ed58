"""The gateway's logs: events for humans and collectors, and one access log line for each request.

Events go through structlog; log records of libraries do too. An exception is logged with its type and place, never with
its text, which may quote a caller or a provider. All events pass `redacted`, which removes secrets and personal data
(redaction.py).

Access log lines are JSON. A separate thread formats and writes them, so that a slow output never delays a request.
Lines that do not fit into its queue are dropped and counted.
"""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import select
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import lru_cache
from operator import attrgetter
from types import TracebackType
from typing import BinaryIO, Literal, TextIO, TypeAlias

import orjson
import structlog

from ..model.checked import AuthzDecision
from ..model.rule_hit import RuleHit
from ..model.settlement import Settlement
from ..model.usage import BUCKETS
from . import redaction
from .redaction import MASK

Level: TypeAlias = Literal["debug", "info", "warning", "error"]

# --- redaction of values

# A value with one of these names is a credential, whatever its form.
_SECRET_NAMES = frozenset(
    {
        "authorization", "proxy-authorization", "x-api-key", "x-goog-api-key", "api-key", "api_key", "apikey",
        "cookie", "set-cookie", "password", "secret", "pepper", "token", "access_token", "client_secret",
    }
)  # fmt: skip
# The same for names with these endings: x-amz-security-token, cf-access-client-secret, X-My-Api-Key.
_SECRET_SUFFIXES = (
    "token",
    "secret",
    "password",
    "passphrase",
    "api-key",
    "api_key",
    "apikey",
    "private_key",
    "cookie",
)
# Events are flat or nearly so. Values that are nested deeper were not meant for a log.
_DEEPEST = 6
_LONGEST_TEXT = 16_384
_LONGEST_READ = 65_536
_INT64 = 1 << 63


def redact(text: str) -> str:
    """The text without secrets and personal data. Code points that UTF-8 cannot encode become escapes."""
    # Redact before cutting: a part of a secret might not be recognized.
    clean = redaction.redact(text[:_LONGEST_READ])
    return clean if len(clean) <= _LONGEST_TEXT else clean[:_LONGEST_TEXT] + "…"


def redacted(value: object, depth: int = 0) -> object:
    """The value as JSON types only, without secrets, for a log."""
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
    return low in _SECRET_NAMES or low.endswith(_SECRET_SUFFIXES)


# --- exceptions without their text


def describe(error: BaseException) -> dict[str, object]:
    """The type of an exception, the types of its causes, and its stack frames, without any text of the exception."""
    return {"exception": " from ".join(type(each).__qualname__ for each in _chain(error)), "frames": _frames(error)}


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _frames(error: BaseException) -> list[str]:
    """The stack frames as `file:line name`, outermost first."""
    frames = []
    at: TracebackType | None = error.__traceback__
    while at is not None:
        code = at.tb_frame.f_code
        frames.append(f"{code.co_filename}:{at.tb_lineno} {code.co_qualname}")
        at = at.tb_next
    return frames


# --- events


def set_up(level: Level = "info", *, stream: TextIO | None = None, console: bool | None = None) -> None:
    """Sends the events of structlog and of the standard library to one stream (stderr by default), as JSON lines, or as
    text if `console` is true. By default, `console` is true for a terminal. See `is_console`."""
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
    render: structlog.typing.Processor = as_text if for_humans else as_json
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
    # Library messages below a warning are useful to their developers only.
    root.setLevel(max(number, logging.WARNING) if level != "debug" else number)
    logging.captureWarnings(True)


class _Handler(logging.StreamHandler[TextIO]):
    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        """Logs that a record could not be formatted. The library would print all of its arguments without redaction."""
        structlog.get_logger().warning("line_not_written", logger=record.name, exc_info=sys.exception())


# asyncio appends the task or callback to its message, with its arguments and the text of its exception. This matches
# the beginning of that part.
_ASYNCIO_DETAILS = re.compile(r"[\n<(]")


def _without_exceptions(record: logging.LogRecord) -> bool:
    """Replaces exceptions in the message of a library by their type."""
    args = record.args
    if isinstance(args, tuple) and any(isinstance(each, BaseException) for each in args):
        record.args = tuple(type(a).__qualname__ if isinstance(a, BaseException) else a for a in args)
    if isinstance(record.msg, BaseException):
        record.msg = type(record.msg).__qualname__
    if record.name == "asyncio" and record.exc_info:
        record.msg, record.args = _ASYNCIO_DETAILS.split(record.getMessage(), maxsplit=1)[0].rstrip(), ()
    return True


def catch_all() -> None:
    """Logs uncaught exceptions of all threads like other bugs. Python itself would print the exception's text."""

    def uncaught(kind: type[BaseException], error: BaseException, at: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, at)
        else:
            report(error.with_traceback(at))

    sys.excepthook = uncaught
    threading.excepthook = lambda hook: report(hook.exc_value) if hook.exc_value is not None else None
    sys.unraisablehook = lambda hook: report(hook.exc_value) if hook.exc_value is not None else None


def report(error: BaseException) -> None:
    """Logs an exception as a bug of the gateway."""
    structlog.get_logger().error("bug", exc_info=error)


def without_exception_text(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor: replaces `exc_info`, in any of its forms, by the result of `describe`."""
    info = event.pop("exc_info", None)
    match info:
        case BaseException():
            event.update(describe(info))
        case (_, BaseException() as error, _):
            event.update(describe(error))
        case True if (current := sys.exception()) is not None:
            event.update(describe(current))
        case _:
            pass
    return event


def without_credentials(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """A structlog processor: masks credentials and redacts all values."""
    return {name: MASK if _is_secret(name) else redacted(value) for name, value in event.items()}


def as_json(_: object, __: str, event: structlog.typing.EventDict) -> str:
    """A structlog renderer: one JSON object with sorted keys."""
    return orjson.dumps(event, option=orjson.OPT_SORT_KEYS).decode()


def as_text(_: object, __: str, event: structlog.typing.EventDict) -> str:
    """A structlog renderer: a line for a terminal, which no value can control: control characters are escaped."""
    at, level = str(event.pop("time", ""))[11:19], str(event.pop("level", ""))
    event_name = str(event.pop("event", ""))
    frames = event.pop("frames", ())
    values = "".join(f"  {name}={_value_text(value)}" for name, value in sorted(event.items()))
    below = "".join(f"\n    {_value_text(frame)}" for frame in frames)
    return f"{at}Z  {level:<7}  {_value_text(event_name)}{values}{below}"


def _value_text(value: object) -> str:
    text = value if isinstance(value, str) else orjson.dumps(value, default=str).decode()
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def is_console(format: Literal["auto", "json", "console"]) -> bool:
    """Whether lines are text for people. auto: if stdout is a terminal, which each process inherits from `up`."""
    return sys.stdout.isatty() if format == "auto" else format == "console"


# --- access log lines

# Characters. Longer than any valid value; longer values of callers are cut.
_LONGEST_FIELD = 512
# Characters that are searched for secrets (a path may have 60 KiB, all of it escapes), and the last of them that are
# discarded, because a secret may have been cut there.
_SEARCHED, _DISCARDED = 2048, 256
_MOST_DROPPED = 32

_token_counts = attrgetter(*sorted(BUCKETS))
_NO_TOKENS = (None,) * len(BUCKETS)


def access_line(s: Settlement) -> bytes:
    """One JSON object and a line end. Every line has the same keys, sorted; null means that there is no value."""
    texts = (s.code, s.finish, s.method, s.model, s.path, s.run, s.run_parent, s.upstream_model)
    ids, dropped = (s.request_id, s.trace_id), s.dropped[:_MOST_DROPPED]
    counts = _token_counts(s.usage) if s.usage is not None else _NO_TOKENS
    saved = s.saved.total if s.saved is not None else None
    searches = (s.usage.searches or None) if s.usage is not None else None
    joined = _joined((*texts, *dropped), ids)
    try:
        if _is_clean(joined):
            if len(joined) <= _LONGEST_FIELD:  # so is each text
                return _line(s, texts, ids, dropped, counts, saved, searches)
            cut = _shortened
            return _line(s, map(cut, texts), map(cut, ids), [*map(cut, dropped)], counts, saved, searches)
    except orjson.JSONEncodeError:  # invalid UTF-8, or a number over 64 bits
        pass
    clean = redacted_and_cut
    shown = (redacted(saved), redacted(searches))
    return _line(s, map(clean, texts), map(clean, ids), [*map(clean, dropped)], map(redacted, counts), *shown)


def _joined(texts: Iterable[str | None], ids: Iterable[str | None]) -> str:
    """The texts that may contain a secret, and the ids of an unusual form. Secrets are rare: one search of all of them
    is faster than one search for each field."""
    unusual = [each for each in ids if each and not redaction.is_random_id(each)]
    return "\n".join([*filter(None, texts), *unusual])


_known_clean: set[str] = set()
"""Texts that were searched. Most requests have the same. A text with a candidate for redaction is not kept."""
_MOST_KNOWN = 1024


def _is_clean(joined: str) -> bool:
    """Whether the text has no candidate for redaction."""
    if joined in _known_clean:
        return True
    if not redaction.is_clean(joined):
        return False
    if len(joined) <= _LONGEST_FIELD:
        if len(_known_clean) >= _MOST_KNOWN:
            _known_clean.clear()
        _known_clean.add(joined)
    return True


def _line(
    s: Settlement,
    texts: Iterable[str | None],
    ids: Iterable[str | None],
    dropped: Sequence[str | None],
    counts: Iterable[object],
    saved: object,
    searches: object,
) -> bytes:
    code, finish, method, model, path, run, run_parent, upstream_model = texts
    request_id, trace_id = ids
    cache_read, cache_write, cache_write_1h, input, input_audio, input_image, *replied = counts
    output, output_audio, output_image, reasoning = replied
    line: dict[str, object] = {  # already sorted
        "attempts": s.attempts,
        "bytes_in": s.request_bytes,
        "bytes_out": s.response_bytes,
        "cache": s.cache,
        "cache_tier": s.cache_tier,
        "code": code,
        "cost_usd": None if s.cost is None else plain(s.cost),
        "dialect": s.dialect,
        "dropped": dropped,
        "estimated": s.estimated,
        "exchange": s.exchange_id,
        "finish": finish,
        "first_token_ms": _milliseconds(s.time_to_first_token),
        "garbled": s.garbled,
        "key": s.key_id,
        "lane": s.lane,
        "method": method,
        "model": model,
        "ms": _milliseconds(s.duration),
        "operation": s.operation,
        "outcome": s.outcome,
        "overhead_ms": _milliseconds(s.overhead),
        "path": path,
        "provider": s.provider,
        "request_id": request_id,
        **({"rpc_method": redact(s.rpc_method)} if s.rpc_method is not None else {}),
        "run": run,
        "run_parent": run_parent,
        "saved_tokens": saved,
        "saved_usd": None if s.saved_cost is None else plain(s.saved_cost),
        "search_usd": None if s.search_cost is None else plain(s.search_cost),
        "searches": searches,
        "status": s.status,
        "stream": s.stream,
        "tenant": s.tenant,
        "time": _rfc3339(s.started_at),
        "tokens_cache_read": cache_read,
        "tokens_cache_write": cache_write,
        "tokens_cache_write_1h": cache_write_1h,
        "tokens_input": input,
        "tokens_input_audio": input_audio,
        "tokens_input_image": input_image,
        "tokens_output": output,
        "tokens_output_audio": output_audio,
        "tokens_output_image": output_image,
        "tokens_reasoning": reasoning,
        "trace_id": trace_id,
        "unpriced": s.unpriced,
        "upstream_model": upstream_model,
    }
    # Few lines have these.
    more: dict[str, object] = {}
    if s.booking is not None:
        more["booking"] = s.booking
    if s.guardrails:
        more["guardrails"] = [_hit(hit) for hit in s.guardrails]
    if s.similarity is not None:
        more["similarity"] = round(s.similarity, 4)
    if more:
        return orjson.dumps({**line, **more}, option=orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)
    return orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _hit(hit: RuleHit) -> dict[str, object]:
    """The names are those of the configuration, and labels are checked where they come from."""
    return {
        "rule": hit.rule,
        "label": hit.label,
        "action": hit.action,
        "mode": hit.mode,
        "direction": hit.direction,
        "count": hit.count,
    }


def check_line(c: AuthzDecision) -> bytes:
    """The same as `access_line`, for a decision of ext_authz: `check` is the result."""
    texts = (c.method, c.path, c.host, c.code, c.reason, c.user)
    if _is_clean(_joined(texts, ids=(c.request_id,))):
        with contextlib.suppress(orjson.JSONEncodeError):
            return _check_line(c, _shortened)
    return _check_line(c, redacted_and_cut)


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


def json_line(record: Settlement | AuthzDecision) -> bytes:
    return access_line(record) if isinstance(record, Settlement) else check_line(record)


def plain(amount: Decimal) -> str:
    """The amount as text without an exponent and without trailing zeros."""
    return format(amount.normalize(), "f")


def _shortened(text: str | None) -> str | None:
    return None if text is None else text[:_LONGEST_FIELD]


def redacted_and_cut(text: str | None) -> str | None:
    """Redacts before cutting: a part of a credential might not be recognized."""
    if text is None:
        return None
    if len(text) <= _SEARCHED:
        return redact(text)[:_LONGEST_FIELD]
    return redact(text[:_SEARCHED])[:-_DISCARDED][:_LONGEST_FIELD]


def _milliseconds(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1_000_000) / 1000


def _rfc3339(moment: float) -> str:
    second, milliseconds = divmod(round(moment * 1e6) // 1000, 1000)
    return f"{_second(second)}.{milliseconds:03d}Z"


@lru_cache(maxsize=4)
def _second(moment: int) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S")


class AccessLog:
    """Writes settlements and ext_authz decisions to a binary stream, from a thread of its own. Create it in the process
    that uses it, because threads do not survive a fork.

    `on_drop` is called with the number of lost lines, by the thread that loses them.
    """

    # Bytes. Writes to a pipe of up to PIPE_BUF bytes are atomic: workers that share a pipe do not mix their lines.
    ATOMIC_WRITE = select.PIPE_BUF
    # Seconds in which lines are collected for one write. A thread that woke for each line would take the interpreter
    # lock from the requests as often: 0.3 ms for each request, measured.
    BATCH_DELAY = 0.02

    def __init__(
        self,
        stream: BinaryIO,
        *,
        most_waiting: int = 10_000,
        on_drop: Callable[[int], None] = lambda _: None,
        refused_per_second: int | None = None,
        on_spare: Callable[[], None] = lambda: None,
        line: Callable[[Settlement | AuthzDecision], bytes] = json_line,
    ) -> None:
        """`line`: writes a record as a line, with its line end. `refused_per_second`: the maximum number of lines for
        requests with a refused credential. `on_spare` is called for each further one. None: all lines are written."""
        self._stream = stream
        self.line = line
        self.refused_per_second = refused_per_second
        self._on_spare = on_spare
        self._second, self._refused = 0, 0
        self._most_waiting = most_waiting
        self._on_drop = on_drop
        self._waiting: queue.SimpleQueue[Settlement | AuthzDecision | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._writer = threading.Thread(target=self._run, name="access-log", daemon=True)
        self._writer.start()

    def write(self, record: Settlement | AuthzDecision) -> None:
        """Queues one line without waiting."""
        if record.status == 401 and record.tenant is None and self._is_spared(record.started_at):
            self._on_spare()
        elif self._closed.is_set() or self._waiting.qsize() >= self._most_waiting:
            self._on_drop(1)
        else:
            self._waiting.put(record)

    @property
    def waiting(self) -> int:
        """The number of lines in the queue."""
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
        """Writes the waiting lines, for at most `patience` seconds. May be called repeatedly."""
        self._closed.set()
        self._waiting.put(None)
        self._writer.join(patience)

    def _run(self) -> None:
        while True:
            batch, last = self._batch()
            for count, text in _atomic_writes(map(self.line, batch), self.ATOMIC_WRITE):
                try:
                    self._stream.write(text)
                    self._stream.flush()
                except (OSError, ValueError):  # ValueError: the stream was closed
                    self._on_drop(count)
            if last:
                return

    def _batch(self) -> tuple[list[Settlement | AuthzDecision], bool]:
        """All waiting records, and whether `close` was called. Blocks until there is at least one record or `close`."""
        batch: list[Settlement | AuthzDecision] = []
        record = self._waiting.get()
        self._closed.wait(self.BATCH_DELAY)
        with contextlib.suppress(queue.Empty):
            while record is not None:
                batch.append(record)
                record = self._waiting.get_nowait()
            return batch, True
        return batch, False


def _atomic_writes(lines: Iterable[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Lines joined up to `size` bytes, with their number. A longer line is alone."""
    count, text = 0, b""
    for line in lines:
        if text and len(text) + len(line) > size:
            yield count, text
            count, text = 0, b""
        count, text = count + 1, text + line
    if text:
        yield count, text

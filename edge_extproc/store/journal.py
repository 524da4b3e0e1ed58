"""The journal: files to which a worker appends one line for each settlement, before the ledger has it.

A line is written by one system call. So a worker that is killed loses no settlement: the kernel's page cache still has
the line. The journal is split into segments. The supervisor reads them into the ledger, and deletes a segment when its
writer is done with it and all its lines are committed. A writer holds a file lock on its open segment; the kernel
releases the lock however the writer ends, so a segment without a lock is done.

Each settlement is counted exactly once: the journal loses none, and the ledger accepts an exchange's id only once.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from ..model.explanation import Explanation
from ..model.plausible import MOST_DOLLARS, is_plausible_count
from ..model.rule_hit import RuleHit
from ..model.settlement import BOOKED, Settlement
from ..model.usage import BUCKETS, Usage

SUFFIX = ".journal"
_UNFINISHED = ".new"
# A segment is also read while it grows. Its size only limits how much is read again after the reader has crashed.
SEGMENT_BYTES = 8 << 20
# Some ten thousand lines.
WAITING_BYTES = 4 << 20
# Characters of a text. The configuration allows no longer names; a provider's text may be longer and is cut.
_MAX_TEXT = 256

PICO = Decimal(10) ** 12
"""Pico-dollars in a US dollar. Money is stored in whole pico-dollars, which is exact for prices with six decimals for a
million tokens."""
_MAX_PICO = int(MOST_DOLLARS * PICO)


# Bytes of an explanation. A usual one has about 600.
MOST_EXPLAINED = 12_288


class LedgerRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One settled exchange: a line of the journal and a row of the ledger. Money in pico-dollars, times in Unix
    milliseconds."""

    exchange: str
    started_ms: int
    duration_ms: int
    outcome: str
    tenant: str
    status: int | None = None
    code: str | None = None
    team: str | None = None
    user: str | None = None
    key: str | None = None
    operation: str | None = None
    dialect: str | None = None
    model: str | None = None
    provider: str | None = None
    upstream_model: str | None = None
    """The model in the request to the provider."""
    response_model: str | None = None
    """The model in the provider's reply; if it names none, `upstream_model`. None: there was no reply."""
    attempts: int = 0
    stream: bool = False
    cache: str | None = None
    input: int = 0
    cache_read: int = 0
    cache_write: int = 0
    cache_write_1h: int = 0
    output: int = 0
    reasoning: int = 0
    input_audio: int = 0
    output_audio: int = 0
    input_image: int = 0
    output_image: int = 0
    estimated: bool = False
    cost: int | None = None
    """None: nothing was used, or the usage is unpriced."""
    unpriced: bool = False
    held: int | None = None
    """What budgets count in place of `cost`: a reservation, where the cost was not known. None: they count the cost. It
    may be negative in an entry of a batch."""
    saved_tokens: int = 0
    saved_cost: int = 0
    searches: int = 0
    """Web searches of the provider."""
    search_cost: int = 0
    """The part of `cost` for them."""
    trace_id: str | None = None
    run: str | None = None
    """The run that the request was a part of."""
    run_parent: str | None = None
    """The run that `run` is a part of."""
    session: str | None = None
    """The session that the caller has named."""
    guardrails: str | None = None
    """A JSON list of what guardrail rules did. None: nothing."""
    explanation: str | None = None
    """JSON of an `Explanation`. It has a table of its own."""


_encode = msgspec.json.Encoder().encode
encode_row: Callable[[LedgerRow], bytes] = _encode
_decode = msgspec.json.Decoder(LedgerRow).decode


def row_of(s: Settlement, explanation: Explanation | None = None) -> LedgerRow | None:
    """The ledger row of a settlement. None if the caller is not known, so that there is no one to charge."""
    if s.tenant is None:
        return None
    usage = s.usage if s.usage is not None else Usage()
    has_reply = s.usage is not None or s.saved is not None
    row = LedgerRow(
        exchange=s.exchange_id,
        started_ms=int(s.started_at * 1000),
        duration_ms=int(s.duration * 1000),
        outcome=s.outcome,
        tenant=_clean_text(s.tenant),
        status=s.status,
        code=_optional_text(s.code),
        team=_optional_text(s.team),
        user=_optional_text(s.user),
        key=_optional_text(s.key_id),
        operation=s.operation,
        dialect=s.dialect,
        model=_optional_text(s.model),
        provider=s.provider,
        upstream_model=_optional_text(s.upstream_model),
        response_model=_optional_text(s.response_model or s.upstream_model) if has_reply else None,
        attempts=s.attempts,
        stream=s.stream,
        cache=s.cache,
        **{name: getattr(usage, name) for name in BUCKETS},
        estimated=s.estimated,
        cost=None if s.cost is None else pico(s.cost),
        unpriced=s.unpriced,
        held=None if s.held is None else pico(s.held),
        saved_tokens=s.saved.total if s.saved is not None else 0,
        saved_cost=pico(s.saved_cost) if s.saved_cost is not None else 0,
        searches=usage.searches,
        search_cost=pico(s.search_cost) if s.search_cost is not None else 0,
        trace_id=s.trace_id,
        run=_optional_text(s.run),
        run_parent=_optional_text(s.run_parent),
        session=_optional_text(s.session),
        guardrails=write_hits(s.guardrails) if s.guardrails else None,
        explanation=write_explanation(explanation) if explanation is not None else None,
    )
    return plausible(row)


def write_explanation(explanation: Explanation) -> str:
    """As JSON. One that is too long, because of escapes, is written without its lists."""
    encoded = _encode(explanation)
    if len(encoded) > MOST_EXPLAINED:
        more = explanation.more + sum([len(getattr(explanation, name)) for name in _LISTS])
        encoded = _encode(msgspec.structs.replace(explanation, **dict.fromkeys(_LISTS, ()), refusal=None, more=more))
    return encoded.decode()


_LISTS = ("limits", "candidates", "left_out", "attempts", "dropped", "lost")


def write_hits(hits: Iterable[RuleHit]) -> str:
    """The hits as JSON, in one order, so that equal hits give equal texts."""
    named = (
        [_clean_text(hit.rule), _clean_text(hit.label), hit.action, hit.mode, hit.direction, hit.count] for hit in hits
    )
    fields = ("rule", "label", "action", "mode", "direction", "count")
    return _encode([dict(zip(fields, each, strict=True)) for each in sorted(named)]).decode()


def plausible(row: LedgerRow) -> LedgerRow:
    """The same row, unless an amount is negative or too large for one exchange (model/plausible.py). Then the amounts
    count as unknown: no tokens, unpriced. A number cut to the bound would still make every sum wrong."""
    changes: dict[str, Any] = {}
    counts = (getattr(row, name) for name in (*BUCKETS, "searches"))
    if not all(map(is_plausible_count, counts)) or not (_is_money(_amount(row)) and _is_money(row.search_cost)):
        changes = {**dict.fromkeys(BUCKETS, 0), "cost": None, "unpriced": True, "estimated": True}
        changes |= {"searches": 0, "search_cost": 0}
    if not is_plausible_count(row.saved_tokens) or not _is_money(row.saved_cost):
        changes |= {"saved_tokens": 0, "saved_cost": 0}
    if row.held is not None and abs(row.held) > _MAX_PICO:
        changes["held"] = _MAX_PICO if row.held > 0 else -_MAX_PICO
    return msgspec.structs.replace(row, **changes) if changes else row


def _amount(row: LedgerRow) -> int | None:
    """The row's cost. That of a booking may be a credit."""
    return abs(row.cost) if row.cost is not None and row.operation in BOOKED else row.cost


def _is_money(amount: int | None) -> bool:
    return amount is None or 0 <= amount <= _MAX_PICO


def _optional_text(text: str | None) -> str | None:
    return None if text is None else _clean_text(text)


def _clean_text(text: str) -> str:
    """The text without what databases refuse: NUL and surrogates, which callers and providers may send."""
    return text[:_MAX_TEXT].encode("utf-8", "backslashreplace").decode().replace("\0", "")


def pico(dollars: Decimal) -> int:
    """Pico-dollars. -1, which is never a valid cost, for infinity and NaN."""
    return int((dollars * PICO).to_integral_value()) if dollars.is_finite() else -1


def dollars(amount: int) -> Decimal:
    """US dollars from pico-dollars."""
    return Decimal(amount) / PICO


class Journal:
    """The writer of one worker. `name`: unique to the worker. Raises OSError if the directory cannot be used.

    Lines that cannot be written, because the disk is full, wait in memory for the next settlement or the end."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        on_error: Callable[[OSError], None],
        segment_bytes: int = SEGMENT_BYTES,
        waiting_bytes: int = WAITING_BYTES,
        stamp: Callable[[], int] = time.time_ns,
    ) -> None:
        """`on_error` is called when lines begin to wait, and for each line that is lost."""
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._name = name
        self._on_error = on_error
        self._segment_bytes = segment_bytes
        self._waiting_bytes = waiting_bytes
        self._stamp = stamp
        self._size = 0
        self._is_torn = False
        """Whether the segment ends within a line, so that no line may follow."""
        self._pending: deque[bytes] = deque()
        self._length = 0
        """Bytes of the lines that wait."""
        self._error: OSError | None = None
        """Why they wait."""
        self._file = self._open()

    def write(self, settlement: Settlement, explanation: Explanation | None = None) -> None:
        """Never raises."""
        row = row_of(settlement, explanation)
        if row is None:
            return
        line = _encode(row) + b"\n"
        self._pending.append(line)
        self._length += len(line)
        self._write_waiting()
        if self._error is not None and self._length > self._waiting_bytes:
            self._length -= len(self._pending.popleft())
            self._on_error(self._error)

    def close(self) -> None:
        self._write_waiting()
        os.close(self._file)

    def _write_waiting(self) -> None:
        try:
            while self._pending:
                self._write(self._pending[0])
                self._length -= len(self._pending.popleft())
        except OSError as error:
            if self._error is None:
                self._on_error(error)
            self._error = error
        else:
            self._error = None

    def _write(self, line: bytes) -> None:
        for _ in range(2):
            if self._is_torn or self._size >= self._segment_bytes:
                self._rotate()
            # One call in append mode writes the whole line or nothing, unless the disk is full. A partial line ends its
            # segment, and the line is written again.
            count = os.write(self._file, line)
            self._size += count
            self._is_torn = count < len(line)
            if not self._is_torn:
                return
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _rotate(self) -> None:
        fresh = self._open()
        os.close(self._file)
        self._file, self._size, self._is_torn = fresh, 0, False

    def _open(self) -> int:
        path = self._directory / f"{self._stamp():020d}-{self._name}{SUFFIX}"
        hidden = path.with_suffix(_UNFINISHED)
        file = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        # Renamed only after it is locked, because a segment without a lock counts as done.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)
        return file


@dataclass(frozen=True, slots=True)
class SegmentRead:
    """A portion of a segment."""

    rows: list[LedgerRow]
    end: int
    """The offset of the next portion, bytes from the segment's start."""
    unreadable: list[tuple[bytes, str]]
    """Lines that are not valid rows, each with the reason."""
    is_last: bool
    """Whether this is the end of a segment whose writer is done."""


def segments(directory: Path) -> list[Path]:
    """The paths of all segments, oldest first."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def size(directory: Path) -> int:
    """The bytes of all segments."""
    total = 0
    for path in segments(directory):
        with contextlib.suppress(FileNotFoundError):  # it was just ingested and deleted
            total += path.stat().st_size
    return total


def read(path: Path, start: int, most: int = 1 << 20) -> SegmentRead:
    """Reads complete lines from the offset `start` on, about `most` bytes."""
    with path.open("rb") as file:
        # The lock is checked before reading, so that all that its writer wrote is read.
        writer_is_done = _writer_is_done(file.fileno())
        file.seek(start)
        data = file.read(most)
        has_more = len(data) == most
        if has_more and b"\n" not in data:
            data += file.readline()
    end_of_lines = data.rfind(b"\n") + 1
    rows, unreadable = list[LedgerRow](), list[tuple[bytes, str]]()
    for line in _lines(data[:end_of_lines]):
        try:
            rows.append(plausible(_decode(line)))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits
            unreadable.append((line, f"it is not a row: {error}"))
    is_last = writer_is_done and not has_more
    if is_last and end_of_lines < len(data):
        unreadable.append((data[end_of_lines:], "it is not a row: it has no end"))  # torn by a full disk
    return SegmentRead(rows, start + end_of_lines, unreadable, is_last)


def _lines(data: bytes) -> Iterator[bytes]:
    return (line for line in data.split(b"\n") if line)


def _writer_is_done(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

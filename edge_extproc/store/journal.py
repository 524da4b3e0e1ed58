"""The journal: each settlement on disk, as the worker's last act on a request, before the ledger hears of it.

A line is written by one system call, so a worker that is killed at any moment has lost nothing that it settled: the
page cache outlives it. Lines wait in segments until whoever keeps the ledger has committed them there; a segment goes
when its writer is done with it and all of it is in the ledger. Who is done is told by a lock: a writer holds one on
its open segment, and the kernel lets go of it whichever way the writer ends.

Exactly once is the work of two: the journal loses nothing, and the ledger takes an exchange's id only once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from ..model.plausible import MOST_DOLLARS, is_plausible_count
from ..model.settlement import Settlement
from ..model.usage import BUCKETS, Usage

SUFFIX = ".journal"
_UNFINISHED = ".new"
# A segment is read while it grows; its size only says how much is read again after a crash of the reader.
SEGMENT_BYTES = 8 << 20
# Longer than any name that config permits; an upstream's words may be longer.
_LONGEST = 256

PICO = Decimal(10) ** 12
"""Money is kept in whole millionths of a millionth of a US dollar: exact for a price of six decimals a million
tokens."""
_MOST_MONEY = int(MOST_DOLLARS * PICO)


class LedgerRow(msgspec.Struct, frozen=True, omit_defaults=True):
    """One settled exchange, as the ledger keeps it. Money in pico-dollars, times in Unix milliseconds."""

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
    """What the provider was asked for."""
    response_model: str | None = None
    """What answered: as the provider named it, else as it was asked; None where nothing answered."""
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
    estimated: bool = False
    cost: int | None = None
    """None: nothing was used, or unpriced."""
    unpriced: bool = False
    saved_tokens: int = 0
    saved_cost: int = 0
    trace_id: str | None = None


_encode = msgspec.json.Encoder().encode
encode_row: Callable[[LedgerRow], bytes] = _encode
_decode = msgspec.json.Decoder(LedgerRow).decode


def row_of(s: Settlement) -> LedgerRow | None:
    """None where nobody was recognised: such a request is nobody's to pay."""
    if s.tenant is None:
        return None
    usage = s.usage if s.usage is not None else Usage()
    answered = s.usage is not None or s.saved is not None
    row = LedgerRow(
        exchange=s.exchange_id,
        started_ms=int(s.started_at * 1000),
        duration_ms=int(s.duration * 1000),
        outcome=s.outcome,
        tenant=_text(s.tenant),
        status=s.status,
        code=_cut(s.code),
        team=_cut(s.team),
        user=_cut(s.user),
        key=_cut(s.key_id),
        operation=s.operation,
        dialect=s.dialect,
        model=_cut(s.model),
        provider=s.provider,
        upstream_model=_cut(s.upstream_model),
        response_model=_cut(s.response_model or s.upstream_model) if answered else None,
        attempts=s.attempts,
        stream=s.stream,
        cache=s.cache,
        **{name: getattr(usage, name) for name in BUCKETS},
        estimated=s.estimated,
        cost=None if s.cost is None else pico(s.cost),
        unpriced=s.unpriced,
        saved_tokens=s.saved.total if s.saved is not None else 0,
        saved_cost=pico(s.saved_cost) if s.saved_cost is not None else 0,
        trace_id=s.trace_id,
    )
    return plausible(row)


def plausible(row: LedgerRow) -> LedgerRow:
    """The same row, unless an amount is below zero or larger than an exchange can come to (model/plausible.py). Then
    its amounts are unknown: no tokens, unpriced. A number cut down to a bound would still spoil every sum."""
    changes: dict[str, Any] = {}
    if not all(is_plausible_count(getattr(row, name)) for name in BUCKETS) or not _is_money(row.cost):
        changes = {**dict.fromkeys(BUCKETS, 0), "cost": None, "unpriced": True, "estimated": True}
    if not is_plausible_count(row.saved_tokens) or not _is_money(row.saved_cost):
        changes |= {"saved_tokens": 0, "saved_cost": 0}
    return msgspec.structs.replace(row, **changes) if changes else row


def _is_money(amount: int | None) -> bool:
    return amount is None or 0 <= amount <= _MOST_MONEY


def _cut(text: str | None) -> str | None:
    return None if text is None else _text(text)


def _text(text: str) -> str:
    """What a provider, a caller or an identity provider wrote may hold bytes that no database takes."""
    return text[:_LONGEST].encode("utf-8", "backslashreplace").decode().replace("\0", "")


def pico(dollars: Decimal) -> int:
    """-1, which is no cost, for what is no number."""
    return int((dollars * PICO).to_integral_value()) if dollars.is_finite() else -1


def dollars(amount: int) -> Decimal:
    return Decimal(amount) / PICO


class Journal:
    """The writing side, one a worker. `name` is the worker's own. Raises OSError where the directory cannot be used."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        on_error: Callable[[OSError], None],
        segment_bytes: int = SEGMENT_BYTES,
        stamp: Callable[[], int] = time.time_ns,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._directory = directory
        self._name = name
        self._on_error = on_error
        self._segment_bytes = segment_bytes
        self._stamp = stamp
        self._written = 0
        self._file = self._open()

    def write(self, settlement: Settlement) -> None:
        """Never raises: what the disk does not take is told to `on_error`, and lost to the ledger alone."""
        row = row_of(settlement)
        if row is None:
            return
        line = _encode(row) + b"\n"
        try:
            if self._written >= self._segment_bytes:
                self._turn()
            # One call, in append mode: whole, or not at all, unless the disk is full.
            written = os.write(self._file, line)
            self._written += written
            if written < len(line):
                self._turn()  # the torn line ends its segment, and this one is written again
                self._written += os.write(self._file, line)
        except OSError as error:
            self._on_error(error)

    def close(self) -> None:
        os.close(self._file)

    def _turn(self) -> None:
        fresh = self._open()
        os.close(self._file)
        self._file, self._written = fresh, 0

    def _open(self) -> int:
        path = self._directory / f"{self._stamp():020d}-{self._name}{SUFFIX}"
        hidden = path.with_suffix(_UNFINISHED)
        file = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o600)
        # Under its own name only once it is locked: an unlocked segment is one whose writer is done.
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        hidden.rename(path)
        return file


@dataclass(frozen=True, slots=True)
class SegmentRead:
    """What one look at a segment found."""

    rows: list[LedgerRow]
    end: int
    """Where to read on, bytes from the segment's start."""
    unreadable: list[tuple[bytes, str]]
    """Lines that are no rows, and why."""
    is_last: bool
    """Nothing more will come."""


def segments(directory: Path) -> list[Path]:
    """Oldest first."""
    return sorted(directory.glob(f"*{SUFFIX}"))


def size(directory: Path) -> int:
    """Bytes of all segments."""
    found = 0
    for path in segments(directory):
        with contextlib.suppress(FileNotFoundError):  # the ledger has just had enough of it
            found += path.stat().st_size
    return found


def read(path: Path, start: int, most: int = 1 << 20) -> SegmentRead:
    """The whole lines from `start` on, about `most` bytes of them."""
    with path.open("rb") as file:
        # Asked before the reading: what its writer wrote while it still held the lock is then seen.
        is_done = _is_done(file.fileno())
        file.seek(start)
        data = file.read(most)
        has_more = len(data) == most
        if has_more and b"\n" not in data:
            data += file.readline()
    whole = data.rfind(b"\n") + 1
    rows, unreadable = list[LedgerRow](), list[tuple[bytes, str]]()
    for line in _lines(data[:whole]):
        try:
            rows.append(plausible(_decode(line)))
        except (msgspec.DecodeError, ValueError, RecursionError) as error:  # ValueError: a number of 5,000 digits
            unreadable.append((line, f"it is no row: {error}"))
    is_last = is_done and not has_more
    if is_last and whole < len(data):
        unreadable.append((data[whole:], "it is no row: it has no end"))  # torn by a full disk
    return SegmentRead(rows, start + whole, unreadable, is_last)


def _lines(data: bytes) -> Iterator[bytes]:
    return (line for line in data.split(b"\n") if line)


def _is_done(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True

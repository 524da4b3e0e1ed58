"""The price table: what tokens cost, by price list and model, at this moment.

Its rows come from genai-prices by way of a compiled file (`compile_prices.py`), and from config, which is asked first.
How a model's name is matched is genai-prices' own rule: a provider by its id or its pattern, a model by the first
pattern that fits, then the lists that the provider falls back to, then all that once more with a date suffix such as
-20251211 written as -2025-12-11.

It knows nothing of tenants, budgets or which exchange a price is for.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TypeAlias, assert_never

import msgspec

from ..errors import ConfigError, StartError
from ..model.usage import Usage

FORMAT = 1
"""Of the compiled file. compile_prices.py, which is run on its own, has the same number."""

MILLION = 1_000_000
# Names come from config or, where a model is passed through, from callers: neither many nor long ones are kept.
MAX_REMEMBERED = 4096
MAX_REMEMBERED_NAME = 256
COMPILE_TIMEOUT = 60.0
"""Seconds. It takes about one; a cold disk may be slower."""

Clock: TypeAlias = Callable[[], float]


# --- the compiled file, as msgspec reads it


class Starts(msgspec.Struct, frozen=True, array_like=True, tag="starts", gc=False):
    text: str


class Ends(msgspec.Struct, frozen=True, array_like=True, tag="ends", gc=False):
    text: str


class Contains(msgspec.Struct, frozen=True, array_like=True, tag="contains", gc=False):
    text: str


class Equals(msgspec.Struct, frozen=True, array_like=True, tag="equals", gc=False):
    text: str


class Regex(msgspec.Struct, frozen=True, array_like=True, tag="regex", gc=False):
    pattern: str


class AnyOf(msgspec.Struct, frozen=True, array_like=True, tag="or"):
    clauses: tuple[Clause, ...]


class AllOf(msgspec.Struct, frozen=True, array_like=True, tag="and"):
    clauses: tuple[Clause, ...]


Clause: TypeAlias = Starts | Ends | Contains | Equals | Regex | AnyOf | AllOf


class From(msgspec.Struct, frozen=True, array_like=True, tag="from", gc=False):
    """From a moment on, in Unix time."""

    start: int


class Daily(msgspec.Struct, frozen=True, array_like=True, tag="daily", gc=False):
    """Between two seconds of each UTC day; over midnight where `end` comes before `start`."""

    start: int
    end: int


class Rate(msgspec.Struct, frozen=True, array_like=True):
    """US dollars for one. A tier's price holds for all tokens of a call whose prompt is longer than its start."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()


class Rates(msgspec.Struct, frozen=True, omit_defaults=True):
    input: Rate | None = None
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    cache_write_5m: Rate | None = None
    cache_write_1h: Rate | None = None
    input_audio: Rate | None = None
    output: Rate | None = None
    reasoning: Rate | None = None
    output_audio: Rate | None = None
    request: Rate | None = None


class Dated(msgspec.Struct, frozen=True):
    when: From | Daily | None
    rates: Rates


class Model(msgspec.Struct, frozen=True):
    match: Clause
    prices: tuple[Dated, ...]


class PriceList(msgspec.Struct, frozen=True):
    id: str
    match: Clause | None
    fallbacks: tuple[str, ...]
    models: tuple[Model, ...]


class Compiled(msgspec.Struct, frozen=True):
    format: int
    source: str
    lists: tuple[PriceList, ...]


# --- config's own prices


@dataclass(frozen=True, slots=True)
class Override:
    """A row of config: US dollars per million tokens. A bucket without a price costs what the wider one costs, as in
    the compiled table; a row without `output` leaves an answer unpriced."""

    provider: str
    """A provider's name in config: two of one price list may have two contracts."""
    model: str
    """As the provider knows it; `*`, `?` and `[…]` as in file names."""
    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None
    input_audio: Decimal | None = None
    output_audio: Decimal | None = None


# --- what a look-up finds

# Each bucket of Usage in the order in which a row is laid out, and whose price it pays: the first that there is.
_PAYS: tuple[tuple[str, ...], ...] = (
    ("input",),
    ("cache_read", "input"),
    ("cache_write_5m", "cache_write", "input"),
    ("cache_write_1h", "cache_write", "input"),
    ("input_audio", "input"),
    ("output",),
    ("reasoning", "output"),
    ("output_audio", "output"),
)
# Of the buckets above: which those of a prompt could be, and of an answer; and of each by sound.
_PROMPTS, _CACHED, _COMPLETIONS, _HEARD, _SPOKEN = (0,), (0, 2, 3), (5, 6), 4, 7
_Row: TypeAlias = tuple[Decimal | None, ...]
_NOTHING = Decimal(0)


class _Tariff:
    """One model's prices at one time, laid out so that a bill is eight multiplications at most."""

    __slots__ = ("_base", "_dearest", "_per_call", "_steps")

    def __init__(self, rates: Rates) -> None:
        paid = tuple(_first(rates, names) for names in _PAYS)
        starts = sorted({start for rate in paid if rate is not None for start, _ in rate.tiers})
        self._base: _Row = tuple(None if rate is None else rate.base for rate in paid)
        # Longest prompt first: the first step that a prompt passes is its own.
        self._steps: tuple[tuple[int, _Row], ...] = tuple(
            (start, tuple(None if rate is None else _above(rate, start) for rate in paid)) for start in reversed(starts)
        )
        self._per_call: Decimal | None = None
        """What a call costs before its first token; None where the model has no price at all."""
        if rates.request is not None:
            self._per_call = rates.request.base
        elif any(rate is not None for rate in self._base):
            self._per_call = _NOTHING
        self._dearest: dict[tuple[int, bool, bool], tuple[Decimal | None, Decimal | None]] = {}
        """By the place of a step, -1 for the base."""

    def most(self, prompt: int, completion: int, *, caches: bool, sounds: bool) -> Decimal | None:
        if self._per_call is None:
            return None
        step = next((n for n, (start, _) in enumerate(self._steps) if prompt > start), -1) if self._steps else -1
        which = (step, caches, sounds)
        found = self._dearest.get(which)
        if found is None:
            row = self._base if step < 0 else self._steps[step][1]
            found = self._dearest[which] = _dearest(row, caches=caches, sounds=sounds)
        asked, answered = found
        if (asked is None and prompt) or (answered is None and completion):
            return None
        return self._per_call + (asked or _NOTHING) * prompt + (answered or _NOTHING) * completion

    def bill(self, usage: Usage) -> Decimal | None:
        total = self._per_call
        if total is None:
            return None
        row = self._base
        if self._steps:
            prompt = usage.prompt
            row = next((step for start, step in self._steps if prompt > start), row)
        for count, rate in zip(
            (
                usage.input,
                usage.cache_read,
                usage.cache_write,
                usage.cache_write_1h,
                usage.input_audio,
                usage.output,
                usage.reasoning,
                usage.output_audio,
            ),
            row,
            strict=True,
        ):
            if count:
                # A count below zero is a provider's mistake; a bill that it makes smaller would be ours.
                if rate is None or count < 0:
                    return None
                total += rate * count
        return total


def _dearest(row: _Row, *, caches: bool, sounds: bool) -> tuple[Decimal | None, Decimal | None]:
    """Of a token of the prompt, and of one of the answer; None where one that it could be has no price."""

    def most(places: Iterable[int], heard: int) -> Decimal | None:
        rates = [row[place] for place in places]
        # Only some models speak: of the others, sound has no price and is not made.
        spoken = row[heard] if sounds else None
        known = [rate for rate in (*rates, spoken) if rate is not None]
        return None if None in rates else max(known)

    return most(_CACHED if caches else _PROMPTS, _HEARD), most(_COMPLETIONS, _SPOKEN)


_Tariffs: TypeAlias = tuple[tuple[From | Daily | None, _Tariff], ...]


def _first(rates: Rates, names: Iterable[str]) -> Rate | None:
    return next((rate for name in names if (rate := getattr(rates, name)) is not None), None)


def _above(rate: Rate, prompt: int) -> Decimal:
    """The price of a prompt just longer than `prompt`."""
    return next((price for start, price in reversed(rate.tiers) if prompt >= start), rate.base)


class PriceTable:
    def __init__(
        self, lists: Iterable[PriceList] = (), overrides: Iterable[Override] = (), clock: Clock = time.time
    ) -> None:
        self._lists = {each.id: each for each in lists}
        self._overrides = tuple(overrides)
        self._clock = clock
        self._remembered: dict[tuple[str, str, str], _Tariffs] = {}

    def cost(self, provider: str, model: str, usage: Usage, *, host: str = "") -> Decimal | None:
        tariff = self._tariff(provider, model, host)
        return tariff.bill(usage) if tariff is not None else None

    def most(
        self,
        provider: str,
        model: str,
        prompt: int,
        completion: int,
        *,
        host: str = "",
        caches: bool = False,
        sounds: bool = False,
    ) -> Decimal | None:
        tariff = self._tariff(provider, model, host)
        return tariff.most(prompt, completion, caches=caches, sounds=sounds) if tariff is not None else None

    def _tariff(self, provider: str, model: str, host: str) -> _Tariff | None:
        key = (provider, model, host)
        tariffs = self._remembered.get(key)
        if tariffs is None:
            tariffs = self._find(provider, model, host)
            self._remember(key, tariffs)
        match tariffs:
            case ():
                return None
            case ((_, tariff),):
                return tariff
            case _:
                return _current(tariffs, self._clock())

    def with_overrides(self, rows: Iterable[Override]) -> PriceTable:
        """The same table, with these rows asked first, in their order."""
        return PriceTable(self._lists.values(), (*rows, *self._overrides), self._clock)

    def _remember(self, key: tuple[str, str, str], tariffs: _Tariffs) -> None:
        if len(key[1]) > MAX_REMEMBERED_NAME:
            return
        if len(self._remembered) >= MAX_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[key] = tariffs

    def _find(self, provider: str, model: str, host: str) -> _Tariffs:
        for row in self._overrides:
            if row.provider == host and fnmatchcase(model, row.model):
                return ((None, _Tariff(_per_token(row))),)
        prices = self._find_list(provider)
        if prices is None:
            return ()
        name = model.lower()
        found = self._find_model(prices, name)
        if found is None and (dashed := _with_dashes(name)) != name:
            found = self._find_model(prices, dashed)
        return () if found is None else tuple((price.when, _Tariff(price.rates)) for price in found.prices)

    def _find_list(self, provider: str) -> PriceList | None:
        name = provider.lower().strip()
        exact = self._lists.get(name)
        if exact is not None or not name:
            return exact
        return next((each for each in self._lists.values() if each.match is not None and fits(each.match, name)), None)

    def _find_model(self, prices: PriceList, name: str) -> Model | None:
        asked = (prices, *(self._lists[other] for other in prices.fallbacks if other in self._lists))
        return next((model for each in asked for model in each.models if fits(model.match, name)), None)


def fits(clause: Clause, name: str) -> bool:
    """Whether a name, in lower case, is one that the clause means."""
    match clause:
        case Starts(text):
            return name.startswith(text)
        case Ends(text):
            return name.endswith(text)
        case Contains(text):
            return text in name
        case Equals(text):
            return name == text
        case Regex(pattern):
            return re.search(pattern, name) is not None
        case AnyOf(clauses):
            return any(fits(each, name) for each in clauses)
        case AllOf(clauses):
            return all(fits(each, name) for each in clauses)
        case _:
            assert_never(clause)


def is_active(when: From | Daily | None, now: float) -> bool:
    match when:
        case None:
            return True
        case From(start):
            return now >= start
        case Daily(start, end):
            second = now % 86_400
            return (second >= start or second < end) if end < start else start <= second < end
        case _:
            assert_never(when)


def _current(tariffs: _Tariffs, now: float) -> _Tariff:
    """The last one whose time it is; the first where it is the time of none."""
    return next((tariff for when, tariff in reversed(tariffs) if is_active(when, now)), tariffs[0][1])


_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def _with_dashes(name: str) -> str:
    """`…-20251211` as `…-2025-12-11`, if there is such a day."""

    def dashed(found: re.Match[str]) -> str:
        year, month, day = found.groups()
        try:
            date(int(year), int(month), int(day))
        except ValueError:
            return found[0]
        return f"-{year}-{month}-{day}"

    return _COMPACT_DATE.sub(dashed, name)


def _per_token(row: Override) -> Rates:
    def rate(price: Decimal | None) -> Rate | None:
        return None if price is None else Rate(price / MILLION)

    return Rates(
        input=rate(row.input),
        cache_read=rate(row.cache_read),
        cache_write=rate(row.cache_write),
        cache_write_1h=rate(row.cache_write_1h),
        input_audio=rate(row.input_audio),
        output=rate(row.output),
        reasoning=rate(row.reasoning),
        output_audio=rate(row.output_audio),
    )


# --- where the compiled file is


def load(path: Path, clock: Clock = time.time) -> PriceTable:
    """The table that `compiled` wrote. Raises ConfigError."""
    try:
        read = msgspec.json.decode(path.read_bytes(), type=Compiled)
    except (OSError, msgspec.MsgspecError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is no table of ours"
        raise ConfigError(f"cannot read the price table {path}: {why}; delete it and start again") from exc
    if read.format != FORMAT:
        raise ConfigError(f"the price table {path} has format {read.format}, not {FORMAT}; delete it and start again")
    return PriceTable(read.lists, clock=clock)


def version() -> str:
    """Of the installed genai-prices."""
    return importlib.metadata.version("genai-prices")


def compiled(directory: Path) -> Path:
    """The compiled file of the installed genai-prices, written now if `directory` does not hold it. Raises StartError.

    For the process that starts the workers, before it starts them.
    """
    path = directory / f"prices-{version()}-{FORMAT}.json"
    if path.exists():
        return path
    try:
        directory.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=directory, prefix=path.name)
        os.close(handle)
        written = Path(name)
        try:
            _compile(written)
            # Whole or not at all, though two gateways start at once.
            written.replace(path)
        finally:
            written.unlink(missing_ok=True)
    except OSError as exc:
        raise StartError(f"cannot write the price table {path}: {exc.strerror}") from exc
    return path


def _compile(path: Path, timeout: float = COMPILE_TIMEOUT) -> None:
    script = Path(__file__).with_name("compile_prices.py")
    try:
        # -P: this room is no place to import from.
        subprocess.run(  # noqa: S603 - our own interpreter and our own file
            [sys.executable, "-P", str(script), str(path)], check=True, capture_output=True, timeout=timeout
        )
    except subprocess.CalledProcessError as exc:
        last = exc.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise StartError(f"cannot compile the price table: {last}") from exc
    except subprocess.TimeoutExpired as exc:
        raise StartError(f"compiling the price table took longer than {timeout:g} s") from exc

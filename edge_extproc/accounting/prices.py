"""The price table: what tokens cost now, by price list and model.

Its rows come from the configuration, which has priority, and from genai-prices, through a compiled file
(`compile_prices.py`). Names are matched by genai-prices' rules: a provider by its id or its pattern; a model by the
first pattern that matches, in the provider's list and then in its fallback lists. If nothing matches, the search is
repeated with a date suffix such as -20251211 written as -2025-12-11.

This module knows nothing of tenants, budgets or exchanges.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias, assert_never

import msgspec

from ..errors import ConfigError, StartError
from ..model.usage import Usage
from .batch_prices import TIER as BATCH_TIER
from .batch_prices import batch_factor
from .service_tiers import factor_of

FORMAT = 3
"""The version of the compiled file's format. compile_prices.py, which cannot import this, has the same number."""

MILLION = 1_000_000
THOUSAND = 1_000
# Names may come from callers, if a model matches a glob. So the cache is bounded, and long names are not cached.
MAX_CACHED = 4096
MAX_CACHED_NAME = 256
COMPILE_TIMEOUT = 60.0
"""Seconds. Compiling takes about one second, and more with a cold disk."""

Clock: TypeAlias = Callable[[], float]


# --- the compiled file, as msgspec types


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
    """A price that applies from a moment on: Unix time, seconds."""

    start: int


class Daily(msgspec.Struct, frozen=True, array_like=True, tag="daily", gc=False):
    """A price that applies between two seconds of each UTC day. If `end` is before `start`, it spans midnight."""

    start: int
    end: int


class Rate(msgspec.Struct, frozen=True, array_like=True):
    """US dollars for one token or request. A tier (start, price) applies to all tokens of a call whose prompt is longer
    than its start."""

    base: Decimal
    tiers: tuple[tuple[int, Decimal], ...] = ()


class Rates(msgspec.Struct, frozen=True, omit_defaults=True):
    input: Rate | None = None
    cache_read: Rate | None = None
    cache_write: Rate | None = None
    cache_write_5m: Rate | None = None
    cache_write_1h: Rate | None = None
    input_audio: Rate | None = None
    input_image: Rate | None = None
    output: Rate | None = None
    reasoning: Rate | None = None
    output_audio: Rate | None = None
    output_image: Rate | None = None
    request: Rate | None = None
    search: Rate | None = None


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


# --- prices of the configuration


@dataclass(frozen=True, slots=True)
class Override:
    """A price row of the configuration: US dollars per million tokens. A kind of token without a price has the price of
    the more general kind, as in the compiled table. Without `output`, replies are unpriced."""

    provider: str
    """The provider's name in the configuration: two providers of one price list may have different contracts."""
    model: str
    """The provider's name of the model, as a glob (`*`, `?` and `[…]`)."""
    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    cache_write_1h: Decimal | None = None
    reasoning: Decimal | None = None
    input_audio: Decimal | None = None
    output_audio: Decimal | None = None
    input_image: Decimal | None = None
    output_image: Decimal | None = None
    search: Decimal | None = None
    """Of a thousand web searches. None: as in the compiled table."""
    tiers: Mapping[str, Decimal] = field(default_factory=lambda: MappingProxyType({}), hash=False)
    """Factors of these prices, by the value of a service tier in the request."""

    @property
    def for_searches_alone(self) -> bool:
        """Tokens have the price of the next row, or of the compiled table."""
        return self.input is None and self.output is None and self.search is not None


# --- the prices of one model

# The kinds of tokens in `Usage`, in the order of a row. Each has the first of these prices that is known.
_PRICE_ORDER: tuple[tuple[str, ...], ...] = (
    ("input",),
    ("cache_read", "input"),
    ("cache_write_5m", "cache_write", "input"),
    ("cache_write_1h", "cache_write", "input"),
    ("input_audio", "input"),
    ("input_image", "input"),
    ("output",),
    ("reasoning", "output"),
    ("output_audio", "output"),
    ("output_image", "output"),
)
# The names of the same kinds in `Usage`.
_ROW_BUCKETS = (
    *("input", "cache_read", "cache_write", "cache_write_1h", "input_audio", "input_image"),
    *("output", "reasoning", "output_audio", "output_image"),
)
# Indexes of the row: the kinds that a prompt token can be (without and with cache writes), the kinds of output tokens,
# and audio input and output. A model that generates images does so without being asked.
_PROMPTS, _CACHED, _COMPLETIONS, _AUDIO_INPUT, _AUDIO_OUTPUT = (0, 5), (0, 2, 3, 5), (6, 7, 9), 4, 8
_Row: TypeAlias = tuple[Decimal | None, ...]
_ZERO = Decimal(0)


class _Tariff:
    """One model's prices at one time, as rows, so that a cost is at most ten multiplications."""

    __slots__ = ("_base", "_highest_prices", "_per_call", "_steps", "per_search")

    def __init__(self, rates: Rates) -> None:
        paid = tuple(_first(rates, names) for names in _PRICE_ORDER)
        starts = sorted({start for rate in paid if rate is not None for start, _ in rate.tiers})
        self._base: _Row = tuple(None if rate is None else rate.base for rate in paid)
        # Longest prompt first: the first step that a prompt exceeds applies.
        self._steps: tuple[tuple[int, _Row], ...] = tuple(
            (start, tuple(None if rate is None else _above(rate, start) for rate in paid)) for start in reversed(starts)
        )
        self.per_search = rates.search.base if rates.search is not None else None
        self._per_call: Decimal | None = None
        """The price of a call without its tokens. None: the model has no price at all."""
        if rates.request is not None:
            self._per_call = rates.request.base
        elif any(rate is not None for rate in self._base):
            self._per_call = _ZERO
        self._highest_prices: dict[tuple[int, bool, bool], tuple[Decimal | None, Decimal | None]] = {}
        """The highest prices, by the index of a step (-1: the base), `caches` and `audio`."""

    def max_cost(self, prompt: int, completion: int, *, caches: bool, audio: bool) -> Decimal | None:
        if self._per_call is None:
            return None
        step = next((n for n, (start, _) in enumerate(self._steps) if prompt > start), -1) if self._steps else -1
        which = (step, caches, audio)
        highest = self._highest_prices.get(which)
        if highest is None:
            row = self._base if step < 0 else self._steps[step][1]
            highest = self._highest_prices[which] = _highest_prices(row, caches=caches, audio=audio)
        prompt_price, completion_price = highest
        if (prompt_price is None and prompt) or (completion_price is None and completion):
            return None
        return self._per_call + (prompt_price or _ZERO) * prompt + (completion_price or _ZERO) * completion

    def by_bucket(self, usage: Usage) -> dict[str, Decimal]:
        """The parts of `bill`, without the price of the call itself."""
        row = self._base
        if self._steps:
            row = next((step for start, step in self._steps if usage.prompt > start), row)
        costs: dict[str, Decimal] = {}
        for name, rate in zip(_ROW_BUCKETS, row, strict=True):
            count = getattr(usage, name)
            if count > 0 and rate is not None:
                costs[name] = rate * count
        return costs

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
                usage.input_image,
                usage.output,
                usage.reasoning,
                usage.output_audio,
                usage.output_image,
            ),
            row,
            strict=True,
        ):
            if count:
                # A negative count is a provider's mistake. It must not reduce the cost.
                if rate is None or count < 0:
                    return None
                total += rate * count
        return total


def _highest_prices(row: _Row, *, caches: bool, audio: bool) -> tuple[Decimal | None, Decimal | None]:
    """The highest price of a prompt token and of an output token. None: a kind that it could be has no price."""

    def highest(places: Iterable[int], audio_index: int) -> Decimal | None:
        rates = [row[place] for place in places]
        # Only some models support audio. For the others it has no price, and does not occur.
        audio_price = row[audio_index] if audio else None
        rates_known = [rate for rate in (*rates, audio_price) if rate is not None]
        return None if None in rates else max(rates_known)

    return highest(_CACHED if caches else _PROMPTS, _AUDIO_INPUT), highest(_COMPLETIONS, _AUDIO_OUTPUT)


_Tariffs: TypeAlias = tuple[tuple[From | Daily | None, _Tariff], ...]


def _first(rates: Rates, names: Iterable[str]) -> Rate | None:
    return next((rate for name in names if (rate := getattr(rates, name)) is not None), None)


def _above(rate: Rate, prompt: int) -> Decimal:
    """The price for a prompt just longer than `prompt` tokens."""
    return next((price for start, price in reversed(rate.tiers) if prompt >= start), rate.base)


class PriceTable:
    """The `Prices` of all price lists and of the configuration."""

    def __init__(
        self, lists: Iterable[PriceList] = (), overrides: Iterable[Override] = (), clock: Clock = time.time
    ) -> None:
        self._lists = {each.id: each for each in lists}
        self._overrides = tuple(overrides)
        self._clock = clock
        self._cached: dict[tuple[str, str, str], _Tariffs] = {}

    def cost(
        self, provider: str, model: str, usage: Usage, *, host: str = "", tiers: Iterable[str] = ()
    ) -> Decimal | None:
        tariff = self._tariff(provider, model, host)
        cost = tariff.bill(usage) if tariff is not None else None
        if cost is not None and tiers:
            cost *= self._factor(model, host, tiers)
        if not usage.searches or cost is None:
            return cost
        searched = self.search_cost(provider, model, usage.searches, host=host)
        return None if searched is None else cost + searched

    def costs(
        self, provider: str, model: str, usage: Usage, *, host: str = "", tiers: Iterable[str] = ()
    ) -> dict[str, Decimal]:
        tariff = self._tariff(provider, model, host)
        if tariff is None:
            return {}
        factor = self._factor(model, host, tiers) if tiers else 1
        return {name: cost * factor for name, cost in tariff.by_bucket(usage).items()}

    def search_cost(self, provider: str, model: str, searches: int, *, host: str = "") -> Decimal | None:
        row = self._override(model, host)
        for each in self._fitting(model, host):
            if each.search is not None and (each is row or each.for_searches_alone):
                return each.search / THOUSAND * searches
        # A configured row without this price leaves that of the compiled table.
        tariff = self._tariff(provider, model, "" if row is not None else host)
        price = tariff.per_search if tariff is not None else None
        return None if price is None or searches < 0 else price * searches

    def batch_factor(self, provider: str, model: str, *, host: str = "") -> Decimal:
        row, prices = self._override(model, host), self._find_list(provider)
        price_list = prices.id if prices is not None else provider
        return batch_factor(price_list, row.tiers) if row is not None else batch_factor(price_list)

    def max_cost(
        self,
        provider: str,
        model: str,
        prompt: int,
        completion: int,
        *,
        host: str = "",
        caches: bool = False,
        audio: bool = False,
        tiers: Iterable[str] = (),
    ) -> Decimal | None:
        tariff = self._tariff(provider, model, host)
        cost = tariff.max_cost(prompt, completion, caches=caches, audio=audio) if tariff is not None else None
        return cost * self._factor(model, host, tiers) if cost is not None and tiers else cost

    def _tariff(self, provider: str, model: str, host: str) -> _Tariff | None:
        key = (provider, model, host)
        tariffs = self._cached.get(key)
        if tariffs is None:
            tariffs = self._find(provider, model, host)
            self._cache(key, tariffs)
        if len(tariffs) == 1:
            return tariffs[0][1]
        return _current(tariffs, self._clock()) if tariffs else None

    def with_overrides(self, rows: Iterable[Override]) -> PriceTable:
        """The same table, in which these rows have priority, in their order."""
        return PriceTable(self._lists.values(), (*rows, *self._overrides), self._clock)

    def _factor(self, model: str, host: str, tiers: Iterable[str]) -> Decimal:
        row = self._override(model, host)
        # A call alone is not cheaper because its tier has the name of the factor of a batch.
        requested = [tier for tier in tiers if tier != BATCH_TIER]
        return factor_of(requested, row.tiers) if row is not None else factor_of(requested)

    def _override(self, model: str, host: str) -> Override | None:
        return next((row for row in self._fitting(model, host) if not row.for_searches_alone), None)

    def _fitting(self, model: str, host: str) -> Iterable[Override]:
        return (row for row in self._overrides if row.provider == host and fnmatchcase(model, row.model))

    def _cache(self, key: tuple[str, str, str], tariffs: _Tariffs) -> None:
        if len(key[1]) > MAX_CACHED_NAME:
            return
        if len(self._cached) >= MAX_CACHED:
            del self._cached[next(iter(self._cached))]
        self._cached[key] = tariffs

    def _find(self, provider: str, model: str, host: str) -> _Tariffs:
        row = self._override(model, host)
        if row is not None:
            return ((None, _Tariff(_per_token(row))),)
        prices = self._find_list(provider)
        if prices is None:
            return ()
        name = model.lower()
        entry = self._find_model(prices, name)
        if entry is None and (dashed := _with_dashes(name)) != name:
            entry = self._find_model(prices, dashed)
        return () if entry is None else tuple((price.when, _Tariff(price.rates)) for price in entry.prices)

    def _find_list(self, provider: str) -> PriceList | None:
        name = provider.lower().strip()
        exact = self._lists.get(name)
        if exact is not None or not name:
            return exact
        return next((each for each in self._lists.values() if each.match is not None and fits(each.match, name)), None)

    def _find_model(self, prices: PriceList, name: str) -> Model | None:
        lists_to_search = (prices, *(self._lists[other] for other in prices.fallbacks if other in self._lists))
        return next((model for each in lists_to_search for model in each.models if fits(model.match, name)), None)


def fits(clause: Clause, name: str) -> bool:
    """Whether a name, in lower case, matches the clause."""
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
    """Whether a price applies at `now`, Unix time in seconds."""
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
    """The last tariff that applies now. If none applies, the first."""
    return next((tariff for when, tariff in reversed(tariffs) if is_active(when, now)), tariffs[0][1])


_COMPACT_DATE = re.compile(r"-(20\d\d)(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


def _with_dashes(name: str) -> str:
    """`…-20251211` as `…-2025-12-11`, if that is a valid date."""

    def dashed(match: re.Match[str]) -> str:
        year, month, day = match.groups()
        try:
            date(int(year), int(month), int(day))
        except ValueError:
            return match[0]
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
        input_image=rate(row.input_image),
        output=rate(row.output),
        reasoning=rate(row.reasoning),
        output_audio=rate(row.output_audio),
        output_image=rate(row.output_image),
    )


# --- the compiled file on disk


def load(path: Path, clock: Clock = time.time) -> PriceTable:
    """Reads the file of `compiled`. Raises ConfigError."""
    try:
        read = msgspec.json.decode(path.read_bytes(), type=Compiled)
    except (OSError, msgspec.MsgspecError) as exc:
        why = exc.strerror if isinstance(exc, OSError) else "it is not a price table of this gateway"
        raise ConfigError(f"cannot read the price table {path}: {why}; delete it and start again") from exc
    if read.format != FORMAT:
        raise ConfigError(f"the price table {path} has format {read.format}, not {FORMAT}; delete it and start again")
    return PriceTable(read.lists, clock=clock)


def version() -> str:
    """The version of the installed genai-prices."""
    return importlib.metadata.version("genai-prices")


def compiled(directory: Path) -> Path:
    """The path of the compiled file of the installed genai-prices. Writes the file if `directory` does not have it.

    Compiling takes about as long as the start of a worker. Therefore the supervisor calls this beside the start of the
    workers, and a worker that comes here first compiles, or waits until another process has. Raises StartError.
    """
    path = directory / f"prices-{version()}-{FORMAT}.json"
    if path.exists():
        return path
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with _alone(directory / "prices.lock"):
            if not path.exists():
                _write(path)
    except OSError as exc:
        raise StartError(f"cannot write the price table {path}: {exc.strerror}") from exc
    return path


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the lock of this file: the kernel releases it also if the process is killed."""
    with open(path, "a", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write(path: Path) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    os.close(handle)
    written = Path(name)
    try:
        _compile(written)
        # A process without the lock sees no file or the whole one.
        written.replace(path)
    finally:
        written.unlink(missing_ok=True)


def _compile(path: Path, timeout: float = COMPILE_TIMEOUT) -> None:
    script = Path(__file__).with_name("compile_prices.py")
    try:
        # -P: the script's directory must not be on sys.path.
        subprocess.run(  # noqa: S603 - our own interpreter and our own file
            [sys.executable, "-P", str(script), str(path)], check=True, capture_output=True, timeout=timeout
        )
    except subprocess.CalledProcessError as exc:
        last = exc.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise StartError(f"cannot compile the price table: {last}") from exc
    except subprocess.TimeoutExpired as exc:
        raise StartError(f"compiling the price table took longer than {timeout:g} s") from exc

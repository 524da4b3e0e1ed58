"""What all services have in common: time-out, circuit breaker, stored verdicts, single flight and metrics.

A plugin of `services` only translates a check to its service's API. `ServiceCalls` is what the rules use.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from secrets import token_bytes

from ..errors import PolicyUnavailable
from ..telemetry.guardrail_service_metrics import GuardrailServiceMetrics
from .base import Checked, Service, Verdict
from .service_circuit import ServiceCircuit
from .service_http import ServiceFailure
from .service_options import ServiceOptions
from .service_pictures import PictureOptions, require_judgeable

# Characters of the masked texts of all stored verdicts of one service.
_MAX_STORED = 4 << 20
# Labels of one service that are shown. Further ones are shown as "other", so that metrics stay bounded.
_MAX_LABELS = 100
_MAX_LABEL = 64
_OTHER_LABEL = "other"
_NOT_OF_A_LABEL = re.compile(r"[^A-Za-z0-9_./:-]+")
PASS = Verdict("pass")


class VerdictCache:
    """Verdicts by key. The oldest is removed first."""

    def __init__(self, max_entries: int, seconds: float, clock: Callable[[], float]) -> None:
        self._max_entries = max_entries
        self._seconds = seconds
        self._clock = clock
        self._verdicts: OrderedDict[bytes, tuple[float, Verdict]] = OrderedDict()
        self._stored = 0

    def __len__(self) -> int:
        return len(self._verdicts)

    def get(self, key: bytes) -> Verdict | None:
        entry = self._verdicts.get(key)
        if entry is None:
            return None
        expires_at, verdict = entry
        if self._clock() >= expires_at:
            self._remove(key)
            return None
        return verdict

    def put(self, key: bytes, verdict: Verdict) -> None:
        size = _size(verdict)
        if not self._seconds or size > _MAX_STORED:
            return
        self._remove(key)
        self._verdicts[key] = (self._clock() + self._seconds, verdict)
        self._stored += size
        while len(self._verdicts) > self._max_entries or self._stored > _MAX_STORED:
            self._remove(next(iter(self._verdicts)))

    def _remove(self, key: bytes) -> None:
        entry = self._verdicts.pop(key, None)
        if entry is not None:
            self._stored -= _size(entry[1])


def _size(verdict: Verdict) -> int:
    return sum(map(len, verdict.texts or ()))


class ServiceCalls:
    """The service of one rule."""

    def __init__(
        self,
        rule: str,
        kind: str,
        service: Service,
        options: ServiceOptions,
        metrics: GuardrailServiceMetrics,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`kind`: the name of the service's plugin, for metrics."""
        self._rule = rule
        self._kind = kind
        self._service = service
        self._timeout = options.timeout.total_seconds()
        self._max_text = options.max_text
        self._pictures = options if isinstance(options, PictureOptions) and options.pictures else None
        self._metrics = metrics
        self._clock = clock
        # The keys of the cache do not tell the texts to somebody who reads the memory.
        self._secret = token_bytes(32)
        self._cache = VerdictCache(options.cache_entries, options.cache_for.total_seconds(), clock)
        self._flights: dict[bytes, asyncio.Task[Verdict]] = {}
        self._circuit = ServiceCircuit(
            options.failures, options.open_for.total_seconds(), clock, lambda: metrics.opened(rule, kind)
        )
        self._labels: set[str] = set()

    async def check(self, checked: Checked) -> Verdict:
        """Raises PolicyUnavailable, whose message has the rule and the cause."""
        try:
            verdict = await self._verdict(checked)
        except ServiceFailure as failure:
            self._metrics.failed(self._rule, self._kind, failure.reason)
            self._metrics.checked(self._rule, self._kind, "failed")
            raise PolicyUnavailable(
                f"the guardrail {self._rule!r} could not be applied: its service {failure.text}"
            ) from (failure)
        self._metrics.checked(self._rule, self._kind, verdict.action)
        return verdict

    async def close(self) -> None:
        flights = tuple(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._service.close()

    async def _verdict(self, checked: Checked) -> Verdict:
        if not checked.pieces and not checked.media:
            return PASS
        size = sum(len(piece.text.encode(errors="surrogatepass")) for piece in checked.pieces)
        if size > self._max_text:
            raise ServiceFailure("size", f"takes at most {self._max_text} bytes of text, and these are {size}")
        if self._pictures is not None:
            require_judgeable(checked, self._pictures)
        key = self._key(checked)
        stored = self._cache.get(key)
        if stored is not None:
            self._metrics.spared(self._rule, self._kind, "cache")
            return stored
        flight = self._flights.get(key)
        if flight is None:
            flight = self._flights[key] = asyncio.create_task(self._ask(key, checked), name=f"guardrail {self._rule}")
            flight.add_done_callback(lambda task: self._end(key, task))
        else:
            self._metrics.spared(self._rule, self._kind, "flight")
        # The check of a caller who leaves may be another caller's, too. The time-out ends it.
        try:
            return await asyncio.shield(flight)
        except asyncio.CancelledError:
            if flight.cancelled():
                raise ServiceFailure("other", "was closed during the check") from None
            raise

    def _end(self, key: bytes, flight: asyncio.Task[Verdict]) -> None:
        del self._flights[key]
        if not flight.cancelled():
            flight.exception()  # reading it tells asyncio that it is not lost if all callers have left

    async def _ask(self, key: bytes, checked: Checked) -> Verdict:
        if not self._circuit.admits(checked.tenant):
            raise ServiceFailure(
                "circuit", "is not called for a short time, because it has failed several times in a row"
            )
        began = self._clock()
        settled = False
        try:
            async with asyncio.timeout(self._timeout):
                verdict = self._valid(await self._service.check(checked), checked)
            self._circuit.succeeded(checked.tenant)
            settled = True
        except (ServiceFailure, PolicyUnavailable, TimeoutError) as error:
            self._circuit.failed(checked.tenant)
            settled = True
            raise self._failure(error) from error
        finally:
            if not settled:
                self._circuit.ended(checked.tenant)
            self._metrics.asked(self._rule, self._kind, self._clock() - began)
        self._cache.put(key, verdict)
        return verdict

    def _failure(self, error: ServiceFailure | PolicyUnavailable | TimeoutError) -> ServiceFailure:
        match error:
            case ServiceFailure():
                return error
            case PolicyUnavailable():
                return ServiceFailure("other", f"is unavailable: {error.message}")
            case _:
                return ServiceFailure("timeout", f"did not answer within {self._timeout:g} s")

    def _valid(self, verdict: Verdict, checked: Checked) -> Verdict:
        """The verdict with a label that may be shown. Raises ServiceFailure."""
        if verdict.action == "mask" and len(verdict.texts or ()) != len(checked.pieces):
            raise ServiceFailure("answer", "did not send one masked text for each text")
        if verdict.action == "pass":
            return PASS
        label = _NOT_OF_A_LABEL.sub("_", verdict.label)[:_MAX_LABEL] or _OTHER_LABEL
        if label not in self._labels:
            if len(self._labels) >= _MAX_LABELS:
                label = _OTHER_LABEL
            else:
                self._labels.add(label)
        return Verdict(verdict.action, label, verdict.texts if verdict.action == "mask" else None)

    def _key(self, checked: Checked) -> bytes:
        """A keyed hash of all that a service gets, but for the id of the call."""
        hashed = hashlib.blake2b(key=self._secret, digest_size=32)
        for part in _parts(checked):
            raw = part.encode(errors="surrogatepass")
            # With their lengths, the parts cannot be divided in another way.
            hashed.update(len(raw).to_bytes(8, "big"))
            hashed.update(raw)
        return hashed.digest()


def _parts(checked: Checked) -> Iterator[str]:
    yield from (checked.tenant, checked.direction, checked.model, str(len(checked.pieces)))
    for piece in checked.pieces:
        yield from (piece.text, piece.kind, piece.path)
    for media in checked.media:
        yield from (media.sha256, media.media_type, str(media.size), media.path)

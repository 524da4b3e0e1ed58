"""The semantic tier (L3) of one worker: it finds an earlier question that means the same, and its reply.

A lookup has a time budget for the embedder, the store and the verifiers together; beyond it, it is a miss. An embedder
or a store that fails some times in a row is not used for a time. Records are stored after the response to the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar

import structlog

from ...errors import Unavailable
from ...model.call import Chat
from ...model.frozen_dataclass import frozen_dataclass
from ...model.plan import Candidate
from ...model.reply import Reply
from ...model.wire_names import WireNames
from ...telemetry import logs
from ..base import CacheEntry, PurgeSelection, SimilarReply, TierCounts
from ..key import CacheKey, Headers
from ..policy import CachePolicy
from .base import Embedder, Neighbour, SemanticFailure, SemanticListener, SemanticRecord, Vector, VectorStore, Verifier
from .circuit import FailureCircuit
from .partition import Partitioner, PlacedQuestion, QuestionBounds
from .questions import Question
from .shadow import FalseHitEstimates, ShadowSettings, answer_of, are_equal, have_other_numbers

T = TypeVar("T")

# Questions of records whose tokens are kept. A popular one is compared often.
_MAX_QUESTIONS = 1024
# Records that are being stored, and replies that are being compared. More are dropped.
_MAX_TASKS = 256


@frozen_dataclass
class SemanticSettings:
    """Durations in seconds."""

    similarity: float
    """The least cosine of two questions."""
    neighbours: int
    """How many of the nearest questions are verified."""
    budget: float
    """The longest lookup."""
    ttl: float
    """The default time to live of a record."""
    bounds: QuestionBounds
    max_call: int
    """Bytes of a call's body. A longer call is not looked up."""
    shadow: ShadowSettings


@frozen_dataclass
class SemanticClock:
    time: Callable[[], float]
    """Unix time, seconds."""
    monotonic: Callable[[], float]
    """For durations, in seconds."""


class SemanticTier:
    """The `L3Tier` of one worker."""

    def __init__(
        self,
        settings: SemanticSettings,
        embedder: Embedder,
        store: VectorStore,
        verifiers: Mapping[str, Verifier],
        secret: bytes,
        listener: SemanticListener,
        clock: SemanticClock,
        draw: Callable[[], float],
    ) -> None:
        """`verifiers`: by name, in the order in which they are asked. `secret`: of the partitions. `draw`: a random
        number from 0 to 1, for shadow mode."""
        self.settings = settings
        self.embedder = embedder
        self.store = store
        self.verifiers = verifiers
        self.listener = listener
        self.clock = clock
        self.draw = draw
        self.estimates = FalseHitEstimates(settings.shadow)
        self._partitioner = Partitioner(secret, embedder.identity)
        self._circuits = {"embedder": FailureCircuit(), "store": FailureCircuit()}
        self._tasks: set[asyncio.Task[None]] = set()
        self.question = lru_cache(_MAX_QUESTIONS)(Question)
        """The question of a record."""

    @property
    def max_call(self) -> int:
        return self.settings.max_call

    @property
    def budget(self) -> float:
        return self.settings.budget

    def begin(
        self,
        tenant: str,
        key: CacheKey,
        chat: Chat,
        routed: Sequence[Candidate],
        headers: Headers,
        names: WireNames,
        rules: CachePolicy,
    ) -> SemanticLookup | None:
        placed = self._partitioner.place(chat, key, routed, headers, names, rules, self.settings.bounds)
        return SemanticLookup(self, placed, key, tenant) if placed is not None else None

    async def use(self, part: str, work: Callable[[], Awaitable[T]]) -> T:
        """The result of an embedder or a store. Raises SemanticFailure, also if it is not used for now."""
        circuit, clock = self._circuits[part], self.clock.monotonic
        if not circuit.permits(clock()):
            raise SemanticFailure("circuit", circuit.reason or "")
        try:
            result = await work()
        except SemanticFailure as failure:
            self._failed(part, failure)
            raise
        except Exception as bug:  # a plugin's bug must not fail the call
            logs.report(bug)
            hidden = SemanticFailure("bug", type(bug).__name__)
            self._failed(part, hidden)
            raise hidden from bug
        if circuit.succeeded():
            structlog.get_logger().info("semantic cache back", part=part)
        return result

    def too_slow(self, part: str) -> None:
        """The budget of a lookup was over while it waited for this part."""
        self._failed(part, SemanticFailure("slow", "it is slower than cache.semantic.budget"))

    def _failed(self, part: str, failure: SemanticFailure) -> None:
        self.listener.semantic_failed(part, failure.why)
        if self._circuits[part].failed(failure.reason, self.clock.monotonic()):
            structlog.get_logger().warning("semantic cache down", part=part, reason=failure.reason)

    def later(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Runs work after the response."""
        if len(self._tasks) >= _MAX_TASKS:
            self.listener.semantic_failed("store", "busy")
            return
        task = asyncio.ensure_future(_quietly(work()))
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (bug := task.exception()) is not None:
            logs.report(bug)

    async def settled(self) -> None:
        """Waits for the work after the responses so far."""
        while self._tasks:
            await asyncio.wait(set(self._tasks))

    @property
    def down(self) -> str | None:
        """Why the embedder or the store is not used now. None: both are used."""
        reasons = [circuit.reason for circuit in self._circuits.values() if circuit.reason is not None]
        return self.store.down or (reasons[0] if reasons else None)

    async def purge(self, selection: PurgeSelection) -> int:
        await self.settled()  # a record that is being stored would survive
        self.question.cache_clear()
        try:
            return await self.use("store", lambda: self.store.purge(selection))
        except SemanticFailure as failure:
            raise Unavailable(f"the semantic cache did not purge all entries: {failure.why}; try again") from failure

    def purge_memory(self, selection: PurgeSelection) -> None:
        if not self.store.shared:
            self.later(lambda: self._purge_memory(selection))

    async def _purge_memory(self, selection: PurgeSelection) -> None:
        self.question.cache_clear()
        await self.store.purge(selection)

    def counts(self) -> TierCounts:
        return self.store.counts()

    async def close(self) -> None:
        if self._tasks:
            await asyncio.wait(set(self._tasks), timeout=1.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.embedder.close()
        await self.store.close()


async def _quietly(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except SemanticFailure:  # `use` has counted it
        return


def _agrees(verifier: Verifier, asked: Question, known: Question) -> bool:
    """Whether a verifier finds no difference. One with a bug refuses."""
    try:
        return verifier.agree(asked, known)
    except Exception as bug:  # noqa: BLE001 - a plugin's bug must not fail the call
        logs.report(bug)
        return False


class SemanticLookup:
    """The `SimilarLookup` of one call."""

    __slots__ = ("_has_failed", "_key", "_placed", "_shadowed", "_tenant", "_tier", "_vector", "similarity")

    def __init__(self, tier: SemanticTier, placed: PlacedQuestion, key: CacheKey, tenant: str) -> None:
        self._tier = tier
        self._placed = placed
        self._key = key
        self._tenant = tenant
        self._vector: Vector | None = None
        self._has_failed = False
        """Whether the embedder failed in the lookup. It is not asked again for the record."""
        self._shadowed: SemanticRecord | None = None
        self.similarity: float | None = None

    async def find(self, oldest: float | None) -> SimilarReply | None:
        tier = self._tier
        began = tier.clock.monotonic()
        try:
            async with asyncio.timeout(tier.settings.budget):
                neighbours = await self._neighbours()
            result, found = self._verified(neighbours, began, oldest)
        except TimeoutError:
            tier.too_slow("embedder" if self._vector is None else "store")
            result, found = "slow", None
        except SemanticFailure:
            self._has_failed = self._vector is None
            result, found = "failed", None
        if found is not None:
            result = self._decide(found)
        tier.listener.semantic_looked_up(result, tier.clock.monotonic() - began)
        if found is None or result != "hit":
            return None
        self.similarity = found.similarity
        tier.listener.semantic_hit(self._key.model, self._tenant)
        return SimilarReply(found.record.entry, found.record.key, found.similarity)

    async def _neighbours(self) -> Sequence[Neighbour]:
        tier, placed = self._tier, self._placed
        (vector,) = await tier.use("embedder", lambda: tier.embedder.embed((placed.text,), self._tenant))
        self._vector = vector
        now, count = tier.clock.time(), tier.settings.neighbours
        return await tier.use("store", lambda: tier.store.nearest(placed.partition, vector, count, now))

    def _verified(
        self, neighbours: Sequence[Neighbour], began: float, oldest: float | None
    ) -> tuple[str, Neighbour | None]:
        """The nearest question on which all verifiers agree, and the result of the lookup."""
        tier, asked, result = self._tier, Question(self._placed.text), "miss"
        for neighbour in neighbours:
            record = neighbour.record
            if neighbour.similarity < tier.settings.similarity:
                break
            # A store may return what it should not: a record is used in its own partition alone.
            if record.partition != self._placed.partition or record.key.owner != self._key.owner:
                tier.listener.semantic_failed("store", "foreign")
                continue
            if oldest is not None and tier.clock.time() - record.entry.stored_at > oldest:
                continue
            known = tier.question(record.text)
            for name, verifier in tier.verifiers.items():
                if tier.clock.monotonic() - began > tier.settings.budget:
                    return "slow", None
                if not _agrees(verifier, asked, known):
                    tier.listener.semantic_refused(name)
                    result = "refused"
                    break
            else:
                return "hit", neighbour
        return result, None

    def _decide(self, found: Neighbour) -> str:
        """Whether the reply is used. If not, the provider's reply may be compared with it."""
        tier = self._tier
        is_off = tier.estimates.is_off(self._key.model, self._tenant)
        if tier.draw() < tier.settings.shadow.share:
            self._shadowed = found.record
            return "off" if is_off else "shadowed"
        return "off" if is_off else "hit"

    def store(self, entry: CacheEntry, reply: Reply) -> None:
        tier = self._tier
        answer = answer_of(reply)
        if not self._has_failed:
            tier.later(lambda: self._put(entry, answer))
        shadowed = self._shadowed
        if shadowed is not None:
            self._shadowed = None
            tier.later(lambda: self._compare(shadowed.answer, answer))

    async def _put(self, entry: CacheEntry, answer: str) -> None:
        tier, placed = self._tier, self._placed
        vector = self._vector
        if vector is None:  # the lookup was not made, or was too slow
            (vector,) = await tier.use("embedder", lambda: tier.embedder.embed((placed.text,), self._tenant))
        life = entry.ttl if entry.ttl is not None else tier.settings.ttl
        record = SemanticRecord(
            self._key,
            placed.partition,
            placed.text,
            vector,
            replace(entry, stale=0.0),
            answer,
            entry.stored_at + life,
        )
        await tier.use("store", lambda: tier.store.put(record, tier.clock.time()))

    async def _compare(self, known: str, answer: str) -> None:
        """Compares the reply that would have been used with the provider's own."""
        tier, shadow = self._tier, self._tier.settings.shadow
        how, agreed = "exact", are_equal(known, answer)
        if not agreed:
            how = "embedding"
            one, other = await tier.use("embedder", lambda: tier.embedder.embed((known, answer), self._tenant))
            agreed = float(one @ other) >= shadow.agreement and not have_other_numbers(known, answer)
        tier.listener.semantic_compared(self._key.model, self._tenant, agreed=agreed, how=how)
        was_off = tier.estimates.is_off(self._key.model, self._tenant)
        estimate, is_off = tier.estimates.add(self._key.model, self._tenant, agreed=agreed)
        tier.listener.semantic_estimate(
            self._key.model, self._tenant, estimate.rate, estimate.low, estimate.high, is_off=is_off
        )
        if is_off != was_off:
            structlog.get_logger().warning(
                "semantic cache off" if is_off else "semantic cache on again",
                model=self._key.model,
                tenant=self._tenant,
                false_hits=round(estimate.rate, 4),
                low=round(estimate.low, 4),
                high=round(estimate.high, 4),
            )

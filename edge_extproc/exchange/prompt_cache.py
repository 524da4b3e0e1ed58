"""What one exchange does to explain how much of its prompt the provider has read from its prompt cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from decimal import Decimal
from typing import Any

from ..model.call import Call
from ..model.envoy_names import EXPLAIN, PROMPT_CACHE
from ..model.explanation import ExplainedPromptCache, PromptCacheReason, bounded
from ..model.plan import Candidate
from ..model.settlement import Settlement
from ..model.usage import Usage
from ..records.prompt_segments import Prompt
from ..records.prompt_turns import AnsweredTurn, EarlierTurns, PromptCaches, unchanged
from .adapt import dialect_of
from .commands import Pairs
from .phases import ReadCall
from .ports import Gateway
from .runs import session_of

ASKED = "prompt-cache"
"""The value of the header by which a caller asks for an explanation."""
# Seconds. A request does not wait longer for the store. Who asks gets an answer also from a slow one.
_PATIENCE, _PATIENCE_OF_ASKED = 0.25, 2.0
# Bytes of a body from which it is read off the event loop: a millisecond.
_LONG = 64 << 10
# Most providers cache from so many tokens on, and in blocks of up to some hundred.
_LEAST_PROMPT, _LEAST_LOST = 1024, 256
# Seconds. After so long without a use, a provider's cache may have forgotten a prompt.
_IDLE = 300.0


class PromptCacheWatch:
    """The prompt of one exchange, and the earlier turns of its conversation."""

    __slots__ = ("_caches", "_call", "_earlier", "_is_asked", "_prompt")

    def __init__(
        self, caches: PromptCaches, call: Call, prompt: Prompt, earlier: EarlierTurns, *, is_asked: bool
    ) -> None:
        self._caches = caches
        self._call = call
        self._prompt = prompt
        self._earlier = earlier
        self._is_asked = is_asked

    def headers(self, candidate: Candidate) -> Pairs:
        """The response header, if the caller asks for it."""
        if not self._is_asked:
            return ()
        reason, same, _ = self._compare(candidate)
        parts = [reason, f"unchanged={same}/{len(self._prompt)}"]
        if reason == "changed":
            parts.append(f"first-changed={self._prompt.names[same]}")
        return ((PROMPT_CACHE, "; ".join(parts)),)

    def explain(self, gateway: Gateway, settlement: Settlement, candidate: Candidate) -> ExplainedPromptCache | None:
        """None if the usage is not known."""
        usage = settlement.usage
        if usage is None or settlement.estimated:
            return None
        reason, same, turn = self._compare(candidate)
        readable = min(turn.prompt_tokens, usage.prompt) if turn is not None else 0
        lost = max(0, readable - usage.cache_read)
        if readable < _LEAST_PROMPT or lost < _LEAST_LOST:
            lost = 0
        idle = int(gateway.clock.time() - turn.at) if turn is not None else 0
        if reason == "unchanged" and lost:
            reason = "unmarked" if self._is_unmarked(gateway, candidate) else "idle" if idle > _IDLE else "evicted"
        return ExplainedPromptCache(
            reason,
            bounded(self._prompt.names[same]) if reason == "changed" else "",
            same,
            len(self._prompt),
            readable,
            usage.cache_read,
            lost,
            _dollars(gateway, candidate, usage, lost) if lost else None,
            max(0, idle),
        )

    def closed(self, settlement: Settlement, candidate: Candidate | None) -> None:
        """Keeps the turn, if it was answered."""
        usage = settlement.usage
        if usage is not None and candidate is not None and settlement.outcome == "ok" and not settlement.estimated:
            self._caches.add(self._earlier, self._prompt, candidate.provider, candidate.model, usage.prompt)

    def _is_unmarked(self, gateway: Gateway, candidate: Candidate) -> bool:
        """Whether the provider caches only what the caller marks, and the caller marks nothing."""
        required = dialect_of(self._call, candidate, gateway).wire_names.required_marks
        return bool(required) and not gateway.segments.has_marks(self._call.raw)

    def _compare(self, candidate: Candidate) -> tuple[PromptCacheReason, int, AnsweredTurn | None]:
        """Why the provider may read less than the whole earlier prompt; how many segments are unchanged; and the turn
        that this one continues."""
        prompt = self._prompt
        turn = self._earlier.continued(prompt, candidate.provider, candidate.model)
        if turn is None:
            return "first", 0, None
        same = unchanged(turn, prompt)
        if (turn.provider, turn.model) != (candidate.provider, candidate.model):
            return "provider", same, turn
        whole = same == len(prompt) or prompt.digests.startswith(turn.digests)
        return "unchanged" if whole else "changed", same, turn


async def watch_prompt_cache(
    gateway: Gateway, caches: PromptCaches, read: ReadCall, work: Callable[..., Awaitable[Any]]
) -> PromptCacheWatch | None:
    """None if nobody asks for it, or if the prompt or the earlier turns are not known. `work`: runs what depends on the
    length of the body."""
    identified, call = read.identified, read.parsed.call
    is_asked = ASKED in identified.received.values.get(EXPLAIN, "")
    if call.operation != "chat" or not (is_asked or caches.settings.always):
        return None
    principal = identified.principal
    is_long = read.large or len(call.raw) > _LONG
    prompt: Prompt | None = await work(is_long, gateway.segments.of, call.raw, caches.key_of(principal.tenant))
    if prompt is None:
        return None
    run = identified.runs[0] if identified.runs else ""
    session = session_of(gateway.session_headers, identified.received.values) or ""
    patience = _PATIENCE_OF_ASKED if is_asked else _PATIENCE
    who = (principal.key_id, principal.user or "")
    earlier = await caches.earlier(principal.tenant, *who, run, session, patience=patience)
    if earlier is None:
        return None
    return PromptCacheWatch(caches, call, prompt, earlier, is_asked=is_asked)


def _dollars(gateway: Gateway, candidate: Candidate, usage: Usage, lost: int) -> str | None:
    """What the tokens cost more than if they had been read. None: a price is not known."""
    provider = gateway.providers[candidate.provider]
    left, changes = lost, {"cache_read": usage.cache_read + lost}
    for bucket in ("cache_write", "cache_write_1h", "input"):
        taken = min(left, getattr(usage, bucket))
        changes[bucket] = getattr(usage, bucket) - taken
        left -= taken
    changes["cache_read"] -= left

    def cost(each: Usage) -> Decimal | None:
        return gateway.prices.cost(provider.price_list, candidate.model, each, host=provider.name)

    actual, best = cost(usage), cost(replace(usage, **changes))  # type: ignore[arg-type]  # the names are of counts
    return None if actual is None or best is None else format(max(Decimal(), actual - best).normalize(), "f")

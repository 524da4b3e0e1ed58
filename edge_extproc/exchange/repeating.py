"""Returns replies from the cache, and stores replies in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from typing import TypeAlias

from ..auth.base import CallerRights
from ..cache.base import CacheEntry, CacheLookup, NewReply, ResponseCache
from ..cache.policy import CACHE_HEADERS, wants_only_cached
from ..dialects.dropping import lost_in
from ..errors import NotCached, UpstreamError
from ..model.call import Call
from ..model.plan import Candidate
from .adapt import dialect_of
from .phases import ReadCall
from .ports import Gateway
from .relay import as_stream
from .reply_calls import ReplyCalls
from .reply_guardrails import shown
from .response import ResponseFacts
from .rights import able

Repeated: TypeAlias = tuple[bytes, str, tuple[str, ...]]
"""A reply in the caller's dialect, its content type, and the names of parts without a place in the dialect."""


def start_lookup(
    cache: ResponseCache, gateway: Gateway, read: ReadCall, candidates: Sequence[Candidate]
) -> CacheLookup | None:
    """The lookup of a chat. None: the call is not cached. Raises NotCached if the caller wants nothing else."""
    parsed, identified = read.parsed, read.identified
    received = identified.received
    # Most calls have no header that the cache reads.
    is_plain = CACHE_HEADERS.isdisjoint(received.values) and gateway.wire_names.headers.isdisjoint(received.values)
    lookup = cache.start_lookup(
        identified.principal,
        parsed.call,
        candidates,
        () if is_plain else received.headers,
        lambda _: parsed.chat(),
        gateway.wire_names,
    )
    if lookup is None:
        refuse_uncached(read)
    return lookup


def refuse_uncached(read: ReadCall) -> None:
    """For a call without a reply in the cache. Raises NotCached if the caller wants no other."""
    control = read.identified.received.values.get("cache-control")
    if control is not None and wants_only_cached(control):
        raise NotCached(
            "the cache has no reply to this call, and cache-control: only-if-cached forbids to call a provider"
        )


async def cached_reply(gateway: Gateway, read: ReadCall, entry: CacheEntry) -> Repeated | None:
    """A stored reply in the caller's dialect (complete or a stream), its content type, and the names of parts without a
    place in the dialect. None if this caller may not have the reply, or if another version of the gateway stored it and
    it cannot be read. Raises PolicyUnavailable without the verdict of a service about it."""
    guards, guard, parsed = read.identified.guard, None, read.parsed
    if guards is not None:
        parsed = await shown(parsed, guards, gateway)
    call, caller_dialect = parsed.call, read.identified.caller_dialect
    if not _may_have(read.identified.rights, call, entry):
        return None
    if guards is not None and entry.dialect in gateway.dialects:
        guard = guards.guard_reply(signs_thinking=gateway.dialects[entry.dialect].signs_thinking)
    if caller_dialect.name == entry.dialect and not call.stream and guard is None:
        return entry.body, "application/json", ()
    try:
        reply = gateway.dialects[entry.dialect].read_reply(entry.body)
    except (KeyError, UpstreamError):
        return None
    if guard is not None:
        services = guard.services
        checked = guard.complete(reply) if services is None else await services.judged_reply(reply)
        if checked == reply and caller_dialect.name == entry.dialect and not call.stream:
            return entry.body, "application/json", ()
        reply = checked
    if reply.created is None:
        reply = replace(reply, created=entry.created if entry.created is not None else int(entry.stored_at))
    omitted = lost_in(reply, caller_dialect)
    if caller_dialect.name != entry.dialect:
        reply = ReplyCalls(parsed).reply(reply)
    if call.stream:
        return *as_stream(reply, call, caller_dialect), omitted
    return caller_dialect.write_reply(replace(reply, call=call)), "application/json", omitted


def _may_have(rights: CallerRights | None, call: Call, entry: CacheEntry) -> bool:
    """Whether this caller could get the reply from its provider. A fallback may have stored the reply of a candidate
    that is not in the cache key, for a caller with more rights."""
    return rights is None or bool(able(rights, call, (Candidate(entry.provider, entry.model),)))


def store_reply(
    gateway: Gateway, call: Call, response: ResponseFacts, lookup: CacheLookup, cost: Decimal | None, *, keep: bool
) -> None:
    """Stores a reply that may be cached if `keep`, and releases the calls that wait for it. An exception is only
    reported, because the exchange must still be settled."""
    try:
        reply = _new_reply(gateway, call, response, lookup, cost) if keep else None
        if reply is not None:
            lookup.store(reply)
    except Exception as bug:  # noqa: BLE001 - a bug here must not prevent the settlement
        gateway.report(bug)
    finally:
        lookup.close()


def _new_reply(
    gateway: Gateway, call: Call, response: ResponseFacts, lookup: CacheLookup, cost: Decimal | None
) -> NewReply | None:
    candidate = response.candidate
    if candidate is None or response.refused is not None or not lookup.may_store:
        return None
    reply, tally = response.body.reply, response.body.tally
    if tally is not None:
        is_complete = tally.ended and tally.failed is None and not tally.garbled and not tally.blocked
        reply = tally.fold.reply() if is_complete and tally.fold is not None else None
    if reply is None or not lookup.is_storable(reply):
        return None
    body = response.body.raw
    if body is None:
        body = dialect_of(call, candidate, gateway).write_reply(reply)
    return NewReply(reply, body, candidate.provider, candidate.model, cost, response.dropped)

"""A reply that was given before is given again, and one that came whole and clean is kept for the next who asks."""

from __future__ import annotations

from decimal import Decimal

from ..auth.base import CallerRights
from ..cache.base import CacheEntry, CacheLookup, NewReply
from ..dialects.base import Dialect
from ..dialects.dropping import lost_in
from ..errors import UpstreamError
from ..model.call import Call
from ..model.plan import Candidate
from ..model.reply import Reply, unfold
from .adapt import dialect_of
from .phases import RequestState, ResponseState, require
from .ports import Gateway
from .rights import able


def given(gateway: Gateway, heard: RequestState, entry: CacheEntry) -> tuple[bytes, str, tuple[str, ...]] | None:
    """A stored reply as this caller wants it, whole or as a stream, in the caller's words; its media type; and the
    names of what the caller's format has no place for. None
    where it is not this caller's, or cannot be read: another version of us has stored it."""
    call, voice = require(heard.call), require(heard.voice)
    if not _may_have(heard.rights, call, entry):
        return None
    if voice.name == entry.dialect and not call.stream:
        return entry.body, "application/json", ()
    try:
        reply = gateway.dialects[entry.dialect].read_reply(entry.body)
    except (KeyError, UpstreamError):
        return None
    body, kind = as_stream(reply, call, voice) if call.stream else (voice.write_reply(reply), "application/json")
    return body, kind, lost_in(reply, voice)


def _may_have(rights: CallerRights | None, call: Call, entry: CacheEntry) -> bool:
    """Whether this caller could have got this reply from its provider. A reply may be another candidate's than those
    that its key was made of, by a fallback: the caller of then may have had more rights."""
    return rights is None or bool(able(rights, call, (Candidate(entry.provider, entry.model),)))


def as_stream(reply: Reply, call: Call, voice: Dialect) -> tuple[bytes, str]:
    """All of a stream, and its media type."""
    writer = voice.writer(call)
    return b"".join(writer.write(event) for event in unfold(reply)), call.stream_type or voice.stream_type


def keep(gateway: Gateway, heard: RequestState, answer: ResponseState, turn: CacheLookup, cost: Decimal | None) -> None:
    """Gives the cache a reply that may be given again, and lets go those who wait for it. A bug of ours on the way must
    not keep the exchange from being settled."""
    try:
        made = _made(gateway, heard, answer, turn, cost)
        if made is not None:
            turn.store(made)
    except Exception as bug:  # noqa: BLE001  # whatever it is: the caller has his answer, and the bill comes next
        gateway.report(bug)
    finally:
        turn.close()


def _made(
    gateway: Gateway, heard: RequestState, answer: ResponseState, turn: CacheLookup, cost: Decimal | None
) -> NewReply | None:
    candidate, reply = answer.candidate, answer.reply
    if candidate is None or answer.fault is not None or answer.bug or not turn.may_store:
        return None
    if answer.relay is not None:
        tally = answer.relay.tally
        whole = tally.ended and tally.failed is None and not tally.garbled
        reply = tally.fold.reply() if whole and tally.fold is not None else None
    if reply is None or not turn.is_storable(reply):
        return None
    body = answer.body
    if body is None:
        body = dialect_of(require(heard.call), candidate, gateway).write_reply(reply)
    return NewReply(reply, body, candidate.provider, candidate.model, cost, answer.dropped)

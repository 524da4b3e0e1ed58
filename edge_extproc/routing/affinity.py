"""Prompt-cache affinity: calls that begin alike go to the same candidate, whose prompt cache is warm for them.

A modifier of every strategy: it moves one candidate to the front and leaves the rest in the strategy's order. Which one
is decided by rendezvous hashing of the tenant and either a session that the caller names in a header or the beginning
of the prompt. So all workers agree without talking, and when a candidate goes only its own calls move.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b

import msgspec

from ..model.plan import Candidate
from .base import RoutingRequest


class _Beginning(msgspec.Struct):
    """What stands before everything else in a prompt, in any of the formats; the rest is not decoded."""

    tools: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    system_instruction: msgspec.Raw = msgspec.field(name="systemInstruction", default=msgspec.Raw(b""))
    messages: list[msgspec.Raw] | None = None
    contents: list[msgspec.Raw] | None = None
    input: msgspec.Raw = msgspec.Raw(b"")
    previous_response_id: msgspec.Raw = msgspec.Raw(b"")


_decoder = msgspec.json.Decoder(_Beginning)
# Of a Responses input, which is a text or a list: enough to tell conversations apart, and there from the first turn on.
_INPUT_BYTES = 512


@dataclass(frozen=True, slots=True)
class Affinity:
    session_header: str | None = None
    """Where the caller may name its session; without it (or without a value there) the prompt's beginning counts."""

    def prefer(self, wish: RoutingRequest, ordered: Sequence[Candidate]) -> Sequence[Candidate]:
        """`ordered` with the candidate of this session or prompt in front."""
        if len(ordered) < 2:
            return ordered
        session = wish.header(self.session_header) if self.session_header is not None else None
        named = b"s" + session.encode(errors="surrogateescape") if session else b"p" + beginning(wish.call.raw)
        seed = _number(named, wish.tenant.encode()[:64])
        drawn = [_mixed(seed ^ _name_number(candidate.provider, candidate.model)) for candidate in ordered]
        weights = {candidate.weight for candidate in ordered}
        if len(weights) > 1:
            # Weighted rendezvous: of many seeds, each candidate draws its weight's share.
            shares = [-c.weight / math.log((n + 1) / (_ALL + 2)) for n, c in zip(drawn, ordered, strict=True)]
            first = ordered[shares.index(max(shares))]
        else:
            first = ordered[drawn.index(max(drawn))]
        return [first, *[candidate for candidate in ordered if candidate is not first]]


def beginning(raw: bytes) -> bytes:
    """The tools, the system prompt and the first message of a request in any format; all of it where it is none."""
    try:
        found = _decoder.decode(raw)
    except msgspec.MsgspecError:
        return raw
    first = [bytes(turns[0]) for turns in (found.messages, found.contents) if turns]
    fixed = (found.tools, found.system, found.instructions, found.system_instruction, found.previous_response_id)
    return b"\0".join([*map(bytes, fixed), *first, bytes(found.input)[:_INPUT_BYTES]])


_ALL = 2**64 - 1


def _mixed(number: int) -> int:
    """The finalizer of splitmix64: every bit of the result depends on every bit of the number."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _ALL
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _ALL
    return number ^ (number >> 31)


@lru_cache(maxsize=1024)
def _name_number(provider: str, model: str) -> int:
    return _number(f"{provider}\0{model}".encode(errors="surrogateescape"))


def _number(text: bytes, key: bytes = b"") -> int:
    return int.from_bytes(blake2b(text, digest_size=8, key=key).digest(), "big")

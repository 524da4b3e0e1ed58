"""Prompt-cache affinity: calls with the same prompt prefix go to the same candidate, which has cached that prefix.

It works with every strategy: it moves one candidate to the front, and leaves the others in the strategy's order. The
candidate is chosen by rendezvous hashing of the tenant and either the session that the caller names in a header, or the
prompt prefix. So all workers choose the same one without communication, and if a candidate is removed, only its own
calls move.
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


class _PromptPrefix(msgspec.Struct):
    """The fields that come first in a prompt, in all formats. The others are not decoded."""

    tools: msgspec.Raw = msgspec.Raw(b"")
    system: msgspec.Raw = msgspec.Raw(b"")
    instructions: msgspec.Raw = msgspec.Raw(b"")
    system_instruction: msgspec.Raw = msgspec.field(name="systemInstruction", default=msgspec.Raw(b""))
    messages: list[msgspec.Raw] | None = None
    contents: list[msgspec.Raw] | None = None
    input: msgspec.Raw = msgspec.Raw(b"")
    previous_response_id: msgspec.Raw = msgspec.Raw(b"")


_decoder = msgspec.json.Decoder(_PromptPrefix)
# Bytes of a Responses API `input`, a text or a list: enough to distinguish conversations, and equal in all their turns.
_INPUT_BYTES = 512


@dataclass(frozen=True, slots=True)
class Affinity:
    session_header: str | None = None
    """The request header with the caller's session. None, or no such header: the prompt prefix is used."""

    def prefer(self, request: RoutingRequest, ordered: Sequence[Candidate]) -> Sequence[Candidate]:
        """`ordered` with the candidate of this session or prompt in front."""
        if len(ordered) < 2:
            return ordered
        session = request.header(self.session_header) if self.session_header is not None else None
        key = b"s" + session.encode(errors="surrogateescape") if session else b"p" + prompt_prefix(request.call.raw)
        seed = _hash(key, request.tenant.encode()[:64])
        hashes = [_mix(seed ^ _name_hash(candidate.provider, candidate.model)) for candidate in ordered]
        weights = {candidate.weight for candidate in ordered}
        if len(weights) > 1:
            # Weighted rendezvous hashing: each candidate wins a share of the keys proportional to its weight.
            shares = [-c.weight / math.log((n + 1) / (_MAX_HASH + 2)) for n, c in zip(hashes, ordered, strict=True)]
            first = ordered[shares.index(max(shares))]
        else:
            first = ordered[hashes.index(max(hashes))]
        return [first, *[candidate for candidate in ordered if candidate is not first]]


def prompt_prefix(raw: bytes) -> bytes:
    """The tools, the system prompt and the first message of a request body in any format. The whole body if it cannot
    be decoded."""
    try:
        body = _decoder.decode(raw)
    except msgspec.MsgspecError:
        return raw
    first = [bytes(turns[0]) for turns in (body.messages, body.contents) if turns]
    fixed = (body.tools, body.system, body.instructions, body.system_instruction, body.previous_response_id)
    return b"\0".join([*map(bytes, fixed), *first, bytes(body.input)[:_INPUT_BYTES]])


_MAX_HASH = 2**64 - 1


def _mix(number: int) -> int:
    """The finalizer of splitmix64: every bit of the result depends on every bit of the number."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MAX_HASH
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MAX_HASH
    return number ^ (number >> 31)


@lru_cache(maxsize=1024)
def _name_hash(provider: str, model: str) -> int:
    return _hash(f"{provider}\0{model}".encode(errors="surrogateescape"))


def _hash(text: bytes, key: bytes = b"") -> int:
    return int.from_bytes(blake2b(text, digest_size=8, key=key).digest(), "big")

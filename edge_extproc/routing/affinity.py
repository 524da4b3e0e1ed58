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
from msgspec.structs import astuple

from ..codecs.json_values import UNREADABLE
from ..codecs.request_lines import has_line, without_lines
from ..model.plan import Candidate
from ..model.wire_names import WireNames
from .base import RoutingRequest

_FIRST_CHARACTERS = 512
"""Of a prompt that is one text: enough to distinguish prompts."""


class PromptPrefix:
    """Finds the beginning of a prompt in a body of any format. `names`: those of all dialects."""

    __slots__ = ("_decoder", "_fixed", "_lines")

    def __init__(self, names: WireNames) -> None:
        fixed = sorted(names.prefix - names.messages)
        self._fixed = len(fixed)
        self._lines = names.request_lines
        # The other fields of a body are not decoded. A name of the wire format need not be one of Python.
        fields = [(msgspec.Raw, msgspec.field(name=name, default=_ABSENT)) for name in fixed] + [
            (list[msgspec.Raw] | str | None, msgspec.field(name=name, default=None)) for name in sorted(names.messages)
        ]
        struct = msgspec.defstruct("Prefix", [(f"f{n}", kind, field) for n, (kind, field) in enumerate(fields)])
        self._decoder = msgspec.json.Decoder(struct)

    def of(self, raw: bytes) -> bytes:
        """The tools, the system prompt and the first message of a request. The whole body if it cannot be decoded."""
        try:
            values = astuple(self._decoder.decode(raw))
        except UNREADABLE:
            return raw
        first = [
            messages[:_FIRST_CHARACTERS].encode() if isinstance(messages, str) else messages[0]
            for messages in values[self._fixed :]
            if messages
        ]
        fixed = values[: self._fixed]
        if has_line(raw, self._lines):
            fixed = tuple(map(self._without_lines, fixed))
        return b"\0".join([*fixed, *first])

    def _without_lines(self, value: msgspec.Raw) -> bytes:
        if not has_line(bytes(value), self._lines):
            return bytes(value)
        return msgspec.json.encode(without_lines(msgspec.json.decode(value), self._lines))


_ABSENT = msgspec.Raw(b"")


@dataclass(frozen=True, slots=True)
class Affinity:
    prefix: PromptPrefix
    session_header: str | None = None
    """The request header with the caller's session. None, or no such header: the prompt prefix is used."""

    def prefer(self, request: RoutingRequest, ordered: Sequence[Candidate]) -> Sequence[Candidate]:
        """`ordered` with the candidate of this session or prompt in front."""
        if len(ordered) < 2:
            return ordered
        session = request.header(self.session_header) if self.session_header is not None else None
        key = b"s" + session.encode(errors="surrogateescape") if session else b"p" + self.prefix.of(request.call.raw)
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

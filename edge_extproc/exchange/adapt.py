"""A call, made ready for one candidate.

Pure: the same call and candidate give the same bytes, whatever was tried before. Over the raw lane (the provider
speaks the caller's dialect) the caller's own bytes go, changed only in our fields; over the cross lane the call is
read into our nouns and written anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from ..dialects.base import Dialect
from ..errors import Unsupported
from ..model.call import Call
from ..model.plan import Candidate
from ..providers.base import Provider, UpstreamRequest


@dataclass(frozen=True, slots=True)
class Adapted:
    request: UpstreamRequest
    lane: Literal["raw", "cross"]
    dropped: tuple[str, ...]
    """What the caller asked for and this provider cannot be told."""


def adapt(
    call: Call, candidate: Candidate, dialects: Mapping[str, Dialect], providers: Mapping[str, Provider]
) -> Adapted:
    """Raises BadRequest (Unsupported among them) where the candidate cannot be asked this at all."""
    provider = providers[candidate.provider]
    target = dialects[provider.dialect]
    path = target.path(call.operation, candidate.model, stream=call.stream)
    if provider.dialect == call.dialect:
        written = target.splice(call, candidate.model)
        return Adapted(provider.request(call.operation, path, written.body), "raw", written.dropped)
    if call.operation != "chat":
        raise Unsupported(f"{call.operation} of {call.model!r}", target.title)
    chat = dialects[call.dialect].read_chat(call)
    if chat.needed:
        raise Unsupported(chat.needed[0], target.title, "only a provider of the caller's own format can honour it")
    written = target.write_chat(chat, candidate.model)
    return Adapted(provider.request(call.operation, path, written.body), "cross", written.dropped)

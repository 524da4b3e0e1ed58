"""`Idempotency-Key`: of equal requests of one tenant under one key, one is sent, and all get its reply (docs/adr/185).

The reply is kept as the caller gets it, byte for byte, when its last bytes are ready. Only a complete reply is kept:
after an error, or if the caller has left, a repeated request is sent again.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from hashlib import blake2b

from ..codecs.content_type import media_type, parameters
from ..errors import BadRequest
from ..records.repeats import FINGERPRINT_BYTES, IdempotentReply, RepeatClaim
from .commands import Command, Continue
from .events import Event, ResponseBody, ResponseHeaders
from .large_bodies import AT_ONCE
from .phases import Identified
from .ports import Gateway
from .response import Receiving, ResponsePhase

HEADER = "idempotency-key"
_KEY = re.compile(r"[\x20-\x7e]{1,255}")


async def begin(
    gateway: Gateway,
    identified: Identified,
    body: bytes,
    more_time: Callable[[float], Awaitable[None]],
    *,
    large: bool,
) -> ReplyCollector | IdempotentReply | None:
    """None: the request has no key. `large`: the body is read off the event loop. Raises BadRequest, and the errors of
    `Repeats.begin`."""
    received, repeats = identified.received, gateway.repeats
    key = received.values.get(HEADER)
    if key is None or repeats is None or received.method != "POST":
        return None
    if not _KEY.fullmatch(key):
        raise BadRequest("the Idempotency-Key must be 1 to 255 printable ASCII characters", param=HEADER)
    runner = gateway.large_body_runner if large else AT_ONCE
    digest = await runner.run(fingerprint, identified, body, gateway.wire_names.headers)
    found = await repeats.begin(identified.principal.tenant, key, digest, more_time)
    return ReplyCollector(found) if isinstance(found, RepeatClaim) else found


def fingerprint(identified: Identified, body: bytes, headers: frozenset[str]) -> bytes:
    """A digest of what makes two requests equal. `headers`: names of headers that change a reply."""
    received = identified.received
    content_type = received.values.get("content-type", "")
    boundary = parameters(content_type).get("boundary")
    if boundary and media_type(content_type) == "multipart/form-data":
        # A client chooses a new boundary for each try.
        body, content_type = body.replace(boundary.encode(errors="surrogateescape"), b""), "multipart/form-data"
    digest = blake2b(digest_size=FINGERPRINT_BYTES)
    fields = sorted((name, value) for name, value in received.headers if name in headers)
    parts = [received.values.get(":path", ""), content_type, *(text for pair in fields for text in pair)]
    for part in (*(text.encode(errors="surrogateescape") for text in parts), body):
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.digest()


def own_key(tenant: str, key: str) -> str:
    """The key for a provider: another one for each tenant, since they share its account."""
    digest = blake2b(digest_size=16)
    for part in (tenant, key):
        raw = part.encode(errors="surrogateescape")
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return f"edge-{digest.hexdigest()}"


class ReplyCollector:
    """Collects the reply to the first request with a key."""

    __slots__ = ("_body", "_claim", "_content_type", "_is_open", "_is_too_long")

    def __init__(self, claim: RepeatClaim) -> None:
        self._claim = claim
        self._body = bytearray()
        self._content_type = ""
        self._is_too_long = False
        self._is_open = True

    async def note(self, event: Event, command: Command, phase: ResponsePhase | None) -> None:
        """Takes what goes to the caller for one event of the response. Keeps the reply at its end."""
        if not self._is_open or not isinstance(command, Continue) or not isinstance(phase, Receiving):
            return
        set_headers = dict(command.set_headers)
        if isinstance(event, ResponseHeaders):
            of_provider = phase.answered.head.values.get("content-type", "")
            self._content_type = set_headers.get("content-type", of_provider)
        elif isinstance(event, ResponseBody):
            self._content_type = set_headers.get("content-type", self._content_type)
            self._add(event.body if command.body is None else command.body)
            if event.end and _is_complete(phase):
                self._is_open = False
                status = phase.answered.head.status
                reply = (
                    IdempotentReply(status, self._content_type, bytes(self._body)) if not self._is_too_long else None
                )
                await self._claim.finish(reply)

    def _add(self, data: bytes) -> None:
        self._is_too_long = self._is_too_long or len(self._body) + len(data) > self._claim.max_reply
        if self._is_too_long:
            self._body.clear()
        else:
            self._body += data

    def close(self) -> None:
        """The exchange has ended. Without a complete reply, the next request with this key is sent."""
        if self._is_open:
            self._is_open = False
            self._claim.release()


def _is_complete(phase: Receiving) -> bool:
    """Whether the whole body is a successful reply."""
    if not 200 <= phase.answered.head.status < 300:
        return False
    tally, operation = phase.body.tally, phase.body.operation
    return tally is None or (tally.failed is None and (tally.ended or tally.blocked or operation is not None))

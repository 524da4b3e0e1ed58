"""What the store of conversations does for an exchange: the context of its request, the record of its reply, and the
API of stored objects.

A reply is stored from the bytes that go to the caller, before the last of them goes there. So a caller that has read a
reply can refer to it at once, and the stored reply is the one that the caller got.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from ..conversations.base import perform
from ..dialects.base import ReplyListener, StatefulDialect, StoredAnswer
from ..errors import EdgeError, NoSuchRoute
from ..model.call import Call
from .adapt import format_of
from .body_shape import check_shape
from .commands import Command, Continue, ImmediateResponse
from .events import Event, ResponseBody
from .parsed_call import ParsedCall
from .phases import Identified
from .ports import Gateway
from .response import CachedReply, Receiving, ResponsePhase

_OK = 200
_LONG_SECONDS = 30.0  # How long Envoy waits for a stream that is written again.


async def serve_stored(
    gateway: Gateway, identified: Identified, body: bytes, more_time: Callable[[float], Awaitable[None]]
) -> StoredAnswer:
    """The answer to a request for a stored object. `more_time` is called before work that may take long. Raises
    CallerError."""
    store, dialect, received = gateway.conversations, identified.caller_dialect, identified.received
    if store is None or not isinstance(dialect, StatefulDialect):
        raise NoSuchRoute("this gateway stores no conversations")  # pragma: no cover - without a store, no such routes
    check_shape(body, identified.route.operation, gateway.shape, gateway.wire_names)
    query = received.values.get(":path", "").partition("?")[2]
    now = int(gateway.clock.time())
    steps = dialect.serve_stored(received.method, received.path, query, body, gateway.new_id(), now)
    answer = await perform(store, identified.principal.tenant, steps)
    if answer.write is not None:
        await more_time(_LONG_SECONDS)
        answer = replace(answer, body=await gateway.large_body_runner.run(answer.write), write=None)
    return answer


async def with_context(gateway: Gateway, identified: Identified, parsed: ParsedCall) -> ParsedCall:
    """The call with the stored context that it refers to. Everything after this step, such as limits, the cache and
    the prompt of each attempt, sees the whole conversation. Raises CallerError, or PolicyUnavailable."""
    store, dialect, call = gateway.conversations, identified.caller_dialect, parsed.call
    if store is None or call.operation != "chat" or not isinstance(dialect, StatefulDialect):
        return parsed
    call = await perform(store, identified.principal.tenant, dialect.add_context(call, gateway.new_id()))
    if call.stored is not None and call.stored.has_context:
        gateway.body_limits.check_request(len(call.raw))
        check_shape(call.raw, call.operation, gateway.shape, gateway.wire_names)
    return ParsedCall(call, dialect, None)


class ReplyRecorder:
    """Stores the reply of one exchange."""

    def __init__(self, gateway: Gateway, identified: Identified, call: Call) -> None:
        self._gateway = gateway
        self._tenant = identified.principal.tenant
        self._call = call
        stored, dialect = call.stored, identified.caller_dialect
        is_stored = stored is not None and (stored.keeps or stored.conversation is not None)
        self._dialect = dialect if is_stored and isinstance(dialect, StatefulDialect) else None
        self._listener: ReplyListener | None = None

    async def note(self, event: Event, command: Command, response: ResponsePhase | None) -> None:
        """Reads what `command` sends to the caller, and stores the reply when it is complete. An error of the store
        does not change the reply."""
        if self._dialect is None:
            return
        if isinstance(command, ImmediateResponse):
            body = command.body if command.status == _OK and isinstance(response, CachedReply) else b""
        elif isinstance(event, ResponseBody) and isinstance(command, Continue):
            body = event.body if command.body is None else command.body
        else:
            return
        if self._listener is None:
            if _is_stored_by_provider(self._gateway, self._call, response):
                self._dialect = None
                return
            self._listener = self._dialect.reply_listener(self._call)
        reply = self._listener.feed(body)
        store = self._gateway.conversations
        if reply is None or store is None:
            return
        steps, self._dialect = self._dialect.store_reply(self._call, reply), None
        try:
            await perform(store, self._tenant, steps)
        except EdgeError as error:
            store.not_stored(self._tenant, error)


def _is_stored_by_provider(gateway: Gateway, call: Call, response: ResponsePhase | None) -> bool:
    """Whether the provider stores the reply, and its conversation was not stored here before."""
    if call.stored is None or call.stored.has_context:
        return False
    if isinstance(response, CachedReply):
        entry = response.entry
        return entry.dialect == call.dialect and _stores(gateway, entry.provider)
    if not isinstance(response, Receiving):
        return False
    candidate = response.answered.candidate
    provider = gateway.providers[candidate.provider]
    return format_of(call, candidate, provider) == call.dialect and _stores(gateway, candidate.provider)


def _stores(gateway: Gateway, provider: str) -> bool:
    found = gateway.providers.get(provider)
    return found is not None and found.profile.stores_replies

"""One open session: reserves each response before it begins, and settles it when it ends.

The classes for each API read its messages (realtime_session.py, responses_session.py, live_session.py). A refusal ends
the session: the caller gets an error event, if the API has one, and a close. These wait until Envoy sends a part of
that direction, so the provider gets a ping, which it answers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

from ...codecs.websocket import FAILED, POLICY, MessageKind, SocketMessage, WebSocketFault, encode
from ...errors import BadRequest, EdgeError, NoSuchObject
from ...limits.base import ReservationRequest
from ...model.call import Call
from ...model.content import Json
from ...model.fault import Fault
from ...model.plan import Candidate
from ...model.plausible import is_plausible
from ...model.settlement import Outcome
from ...model.usage import Usage
from ..handler import Closing
from ..large_bodies import AT_ONCE, is_large
from ..phases import Identified
from ..ports import Gateway
from ..settling import send
from ..worst_case import session_reservation
from .open_response import Extent, OpenResponse, settlement_of
from .upgrade import Target

_SERVERS = 500
"""The first status of a failure that is not the caller's."""
_CLOSING_SECONDS = 5.0
"""A caller that has got an error has so long to answer the close."""
MOST_OPEN = 32
"""Responses in progress in one session."""


@dataclass(slots=True)
class Outgoing:
    """What a direction gets for one part of it."""

    parts: list[bytes] = field(default_factory=list)

    def add(self, wire: bytes) -> None:
        self.parts.append(wire)


class SocketSession(ABC):
    """What the sessions of all APIs have in common."""

    kinds: frozenset[MessageKind] = frozenset({"text"})
    """The kinds of messages that contain events."""

    def __init__(
        self,
        gateway: Gateway,
        identified: Identified,
        target: Target,
        began_response: Callable[[], None],
        identify: Callable[[Identified], Identified],
    ) -> None:
        """`began_response` is called for each response that will be settled. `identify` returns the caller as it is
        now, and raises the errors of authentication."""
        self._gateway = gateway
        self._identified = identified
        self._target = target
        self._began_response = began_response
        self._identify = identify
        self._open: list[OpenResponse] = []
        self._waiting_for_caller: list[bytes] = []
        self._sent = Extent()
        """All tokens that the caller has sent."""
        self._known, self._known_at = 0, Extent()
        """The tokens of the conversation by the last usage, and what was sent before that response began."""
        self._turn = Extent()
        """What was sent when the last response ended."""
        self._rewrites = False
        """A message of the caller was written anew. A compressed one after it could refer to the original, so all that
        follow are written without compression."""
        self._ended_at: float | None = None
        self.fault: Fault | None = None
        """The refusal that has ended it."""
        self.spent = 0.0
        """Seconds that its messages have taken in the agent."""
        self._left: Outcome | None = None
        """By the side that has closed the session first."""

    @property
    def is_ending(self) -> bool:
        return self._ended_at is not None

    @property
    def is_overdue(self) -> bool:
        """The caller does not end a session that the gateway has ended."""
        return self._ended_at is not None and self._gateway.clock.monotonic() - self._ended_at > _CLOSING_SECONDS

    # --- of each API

    @abstractmethod
    async def _callers_event(self, message: SocketMessage, out: Outgoing) -> None:
        """Checks an event of the caller, and adds it to what the provider gets. Raises EdgeError."""

    @abstractmethod
    async def _providers_event(self, payload: bytes) -> None:
        """Reserves and settles responses by an event of the provider."""

    @abstractmethod
    def _error_event(self, fault: Fault) -> bytes | None:
        """None: this API shows errors only by the reason of a close."""

    @abstractmethod
    def _before_end(self) -> None:
        """Settles what has ended without its usage."""

    # --- the caller's messages

    async def from_caller(self, messages: list[SocketMessage]) -> Outgoing:
        """What the provider gets. The refusal of a message ends the session."""
        out = Outgoing()
        for message in messages:
            if self.is_ending:
                out.add(message.wire if message.kind == "close" else b"")
                continue
            try:
                await self._callers_message(message, out)
            except EdgeError as error:
                self._refuse(error.fault(), out)
        return out

    def broken_by_caller(self, fault: WebSocketFault, out: Outgoing) -> None:
        """The caller's bytes cannot be read, or a message is over the limit. `out`: what the provider gets."""
        self._end(out, fault.code, str(fault), None)

    async def _callers_message(self, message: SocketMessage, out: Outgoing) -> None:
        if message.kind in self.kinds:
            await self._callers_event(message, out)
            return
        if message.kind == "binary":
            raise BadRequest("this API has no binary messages; send events as text")
        if message.kind == "close":
            self._left = self._left or "caller_left"
        out.add(message.wire)

    def _add(self, most: int, likely: int) -> None:
        self._sent = Extent(self._sent.most + most, self._sent.likely + likely)

    def _pass(self, payload: bytes, message: SocketMessage, out: Outgoing, *, rewritten: bool = False) -> None:
        self._rewrites = self._rewrites or rewritten
        out.add(encode(message.kind, payload, from_client=True) if self._rewrites else message.wire)

    async def _check_objects(self, call: Call, more: tuple[str, ...] = ()) -> None:
        """The stored objects that an event names must be the tenant's, if tenants share the account. An item that it
        refers to is one of the session. `more`: further ids. Raises NoSuchObject."""
        owners, provider = self._gateway.owners, self._target.candidate.provider
        if owners is None or not owners.checks or not owners.is_shared(provider):
            return
        runner = self._gateway.large_body_runner if is_large(call.raw) else AT_ONCE
        found = await runner.run(self._gateway.id_searches[False].ids_in, call, "")
        named = {each.id: each.param for each in found if not each.is_reference} | dict.fromkeys(more, "handle")
        if named:
            owned = await owners.owned(provider, self._identified.principal.tenant, tuple(named))
            for (name, param), is_owned in zip(named.items(), owned, strict=True):
                if not is_owned:
                    raise NoSuchObject(name, param=param)

    # --- a response begins

    def _response(self, call: Call, candidate: Candidate, estimate: Usage, extent: Extent) -> OpenResponse:
        """`extent`: what the caller had sent when it began."""
        clock, exchange_id = self._gateway.clock, self._gateway.new_id()
        return OpenResponse(
            exchange_id, candidate, call, estimate, clock.monotonic(), clock.time(), extent, spent=self.spent
        )

    def _likely_prompt(self) -> int:
        likely = self._known + self._sent.likely - self._known_at.likely
        return min(likely, self._gateway.bounds.context_window)

    async def _reserve(self, response: OpenResponse, *, has_begun: bool = False) -> None:
        """Raises the errors of authentication and of `Limiter.admit`. The refusal is settled: now, or with what was
        used, if the response `has_begun` at the provider."""
        self._began_response()
        response.is_sent = has_begun
        self._open.append(response)  # now, because the caller may leave while the limiter is asked
        try:
            self._identified = self._identify(self._identified)
            limiter, limits = self._gateway.limiter, self._identified.limits
            if limiter is not None and limits is not None:
                request = self._most_of(response, priced=limits.count_dollars)
                await limiter.admit(response.exchange_id, limits, request)
        except EdgeError as error:
            if has_begun:
                response.refused = error.fault()
            else:
                self._open.remove(response)
                self._settle(response, "rejected", None, fault=error.fault())
            raise
        response.is_sent = True

    async def _reserve_unasked(self, response: OpenResponse) -> None:
        """For a response that has begun at the provider. A refusal ends the session."""
        try:
            await self._reserve(response, has_begun=True)
        except EdgeError as error:
            self._refuse(error.fault(), None)

    def _most_of(self, response: OpenResponse, *, priced: bool) -> ReservationRequest:
        """Its prompt is all of the conversation."""
        gateway, call = self._gateway, response.call
        output = call.max_output_tokens
        if output is None:
            output = gateway.bounds.output_of(response.candidate.model)
        prompt = self._known + self._sent.most - self._known_at.most
        provider = gateway.providers[response.candidate.provider]
        return session_reservation(
            call.model, response.candidate, provider, gateway.prices, gateway.bounds, prompt, output, priced=priced
        )

    # --- the provider's messages

    async def from_provider(self, messages: list[SocketMessage], *, end: bool) -> Outgoing:
        """What the caller gets. `end`: the provider sends nothing more."""
        out = Outgoing()
        for message in messages:
            if message.kind in self.kinds:
                await self._providers_event(message.payload)
            elif message.kind == "close":
                self._provider_leaves()
            out.add(b"" if self.is_ending else message.wire)
        if end:
            self._provider_leaves()
        for waiting in self._waiting_for_caller:
            out.add(waiting)
        self._waiting_for_caller.clear()
        return out

    def _provider_leaves(self) -> None:
        if not self.is_ending:
            self._left = self._left or "broken_stream"

    def broken_by_provider(self, fault: WebSocketFault, out: Outgoing) -> None:
        """The same of the provider. `out`: what the caller gets."""
        if self.is_ending:
            return
        self._provider_leaves()
        self._ended_at = self._gateway.clock.monotonic()
        out.add(encode("close", str(fault).encode(), from_client=False, code=FAILED))

    # --- the end

    def _measure(self, response: OpenResponse, usage: Usage | None) -> None:
        """The usage of a response shows how long the conversation was, and what it has added."""
        self._turn = self._sent
        if usage is None or response.is_apart or not is_plausible(usage) or usage.prompt_unknown:
            return
        if response.extent.most >= self._known_at.most:
            self._known, self._known_at = usage.total, response.extent

    def _refuse(self, fault: Fault, out: Outgoing | None) -> None:
        """`out`: what the provider gets; None while its own messages are read."""
        self._end(out, POLICY if fault.status < _SERVERS else FAILED, fault.message, fault)

    def _end(self, out: Outgoing | None, code: int, reason: str, fault: Fault | None) -> None:
        """The provider gets a ping, whose answer carries the error and a close to the caller; the caller's answer to
        the close goes to the provider. A close would not do: the provider may end the connection with its answer, and
        Envoy drops what waits for the agent when a connection ends. `out`: None while the provider's messages are read,
        which carry the error themselves."""
        if self.is_ending:
            return
        self._ended_at = self._gateway.clock.monotonic()
        self.fault = fault
        if fault is not None and (event := self._error_event(fault)) is not None:
            self._waiting_for_caller.append(encode("text", event, from_client=False))
        self._waiting_for_caller.append(encode("close", reason.encode(), from_client=False, code=code))
        if out is not None:
            out.add(encode("ping", b"", from_client=True))

    @property
    def is_responding(self) -> bool:
        """Whether responses are in progress."""
        return bool(self._open)

    def closed(self, why: Closing) -> None:
        """Settles the responses in progress."""
        outcome = self._left or "caller_left"
        if why == "error":
            outcome = "gateway_error"
        elif why == "stopping":
            outcome = "stopped"
        elif why == "broken":
            outcome = "broken_stream"
        self._before_end()
        for response in self._open:
            refused = response.refused
            self._settle(response, outcome if refused is None else "rejected", None, fault=refused)
        self._open.clear()

    def _settle(
        self,
        response: OpenResponse,
        outcome: Outcome,
        usage: Usage | None,
        *,
        fault: Fault | None = None,
        model: Json = None,
    ) -> None:
        response.spent = self.spent - response.spent
        settlement = settlement_of(self._gateway, self._identified, response, outcome, usage, fault=fault, model=model)
        send(self._gateway, settlement)

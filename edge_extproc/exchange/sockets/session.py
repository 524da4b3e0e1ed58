"""One open session: reserves each response before it begins, and settles it when it ends.

    the caller's messages      response.create  → the rights, the model and the limits are checked; then it passes
                               session.update   → its model is checked
    the provider's messages    response.created → a response that no message asked for is reserved now
                               response.done    → its usage is settled

A refusal ends the session: the caller gets an error event and a close. These wait until Envoy sends a part of that
direction, so the provider gets a ping, which it answers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from ...accounting.estimate import tokens_of_length
from ...codecs.json_values import encode as encode_json
from ...codecs.json_values import object_in
from ...codecs.websocket import FAILED, POLICY, SocketMessage, WebSocketFault, encode
from ...dialects.openai_responses import socket_events
from ...dialects.stored_ids import ids_made
from ...errors import BadRequest, EdgeError, NoSuchObject
from ...limits.base import ReservationRequest
from ...model.call import Call
from ...model.content import Json
from ...model.fault import Fault
from ...model.plan import Candidate
from ...model.plausible import is_plausible
from ...model.settlement import Outcome
from ...model.usage import Usage
from ...records.owners import REPLY_SECONDS
from ..handler import Closing
from ..large_bodies import AT_ONCE, is_large
from ..object_access import object_access
from ..phases import Identified
from ..ports import Gateway
from ..read_call import read_call
from ..settling import send
from ..worst_case import reservation_request, session_reservation
from .callers_event import CallersEvent, read_event
from .open_response import Extent, OpenResponse, settlement_of
from .upgrade import Target, candidate_of, session_call

# The most output tokens of one response of Realtime, by OpenAI's reference of `max_output_tokens`.
_MOST_SPOKEN = 4_096
_SERVERS = 500
"""The first status of a failure that is not the caller's."""
# Base64 characters of audio for a token of it, at the least and in G.711, which has the fewest. A token is a tenth of a
# second.
_AUDIO_CHARACTERS, _G711_CHARACTERS = 64, 1_066
_MOST_OPEN = 32
"""Responses in progress in one session of Realtime, of which one is in the conversation."""
_REMEMBERED = 64
"""Ids of responses that are settled."""
_CLOSING_SECONDS = 5.0
"""A caller that has got an error has so long to answer the close."""


@dataclass(slots=True)
class Outgoing:
    """What a direction gets for one part of it."""

    parts: list[bytes] = field(default_factory=list)
    changed: bool = False

    def add(self, wire: bytes, *, changed: bool = False) -> None:
        self.parts.append(wire)
        self.changed = self.changed or changed


class SocketSession:
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
        self._settled_ids: deque[str] = deque(maxlen=_REMEMBERED)
        self._last: OpenResponse | None = None
        """The last response that the provider has refused: its beginning may still come."""
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
        self._left: Outcome | None = None
        """By the side that has closed the session first."""

    @property
    def is_ending(self) -> bool:
        return self._ended_at is not None

    @property
    def is_overdue(self) -> bool:
        """The caller does not end a session that the gateway has ended."""
        return self._ended_at is not None and self._gateway.clock.monotonic() - self._ended_at > _CLOSING_SECONDS

    # --- the caller's messages

    async def from_caller(self, messages: list[SocketMessage]) -> Outgoing:
        """What the provider gets. The refusal of a message ends the session."""
        out = Outgoing()
        for message in messages:
            if self.is_ending:
                self._after_the_end(message, out)
                continue
            try:
                await self._caller_message(message, out)
            except EdgeError as error:
                self._refuse(error.fault(), out)
        return out

    def broken_by_caller(self, fault: WebSocketFault, out: Outgoing) -> None:
        """The caller's bytes cannot be read, or a message is over the limit. `out`: what the provider gets."""
        self._end(out, fault.code, str(fault), None)

    @staticmethod
    def _after_the_end(message: SocketMessage, out: Outgoing) -> None:
        if message.kind == "close":
            out.add(message.wire)
        else:
            out.add(b"", changed=True)

    async def _caller_message(self, message: SocketMessage, out: Outgoing) -> None:
        if message.kind == "binary":
            raise BadRequest("this API has no binary messages; send events as text")
        if message.kind == "close":
            self._left = self._left or "caller_left"
        if message.kind != "text":
            out.add(message.wire)
            return
        payload = message.payload
        realtime = self._target.api == "realtime"
        if realtime and socket_events.type_of(payload) == socket_events.AUDIO and socket_events.has_one_type(payload):
            self._add(len(payload) // _AUDIO_CHARACTERS, len(payload) // _G711_CHARACTERS)
            self._pass(payload, message.wire, out)
            return
        # What was checked is sent: of two members of one name, another parser may read the other one.
        read = await self._read(payload)
        if realtime:
            written = await self._realtime_event(read)
        elif read.kind == socket_events.CREATE:
            written = await self._admit_request(read)
        elif read.kind in socket_events.RESPONSES_EVENTS:
            written = read.payload
        else:
            types = ", ".join(sorted(socket_events.RESPONSES_EVENTS))
            raise BadRequest(f"the type of an event must be one of {types}", param="type")
        self._pass(written, message.wire, out, rewritten=True)

    def _add(self, most: int, likely: int) -> None:
        self._sent = Extent(self._sent.most + most, self._sent.likely + likely)

    async def _realtime_event(self, read: CallersEvent) -> bytes:
        self._add(read.most, tokens_of_length(len(read.payload)))
        await self._check_realtime(read)
        event = self._with_models(read.event)
        if read.kind == socket_events.CREATE:
            event = await self._admit_asked(event)
        return read.payload if event is read.event else encode_json(event)

    def _pass(self, payload: bytes, wire: bytes, out: Outgoing, *, rewritten: bool = False) -> None:
        self._rewrites = self._rewrites or rewritten
        if self._rewrites:
            out.add(encode("text", payload, from_client=True), changed=True)
        else:
            out.add(wire)

    async def _read(self, payload: bytes) -> CallersEvent:
        if is_large(payload):
            return await self._gateway.large_body_runner.run(read_event, self._gateway, payload)
        return read_event(self._gateway, payload)

    async def _check_realtime(self, read: CallersEvent) -> None:
        """Rights that look into a request, what is charged beside the session's model, and stored objects."""
        event, rights, target = read.event, self._identified.rights, self._target
        call = session_call(target.model, read.payload)
        if rights is not None:
            rights.narrow(call, (target.candidate,))
        session = object_in(event, "session")
        listening = object_in(object_in(session, "audio"), "input")
        transcribes = listening.get("transcription") is not None or session.get("input_audio_transcription") is not None
        if transcribes or session.get("type") == "transcription":
            raise BadRequest(
                "this gateway does not meter the transcription of a session's input; leave it out",
                param="transcription",
            )
        owners, provider = self._gateway.owners, target.candidate.provider
        if owners is None or not owners.checks or not owners.is_shared(provider):
            return
        # An item that an event refers to is one of the session.
        runner = self._gateway.large_body_runner if is_large(read.payload) else AT_ONCE
        found = await runner.run(self._gateway.id_searches[False].ids_in, call, "")
        if named := [each for each in found if not each.is_reference]:
            owned = await owners.owned(provider, self._identified.principal.tenant, [each.id for each in named])
            for each, is_owned in zip(named, owned, strict=True):
                if not is_owned:
                    raise NoSuchObject(each.id, param=each.param)

    def _with_models(self, event: dict[str, Json]) -> dict[str, Json]:
        """The event with the provider's name of the session's model. Raises BadRequest for another model."""
        for name in ("session", "response"):
            part = object_in(event, name)
            model = part.get("model")
            if model is None:
                continue
            if model not in (self._target.model, self._target.candidate.model):
                raise BadRequest("the model of a session cannot be changed; open another one", param="model")
            event = {**event, name: {**part, "model": self._target.candidate.model}}
        return event

    # --- a response begins

    async def _admit_asked(self, event: dict[str, Json]) -> dict[str, Json]:
        """The event of Realtime for the provider, once its response is reserved."""
        if len(self._open) >= _MOST_OPEN:
            raise BadRequest(f"{_MOST_OPEN} responses are in progress in this session; wait for the end of one")
        named, asked = event.get("event_id"), object_in(event, "response")
        exchange_id = self._gateway.new_id()
        # An error of the provider then tells which response it concerns.
        event_id = named if isinstance(named, str) else f"edge_{exchange_id}"
        response = self._spoken(exchange_id, event_id, asked.get("max_output_tokens"), self._sent)
        response.is_apart = asked.get("conversation") == "none" or "input" in asked
        await self._reserve(response)
        return {**event, "event_id": event_id}

    def _spoken(self, exchange_id: str, event_id: str | None, most: Json, extent: Extent) -> OpenResponse:
        """A response of Realtime. `extent`: what the caller had sent when it began."""
        gateway, target = self._gateway, self._target
        output = min(most, _MOST_SPOKEN) if type(most) is int and most > 0 else _MOST_SPOKEN
        likely = self._known + self._sent.likely - self._known_at.likely
        estimate = Usage(
            input=min(likely, gateway.bounds.context_window), output=min(output, gateway.bounds.usual_output)
        )
        call = replace(session_call(target.model), max_output_tokens=output)
        return self._response(exchange_id, call, target.candidate, estimate, event_id, extent)

    async def _admit_request(self, read: CallersEvent) -> bytes:
        """The event of the Responses API for the provider, once its response is reserved. One is in progress at a
        time."""
        gateway, event, payload = self._gateway, read.event, read.payload
        self._forget_failed()
        if self._open:
            raise BadRequest("a response is in progress in this session; wait for its end")
        if event.get("background") or event.get("conversation") is not None:
            raise BadRequest("background and conversation are not supported in a session; send them as a request")
        self._identified = self._identify(self._identified)
        large = is_large(payload)
        runner = gateway.large_body_runner if large else AT_ONCE
        identified, parsed = await runner.run(read_call, gateway, self._identified, payload)
        call = parsed.call
        if call.other_models:
            raise BadRequest("further models are not supported in a session; send them as a request", param="models")
        candidate = candidate_of(gateway, identified, call, self._target.candidate.provider)
        await object_access(gateway, identified, call, (candidate,), large=large)
        profile = gateway.providers[candidate.provider].profile
        written = await runner.run(gateway.dialects[call.dialect].splice, call, candidate.model, profile)
        output = call.max_output_tokens if call.max_output_tokens is not None else gateway.bounds.usual_output
        before = self._known if socket_events.continues(event) else 0
        prompt = min(before + tokens_of_length(len(payload)), gateway.bounds.context_window)
        named = event.get("event_id")
        event_id = named if isinstance(named, str) else None
        estimate = Usage(input=prompt, output=output)
        await self._reserve(self._response(gateway.new_id(), call, candidate, estimate, event_id, self._sent))
        return written.body

    def _response(
        self,
        exchange_id: str,
        call: Call,
        candidate: Candidate,
        estimate: Usage,
        event_id: str | None,
        extent: Extent,
    ) -> OpenResponse:
        clock = self._gateway.clock
        return OpenResponse(
            exchange_id, call.model, candidate, call, estimate, clock.monotonic(), clock.time(), event_id, extent
        )

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

    def _most_of(self, response: OpenResponse, *, priced: bool) -> ReservationRequest:
        gateway, candidate, call = self._gateway, response.candidate, response.call
        if self._target.api == "responses":
            return reservation_request(
                call,
                (candidate,),
                gateway.providers,
                gateway.prices,
                gateway.bounds,
                gateway.prompt_search,
                priced=priced,
            )
        output = call.max_output_tokens or _MOST_SPOKEN
        prompt = self._known + self._sent.most - self._known_at.most
        provider = gateway.providers[candidate.provider]
        return session_reservation(
            call.model, candidate, provider, gateway.prices, gateway.bounds, prompt, output, priced=priced
        )

    # --- the provider's messages

    async def from_provider(self, messages: list[SocketMessage], *, end: bool) -> Outgoing:
        """What the caller gets. `end`: the provider sends nothing more."""
        out = Outgoing()
        for message in messages:
            if message.kind == "text":
                await self._provider_event(message.payload)
            elif message.kind == "close":
                self._provider_leaves()
            if self.is_ending:
                out.add(b"", changed=True)
            else:
                out.add(message.wire)
        if end:
            self._provider_leaves()
        for waiting in self._waiting_for_caller:
            out.add(waiting, changed=True)
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
        out.add(encode("close", str(fault).encode(), from_client=False, code=FAILED), changed=True)

    async def _provider_event(self, payload: bytes) -> None:
        event = socket_events.read_head(payload)
        kind = event.type
        if kind == socket_events.CREATED:
            await self._created(await self._read_from_provider(payload))
        response = next((each for each in self._open if each.id == event.response_id), None)
        if response is None and self._open:
            response = self._open[0]
        if response is not None:
            response.response_bytes += len(payload)
            if kind.endswith(".delta"):
                response.received(kind, event.delta, self._gateway.clock.monotonic())
        if kind in socket_events.ENDS:
            await self._ended(await self._read_from_provider(payload))
        elif kind == socket_events.ERROR:
            self._failed(await self._read_from_provider(payload))

    async def _read_from_provider(self, payload: bytes) -> dict[str, Json]:
        if is_large(payload):
            return await self._gateway.large_body_runner.run(socket_events.read_event, payload) or {}
        return socket_events.read_event(payload) or {}

    async def _created(self, event: dict[str, Json]) -> None:
        reply = object_in(event, "response")
        given = reply.get("id")
        identifier = given if isinstance(given, str) else None
        await self._record_ids(dict(reply))
        if identifier is not None and identifier in self._settled_ids:
            return
        response = next((each for each in self._open if each.id is None), None)
        if response is None and (response := self._unasked()) is not None:
            try:
                await self._reserve(response, has_begun=True)
            except EdgeError as error:
                self._refuse(error.fault(), None)
        if response is not None:
            response.id = identifier

    def _unasked(self) -> OpenResponse | None:
        """A response that the provider begins by itself: Realtime has heard the end of a sentence. Or an error has not
        concerned the response that it seemed to concern."""
        exchange_id = self._gateway.new_id()
        if self._target.api == "realtime":
            # What was sent since the last response ended may have come before or after the beginning of this one.
            return self._spoken(exchange_id, None, None, self._turn)
        last = self._last
        if last is None:
            return None
        return self._response(exchange_id, last.call, last.candidate, last.estimate, None, last.extent)

    async def _ended(self, event: dict[str, Json]) -> None:
        reply = dict(object_in(event, "response"))
        given = reply.get("id")
        await self._record_ids(reply)
        if isinstance(given, str) and given in self._settled_ids:
            return
        response = next((each for each in self._open if each.id == given), None)
        if response is None:
            response = next((each for each in self._open if each.id is None), None)
        if response is None:  # its beginning was not seen
            await self._created(event)
            response = next((each for each in self._open if each.id == given), None)
        if response is None:
            return
        self._open.remove(response)
        if isinstance(given, str):
            self._settled_ids.append(given)
        usage = socket_events.usage_of(self._target.api, reply)
        self._measure(response, usage)
        outcome: Outcome = "ok"
        if response.refused is not None:
            outcome = "rejected"
        elif reply.get("status") == "failed":
            has_begun = usage is None and response.first_token_at is not None
            outcome = "broken_stream" if has_begun else "upstream_error"
        self._settle(response, outcome, usage, fault=response.refused, model=reply.get("model"))

    def _measure(self, response: OpenResponse, usage: Usage | None) -> None:
        """The usage of a response shows how long the conversation was, and what it has added."""
        self._turn = self._sent
        if usage is None or response.is_apart or not is_plausible(usage) or usage.prompt_unknown:
            return
        if response.extent.most >= self._known_at.most:
            self._known, self._known_at = usage.total, response.extent

    async def _record_ids(self, reply: dict[str, Json]) -> None:
        """The tenant owns what the provider stores for this session, before the caller gets the ids."""
        owners, provider = self._gateway.owners, self._target.candidate.provider
        if self._target.api != "responses" or owners is None or not owners.is_shared(provider):
            return
        if ids := ids_made(reply):
            await owners.record(provider, self._identified.principal.tenant, ids, REPLY_SECONDS)

    def _failed(self, event: dict[str, Json]) -> None:
        """The provider has refused an event. It may have been the one that asks for a response."""
        caused_by = object_in(event, "error").get("event_id")
        code = object_in(event, "error").get("code")
        fault = Fault(400, "invalid_request", "", code if isinstance(code, str) else None)
        waiting = [each for each in self._open if each.id is None]
        if self._target.api == "realtime":
            waiting = [each for each in waiting if each.event_id == caused_by]
        for response in waiting[:1]:
            self._open.remove(response)
            self._last = response
            self._settle(response, "refused", None, fault=fault)
        if self._target.api == "responses" and not waiting:
            for response in self._open:
                response.failed = fault

    def _forget_failed(self) -> None:
        """Settles what had an error within it, and whose end has not come."""
        for response in [each for each in self._open if each.failed is not None]:
            self._open.remove(response)
            if response.id is not None:
                self._settled_ids.append(response.id)
            self._settle(response, "broken_stream", None, fault=response.failed)

    # --- the end

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
        if fault is not None:
            dialect = self._identified.caller_dialect
            event = socket_events.error_event(self._target.api, dialect, fault, f"event_{self._gateway.new_id()}")
            self._waiting_for_caller.append(encode("text", event, from_client=False))
        self._waiting_for_caller.append(encode("close", reason.encode(), from_client=False, code=code))
        if out is not None:
            out.add(encode("ping", b"", from_client=True), changed=True)

    def closed(self, why: Closing) -> None:
        """Settles the responses in progress."""
        outcome = self._left or "caller_left"
        if why == "error":
            outcome = "gateway_error"
        elif why == "stopping":
            outcome = "stopped"
        self._forget_failed()
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
        settlement = settlement_of(self._gateway, self._identified, response, outcome, usage, fault=fault, model=model)
        send(self._gateway, settlement)

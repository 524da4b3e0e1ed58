"""A session of OpenAI's Realtime API, or of its Responses API.

the caller's events      response.create  → the rights, the model and the limits are checked; then it passes
                         session.update   → its model is checked
the provider's events    response.created → a response that no event asked for is reserved now
                         response.done    → its usage is settled
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import Any

from ...accounting.estimate import tokens_of_length
from ...codecs.json_values import encode as encode_json
from ...codecs.json_values import object_in
from ...codecs.websocket import SocketMessage
from ...dialects.openai_responses import socket_events
from ...dialects.stored_ids import ids_made
from ...errors import BadRequest
from ...limits.base import ReservationRequest
from ...model.content import Json
from ...model.fault import Fault
from ...model.settlement import Outcome
from ...model.usage import Usage
from ...records.owners import REPLY_SECONDS
from ..large_bodies import AT_ONCE, is_large
from ..object_access import object_access
from ..read_call import read_call
from ..worst_case import reservation_request
from .callers_event import CallersEvent, read_event
from .open_response import Extent, OpenResponse
from .session import MOST_OPEN, Outgoing, SocketSession
from .upgrade import candidate_of, session_call

# The most output tokens of one response of Realtime, by OpenAI's reference of `max_output_tokens`.
_MOST_SPOKEN = 4_096
# Base64 characters of audio for a token of it, at the least and in G.711, which has the fewest. A token is a tenth of a
# second.
_AUDIO_CHARACTERS, _G711_CHARACTERS = 64, 1_066
_REMEMBERED = 64
"""Ids of responses that are settled."""


class OpenAISession(SocketSession):
    """Realtime has one model, and its responses may begin by themselves. Each response of the other API is a request
    with its own model, one at a time."""

    def __init__(self, *arguments: Any) -> None:
        """As `SocketSession`."""
        super().__init__(*arguments)
        self._api: socket_events.Api = "realtime" if self._target.api == "realtime" else "responses"
        self._settled_ids: deque[str] = deque(maxlen=_REMEMBERED)
        self._last: OpenResponse | None = None
        """The last response that the provider has refused: its beginning may still come."""

    def _error_event(self, fault: Fault) -> bytes:
        event_id = f"event_{self._gateway.new_id()}"
        return socket_events.error_event(self._api, self._identified.caller_dialect, fault, event_id)

    # --- the caller's events

    async def _callers_event(self, message: SocketMessage, out: Outgoing) -> None:
        payload, realtime = message.payload, self._api == "realtime"
        if realtime and socket_events.type_of(payload) == socket_events.AUDIO and socket_events.has_one_type(payload):
            self._add(len(payload) // _AUDIO_CHARACTERS, len(payload) // _G711_CHARACTERS)
            self._pass(payload, message, out)
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
        self._pass(written, message, out, rewritten=True)

    async def _realtime_event(self, read: CallersEvent) -> bytes:
        self._add(read.most, tokens_of_length(len(read.payload)))
        await self._check_realtime(read)
        event = self._with_models(read.event)
        if read.kind == socket_events.CREATE:
            event = await self._admit_asked(event)
        return read.payload if event is read.event else encode_json(event)

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
        await self._check_objects(call)

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
        if len(self._open) >= MOST_OPEN:
            raise BadRequest(f"{MOST_OPEN} responses are in progress in this session; wait for the end of one")
        named, asked = event.get("event_id"), object_in(event, "response")
        response = self._spoken(asked.get("max_output_tokens"), self._sent)
        # An error of the provider then tells which response it concerns.
        response.event_id = named if isinstance(named, str) else f"edge_{response.exchange_id}"
        response.is_apart = asked.get("conversation") == "none" or "input" in asked
        await self._reserve(response)
        return {**event, "event_id": response.event_id}

    def _spoken(self, most: Json, extent: Extent) -> OpenResponse:
        """A response of Realtime. `extent`: what the caller had sent when it began."""
        target = self._target
        output = min(most, _MOST_SPOKEN) if type(most) is int and most > 0 else _MOST_SPOKEN
        estimate = Usage(input=self._likely_prompt(), output=min(output, self._gateway.bounds.usual_output))
        call = replace(session_call(target.model), max_output_tokens=output)
        return self._response(call, target.candidate, estimate, extent)

    async def _admit_request(self, read: CallersEvent) -> bytes:
        """The event of the Responses API for the provider, once its response is reserved. One is in progress at a
        time."""
        gateway, event, payload = self._gateway, read.event, read.payload
        self._before_end()
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
        estimate = Usage(input=prompt, output=output)
        await self._reserve(self._response(call, candidate, estimate, self._sent))
        return written.body

    def _most_of(self, response: OpenResponse, *, priced: bool) -> ReservationRequest:
        if self._api == "realtime":
            return super()._most_of(response, priced=priced)
        gateway = self._gateway
        return reservation_request(
            response.call,
            (response.candidate,),
            gateway.providers,
            gateway.prices,
            gateway.bounds,
            gateway.prompt_search,
            priced=priced,
        )

    # --- the provider's events

    async def _providers_event(self, payload: bytes) -> None:
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
            await self._reserve_unasked(response)
        if response is not None:
            response.id = identifier

    def _unasked(self) -> OpenResponse | None:
        """A response that the provider begins by itself: Realtime has heard the end of a sentence. Or an error has not
        concerned the response that it seemed to concern."""
        if self._api == "realtime":
            # What was sent since the last response ended may have come before or after the beginning of this one.
            return self._spoken(None, self._turn)
        last = self._last
        return self._response(last.call, last.candidate, last.estimate, last.extent) if last is not None else None

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
        usage = socket_events.usage_of(self._api, reply)
        self._measure(response, usage)
        outcome: Outcome = "ok"
        if response.refused is not None:
            outcome = "rejected"
        elif reply.get("status") == "failed":
            has_begun = usage is None and response.first_token_at is not None
            outcome = "broken_stream" if has_begun else "upstream_error"
        self._settle(response, outcome, usage, fault=response.refused, model=reply.get("model"))

    async def _record_ids(self, reply: dict[str, Json]) -> None:
        """The tenant owns what the provider stores for this session, before the caller gets the ids."""
        owners, provider = self._gateway.owners, self._target.candidate.provider
        if self._api != "responses" or owners is None or not owners.is_shared(provider):
            return
        if ids := ids_made(reply):
            await owners.record(provider, self._identified.principal.tenant, ids, REPLY_SECONDS)

    def _failed(self, event: dict[str, Json]) -> None:
        """The provider has refused an event. It may have been the one that asks for a response."""
        caused_by = object_in(event, "error").get("event_id")
        code = object_in(event, "error").get("code")
        fault = Fault(400, "invalid_request", "", code if isinstance(code, str) else None)
        waiting = [each for each in self._open if each.id is None]
        if self._api == "realtime":
            waiting = [each for each in waiting if each.event_id == caused_by]
        for response in waiting[:1]:
            self._open.remove(response)
            self._last = response
            self._settle(response, "refused", None, fault=fault)
        if self._api == "responses" and not waiting:
            for response in self._open:
                response.failed = fault

    def _before_end(self) -> None:
        """Settles what had an error within it, and whose end has not come."""
        for response in [each for each in self._open if each.failed is not None]:
            self._open.remove(response)
            if response.id is not None:
                self._settled_ids.append(response.id)
            self._settle(response, "broken_stream", None, fault=response.failed)

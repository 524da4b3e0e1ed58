"""A session of OpenAI's Realtime API: one model, whose responses may begin by themselves.

the caller's events      response.create  → it is reserved; then it passes
                         session.update   → its model is checked
the provider's events    response.created → a response that no event asked for is reserved now
                         response.done    → its usage is settled
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from ...accounting.estimate import tokens_of_length
from ...codecs.json_values import encode as encode_json
from ...codecs.json_values import object_in
from ...codecs.websocket import SocketMessage
from ...dialects.openai_responses import socket_events
from ...errors import BadRequest
from ...model.content import Json
from ...model.fault import Fault
from ...model.usage import Usage
from .callers_event import CallersEvent
from .open_response import Extent, OpenResponse
from .openai_session import OpenAISession
from .session import MOST_OPEN, Outgoing
from .upgrade import session_call

# The most output tokens of one response, by OpenAI's reference of `max_output_tokens`.
_MOST_SPOKEN = 4_096
# Base64 characters of audio for a token of it, at the least and in G.711, which has the fewest. A token is a tenth of a
# second.
_AUDIO_CHARACTERS, _G711_CHARACTERS = 64, 1_066


class RealtimeSession(OpenAISession):
    api: ClassVar[socket_events.Api] = "realtime"

    # --- the caller's events

    async def _callers_event(self, message: SocketMessage, out: Outgoing) -> None:
        payload = message.payload
        if socket_events.type_of(payload) == socket_events.AUDIO and socket_events.has_one_type(payload):
            self._add(len(payload) // _AUDIO_CHARACTERS, len(payload) // _G711_CHARACTERS)
            self._pass(payload, message, out)
            return
        # What was checked is sent: of two members of one name, another parser may read the other one.
        self._pass(await self._checked(await self._read(payload)), message, out, rewritten=True)

    async def _checked(self, read: CallersEvent) -> bytes:
        self._add(read.most, tokens_of_length(len(read.payload)))
        await self._check(read)
        event = self._with_models(read.event)
        if read.kind == socket_events.CREATE:
            event = await self._admit(event)
        return read.payload if event is read.event else encode_json(event)

    async def _check(self, read: CallersEvent) -> None:
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

    async def _admit(self, event: dict[str, Json]) -> dict[str, Json]:
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

    def _before_end(self) -> None:
        """Errors do not end a response."""

    # --- the provider's events

    def _unasked(self, event: dict[str, Json]) -> OpenResponse:
        """The provider has heard the end of a sentence."""
        del event
        # What was sent since the last response ended may have come before or after the beginning of this one.
        return self._spoken(None, self._turn)

    def _waiting(self, event: dict[str, Json]) -> list[OpenResponse]:
        waiting = [each for each in self._open if not each.has_begun]
        if event.get("type") != socket_events.ERROR:
            return waiting
        caused_by = object_in(event, "error").get("event_id")
        return [each for each in waiting if each.event_id == caused_by]

    def _failed_within(self, event: dict[str, Json], fault: Fault) -> None:
        """The response goes on."""

"""A session of OpenAI's Responses API over a WebSocket: each response is a request with its own model.

    the caller's events      response.create  → the rights, the model and the limits are checked; then it passes
                             response.steer   → its objects are checked; a successor of its response may begin
    the provider's events    response.created → a successor is reserved now
                             response.completed and others → its usage is settled

Responses of different lanes (`stream_id`) run at one time; those of one lane follow each other.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

from ...accounting.estimate import tokens_of_length
from ...codecs.json_values import object_in
from ...codecs.websocket import SocketMessage
from ...dialects.openai_responses import socket_events
from ...dialects.stored_ids import ids_made
from ...errors import BadRequest
from ...limits.base import ReservationRequest
from ...model.content import Json
from ...model.fault import Fault
from ...model.usage import Usage
from ...records.owners import REPLY_SECONDS
from ..large_bodies import AT_ONCE, is_large
from ..object_access import object_access
from ..read_call import read_call
from ..worst_case import reservation_request
from .callers_event import CallersEvent
from .open_response import OpenResponse
from .openai_session import OpenAISession
from .session import MOST_OPEN, Outgoing
from .upgrade import candidate_of

_REMEMBERED = 64
"""Responses of a session that can be continued or steered."""


class ResponsesSession(OpenAISession):
    api: ClassVar[socket_events.Api] = "responses"

    def __init__(self, *arguments: Any) -> None:
        """As `SocketSession`."""
        super().__init__(*arguments)
        self._responses: dict[str, OpenResponse] = {}
        """The last ones by their ids."""
        self._latest: OpenResponse | None = None

    # --- the caller's events

    async def _callers_event(self, message: SocketMessage, out: Outgoing) -> None:
        read = await self._read(message.payload)
        if read.kind == socket_events.CREATE:
            written = await self._admit(read)
        elif read.kind == socket_events.STEER:
            written = await self._steer(read)
        elif read.kind in socket_events.RESPONSES_EVENTS:
            written = read.payload
        else:
            types = ", ".join(sorted(socket_events.RESPONSES_EVENTS))
            raise BadRequest(f"the type of an event must be one of {types}", param="type")
        # What was checked is sent: of two members of one name, another parser may read the other one.
        self._pass(written, message, out, rewritten=True)

    async def _admit(self, read: CallersEvent) -> bytes:
        """The event for the provider, once its response is reserved."""
        gateway, event, payload = self._gateway, read.event, read.payload
        lane = socket_events.lane_of(event)
        self._forget_failed(lane)
        if len(self._open) >= MOST_OPEN:
            raise BadRequest(f"{MOST_OPEN} responses are in progress in this session; wait for the end of one")
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
        response = self._response(call, candidate, self._estimate(event, call.max_output_tokens, payload), self._sent)
        response.lane = lane
        await self._reserve(response)
        self._latest = response
        return written.body

    def _estimate(self, event: dict[str, Json], limit: int | None, payload: bytes) -> Usage:
        bounds = self._gateway.bounds
        parent = self._parent(event)
        before = parent.usage.total if parent is not None and parent.usage is not None else 0
        prompt = min(before + tokens_of_length(len(payload)), bounds.context_window)
        return Usage(input=prompt, output=limit if limit is not None else bounds.usual_output)

    def _parent(self, event: dict[str, Json]) -> OpenResponse | None:
        parent = socket_events.continued(event)
        return self._responses.get(parent) if parent is not None else None

    async def _steer(self, read: CallersEvent) -> bytes:
        """The input of a successor, which the provider begins by itself. Raises BadRequest, and the errors of stored
        objects and rights."""
        parent, rights = self._parent(read.event), self._identified.rights
        if parent is None:
            raise BadRequest("response.steer must name a response of this session", param=socket_events.PARENT)
        call = replace(parent.call, raw=read.payload)
        if rights is not None:
            rights.narrow(call, (parent.candidate,))
        await self._check_objects(call)
        return read.payload

    def _most_of(self, response: OpenResponse, *, priced: bool) -> ReservationRequest:
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

    async def _created(self, event: dict[str, Json]) -> None:
        await super()._created(event)
        for response in self._open:
            if response.id is not None and response.id not in self._responses:
                self._responses[response.id] = response
                if len(self._responses) > _REMEMBERED:
                    del self._responses[next(iter(self._responses))]

    def _unasked(self, event: dict[str, Json]) -> OpenResponse | None:
        """A successor after response.steer, with the settings of its parent. Or an error has not concerned the response
        that it seemed to concern."""
        parent = self._parent(dict(object_in(event, "response"))) or self._latest
        if parent is None:
            return None
        before = parent.usage.total if parent.usage is not None else parent.estimate.input
        estimate = replace(parent.estimate, input=min(before, self._gateway.bounds.context_window))
        call = replace(parent.call, raw=socket_events.successor(parent.call.raw))
        response = self._response(call, parent.candidate, estimate, self._sent)
        response.lane = socket_events.lane_of(event)
        return response

    def _waiting(self, event: dict[str, Json]) -> list[OpenResponse]:
        waiting = [each for each in self._open if not each.has_begun]
        lane = socket_events.lane_of(event)
        return [each for each in waiting if each.lane == lane]

    def _failed_within(self, event: dict[str, Json], fault: Fault) -> None:
        """An error within a response may end it: its end may still come."""
        lane = socket_events.lane_of(event)
        for response in self._open:
            if response.lane == lane and response.has_begun:
                response.failed = fault

    async def _record_ids(self, reply: dict[str, Json]) -> None:
        owners, provider = self._gateway.owners, self._target.candidate.provider
        if owners is not None and owners.is_shared(provider) and (ids := ids_made(reply)):
            await owners.record(provider, self._identified.principal.tenant, ids, REPLY_SECONDS)

    def _forget_failed(self, lane: str | None) -> None:
        """Settles what had an error within it, and whose end has not come when the next one of its lane begins."""
        for response in [each for each in self._open if each.failed is not None and each.lane == lane]:
            self._open.remove(response)
            if response.id is not None:
                self._settled_ids.append(response.id)
            self._settle(response, "broken_stream", None, fault=response.failed)

    def _before_end(self) -> None:
        for lane in {each.lane for each in self._open}:
            self._forget_failed(lane)

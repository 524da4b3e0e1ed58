"""What sessions of OpenAI's two APIs have in common: responses with ids, events that begin and end them, and errors."""

from __future__ import annotations

from abc import abstractmethod
from collections import deque
from typing import Any, ClassVar

from ...codecs.json_values import object_in
from ...dialects.openai_responses import socket_events
from ...model.content import Json
from ...model.fault import Fault
from ...model.settlement import Outcome
from ..large_bodies import is_large
from .callers_event import CallersEvent, read_event
from .open_response import OpenResponse
from .session import SocketSession

_REMEMBERED = 64
"""Ids of responses that are settled."""


class OpenAISession(SocketSession):
    api: ClassVar[socket_events.Api]

    def __init__(self, *arguments: Any) -> None:
        """As `SocketSession`."""
        super().__init__(*arguments)
        self._settled_ids: deque[str] = deque(maxlen=_REMEMBERED)

    def _error_event(self, fault: Fault) -> bytes:
        event_id = f"event_{self._gateway.new_id()}"
        return socket_events.error_event(self.api, self._identified.caller_dialect, fault, event_id)

    async def _read(self, payload: bytes) -> CallersEvent:
        if is_large(payload):
            return await self._gateway.large_body_runner.run(read_event, self._gateway, payload)
        return read_event(self._gateway, payload)

    # --- of each API

    @abstractmethod
    def _unasked(self, event: dict[str, Json]) -> OpenResponse | None:
        """A response that the provider has begun by itself."""

    @abstractmethod
    def _waiting(self, event: dict[str, Json]) -> list[OpenResponse]:
        """The responses that have not begun, of which an event of the provider can be the beginning or the refusal."""

    @abstractmethod
    def _failed_within(self, event: dict[str, Json], fault: Fault) -> None:
        """An error that refuses no response."""

    async def _record_ids(self, reply: dict[str, Json]) -> None:
        """The tenant owns what the provider stores for this session, before the caller gets the ids."""

    # --- the provider's events

    async def _providers_event(self, payload: bytes) -> None:
        head = socket_events.read_head(payload)
        kind = head.type
        if kind == socket_events.CREATED:
            await self._created(await self._read_from_provider(payload))
        response = self._response_of(head)
        if response is not None:
            response.response_bytes += len(payload)
            if kind.endswith(".delta"):
                response.received(kind, head.delta, self._gateway.clock.monotonic())
        if kind in socket_events.ENDS:
            await self._ended(await self._read_from_provider(payload))
        elif kind == socket_events.ERROR:
            self._failed(await self._read_from_provider(payload))

    def _response_of(self, head: socket_events.Head) -> OpenResponse | None:
        """The response that an event is a part of: by its id, else by its lane."""
        by_id = (each for each in self._open if each.id is not None and each.id == head.response_id)
        by_lane = (each for each in self._open if each.lane == head.stream_id)
        return next(by_id, None) or next(by_lane, None) or (self._open[0] if self._open else None)

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
        response = next(iter(self._waiting(event)), None)
        if response is None and (response := self._unasked(event)) is not None:
            await self._reserve_unasked(response)
        if response is not None:
            response.id = identifier
            response.has_begun = True

    async def _ended(self, event: dict[str, Json]) -> None:
        reply = dict(object_in(event, "response"))
        given = reply.get("id")
        await self._record_ids(reply)
        if isinstance(given, str) and given in self._settled_ids:
            return
        response = next((each for each in self._open if each.has_begun and each.id == given), None)
        if response is None:  # its beginning was not seen
            await self._created(event)
            response = next((each for each in self._open if each.has_begun and each.id == given), None)
        if response is None:
            return
        self._open.remove(response)
        if isinstance(given, str):
            self._settled_ids.append(given)
        usage = socket_events.usage_of(self.api, reply)
        response.usage = usage
        self._measure(response, usage)
        outcome: Outcome = "ok"
        if response.refused is not None:
            outcome = "rejected"
        elif reply.get("status") == "failed":
            is_partial = usage is None and response.first_token_at is not None
            outcome = "broken_stream" if is_partial else "upstream_error"
        self._settle(response, outcome, usage, fault=response.refused, model=reply.get("model"))

    def _failed(self, event: dict[str, Json]) -> None:
        """The provider has refused an event. It may have been the one that asks for a response."""
        code = object_in(event, "error").get("code")
        fault = Fault(400, "invalid_request", "", code if isinstance(code, str) else None)
        response = next(iter(self._waiting(event)), None)
        if response is None:
            self._failed_within(event, fault)
            return
        self._open.remove(response)
        self._settle(response, "refused", None, fault=fault)

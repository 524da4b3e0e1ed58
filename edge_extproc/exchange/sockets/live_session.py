"""A session of Google's Live API.

    the caller's messages      setup, first     → its model, its rights and the objects that it names are checked
                               a turn ends      → the answer is reserved; then the message passes
    the provider's messages    a turn begins    → an answer that no message asked for is reserved now
                               a turn has ended, with its usage → it is settled

The API has no event for errors: a caller sees the reason of the close.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...accounting.estimate import tokens_of_length
from ...codecs.json_values import encode as encode_json
from ...codecs.websocket import MessageKind, SocketMessage
from ...dialects.gemini_generate import live_messages
from ...dialects.gemini_generate.live_messages import ProvidersMessage, Setup
from ...dialects.gemini_generate.reply import SearchCount
from ...errors import BadRequest
from ...model.call import Call
from ...model.fault import Fault
from ...model.settlement import Outcome
from ...model.usage import Usage
from ...records.owners import REPLY_SECONDS
from ..large_bodies import is_large
from .callers_event import CallersEvent, read_event
from .open_response import Extent, OpenResponse
from .session import MOST_OPEN, Outgoing, SocketSession
from .upgrade import candidate_of, session_call


class LiveSession(SocketSession):
    """One model, which the first message names. Turns have no ids: the provider answers one after the other."""

    kinds: frozenset[MessageKind] = frozenset({"text", "binary"})

    def __init__(self, *arguments: Any) -> None:
        """As `SocketSession`."""
        super().__init__(*arguments)
        self._call: Call | None = None
        """None: the setup has not come."""
        self._searches = SearchCount()
        """Those of the turn."""
        self._last_usage: Usage | None = None

    def _error_event(self, fault: Fault) -> None:
        del fault

    # --- the caller's messages

    async def _callers_event(self, message: SocketMessage, out: Outgoing) -> None:
        read = await self._read(message.payload)
        kind = live_messages.kind_of(read.event)
        if kind == live_messages.SETUP:
            await self._set_up(read)
            written = encode_json(live_messages.with_model(read.event, self._target.candidate.model))
        else:
            await self._input(kind, read)
            written = read.payload
        # What was checked is sent: of two members of one name, another parser may read the other one.
        self._pass(written, message, out, rewritten=True)

    async def _read(self, payload: bytes) -> CallersEvent:
        if is_large(payload):
            return await self._gateway.large_body_runner.run(read_event, self._gateway, payload)
        return read_event(self._gateway, payload)

    async def _set_up(self, read: CallersEvent) -> None:
        """Raises BadRequest for a second setup, and the errors of a request."""
        if self._call is not None:
            raise BadRequest("a session has one setup; open another session")
        gateway, setup = self._gateway, live_messages.read_setup(read.event)
        self._identified = self._identify(self._identified)
        call = self._named(setup, read.payload)
        candidate = candidate_of(gateway, self._identified, call, self._target.candidate.provider)
        self._target = replace(self._target, model=setup.model, candidate=candidate)
        await self._check_objects(call, (setup.handle,) if setup.handle is not None else ())
        # A session that goes on has a conversation that was not seen here.
        most = gateway.bounds.context_window if setup.handle is not None else read.most
        self._add(most, tokens_of_length(len(read.payload)))
        self._call = replace(call, raw=b"{}")

    @staticmethod
    def _named(setup: Setup, payload: bytes) -> Call:
        call = session_call(setup.model, payload, live_messages.DIALECT)
        return replace(call, max_output_tokens=setup.most_output)

    async def _input(self, kind: str, read: CallersEvent) -> None:
        call = self._call
        if call is None:
            raise BadRequest("the first message of a session must be its setup")
        call = replace(call, raw=read.payload)
        rights, target = self._identified.rights, self._target
        size = live_messages.input_size(read.event) if kind == live_messages.INPUT else None
        if size is None:
            self._add(read.most, tokens_of_length(len(read.payload)))
            if rights is not None:
                rights.narrow(call, (target.candidate,))
            await self._check_objects(call)
        else:
            self._add(*size)
        if live_messages.begins_turn(kind, read.event):
            await self._ask(kind)

    async def _ask(self, kind: str) -> None:
        """Reserves the answer to a message."""
        waiting = [each for each in self._open if not each.has_begun]
        if waiting:  # the provider answers both messages at once
            return
        if kind == live_messages.TOOLS:
            going_on = [each for each in self._open if not each.is_over and each.usage is None]
            if going_on:  # its usage will count the results
                return
            self._settle_counted()
        if len(self._open) >= MOST_OPEN:
            raise BadRequest(f"{MOST_OPEN} turns are in progress in this session; wait for the end of one")
        await self._reserve(self._answer(self._sent))

    def _answer(self, extent: Extent) -> OpenResponse:
        call, gateway = self._call, self._gateway
        if call is None:
            raise BadRequest("the provider has answered before the setup")
        usual = gateway.bounds.usual_output
        output = min(usual, call.max_output_tokens) if call.max_output_tokens is not None else usual
        estimate = Usage(input=self._likely_prompt(), output=output)
        return self._response(call, self._target.candidate, estimate, extent)

    # --- the provider's messages

    async def _providers_event(self, payload: bytes) -> None:
        message = live_messages.read_message(payload, self._searches)
        if message is None or self._call is None:
            return
        await self._record(message)
        if message.begins or (message.usage is not None and not self._is_repeated(message)):
            await self._receive(message, len(payload))
        if message.is_over and (current := self._current()) is not None:
            current.is_over = True
        if message.is_over or message.calls:
            self._settle_counted()

    async def _record(self, message: ProvidersMessage) -> None:
        """The tenant owns the session, before it can continue it."""
        owners, provider = self._gateway.owners, self._target.candidate.provider
        if message.handle is not None and owners is not None and owners.is_shared(provider):
            await owners.record(provider, self._identified.principal.tenant, [message.handle], REPLY_SECONDS)

    def _is_repeated(self, message: ProvidersMessage) -> bool:
        """Whether the usage is that of the turn before, once more."""
        return not self._open and message.usage == self._last_usage

    def _current(self) -> OpenResponse | None:
        return next((each for each in self._open if not each.is_over), None)

    async def _receive(self, message: ProvidersMessage, size: int) -> None:
        """A part of an answer, or its usage."""
        response = self._current()
        if message.usage is not None and not message.begins:
            response = next((each for each in self._open if each.is_over), response)
        elif response is None or not response.has_begun:
            self._before_end()  # the turn before it has got no usage
            self._searches = SearchCount()
        if response is None:
            # What was sent since the last turn may have come before or after the beginning of this one.
            response = self._answer(self._turn)
            await self._reserve_unasked(response)
        now = self._gateway.clock.monotonic()
        response.has_begun = response.has_begun or message.begins
        response.response_bytes += size
        if message.begins:
            response.first_token_at = response.first_token_at or now
        response.text_characters += message.text_characters
        response.audio_characters += message.audio_characters
        if message.usage is not None:
            response.usage = live_messages.merged(response.usage, message.usage)
            if response.is_over:
                self._settle_counted()

    def _settle_counted(self) -> None:
        """Settles what has ended, or waits for results, and has its usage."""
        for response in [each for each in self._open if each.usage is not None]:
            self._finish(response)

    def _finish(self, response: OpenResponse) -> None:
        self._open.remove(response)
        self._measure(response, response.usage)
        self._last_usage = response.usage
        outcome: Outcome = "ok" if response.refused is None else "rejected"
        self._settle(response, outcome, response.usage, fault=response.refused)

    def _before_end(self) -> None:
        for response in [each for each in self._open if each.is_over or each.usage is not None]:
            self._finish(response)

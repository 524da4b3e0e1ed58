"""One open session: reserves each response before it begins, and settles it when it ends.

    the caller's messages      response.create  → the rights, the model and the limits are checked; then it passes
                               session.update   → its model is checked
    the provider's messages    response.created → a response that no message asked for is reserved now
                               response.done    → its usage is settled

A refusal ends the session: the caller gets an error event and a close. These wait until Envoy sends a part of that
direction, so the provider gets a ping, which it answers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from decimal import Decimal

from ...accounting.estimate import tokens_of_length
from ...codecs.json_values import encode as encode_json
from ...codecs.json_values import object_in
from ...codecs.websocket import FAILED, POLICY, SocketMessage, WebSocketFault, encode
from ...dialects.openai_responses import socket_events
from ...dialects.stored_ids import ids_made
from ...errors import BadRequest, EdgeError
from ...limits.base import MICRO, ReservationRequest
from ...model.call import Call
from ...model.content import Json
from ...model.fault import Fault
from ...model.plan import Candidate
from ...model.plausible import is_plausible
from ...model.settlement import Outcome, Settlement
from ...model.usage import Usage
from ...records.owners import REPLY_SECONDS
from ..handler import Closing
from ..large_bodies import is_large
from ..object_access import object_access
from ..phases import Identified
from ..ports import Gateway
from ..settling import send
from ..worst_case import IMAGE, reservation_request, session_reservation
from .upgrade import Target, candidate_of, session_call

# The most output tokens of one response of Realtime, by OpenAI's reference of `max_output_tokens`.
_MOST_SPOKEN = 4_096
_SERVERS = 500
"""The first status of a failure that is not the caller's."""
# Base64 characters of audio for a token of it, at the least and in G.711, which has the fewest. A token is a tenth of a
# second.
_AUDIO_CHARACTERS, _G711_CHARACTERS = 64, 1_066


@dataclass(slots=True)
class OpenResponse:
    """A response that was reserved and is not settled."""

    exchange_id: str
    model: str
    """The caller's name of the model."""
    candidate: Candidate
    call: Call
    estimate: Usage
    """The tokens that it is billed for if its usage never comes."""
    began: float
    started_at: float
    event_id: str | None
    """The id of the caller's event."""
    id: str | None = None
    """The provider's id of it."""
    first_token_at: float | None = None
    response_bytes: int = 0


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
        self, gateway: Gateway, identified: Identified, target: Target, began_response: Callable[[], None]
    ) -> None:
        """`began_response` is called for each response that will be settled."""
        self._gateway = gateway
        self._identified = identified
        self._target = target
        self._began_response = began_response
        self._open: list[OpenResponse] = []
        self._waiting_for_caller: list[bytes] = []
        self._context = 0
        """The most tokens of the session until now."""
        self._likely = 0
        """An estimate of them."""
        self._most_output: int | None = None
        """That of the session's settings."""
        self._rewrites = False
        """A message of the caller was written anew. A compressed one after it could refer to the original, so all that
        follow are written without compression."""
        self.is_ending = False
        self._provider_left = False

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

    def broken_by_caller(self, fault: WebSocketFault) -> Outgoing:
        """The caller's bytes cannot be read, or a message is over the limit."""
        out = Outgoing()
        self._end(out, fault.code, str(fault), None)
        return out

    @staticmethod
    def _after_the_end(message: SocketMessage, out: Outgoing) -> None:
        if message.kind == "close":
            out.add(message.wire)
        else:
            out.add(b"", changed=True)

    async def _caller_message(self, message: SocketMessage, out: Outgoing) -> None:
        if message.kind == "binary":
            raise BadRequest("this API has no binary messages; send events as text")
        if message.kind != "text":
            out.add(message.wire)
            return
        kind = socket_events.type_of(message.payload)
        if self._target.api == "responses" and kind not in socket_events.RESPONSES_EVENTS:
            raise BadRequest(f"the type of an event must be one of {', '.join(sorted(socket_events.RESPONSES_EVENTS))}")
        if kind == socket_events.AUDIO:
            self._context += len(message.payload) // _AUDIO_CHARACTERS
            self._likely += len(message.payload) // _G711_CHARACTERS
            self._pass(message.payload, message.wire, out)
            return
        self._context += len(message.payload) + IMAGE * message.payload.count(b"input_image")
        self._likely += tokens_of_length(len(message.payload))
        event = await self._read(message.payload)
        changed = event
        if self._target.api == "realtime":
            await self._check_realtime(message.payload, event)
            changed = self._with_models(event)
        if kind == socket_events.CREATE:
            changed = await self._admit(message.payload, changed)
        # What was checked is sent: of two members of one name, another parser may read the other one.
        rewritten = kind in (socket_events.CREATE, socket_events.SESSION_UPDATE)
        self._pass(encode_json(changed) if rewritten else message.payload, message.wire, out, rewritten=rewritten)

    def _pass(self, payload: bytes, wire: bytes, out: Outgoing, *, rewritten: bool = False) -> None:
        self._rewrites = self._rewrites or rewritten
        if self._rewrites:
            out.add(encode("text", payload, from_client=True), changed=True)
        else:
            out.add(wire)

    async def _read(self, payload: bytes) -> dict[str, Json]:
        large = is_large(payload)
        runner = self._gateway.large_body_runner
        event = await runner.run(socket_events.read_event, payload) if large else socket_events.read_event(payload)
        if event is None:
            raise BadRequest("an event must be a JSON object")
        return event

    async def _check_realtime(self, payload: bytes, event: dict[str, Json]) -> None:
        """Rights that look into a request, what is charged beside the session's model, and stored objects."""
        rights, target = self._identified.rights, self._target
        if rights is not None:
            rights.narrow(session_call(target.model, payload), (target.candidate,))
        session = object_in(event, "session")
        listening = object_in(object_in(session, "audio"), "input")
        transcribes = listening.get("transcription") is not None or session.get("input_audio_transcription") is not None
        if transcribes or session.get("type") == "transcription":
            raise BadRequest(
                "this gateway does not meter the transcription of a session's input; leave it out",
                param="transcription",
            )
        owners = self._gateway.owners
        for part in (session, object_in(event, "response")):
            prompt = object_in(part, "prompt").get("id")
            if isinstance(prompt, str) and owners is not None and owners.is_shared(target.candidate.provider):
                tenant = self._identified.principal.tenant
                if not all(await owners.owned(target.candidate.provider, tenant, [prompt])):
                    raise BadRequest(f"there is no prompt {prompt!r} for this key", param="prompt")

    def _with_models(self, event: dict[str, Json]) -> dict[str, Json]:
        """The event with the provider's name of the session's model. Raises BadRequest for another model."""
        for name in ("session", "response"):
            part = object_in(event, name)
            most = part.get("max_output_tokens", part.get("max_response_output_tokens"))
            if name == "session" and type(most) is int:
                self._most_output = most
            model = part.get("model")
            if model is None:
                continue
            if model not in (self._target.model, self._target.candidate.model):
                raise BadRequest("the model of a session cannot be changed; open another one", param="model")
            event = {**event, name: {**part, "model": self._target.candidate.model}}
        return event

    # --- a response begins

    async def _admit(self, payload: bytes, event: dict[str, Json]) -> dict[str, Json]:
        """The event for the provider, once its response is reserved."""
        named = event.get("event_id")
        event_id = named if isinstance(named, str) else None
        if self._target.api == "responses":
            return await self._admit_request(payload, event, event_id)
        exchange_id = self._gateway.new_id()
        if event_id is None:  # an error of the provider then tells which response it concerns
            event_id = f"edge_{exchange_id}"
        asked = object_in(event, "response").get("max_output_tokens")
        await self._admit_spoken(exchange_id, event_id, asked if type(asked) is int else self._most_output)
        return {**event, "event_id": event_id}

    async def _admit_spoken(self, exchange_id: str, event_id: str | None, most: int | None) -> None:
        target, gateway = self._target, self._gateway
        output = min(most, _MOST_SPOKEN) if most is not None and most > 0 else _MOST_SPOKEN
        prompt = min(self._context, gateway.bounds.context_window)
        call = replace(session_call(target.model), max_output_tokens=output)
        estimate = Usage(input=min(self._likely, prompt), output=min(output, gateway.bounds.usual_output))
        response = self._response(exchange_id, call, target.candidate, estimate, event_id)
        limits = self._identified.limits
        await self._reserve(
            response,
            lambda: session_reservation(
                target.model,
                target.candidate,
                gateway.providers[target.candidate.provider],
                gateway.prices,
                gateway.bounds,
                prompt,
                output,
                priced=limits is not None and limits.count_dollars,
            ),
        )

    async def _admit_request(self, payload: bytes, event: dict[str, Json], event_id: str | None) -> dict[str, Json]:
        """Of the Responses API: a request with its own model. One is in progress at a time."""
        gateway, identified = self._gateway, self._identified
        if self._open:
            raise BadRequest("a response is in progress in this session; wait for its end")
        model, most = event.get("model"), event.get("max_output_tokens")
        if not isinstance(model, str) or not model:
            raise BadRequest("model is missing: give the name of a model", param="model")
        if event.get("background") or event.get("conversation") is not None:
            raise BadRequest("background and conversation are not supported in a session; send them as a request")
        call = replace(
            session_call(model, encode_json(event)),
            max_output_tokens=most if type(most) is int and most > 0 else None,
            tiers=socket_events.tiers_of(event),
        )
        candidate = candidate_of(gateway, identified, call, self._target.candidate.provider)
        await object_access(gateway, identified, call, (candidate,), large=is_large(payload))
        output = call.max_output_tokens if call.max_output_tokens is not None else gateway.bounds.usual_output
        estimate = Usage(input=min(tokens_of_length(len(payload)), gateway.bounds.context_window), output=output)
        response = self._response(gateway.new_id(), call, candidate, estimate, event_id)
        limits = identified.limits
        await self._reserve(
            response,
            lambda: reservation_request(
                call,
                (candidate,),
                gateway.providers,
                gateway.prices,
                gateway.bounds,
                gateway.prompt_search,
                priced=limits is not None and limits.count_dollars,
            ),
        )
        return {**event, "model": candidate.model}

    def _response(
        self, exchange_id: str, call: Call, candidate: Candidate, estimate: Usage, event_id: str | None
    ) -> OpenResponse:
        clock = self._gateway.clock
        return OpenResponse(
            exchange_id, call.model, candidate, call, estimate, clock.monotonic(), clock.time(), event_id
        )

    async def _reserve(self, response: OpenResponse, request: Callable[[], ReservationRequest]) -> None:
        """Raises the errors of `Limiter.admit`, after the refusal is settled."""
        limiter, limits = self._gateway.limiter, self._identified.limits
        self._began_response()
        try:
            if limiter is not None and limits is not None:
                await limiter.admit(response.exchange_id, limits, request())
        except EdgeError as error:
            self._settle(response, "rejected", None, fault=error.fault())
            raise
        self._open.append(response)

    # --- the provider's messages

    async def from_provider(self, messages: list[SocketMessage], *, end: bool) -> Outgoing:
        """What the caller gets. `end`: the provider sends nothing more."""
        out = Outgoing()
        for message in messages:
            if message.kind == "text":
                await self._provider_event(message.payload)
            elif message.kind == "close":
                self._provider_left = self._provider_left or not self.is_ending
            if self.is_ending:
                out.add(b"", changed=True)
            else:
                out.add(message.wire)
        self._provider_left = self._provider_left or (end and not self.is_ending)
        for waiting in self._waiting_for_caller:
            out.add(waiting, changed=True)
        self._waiting_for_caller.clear()
        return out

    def broken_by_provider(self, fault: WebSocketFault) -> Outgoing:
        out = Outgoing()
        self._provider_left = True
        self.is_ending = True
        out.add(encode("close", str(fault).encode(), from_client=False, code=FAILED), changed=True)
        return out

    async def _provider_event(self, payload: bytes) -> None:
        kind = socket_events.type_of(payload)
        for response in self._open:
            response.response_bytes += len(payload)
        if kind.endswith(".delta"):
            for response in self._open[:1]:
                response.first_token_at = response.first_token_at or self._gateway.clock.monotonic()
        elif kind == socket_events.CREATED:
            await self._created(await self._read_from_provider(payload))
        elif kind in socket_events.ENDS:
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
        response = next((each for each in self._open if each.id is None), None)
        if response is None and self._target.api == "realtime":
            # The provider has heard the end of a sentence, and answers.
            try:
                await self._admit_spoken(self._gateway.new_id(), None, self._most_output)
            except EdgeError as error:
                self._refuse(error.fault(), None)
                return
            response = self._open[-1]
        if response is not None:
            response.id = identifier

    async def _ended(self, event: dict[str, Json]) -> None:
        reply = dict(object_in(event, "response"))
        given = reply.get("id")
        await self._record_ids(reply)
        response = next((each for each in self._open if each.id == given), self._open[0] if self._open else None)
        if response is None:
            return
        self._open.remove(response)
        usage = socket_events.usage_of(self._target.api, reply)
        if self._target.api == "realtime" and usage is not None and is_plausible(usage):
            self._context = self._likely = usage.total
        failed = reply.get("status") == "failed"
        self._settle(response, "upstream_error" if failed else "ok", usage, model=reply.get("model"))

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
        waiting = [each for each in self._open if each.id is None or self._target.api == "responses"]
        if self._target.api == "realtime":
            waiting = [each for each in waiting if each.event_id == caused_by]
        for response in waiting[:1]:
            self._open.remove(response)
            code = object_in(event, "error").get("code")
            fault = Fault(400, "invalid_request", "", code if isinstance(code, str) else None)
            self._settle(response, "refused" if response.first_token_at is None else "broken_stream", None, fault=fault)

    # --- the end

    def _refuse(self, fault: Fault, out: Outgoing | None) -> None:
        """`out`: what the provider gets; None while its own messages are read."""
        self._end(out, POLICY if fault.status < _SERVERS else FAILED, fault.message, fault)

    def _end(self, out: Outgoing | None, code: int, reason: str, fault: Fault | None) -> None:
        """The provider gets a ping, whose answer carries the error and a close to the caller; the caller's answer to
        the close goes to the provider. A close would not do: the provider may end the connection with its answer, and
        Envoy drops what waits for the agent when a connection ends. `out`: None while the provider's messages are read,
        which carry the error themselves."""
        self.is_ending = True
        if fault is not None:
            dialect = self._identified.caller_dialect
            event = socket_events.error_event(self._target.api, dialect, fault, f"event_{self._gateway.new_id()}")
            self._waiting_for_caller.append(encode("text", event, from_client=False))
        self._waiting_for_caller.append(encode("close", reason.encode(), from_client=False, code=code))
        if out is not None:
            out.add(encode("ping", b"", from_client=True), changed=True)

    def closed(self, why: Closing) -> None:
        """Settles the responses in progress."""
        outcome: Outcome = "caller_left"
        if why == "error":
            outcome = "gateway_error"
        elif why == "stopping":
            outcome = "stopped"
        elif self._provider_left:
            outcome = "broken_stream"
        while self._open:
            self._settle(self._open.pop(0), outcome, None)

    def _settle(
        self,
        response: OpenResponse,
        outcome: Outcome,
        usage: Usage | None,
        *,
        fault: Fault | None = None,
        model: Json = None,
    ) -> None:
        gateway, identified = self._gateway, self._identified
        received, principal = identified.received, identified.principal
        sent = outcome != "rejected"
        if usage is not None and (usage.prompt_unknown or usage.completion_unknown or not is_plausible(usage)):
            usage = None
        # A provider charges for what it has read and generated.
        unseen = usage is None and sent and outcome != "refused"
        usage = response.estimate if unseen else usage
        provider = gateway.providers[response.candidate.provider]
        cost: Decimal | None = None
        searched: Decimal | None = None
        if usage is not None:
            price_list, name = provider.price_list, response.candidate.model
            tiers = tuple(response.call.tiers.values())
            cost = gateway.prices.cost(price_list, name, usage, host=provider.name, tiers=tiers)
            if usage.searches and cost is not None:
                searched = gateway.prices.search_cost(price_list, name, usage.searches, host=provider.name)
        trace = received.trace or received.parent
        first = response.first_token_at
        settlement = Settlement(
            exchange_id=response.exchange_id,
            outcome=outcome,
            status=fault.status if fault is not None else 200,
            code=(fault.code or fault.kind) if fault is not None else None,
            kind=fault.kind if fault is not None else None,
            started_at=response.started_at,
            duration=gateway.clock.monotonic() - response.began,
            overhead=0.0,
            time_to_first_token=first - response.began if first is not None else None,
            tenant=principal.tenant,
            team=principal.team,
            user=principal.user,
            key_id=principal.key_id,
            method=received.method,
            path=received.path,
            dialect=identified.caller_dialect.name,
            operation="chat",
            stream=True,
            model=gateway.models.label(response.model),
            provider=response.candidate.provider if sent else None,
            upstream_model=response.candidate.model if sent else None,
            lane="raw" if sent else None,
            attempts=1 if sent else 0,
            usage=usage,
            estimated=unseen,
            unseen=unseen,
            cost=cost,
            search_cost=searched,
            unpriced=usage is not None and cost is None,
            request_bytes=len(response.call.raw),
            response_bytes=response.response_bytes,
            request_id=received.request_id,
            trace_id=trace.trace_id if trace is not None else None,
            response_model=model if isinstance(model, str) else None,
            max_output_tokens=response.call.max_output_tokens,
            run=identified.runs[0] if identified.runs else None,
            run_parent=identified.runs[1] if len(identified.runs) > 1 else None,
        )
        held = gateway.limiter.held(settlement) if gateway.limiter is not None else None
        send(gateway, settlement if held is None else replace(settlement, held=Decimal(held) / MICRO))

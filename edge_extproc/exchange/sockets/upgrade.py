"""The request that opens a session: who sends it, which provider gets it, and with which headers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, TypeAlias
from urllib.parse import parse_qs, quote

from ...codecs.websocket import offered_extensions
from ...dialects.gemini_generate import live_messages
from ...dialects.openai_responses.socket_events import OTHER_SESSIONS
from ...errors import BadRequest, CallerError, Forbidden, WrongMethod
from ...model.call import Call
from ...model.content import Json
from ...model.envoy_names import BRIDGE, CLUSTER, ROUTE, SOCKET
from ...model.fault import FaultKind
from ...model.frozen_dataclass import frozen_dataclass
from ...model.plan import Candidate
from ...providers.base import UpstreamCall
from .. import headers as header_rules
from ..candidates import find_candidates, routing_request
from ..commands import Continue
from ..events import RequestHeaders
from ..phases import Identified
from ..ports import Gateway

Api: TypeAlias = Literal["realtime", "responses", "live"]
_OPENAI = "openai_responses"
_GOOGLE_KEY = "x-goog-api-key"
_PROTOCOLS = "sec-websocket-protocol"
_EXTENSIONS = "sec-websocket-extensions"
# Browsers cannot set headers of a WebSocket. The key and the account are among its protocols.
_KEY_PROTOCOL = "openai-insecure-api-key."
_NOT_UPSTREAM = (_KEY_PROTOCOL, "openai-organization.", "openai-project.")
# Envoy and the two ends need them. The extensions and protocols are written anew.
_HANDSHAKE = frozenset({"connection", "upgrade", "sec-websocket-key", "sec-websocket-version"})
HANDSHAKE_BACK = frozenset({"connection", "upgrade", "sec-websocket-accept", _PROTOCOLS, _EXTENSIONS})
"""The headers of a provider's 101 that the caller needs."""


class NoSocket(CallerError):
    """The request must be sent without Upgrade."""

    status = 426
    kind: FaultKind = "invalid_request"
    code = "upgrade_not_supported"


@frozen_dataclass
class Target:
    """Where a session goes."""

    api: Api
    model: str
    """The model that the caller names; "" if each response names its own."""
    candidate: Candidate
    """With the provider's name of that model. Empty if the session `is_bridged`."""
    is_bridged: bool = False
    """The agent's own server sends each response as a request."""


def api_of(path: str) -> Api:
    if live_messages.is_live(path):
        return "live"
    return "realtime" if path.endswith("/realtime") else "responses"


def dialect_of(api: Api) -> str:
    """The dialect of errors, and of rights that look into a request."""
    return live_messages.DIALECT if api == "live" else _OPENAI


def with_key(event: RequestHeaders) -> RequestHeaders:
    """The request with a browser's key in the header of other clients, so that a request with two keys is refused as
    any other."""
    keys = [p[len(_KEY_PROTOCOL) :] for p in _protocols(event) if p.lower().startswith(_KEY_PROTOCOL)]
    added = [("authorization", f"Bearer {key}") for key in keys]
    path, _, query = (header_rules.first(event.headers, ":path") or "").partition("?")
    if live_messages.is_live(path):  # a browser's SDK has it in the query
        added += [(_GOOGLE_KEY, key) for key in parse_qs(query).get("key", ())]
    return replace(event, headers=(*event.headers, *added)) if added else event


def _protocols(event: RequestHeaders) -> list[str]:
    values = (value for name, value in event.headers if name == _PROTOCOLS)
    return [protocol.strip() for value in values for protocol in value.split(",") if protocol.strip()]


def check_origin(gateway: Gateway, event: RequestHeaders) -> None:
    """Browsers open WebSockets to any host, without a preflight. Raises Forbidden."""
    origin, allowed = header_rules.first(event.headers, "origin"), gateway.sockets.origins
    if origin is not None and "*" not in allowed and origin not in allowed:
        raise Forbidden("this gateway does not allow WebSockets from this origin")


def target_of(gateway: Gateway, identified: Identified) -> Target:
    """Raises NoSocket if no provider of the model gets sessions, and the errors of other requests."""
    received = identified.received
    api = api_of(received.path)
    is_bridged = api == "responses" and gateway.sockets.bridges_responses
    if gateway.guardrails is not None and not is_bridged:
        raise NoSocket("this gateway has guardrails, which do not read WebSockets; send the request without Upgrade")
    if received.values.get("upgrade", "").lower() != "websocket":
        raise NoSocket("this path is a WebSocket; the request must have Upgrade: websocket")
    if received.method != "GET":
        raise WrongMethod(f"a WebSocket is opened with GET, not {received.method}")
    if is_bridged:
        return Target(api, "", Candidate("", ""), is_bridged=True)
    query = parse_qs(received.values.get(":path", "").partition("?")[2])
    if api != "realtime":
        return _without_model(gateway, api)
    if unsupported := [name for name in OTHER_SESSIONS if name in query]:
        raise NoSocket(
            f"sessions with {unsupported[0]} do not go through this gateway: only sessions of a model, which speaks "
            "or writes"
        )
    (model, *others) = query.get("model", [""])
    if not model or others:
        raise BadRequest("give one model in the query, such as /v1/realtime?model=gpt-realtime", param="model")
    return Target(api, model, candidate_of(gateway, identified, session_call(model)))


def _without_model(gateway: Gateway, api: Api) -> Target:
    """The provider is chosen before the first model is known: the first one that gets sessions and has this API."""
    for provider in gateway.sockets.clusters:
        if dialect_of(api) in gateway.providers[provider].formats("chat", ""):
            return Target(api, "", Candidate(provider, ""))
    raise NoSocket("no provider has this API over WebSockets; send the request without Upgrade")


def _speaks(gateway: Gateway, candidate: Candidate, call: Call) -> bool:
    """Whether a host has the API of this company."""
    has_google = live_messages.DIALECT in gateway.providers[candidate.provider].formats("chat", candidate.model)
    return has_google == (call.dialect == live_messages.DIALECT)


def session_call(model: str, raw: bytes = b"{}", dialect: str = _OPENAI) -> Call:
    return Call(dialect, "chat", model, True, raw)


def candidate_of(gateway: Gateway, identified: Identified, call: Call, provider: str | None = None) -> Candidate:
    """The first candidate of the model that gets sessions, or the one of `provider`. Raises NoSocket, and the errors of
    other requests."""
    routing = routing_request(gateway, identified, call)
    candidates: Sequence[Candidate] = find_candidates(gateway, identified, routing)
    if identified.rights is not None:
        candidates = identified.rights.narrow(call, candidates)
    candidates = tuple(c for c in candidates if c.provider in gateway.sockets.clusters and _speaks(gateway, c, call))
    if provider is not None:
        candidates = tuple(c for c in candidates if c.provider == provider)
    if candidates and gateway.taken_out:
        candidates = gateway.taken_out.used(candidates, gateway.clock.time())
    if not candidates:
        if provider is not None:
            raise BadRequest(f"the model {call.model!r} is not at the provider of this session", param="model")
        raise NoSocket(f"no provider of {call.model!r} has WebSockets here; send the request without Upgrade")
    return gateway.planner.plan(routing, candidates).candidates[0]


def upstream_request(gateway: Gateway, identified: Identified, event: RequestHeaders, target: Target) -> Continue:
    """The request for the provider. Of the query, only the model passes."""
    candidate, received = target.candidate, identified.received
    if target.is_bridged:
        return _bridge_request(identified, event)
    path = received.path if target.api == "live" else f"/{target.api}"
    if target.model:
        path += f"?model={quote(candidate.model, safe='')}"
    provider = gateway.providers[candidate.provider]
    request = provider.request(UpstreamCall("chat", dialect_of(target.api), candidate.model, True, path, b"", "GET"))
    to_set, to_remove = header_rules.outgoing(
        received.headers,
        request.headers,
        request.defaults,
        request.path,
        None,
        own=gateway.wire_names.headers,
        content_type=None,
        removed=request.removed,
    )
    protocols = _passed_protocols(event)
    offered = offered_extensions(", ".join(value for name, value in event.headers if name == _EXTENSIONS))
    handshake = [
        *([(_PROTOCOLS, protocols)] if protocols else []),
        *([(_EXTENSIONS, offered)] if offered is not None else []),
    ]
    written = {name for name, _ in handshake}
    return Continue(
        set_headers=(
            *to_set,
            *handshake,
            (ROUTE, SOCKET),
            (CLUSTER, gateway.sockets.clusters[candidate.provider]),
        ),
        remove_headers=tuple(name for name in to_remove if name not in _HANDSHAKE and name not in written),
        reroute=True,
        metadata=_facts(identified, candidate.provider),
    )


def _bridge_request(identified: Identified, event: RequestHeaders) -> Continue:
    """The upgrade for the agent's own server, with all headers of the caller: it sends them again with each request."""
    protocols = _passed_protocols(event)
    # Of a browser's request, it is not among the headers that Envoy has.
    key = next((header for header in event.headers if header[0] == "authorization"), None)
    had = any(name == _PROTOCOLS for name, _ in event.headers)
    return Continue(
        set_headers=(
            *([key] if key is not None else []),
            *([(_PROTOCOLS, protocols)] if protocols else []),
            (ROUTE, SOCKET),
            (CLUSTER, BRIDGE),
        ),
        remove_headers=(_PROTOCOLS,) if had and not protocols else (),
        reroute=True,
        metadata=_facts(identified, None),
    )


def _passed_protocols(event: RequestHeaders) -> str:
    return ", ".join(p for p in _protocols(event) if not p.lower().startswith(_NOT_UPSTREAM))


def _facts(identified: Identified, provider: str | None) -> dict[str, dict[str, Json]]:
    principal = identified.principal
    facts: dict[str, Json] = {"guard": False, "tenant": principal.tenant, "key": principal.key_id}
    return {"edge": {**facts, **({"provider": provider} if provider else {}), "route": identified.route.path}}

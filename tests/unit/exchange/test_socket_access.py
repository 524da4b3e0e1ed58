"""Who may open a session, what the provider gets of the caller, and what a session may ask for."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import pytest
from player import KEY
from socket_player import CREATE, Socket, completed, created, done, json_of, socket_stage

from edge_extproc.codecs.websocket import encode
from edge_extproc.errors import Unauthenticated
from edge_extproc.exchange.body_shape import ShapeBounds
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.events import RequestBody, ResponseHeaders
from edge_extproc.exchange.socket_settings import OpenSockets
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.owners import ObjectOwners, ProviderAccount

REALTIME, RESPONSES = "/v1/realtime?model=chat", "/v1/responses"
ASK = {**CREATE, "model": "chat", "input": "Hello"}
OTHER_KEY = "edge-key-of-umbrella"


def status(command: Any) -> tuple[int, str]:
    assert isinstance(command, ImmediateResponse), command
    return command.status, json.loads(command.body)["error"]["code"]


def upstream(command: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    assert isinstance(command, Continue), command
    return dict(command.set_headers), command.remove_headers


# --- the upgrade


@pytest.mark.parametrize("prefix", ["openai-insecure-api-key.", "OpenAI-Insecure-API-Key."])
def test_a_key_among_the_protocols_is_read_and_not_sent_on(prefix: str) -> None:
    protocols = ("sec-websocket-protocol", f"realtime, {prefix}{KEY}, OpenAI-Project.proj, openai-organization.org")
    to_set, removed = upstream(Socket(socket_stage()).ask(REALTIME, protocols, key=None))

    assert "realtime" == to_set["sec-websocket-protocol"]
    assert "Bearer secret-of-openai" == to_set["authorization"]
    assert KEY not in str(to_set)
    assert "authorization" not in removed  # the provider's own


def test_without_another_protocol_the_header_is_removed() -> None:
    protocols = ("sec-websocket-protocol", f"openai-insecure-api-key.{KEY}")
    to_set, removed = upstream(Socket(socket_stage()).ask(REALTIME, protocols, key=None))

    assert "sec-websocket-protocol" not in to_set
    assert "sec-websocket-protocol" in removed


def test_headers_of_the_caller_do_not_reach_the_provider() -> None:
    more = [("cookie", "a=b"), ("x-api-key", KEY), ("openai-beta", "realtime=v1"), ("origin", "https://page.example")]
    session = Socket(socket_stage(origins=frozenset({"*"})))
    to_set, removed = upstream(session.ask(REALTIME, *more[:1], *more[2:]))

    assert {"cookie", "origin"} <= {*removed}
    assert not {"upgrade", "connection", "sec-websocket-key"} & {*removed}
    assert KEY not in str(to_set)


def test_two_keys_are_refused() -> None:
    protocols = ("sec-websocket-protocol", f"openai-insecure-api-key.{OTHER_KEY}")

    assert 4 == status(Socket(socket_stage()).ask(REALTIME, protocols))[0] // 100


def test_headers_of_the_provider_do_not_reach_the_caller() -> None:
    session = Socket(socket_stage())
    session.ask(REALTIME)
    command = session.handle(
        ResponseHeaders(
            ((":status", "101"), ("connection", "upgrade"), ("upgrade", "websocket"), ("set-cookie", "a=b")), False
        )
    )

    assert isinstance(command, Continue)
    assert ("set-cookie",) == command.remove_headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://page.example.evil.example"])
def test_pages_of_other_origins_are_refused(origin: str) -> None:
    stage = socket_stage(origins=frozenset({"https://page.example"}))

    assert 403 == status(Socket(stage).ask(REALTIME, ("origin", origin)))[0]


def test_only_get_opens_a_session() -> None:
    assert 405 == status(Socket(socket_stage()).ask(RESPONSES, method="POST"))[0]


def test_bytes_before_the_upgrade_are_refused() -> None:
    session = Socket(socket_stage())
    session.ask(RESPONSES)
    with pytest.raises(Exception, match="before its upgrade"):
        session.handle(RequestBody(b"{}", False))
    assert [] == session.close("error")


def test_a_gateway_with_guardrails_has_no_sessions() -> None:
    stage = socket_stage()
    guarded: Any = object()
    stage.having(guardrails=guarded)

    assert (426, "upgrade_not_supported") == status(Socket(stage).ask(REALTIME))


def test_a_provider_without_sockets_has_no_sessions() -> None:
    assert (426, "upgrade_not_supported") == status(Socket(socket_stage()).ask("/v1/realtime?model=gemini"))
    assert (404, "model_not_found") == status(Socket(socket_stage()).ask(REALTIME, key=OTHER_KEY))


def test_the_query_passes_only_the_model() -> None:
    to_set, _ = upstream(Socket(socket_stage()).ask("/v1/realtime?model=chat&api-version=1&model_=x"))

    assert to_set[":path"].endswith("/realtime?model=gpt-4o-mini")


# --- the number of sessions


def test_a_tenant_has_a_limit_of_sessions_in_a_worker() -> None:
    stage, open_sockets = socket_stage(most=2), OpenSockets()
    first = Socket(stage, open_sockets).open()
    Socket(stage, open_sockets).ask(REALTIME)  # its upgrade is not complete
    refused = Socket(stage, open_sockets)

    assert (429, "rate_limit_exceeded") == status(refused.ask(REALTIME))
    refused.close()
    assert 429 == status(Socket(stage, open_sockets).ask(REALTIME))[0]
    first.close()
    Socket(stage, open_sockets).open()


def test_a_refused_upgrade_gives_its_place_back() -> None:
    stage, open_sockets = socket_stage(most=1), OpenSockets()
    for _ in range(3):
        session = Socket(stage, open_sockets)
        session.ask(REALTIME)
        assert isinstance(session.handle(ResponseHeaders(((":status", "500"),), True)), ImmediateResponse)
        session.close()


# --- within a session


def refused(session: Socket, event: dict[str, Any] | bytes) -> str:
    """The message of the error, after which the session is closed."""
    assert ["ping"] == [message.kind for message in session.caller(event)]
    error, close = session.provider_bytes(b"\x8a\x00")
    assert (1008, "close") == (close.code, close.kind)
    return str(json_of(error)["error"]["message"])


def test_a_revoked_key_begins_no_response() -> None:
    stage = socket_stage()
    session = Socket(stage).open()
    session.caller(CREATE)

    class Revoked:
        def authenticate(self, headers: Any) -> Any:
            raise Unauthenticated("the key is revoked")

    authenticator: Any = Revoked()
    stage.having(authenticator=authenticator)
    assert "the key is revoked" == refused(session, CREATE)


def test_a_model_that_was_taken_away_begins_no_response() -> None:
    stage = socket_stage()
    session = Socket(stage).open()
    now = stage.gateway.authenticator

    class Narrower:
        def authenticate(self, headers: Any) -> Any:
            return replace(now.authenticate(headers), models=("claude",))

    authenticator: Any = Narrower()
    stage.having(authenticator=authenticator)
    assert "chat" in refused(session, CREATE)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "session.update", "session": {"model": "gpt-4o"}},
        {**CREATE, "response": {"model": "gpt-4o"}},
        b'{"type":"session.update","session":{"model":"gpt-4o"},"session":{"model":"gpt-4o"}}',
    ],
)
def test_the_model_of_a_session_is_not_changed(event: Any) -> None:
    assert "model" in refused(Socket(socket_stage()).open(), event)


@pytest.mark.parametrize(
    ("path", "event"),
    [
        (REALTIME, b'{"type":"response.create","response":{},"type":"input_audio_buffer.append","audio":"AAAA"}'),
        (REALTIME, b'{"type":"input_audio_buffer.append","type":"conversation.item.create","item":{},"item":{"a":1}}'),
        (REALTIME, b'{"typ\\u0065":"response.create","type":"input_audio_buffer.append","audio":"AAAA"}'),
        (RESPONSES, b'{"type":"response.create","model":"gpt-4o","type":"response.cancel","model":"x"}'),
    ],
)
def test_the_provider_gets_what_was_checked(path: str, event: bytes) -> None:
    """Of two members of one name, its parser may read the first, and ours the last."""
    (message,) = Socket(socket_stage()).open(path).caller(event)
    pairs: list[str] = []
    json.loads(message.payload, object_pairs_hook=lambda members: pairs.extend(name for name, _ in members))

    assert "text" == message.kind
    assert len(pairs) == len(set(pairs))


def test_audio_passes_with_its_own_bytes() -> None:
    wire = encode("text", b'{ "type": "input_audio_buffer.append", "audio": "AAAA" }', from_client=True)
    (message,) = Socket(socket_stage()).open().caller_bytes(wire)

    assert wire == message.wire


def test_further_models_are_refused() -> None:
    """A host such as OpenRouter would use them in place of the model that was checked."""
    session = Socket(socket_stage()).open(RESPONSES)

    assert "further models" in refused(session, {**ASK, "models": ["gpt-4o"]})


def test_a_model_that_the_caller_may_not_use_is_refused() -> None:
    stage = socket_stage()
    stage.having(models=stage.gateway.models)
    session = Socket(stage).open(RESPONSES, key=OTHER_KEY)

    assert "chat" in refused(session, ASK)


@pytest.mark.parametrize("path", [REALTIME, RESPONSES])
def test_an_event_has_the_bounds_of_a_body(path: str) -> None:
    """Small bytes could become many objects."""
    stage = socket_stage()
    stage.having(shape=ShapeBounds(values=1_000))
    message = refused(Socket(stage).open(path), b'{"type":"response.create","x":[' + b"[]," * 2_000 + b"[]]}")

    assert "limits.json_values" in message


def test_the_line_of_a_session_names_the_refusal_that_ended_it() -> None:
    stage = socket_stage()
    session = Socket(stage).open(RESPONSES)
    refused(session, {**ASK, "model": "unknown-model"})
    session.close()

    (whole,) = stage.settled
    assert ("socket", 101, "rejected", "model_not_found") == (whole.operation, whole.status, whole.outcome, whole.code)


def shared() -> Any:
    owners = ObjectOwners(MemoryRecords(), {"openai": ProviderAccount("openai", ("pmpt_shared",))})
    asyncio.run(owners.record("openai", "umbrella", ["resp_theirs", "file-theirs", "pmpt_theirs"]))
    asyncio.run(owners.record("openai", "acme", ["file-mine"]))
    return socket_stage().having(owners=owners)


@pytest.mark.parametrize(
    ("path", "event"),
    [
        (RESPONSES, {**ASK, "previous_response_id": "resp_theirs"}),
        (RESPONSES, {**ASK, "previous_response_id": "resp_unknown"}),
        (
            RESPONSES,
            {**ASK, "input": [{"role": "user", "content": [{"type": "input_file", "file_id": "file-theirs"}]}]},
        ),
        (RESPONSES, {**ASK, "prompt": {"id": "pmpt_theirs"}}),
        (REALTIME, {"type": "session.update", "session": {"prompt": {"id": "pmpt_theirs"}}}),
        (REALTIME, {**CREATE, "response": {"prompt": {"id": "pmpt_theirs"}}}),
        (
            REALTIME,
            {
                "type": "conversation.item.create",
                "item": {"role": "user", "content": [{"type": "input_image", "file_id": "file-theirs"}]},
            },
        ),
        (
            REALTIME,
            {
                "type": "session.update",
                "session": {
                    "prompt": {
                        "id": "pmpt_shared",
                        "variables": {"a": {"type": "input_file", "file_id": "file-theirs"}},
                    }
                },
            },
        ),
    ],
)
def test_objects_of_another_tenant_are_refused(path: str, event: Any) -> None:
    assert "there is no object" in refused(Socket(shared()).open(path), event)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "session.update", "session": {"prompt": {"id": "pmpt_shared"}}},
        {
            "type": "conversation.item.create",
            "previous_item_id": "item_1",
            "item": {"id": "item_2", "role": "user", "content": [{"type": "input_image", "file_id": "file-mine"}]},
        },
        {**CREATE, "response": {"input": [{"type": "item_reference", "id": "item_1"}]}},
    ],
)
def test_a_tenants_own_objects_and_items_of_the_session_pass(event: Any) -> None:
    (message,) = Socket(shared()).open().caller(event)

    assert "text" == message.kind


def test_a_tenant_owns_the_responses_of_its_session() -> None:
    stage = shared()
    session = Socket(stage).open(RESPONSES)
    session.caller(ASK)
    session.provider(created("resp_new"), completed("resp_new"))

    assert ["text"] == [m.kind for m in session.caller({**ASK, "previous_response_id": "resp_new"})]


# --- bytes that are no WebSocket


def test_broken_frames_end_the_session_once() -> None:
    session = Socket(socket_stage()).open()
    passed = session.caller_bytes(b"\x83\x80\x00\x00\x00\x00")
    for _ in range(3):
        assert [] == session.caller_bytes(b"\x81\xff" + b"\xff" * 60_000)
    messages = session.provider_bytes(b"\x8a\x00")

    assert ["ping"] == [message.kind for message in passed]
    assert [("close", 1002)] == [(message.kind, message.code) for message in messages]


def test_broken_frames_of_the_provider_end_the_session_once() -> None:
    session = Socket(socket_stage()).open()
    messages = session.provider_bytes(b"\x83\x00")

    assert [("close", 1011)] == [(message.kind, message.code) for message in messages]
    assert [] == session.provider_bytes(b"\x83\x00" + b"\xff" * 60_000)


def test_what_came_before_broken_frames_counts() -> None:
    session = Socket(socket_stage()).open()
    session.caller(CREATE)
    wire = b"".join(encode("text", json.dumps(each).encode(), from_client=False) for each in (created("r"), done("r")))
    messages = session.provider_bytes(wire + b"\x83\x00")

    assert ["text", "text", "close"] == [message.kind for message in messages]
    assert [("ok", 7)] == [(each.outcome, each.usage.total) for each in session.close()]


# --- sessions whose responses become requests


def test_a_bridged_session_goes_to_the_agents_own_server_with_the_callers_headers() -> None:
    stage = socket_stage(bridges_responses=True)
    socket = Socket(stage)
    to_set, removed = upstream(socket.ask(RESPONSES, ("x-edge-run", "r"), ("sec-websocket-protocol", "realtime")))

    assert {
        "authorization": f"Bearer {KEY}",
        "sec-websocket-protocol": "realtime",
        "x-edge-route": "socket",
        "x-edge-cluster": "responses_bridge",
    } == to_set
    assert () == removed


def test_messages_of_a_bridged_session_pass_and_only_the_session_is_settled() -> None:
    stage = socket_stage(bridges_responses=True)
    socket = Socket(stage).open(RESPONSES)
    asked = {"type": "response.create", "model": "unknown", "background": True}

    assert [asked] == [json_of(message) for message in socket.caller(asked)]
    assert [completed("1")] == [json_of(message) for message in socket.provider(completed("1"))]
    assert [] == socket.close()
    (whole,) = stage.settled
    assert ("ok", 101, None, 0) == (whole.outcome, whole.status, whole.provider, whole.attempts)


def test_a_browsers_key_reaches_the_own_server_as_a_header() -> None:
    stage = socket_stage(bridges_responses=True, origins=frozenset({"https://a"}))
    protocol = ("sec-websocket-protocol", f"openai-insecure-api-key.{KEY}")
    to_set, removed = upstream(Socket(stage).ask(RESPONSES, ("origin", "https://a"), protocol, key=None))

    assert f"Bearer {KEY}" == to_set["authorization"]
    assert "sec-websocket-protocol" in removed
    assert "sec-websocket-protocol" not in to_set


def test_only_sessions_of_responses_are_bridged() -> None:
    to_set, _ = upstream(Socket(socket_stage(bridges_responses=True)).ask(REALTIME))

    assert "socket_openai" == to_set["x-edge-cluster"]


@pytest.mark.parametrize(("key", "expected"), [("wrong", 401), (KEY, 429)])
def test_a_bridged_session_is_refused_as_others(key: str, expected: int) -> None:
    refused = Socket(socket_stage(bridges_responses=True, most=0)).ask(RESPONSES, key=key)

    assert isinstance(refused, ImmediateResponse)
    assert expected == refused.status

"""Requests to MCP servers without Envoy: guardrails, services, limits, rights and the metadata of OAuth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytest
from guarding import SECRET, ScriptedService, guardrails, placeholder, rule, scoped
from limits_kit import Now, RecordingListener, dollars
from limits_kit import rule as limit
from mcp_kit import RESULT, SESSION, SETTINGS, begin, call, error_of
from player import Stage, answered, body, headers, talk, whole

from edge_extproc.auth.mcp_access import McpAccess, McpGrants
from edge_extproc.auth.policy import AccessPolicies, AccessPolicy
from edge_extproc.exchange.commands import CONTINUE, Command, Continue, ImmediateResponse
from edge_extproc.exchange.events import ResponseBody
from edge_extproc.exchange.mcp.exchange import McpExchange
from edge_extproc.guardrails.base import Checked, Rule, Verdict
from edge_extproc.limits.base import LimitRule
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable

EVENTS = "text/event-stream"


def stage(*rules: Rule, **more: Any) -> Stage:
    return Stage().having(mcp=SETTINGS, guardrails=guardrails(*rules) if rules else None, **more)


def play(on: Stage, *events: Any) -> list[Command]:
    exchange = McpExchange(on.gateway)
    waits: list[float] = []

    async def more_time(seconds: float) -> None:
        waits.append(seconds)

    exchange.more_time = more_time
    commands = talk(exchange, *events)
    exchange.closed("done")
    assert [] == on.bugs
    return commands


def arguments_of(command: Command) -> Any:
    assert isinstance(command, Continue), command
    assert command.body is not None
    assert ("content-length", str(len(command.body))) in command.set_headers
    return json.loads(command.body)["params"]["arguments"]


def result_of(text: str) -> dict[str, Any]:
    return {**RESULT, "result": {"content": [{"type": "text", "text": text}]}}


# --- guardrails

MASK, BLOCK, ROUTE = rule("mask"), rule("block"), rule("route", route="private")


def of_replies(each: Rule) -> Rule:
    return replace(each, directions=frozenset({"reply"}))


def test_a_rule_masks_arguments_and_the_caller_gets_its_value_again() -> None:
    on = stage(MASK)
    _, sent, _, last = play(on, begin(), call(deep=[f"a {SECRET}"]), answered(), whole(result_of(placeholder())))

    assert {"deep": [f"a {placeholder()}"]} == arguments_of(sent)
    assert isinstance(last, Continue)
    assert result_of(SECRET) == json.loads(last.body or b"")
    assert ["mask"] == [hit.action for hit in on.settled[0].guardrails]


@pytest.mark.parametrize(
    ("each", "expected"),
    [(BLOCK, (400, 400, 7)), (ROUTE, (400, 400, 7)), (rule("block", mode="shadow"), None), (of_replies(BLOCK), None)],
)
def test_a_rule_about_requests(each: Rule, expected: tuple[int, int, int] | None) -> None:
    _, command = play(stage(each), begin(), call(text=SECRET))

    if expected is None:
        assert isinstance(command, Continue)
    else:
        assert expected == error_of(command)


@pytest.mark.parametrize(
    "message",
    [
        {"method": "tools/call", "params": {"name": "echo", "_meta": {"note": SECRET}}},
        {
            "method": "completion/complete",
            "params": {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"value": SECRET}},
        },
        {"method": "resources/read", "params": {"uri": f"a://{SECRET}"}},
    ],
)
def test_a_rule_sees_all_texts(message: Mapping[str, Any]) -> None:
    _, command = play(stage(BLOCK), begin(), body({"jsonrpc": "2.0", "id": 7, **message}))

    assert (400, 400, 7) == error_of(command)


def test_a_rule_never_changes_what_a_message_uses() -> None:
    read = body({"jsonrpc": "2.0", "id": 7, "method": "resources/read", "params": {"uri": f"a://{SECRET}"}})
    _, command = play(stage(MASK), begin(), read)

    assert (400, 400, 7) == error_of(command)


def test_a_reply_of_the_caller_is_masked() -> None:
    reply = body({"jsonrpc": "2.0", "id": 1, "result": {"content": SECRET}})
    _, sent = play(stage(MASK), begin(("mcp-session-id", SESSION)), reply)

    assert isinstance(sent, Continue)
    assert SECRET.encode() not in (sent.body or b"")


@pytest.mark.parametrize(
    ("rules", "argument", "header", "is_sent"),
    [
        ((MASK,), "free", "free", True),
        ((MASK,), "free", "other", False),
        ((MASK,), SECRET, SECRET, False),
        ((of_replies(MASK),), "free", "other", True),
        ((), "free", "other", True),
    ],
)
def test_headers_of_parameters(rules: Sequence[Rule], argument: str, header: str, is_sent: bool) -> None:
    _, command = play(stage(*rules), begin(("mcp-param-text", header)), call(text=argument))

    assert is_sent is isinstance(command, Continue)


@pytest.mark.parametrize("kind", ["application/json", EVENTS])
def test_a_rule_blocks_a_result(kind: str) -> None:
    on = stage(of_replies(BLOCK))
    raw = json.dumps(result_of(SECRET)).encode()
    sent = ResponseBody(b"data: " + raw + b"\n\n", True) if kind == EVENTS else whole(raw)
    *_, last = play(on, begin(), call(), answered(content_type=kind), sent)

    assert isinstance(last, Continue)
    assert SECRET.encode() not in (last.body or b"")
    assert b'"id":7' in (last.body or b"")
    assert b"guardrail_blocked" in (last.body or b"")
    assert ("rejected", "2") == (on.settled[0].outcome, str(on.settled[0].cost))


def test_what_was_judged_is_sent() -> None:
    clean = json.dumps(RESULT["result"])
    twice = f'{{"jsonrpc":"2.0","id":7,"result":"{SECRET}","result":{clean}}}'.encode()
    *_, last = play(stage(of_replies(BLOCK)), begin(), call(), answered(), whole(twice))

    assert isinstance(last, Continue)
    assert RESULT == json.loads(last.body or b"")
    assert SECRET.encode() not in (last.body or b"")


def test_a_stream_of_a_session_is_guarded() -> None:
    note = json.dumps({"jsonrpc": "2.0", "id": 5, "method": "sampling/createMessage", "params": {"text": SECRET}})
    get = begin(("mcp-session-id", SESSION), method="GET", end=True)
    on = stage(of_replies(BLOCK))
    sent, _, last = play(on, get, answered(content_type=EVENTS), ResponseBody(f"data: {note}\n\n".encode(), True))

    assert isinstance(sent, Continue)
    assert ("mcp-session-id", "of-server") in sent.set_headers
    assert isinstance(last, Continue)
    assert SECRET.encode() not in (last.body or b"")
    assert ("ok", "stream", None) == (on.settled[0].outcome, on.settled[0].rpc_method, on.settled[0].cost)


@pytest.mark.parametrize("action", ["block", "mask"])
@pytest.mark.parametrize("direction", ["request", "reply"])
def test_a_service_judges(action: Any, direction: Any) -> None:
    def verdict(checked: Checked) -> Verdict:
        found = any(SECRET in piece.text for piece in checked.pieces)
        if not found:
            return Verdict("pass")
        if action == "block":
            return Verdict("block", label="secret")
        return Verdict("mask", texts=tuple(piece.text.replace(SECRET, "***") for piece in checked.pieces))

    service = ScriptedService(verdict)
    on = stage(
        rule(action, service=service, directions=frozenset({direction})),
        MASK if action == "block" else rule("flag", "seen"),
    )
    argument = "free" if direction == "reply" else f"{SECRET}!" if action == "mask" else "free"
    commands = play(on, begin(), call(text=argument), answered(), whole(result_of(f"it is {SECRET}")))
    last = commands[-1]

    assert service.asked
    assert "s/add" == service.asked[0].model
    if direction == "request":
        assert argument == "free" or SECRET.encode() not in (getattr(commands[1], "body", b"") or b"")
    else:
        assert isinstance(last, Continue)
        assert SECRET.encode() not in (last.body or b"")


def test_a_service_gets_what_a_detector_has_masked() -> None:
    service = ScriptedService(lambda checked: Verdict("pass"))
    on = stage(MASK, rule("block", "judge", service=service), of_replies(MASK))
    play(on, begin(), call(text=f"{SECRET} {'x' * 300_000}"), answered(), whole(result_of("it")))

    texts = [piece.text for piece in service.asked[0].pieces]
    assert any(text.startswith(placeholder()) for text in texts)
    assert not any(SECRET in text for text in texts)


def test_a_detector_blocks_before_a_service_is_asked() -> None:
    service = ScriptedService(lambda checked: Verdict("pass"))
    on = stage(of_replies(BLOCK), of_replies(rule("block", "judge", service=service)))
    *_, last = play(on, begin(), call(), answered(), whole(result_of(SECRET)))

    assert isinstance(last, Continue)
    assert b"guardrail_blocked" in (last.body or b"")
    assert [] == service.asked


def test_a_rule_about_another_server_is_not_applied() -> None:
    on = Stage().having(mcp=SETTINGS, guardrails=guardrails(scoped(BLOCK, models=("other/*",))))
    *_, last = play(on, begin(), call(text=SECRET), answered(), whole(result_of(SECRET)))

    assert CONTINUE == last


# --- limits


def limited(*rules: LimitRule) -> Stage:
    on = stage()
    limiter = PolicyLimiter(RuleTable(rules), None, RecordingListener(), clock=Now())
    return on.having(limiter=limiter, sinks=(limiter.settle, on.settled.append))


def test_a_budget_refuses_with_the_id() -> None:
    on = limited(dollars(3))
    play(on, begin(), call(), answered(), whole(RESULT))
    _, refused = play(on, begin(), call())
    play(on, begin(), call("echo"), answered(), whole(RESULT))

    assert (429, 429, 7) == error_of(refused)
    assert isinstance(refused, ImmediateResponse)
    assert "retry-after" in dict(refused.headers)
    assert ["2", None, "0"] == [str(each.cost) if each.cost is not None else None for each in on.settled]


def test_a_free_error_gives_the_reservation_back() -> None:
    on = limited(dollars(3))
    for _ in range(3):
        play(on, begin(), call(), answered(500, end=True))
    _, sent = play(on, begin(), call())

    assert isinstance(sent, Continue)


def test_each_message_counts_as_a_request() -> None:
    on = limited(limit("requests", 2))
    listed = body({"jsonrpc": "2.0", "id": 7, "method": "tools/list"})
    replies = [play(on, begin(), listed) for _ in range(2)]
    noted = play(on, begin(), body({"jsonrpc": "2.0", "method": "notifications/initialized"}))
    streamed = play(on, begin(("mcp-session-id", SESSION), method="GET", end=True))

    assert all(isinstance(reply[-1], Continue) for reply in replies)
    assert (429, 429, None) == error_of(noted[-1])
    assert (429, 429, None) == error_of(streamed[-1])


def test_a_call_is_a_concurrent_request_until_it_ends() -> None:
    on = limited(limit("concurrent", 1))
    first = McpExchange(on.gateway)
    talk(first, begin(), call())
    _, refused = play(on, begin(), call())
    listed = play(on, begin(), body({"jsonrpc": "2.0", "id": 7, "method": "tools/list"}))
    first.closed("cancelled")
    _, sent = play(on, begin(), call())

    assert (429, 429, 7) == error_of(refused)
    assert isinstance(listed[-1], Continue)
    assert isinstance(sent, Continue)


def test_the_rest_of_a_limit_is_in_the_response() -> None:
    on = limited(limit("requests", 2))
    _, _, head, _ = play(on, begin(), call(), answered(), whole(RESULT))

    assert isinstance(head, Continue)
    assert any(name.startswith("x-ratelimit-") for name, _ in head.set_headers)


# --- rights


def test_a_policy_narrows_what_the_tenant_may_use() -> None:
    narrow = AccessPolicy(mcp={"s": McpAccess(("echo",))})
    on = stage(access=AccessPolicies([("acme", "key", "acme-1", narrow)], {}, {}))
    _, refused = play(on, begin(), call())
    _, sent = play(on, begin(), call("echo"))
    *_, listed = play(
        on,
        begin(),
        body({"jsonrpc": "2.0", "id": 7, "method": "tools/list"}),
        answered(),
        whole({**RESULT, "result": {"tools": [{"name": "add"}, {"name": "echo"}]}}),
    )

    assert (403, 403, 7) == error_of(refused)
    assert isinstance(sent, Continue)
    assert isinstance(listed, Continue)
    assert [{"name": "echo"}] == json.loads(listed.body or b"")["result"]["tools"]


@pytest.mark.parametrize(
    "grants", [{}, {"umbrella": McpGrants({"*": McpAccess(("*",))})}, {"acme": McpGrants({"t": McpAccess(("*",))})}]
)
def test_nothing_is_allowed_by_default(grants: dict[str, McpGrants]) -> None:
    on = stage(access=None).having(mcp=replace(SETTINGS, grants=grants))
    ping = body({"jsonrpc": "2.0", "id": 7, "method": "ping"})

    for refused in (play(on, begin(), ping)[-1], play(on, begin(), call())[-1]):
        assert (403, 403, 7) == error_of(refused)


# --- OAuth


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("POST", 405)])
def test_the_metadata_needs_no_key(method: str, status: int) -> None:
    on = stage().having(mcp=replace(SETTINGS, issuers=("https://issuer",), url="https://gateway"))
    path = "/.well-known/oauth-protected-resource/mcp/s"
    (reply,) = play(on, headers(path, method=method, key=None, end=method == "GET"))

    assert isinstance(reply, ImmediateResponse)
    assert status == reply.status
    if status == 200:
        assert ["https://issuer"] == json.loads(reply.body)["authorization_servers"]
        assert ("ok", 200) == (on.settled[0].outcome, on.settled[0].status)


def test_a_caller_without_a_token_finds_the_metadata() -> None:
    on = stage().having(mcp=replace(SETTINGS, issuers=("https://issuer",), url="https://gateway"))
    (refused,) = play(on, headers("/mcp/s", key=None))

    assert isinstance(refused, ImmediateResponse)
    assert (
        'Bearer resource_metadata="https://gateway/.well-known/oauth-protected-resource/mcp/s"'
        == dict(refused.headers)["www-authenticate"]
    )

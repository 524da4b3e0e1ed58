"""What a terminal shows: short lines for people, without secrets and without control characters."""

from __future__ import annotations

import io
import os
import pty
import sys
from decimal import Decimal

import orjson
import pytest

from edge_extproc.model.checked import AuthzDecision
from edge_extproc.model.settlement import Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.telemetry import console, logs

ANSWERED = Settlement(
    "x1",
    "ok",
    200,
    None,
    0.0,
    0.8124,
    0.002,
    0.12,
    tenant="dev",
    key_id="laptop",
    method="POST",
    path="/v1/chat/completions",
    model="chat",
    provider="openai",
    upstream_model="gpt-4o-mini",
    attempts=2,
    usage=Usage(input=12, output=43),
    cost=Decimal("0.000123"),
    dropped=("top_k", "metadata", "seed", "user"),
)


def shown(record: Settlement | AuthzDecision) -> str:
    text = console.line(record).decode()
    assert text.endswith("\n")
    assert 1 == text.count("\n")
    return " ".join(text.split()[1:])


def test_a_request_is_one_line_with_what_happened() -> None:
    assert (
        "200 POST /v1/chat/completions chat → openai/gpt-4o-mini 812 ms first token 120 ms 12+43 tokens $0.000123 "
        "2 attempts dropped top_k, metadata, seed … dev/laptop"
    ) == shown(ANSWERED)


def test_a_refusal_says_why() -> None:
    refused = Settlement("x2", "rejected", 401, "invalid_api_key", 0.0, 0.001, 0.001, method="GET", path="/v1/models")

    assert "401 GET /v1/models 1 ms rejected: invalid_api_key" == shown(refused)


def test_a_caller_who_left_has_no_status() -> None:
    left = Settlement("x3", "caller_left", None, None, 0.0, 2.0, 0.001, usage=Usage(input=1, output=2), estimated=True)

    assert "--- 2000 ms 1+2 tokens (estimated) caller_left: -" == shown(left)


def test_a_cached_reply_says_so() -> None:
    assert "cache hit" in shown(Settlement("x4", "ok", 200, None, 0.0, 0.001, 0.001, cache="hit", model="m"))


def test_a_decision_of_ext_authz_is_a_line() -> None:
    denied = AuthzDecision(
        "denied", 403, "permission_denied", "no", 0.0, 0.001, "a", key_id="k", method="GET", path="/x"
    )

    assert "403 GET /x ext_authz: denied permission_denied 1 ms a/k" == shown(denied)


@pytest.mark.parametrize("field", ["path", "model", "upstream_model", "code"])
def test_no_caller_controls_the_terminal_or_shows_a_secret(field: str) -> None:
    evil = "\x1b[2J\x07\r\n\u202esk-ant-api03-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
    values = {"path": "/", "model": "m", "upstream_model": "u", "code": "c", field: evil}
    text = console.line(
        Settlement("x", "upstream_error", 502, values.pop("code"), 0.0, 0.1, 0.1, provider="p", **values)  # type: ignore[arg-type]  # texts
    ).decode()

    assert text[:-1].isprintable()
    assert "sk-ant-api03-aaaa" not in text


def envoys(**values: object) -> str:
    logged = {
        "time": "2026-11-30T02:29:41.000Z",
        "status": 404,
        "method": "GET",
        "flags": "NR",
        "details": "route_not_found",
    }
    return orjson.dumps({**logged, "duration_ms": 0, "edge": None, **values}).decode()


def test_envoys_line_is_shown_only_if_the_agent_has_none() -> None:
    assert console.envoy_line(envoys(edge={"tenant": "dev"})) is None
    assert "02:29:41Z  404  GET  route_not_found  NR  0 ms  answered by Envoy" == console.envoy_line(envoys())
    assert "\x1b" not in str(console.envoy_line(envoys(method="\x1b[2J")))


@pytest.mark.parametrize("line", ["[2026-11-30][warning] a line of Envoy", "{not JSON", '{"another": "object"}', ""])
def test_other_lines_of_envoy_are_unchanged(line: str) -> None:
    assert line == console.envoy_line(line)


def test_lines_are_for_people_where_the_output_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal, os.fdopen(ours, "rb", buffering=0):
        monkeypatch.setattr(sys, "stdout", terminal)
        at_terminal = [logs.is_console(each) for each in ("auto", "json", "console")]
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        in_a_pipe = [logs.is_console(each) for each in ("auto", "json", "console")]

    assert [True, False, True] == at_terminal
    assert [False, False, True] == in_a_pipe

"""A provider's error about the gateway's own account: every caller gets an error of the gateway, another candidate is
tried, and the operator gets an alarm."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cells import each_cell
from player import DIALECTS, MODELS, Stage, answered, body, headers, planner, talk, tried, whole

from edge_extproc.exchange.account_faults import account_problem, for_caller
from edge_extproc.exchange.commands import CONTINUE, HOLD, Continue, Release
from edge_extproc.model.fault import Fault
from edge_extproc.routing.base import ModelTable
from edge_extproc.routing.planner import ModelRoute

CHAT, MESSAGES, GEMINI, BEDROCK = "openai_chat", "anthropic_messages", "gemini_generate", "bedrock_converse"
HELLO = [{"role": "user", "content": "Hello"}]


def google(code: int, status: str, message: str, **detail: Any) -> dict[str, Any]:
    details = [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", **detail}] if detail else []
    return {"error": {"code": code, "message": message, "status": status, "details": details}}


def chat(message: str, type_: str, code: Any = None) -> dict[str, Any]:
    return {"error": {"message": message, "type": type_, "param": None, "code": code}}


def anthropic(type_: str, message: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": type_, "message": message}}


# What providers answer to a key, an account or a right of ours: dialect, status, body, problem.
OF_THE_ACCOUNT: dict[str, tuple[str, int, Any, str]] = {
    "openai key": (
        CHAT,
        401,
        chat("Incorrect API key provided", "invalid_request_error", "invalid_api_key"),
        "credential",
    ),
    "openai organization": (CHAT, 401, chat("You must be a member", "invalid_request_error"), "credential"),
    "openai country": (
        CHAT,
        403,
        chat("Country not supported", "request_forbidden", "unsupported_country"),
        "credential",
    ),
    "openai model": (CHAT, 403, chat("no access to model", "invalid_request_error", "model_not_found"), "credential"),
    "openai quota": (CHAT, 429, chat("You exceeded your quota", "insufficient_quota", "insufficient_quota"), "payment"),
    "openai billing": (CHAT, 400, chat("Billing hard limit has been reached", "invalid_request_error"), "payment"),
    "azure key": (CHAT, 401, {"error": {"code": "401", "message": "Access denied due to invalid key."}}, "credential"),
    "deepseek balance": (CHAT, 402, chat("Insufficient Balance", "unknown_error"), "payment"),
    "openrouter credits": (CHAT, 402, {"error": {"message": "Insufficient credits", "code": 402}}, "payment"),
    "xai key": (CHAT, 400, {"code": "invalid", "error": "Incorrect API key provided: ab***."}, "credential"),
    "another word": (CHAT, 402, chat("a bad day", "server_error"), "payment"),
    "plain text": (CHAT, 403, "Forbidden", "credential"),
    "anthropic key": (MESSAGES, 401, anthropic("authentication_error", "invalid x-api-key"), "credential"),
    "anthropic right": (MESSAGES, 403, anthropic("permission_error", "not for this workspace"), "credential"),
    "anthropic credit": (
        MESSAGES,
        400,
        anthropic("invalid_request_error", "Your credit balance is too low to access the Anthropic API."),
        "payment",
    ),
    "anthropic billing": (MESSAGES, 402, anthropic("billing_error", "Your payment failed"), "payment"),
    "gemini key": (
        GEMINI,
        400,
        google(400, "INVALID_ARGUMENT", "API key not valid.", reason="API_KEY_INVALID"),
        "credential",
    ),
    "gemini key without a reason": (GEMINI, 400, google(400, "INVALID_ARGUMENT", "API key not valid."), "credential"),
    "vertex token": (GEMINI, 401, google(401, "UNAUTHENTICATED", "invalid authentication credentials"), "credential"),
    "vertex right": (GEMINI, 403, google(403, "PERMISSION_DENIED", "Permission denied on resource"), "credential"),
    "gemini billing": (GEMINI, 403, google(403, "PERMISSION_DENIED", "x", reason="BILLING_DISABLED"), "payment"),
    "bedrock token": (BEDROCK, 403, {"__type": "ExpiredTokenException", "message": "expired"}, "credential"),
    "bedrock signature": (BEDROCK, 403, {"message": "The request signature does not match"}, "credential"),
    "bedrock right": (BEDROCK, 403, {"__type": "AccessDeniedException", "message": "no access"}, "credential"),
}
# What they answer to the request itself with the same status codes.
OF_THE_REQUEST: dict[str, tuple[str, int, Any]] = {
    "invalid value": (CHAT, 400, chat("Invalid value: 'incorrect api key'", "invalid_request_error")),
    "openrouter moderation": (
        CHAT,
        403,
        {"error": {"code": 403, "message": "flagged", "metadata": {"reasons": ["hate"], "flagged_input": "..."}}},
    ),
    "xai safety": (
        CHAT,
        403,
        {"code": "permission", "error": "Content violates usage guidelines. Failed check: SAFETY"},
    ),
    "too long": (CHAT, 400, chat("too long", "invalid_request_error", "context_length_exceeded")),
    "rate limit": (CHAT, 429, chat("slow down", "requests", "rate_limit_exceeded")),
    "anthropic request": (MESSAGES, 400, anthropic("invalid_request_error", "messages: required")),
    "gemini request": (GEMINI, 400, google(400, "INVALID_ARGUMENT", "Invalid value at 'contents'")),
    "gemini file": (
        GEMINI,
        403,
        google(403, "PERMISSION_DENIED", "You do not have permission to access the File abc123 or it may not exist."),
    ),
    "gemini cached content": (
        GEMINI,
        403,
        google(403, "PERMISSION_DENIED", "CachedContent not found (or permission denied)"),
    ),
    "vertex object": (
        GEMINI,
        403,
        google(
            403,
            "PERMISSION_DENIED",
            "service-123@gcp-sa-aiplatform.iam.gserviceaccount.com does not have storage.objects.get access to the "
            "Google Cloud Storage object.",
        ),
    ),
    "bedrock request": (BEDROCK, 400, {"__type": "ValidationException", "message": "malformed"}),
}


def fault_of(source: str, status: int, error: Any) -> Fault:
    return DIALECTS[source].read_error(
        status, (), error.encode() if isinstance(error, str) else json.dumps(error).encode()
    )


@each_cell("id", sorted(OF_THE_ACCOUNT))
def test_an_error_about_our_account_is_an_error_of_the_gateway_for_every_caller(id: str) -> None:
    source, status, error, problem = OF_THE_ACCOUNT[id]
    fault = fault_of(source, status, error)
    told = for_caller(fault)

    assert problem == account_problem(fault) == account_problem(told)
    assert told == for_caller(told)
    for dialect in DIALECTS.values():
        answer, _, written = dialect.write_error(told)
        text = written.decode().lower()
        assert answer in ((429,) if status == 429 else (502, 503))
        assert not any(word in text for word in ("authentication", "invalid_api_key", "permission", "unrecognized"))
        assert status == 429 or fault.message.lower() not in text


@each_cell("id", sorted(OF_THE_REQUEST))
def test_an_error_about_the_request_stays_the_providers(id: str) -> None:
    fault = fault_of(*OF_THE_REQUEST[id])

    assert account_problem(fault) is None
    assert fault == for_caller(fault)
    assert "gserviceaccount" not in fault.message


@pytest.mark.parametrize(
    ("status", "error", "expected"),
    [
        (403, chat("You have insufficient permissions for this operation", "invalid_request_error"), None),
        (401, chat("Incorrect API key provided", "invalid_request_error", "invalid_api_key"), "credential"),
        (402, chat("Insufficient Balance", "unknown_error"), "payment"),
    ],
)
def test_a_path_that_a_caller_has_chosen_raises_no_alarm(status: int, error: Any, expected: str | None) -> None:
    """Our key may have no right to it. Its refusal as a key is one nevertheless."""
    stage = Stage()
    exchange = stage.exchange()
    talk(exchange, headers("/v1/files/file-of-others", method="GET", end=True), answered(status), whole(error))
    exchange.closed("done")

    (settled,) = stage.settled
    (attempt,) = settled.attempt_results
    assert expected == attempt.account_problem
    assert settled.status == (status if expected is None else 502 if expected == "credential" else 503)


BY_DIALECT = {CHAT: "both", MESSAGES: "claude-first"}


def guarded(source: str, number: int = 1) -> tuple[Stage, Any, Any]:
    """The stage, the exchange and its guard in the attempt with this number, at a provider of this dialect."""
    stage = Stage()
    exchange = stage.exchange()
    talk(exchange, headers(), body({"model": BY_DIALECT[source], "messages": HELLO, "stream": True}))
    watching = stage.guard()
    talk(watching, tried(number, exchange.id))
    return stage, exchange, watching


@each_cell("id", sorted(id for id, (source, *_) in OF_THE_ACCOUNT.items() if source in BY_DIALECT))
def test_the_guard_sends_the_call_to_the_next_candidate(id: str) -> None:
    source, status, error, problem = OF_THE_ACCOUNT[id]
    stage, exchange, watching = guarded(source)
    content = error.encode() if isinstance(error, str) else json.dumps(error).encode()
    commands = talk(watching, answered(status), whole(content))

    attempt = stage.open.find(exchange.id).journal.ended[1]
    if status == 429:  # Envoy retries it by its status
        assert CONTINUE == commands[0]
        return
    assert [HOLD, Release(((":status", "503"),), body=content, end=True)] == commands
    assert ("failed", status, problem) == (attempt.verdict, attempt.status, attempt.account_problem)


@each_cell("id", sorted(id for id, (source, *_) in OF_THE_REQUEST.items() if source in BY_DIALECT))
def test_the_guard_lets_no_other_provider_answer_a_refused_request(id: str) -> None:
    source, status, error = OF_THE_REQUEST[id]
    stage, exchange, watching = guarded(source)
    content = json.dumps(error).encode()
    last = talk(watching, answered(status), whole(content))[-1]

    assert stage.open.find(exchange.id).journal.ended[1].account_problem is None
    if status == 400:
        assert Release(body=content, end=True) == last
    elif status == 403:
        assert Release((("x-envoy-ratelimited", "true"),), body=content, end=True) == last


@pytest.mark.parametrize(
    ("error", "status", "is_retried"),
    [
        (google(401, "UNAUTHENTICATED", "invalid authentication credentials"), "502", True),
        (OF_THE_REQUEST["gemini file"][2], "403", False),
    ],
)
def test_an_error_in_a_stream_is_tried_elsewhere_only_if_it_is_about_our_account(
    error: Any, status: str, is_retried: bool
) -> None:
    """Envoy retries a 403 by its status."""
    table = ModelTable({"gemini-first": [*MODELS["gemini"], *MODELS["chat"]]})
    stage = Stage().having(models=table, planner=planner(table))
    exchange = stage.exchange()
    talk(exchange, headers(), body({"model": "gemini-first", "messages": HELLO, "stream": True}))
    watching = stage.guard()
    talk(watching, tried(1, exchange.id))
    sent = b"data: " + json.dumps(error).encode() + b"\n\n"
    *_, last = talk(watching, answered(content_type="text/event-stream"), whole(sent))

    to_set = dict(last.set_headers)
    assert status == to_set[":status"]
    assert is_retried == ("x-envoy-ratelimited" not in to_set)


def test_the_same_provider_is_not_asked_again_with_the_same_key() -> None:
    _, _, watching = guarded(CHAT, number=2)
    commands = talk(watching, answered(401), whole(b"{}"))

    assert not any((":status", "503") in getattr(command, "set_headers", ()) for command in commands)


@pytest.mark.parametrize("status", [401, 403])
def test_the_last_attempt_keeps_its_status_although_candidates_are_left(status: int) -> None:
    """More candidates than attempts: Envoy makes no further one, so the router level reads the error."""
    stage = Stage()
    stage.having(planner=planner(ModelTable(MODELS), rows={"both": ModelRoute(guard="on")}, attempts=1))
    exchange = stage.exchange()
    talk(exchange, headers(), body({"model": "both", "messages": HELLO, "stream": True}))
    watching = stage.guard()
    talk(watching, tried(1, exchange.id))
    (command,) = talk(watching, answered(status))

    assert isinstance(command, Continue)
    assert (":status", "503") not in command.set_headers


@each_cell("id", sorted(id for id, (source, *_) in OF_THE_ACCOUNT.items() if source in BY_DIALECT))
def test_the_last_candidates_refusal_is_told_by_the_router_level_and_recorded(id: str) -> None:
    source, status, error, problem = OF_THE_ACCOUNT[id]
    stage = Stage()
    exchange = stage.exchange()
    model = {CHAT: "chat", MESSAGES: "claude"}[source]
    content = error.encode() if isinstance(error, str) else json.dumps(error).encode()
    last = talk(exchange, headers(), body({"model": model, "messages": HELLO}), answered(status), whole(content))[-1]
    exchange.closed("done")

    (settled,) = stage.settled
    (attempt,) = settled.attempt_results
    expected = 429 if status == 429 else 502 if problem == "credential" else 503
    assert (expected, "upstream_error") == (settled.status, settled.outcome)
    assert str(expected) == dict(last.set_headers).get(":status", str(expected))
    assert (MODELS[model][0], "failed", problem) == (attempt.candidate, attempt.verdict, attempt.account_problem)


def test_a_refusal_without_a_body_is_one_too() -> None:
    stage = Stage()
    exchange = stage.exchange()
    last = talk(exchange, headers(), body({"model": "chat", "messages": HELLO}), answered(401, end=True))[-1]
    exchange.closed("done")

    assert (502, "provider_credential_refused") == (last.status, stage.settled[0].code)


OVERFLOW = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."
OVERFLOWS = {
    CHAT: chat(OVERFLOW, "invalid_request_error"),
    "openai_responses": chat(OVERFLOW, "invalid_request_error", "context_length_exceeded"),
    MESSAGES: anthropic("invalid_request_error", "prompt is too long: 9000 tokens > 8192 maximum"),
    GEMINI: google(
        400, "INVALID_ARGUMENT", "The input token count (9000) exceeds the maximum number of tokens (8192)."
    ),
    BEDROCK: {"message": "Input is too long for requested model."},
}
RECOGNIZED = {
    CHAT: b'"context_length_exceeded"',
    "openai_responses": b'"context_length_exceeded"',
    MESSAGES: b'"prompt is too long: ',
    GEMINI: b'"INVALID_ARGUMENT"',
    BEDROCK: b'"message"',
}


@pytest.mark.parametrize("status", [400, 413, 422])
@pytest.mark.parametrize("caller", DIALECTS)
@pytest.mark.parametrize("provider", OVERFLOWS)
def test_each_client_recognizes_a_prompt_that_is_too_long(provider: str, caller: str, status: int) -> None:
    """Each format has status 400 for it. Hosts of OpenAI's formats answer 413 or 422 too."""
    fault = DIALECTS[provider].read_error(status, (), json.dumps(OVERFLOWS[provider]).encode())
    told, _, written = DIALECTS[caller].write_error(for_caller(fault))

    assert ("context_length", 400) == (fault.kind, told)
    assert RECOGNIZED[caller] in written

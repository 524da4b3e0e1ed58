"""Errors: in the caller's own envelope, with the provider's status, and without the operator's secrets. One test for
each entry of the list; that of a stream which breaks stands with the streams."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import ErrorResponse
from translating import CHAT, EVERY, GEMINI, LEAST, MESSAGES, RESPONSES, error, fault_of, refused

from edge_extproc.model.fault import Fault, FaultKind

OPENAI = {
    "error": {"message": "No", "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value"}
}
CLAUDE = {"type": "error", "error": {"type": "not_found_error", "message": "No"}, "request_id": "req_1"}
GOOGLE = {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "No"}}


def message(target: str, envelope: Any) -> str:
    return str(envelope["error"]["message"])


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize(
    ("source", "status", "body"), [(CHAT, 400, OPENAI), (MESSAGES, 404, CLAUDE), (GEMINI, 400, GOOGLE)]
)
def test_5_1_an_error_has_the_shape_that_its_caller_knows_and_the_status_of_its_provider(
    source: str, status: int, body: Any, target: str
) -> None:
    status_written, headers, envelope = error(target, fault_of(source, status, body))

    assert status == status_written
    assert headers["content-type"].startswith("application/json")
    assert "No" == message(target, envelope)
    match target:
        case "anthropic_messages":
            ErrorResponse.model_validate(envelope)
            assert {"type", "error", "request_id"} == envelope.keys()
        case "gemini_generate":
            assert status == envelope["error"]["code"]
        case _:
            assert {"message", "type", "param", "code"} == envelope["error"].keys()


@pytest.mark.parametrize("target", EVERY)
@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ((("retry-after", "38"),), "38"),
        ((("retry-after-ms", "18642"), ("retry-after", "19")), "19"),
        ((("retry-after", "Wed, 21 Oct 2026 07:28:30 GMT"), ("date", "Wed, 21 Oct 2026 07:28:00 GMT")), "30"),
        ((("retry-after", "soon"),), None),
        ((("retry-after", "-1"),), None),
    ],
)
def test_5_1_how_long_to_wait_is_passed_on(headers: Any, wait: str | None, target: str) -> None:
    for source in EVERY:
        _, told, _ = error(target, fault_of(source, 429, {"error": {"message": "slow"}}, headers))

        assert wait == told.get("retry-after")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "No"}}, "No"),
        ([{"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "No"}}], "No"),
        (b"<html>busy</html>", "<html>busy</html>"),
        (b'{"error": ', '{"error":'),
        (b"", "429"),
    ],
)
def test_5_3_googles_errors_are_read_in_every_shape(body: Any, text: str) -> None:
    fault = fault_of(GEMINI, 429, body)

    assert (429, "rate_limit") == (fault.status, fault.kind)
    assert text in fault.message


def test_5_3_google_says_in_the_body_how_long_to_wait() -> None:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.07s"}]
    body = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": "No", "details": details}}

    _, headers, _ = error(CHAT, fault_of(GEMINI, 429, body))
    _, _, again = error(GEMINI, fault_of(GEMINI, 429, body))

    assert "35" == headers["retry-after"]
    assert details == again["error"]["details"]


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        (429, {"error": {"code": "429", "message": "slow"}}, "rate_limit", "rate_limit_exceeded"),
        (401, {"statusCode": 401, "message": "Unauthorized"}, "authentication", "invalid_api_key"),
        (
            400,
            {"error": {"code": "content_filter", "message": "x", "innererror": {"content_filter_result": {}}}},
            "content_filter",
            "content_filter",
        ),
        (404, {"error": {"code": "DeploymentNotFound", "message": "x"}}, "not_found", "DeploymentNotFound"),
    ],
)
def test_5_4_azures_errors_are_read_with_their_odd_codes(status: int, body: Any, kind: FaultKind, code: str) -> None:
    fault = fault_of(CHAT, status, body)

    assert (status, kind) == (fault.status, fault.kind)
    assert code == error(CHAT, fault)[2]["error"]["code"]


@pytest.mark.parametrize(
    ("status", "type_"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (402, "billing_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (409, "conflict_error"),
        (413, "request_too_large"),
        (422, "invalid_request_error"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (502, "api_error"),
        (503, "overloaded_error"),
        (504, "timeout_error"),
        (529, "overloaded_error"),
    ],
)
def test_5_5_a_status_has_its_type_for_anthropic_whatever_openai_calls_it(status: int, type_: str) -> None:
    """OpenAI calls nearly everything an invalid_request_error."""
    for body in ({"error": {"message": "x", "type": "invalid_request_error"}}, b"oops"):
        told, _, envelope = error(MESSAGES, fault_of(CHAT, status, body))

        assert (status, type_) == (told, envelope["error"]["type"])


@pytest.mark.parametrize("source", EVERY)
@pytest.mark.parametrize("body", [b"<html>502 Bad Gateway</html>", b"upstream connect error", b"\xff\xfe", b"[]"])
def test_5_6_what_is_no_error_of_the_format_becomes_one(source: str, body: bytes) -> None:
    for target in EVERY:
        status, _, envelope = error(target, fault_of(source, 502, body))

        assert 502 == status
        assert message(target, envelope)
    if body.startswith((b"<", b"u")):
        assert body.decode() == fault_of(source, 502, body).message


@pytest.mark.parametrize("source", EVERY)
@pytest.mark.parametrize("target", EVERY)
def test_5_8_a_mistake_of_the_caller_is_told_to_the_caller(source: str, target: str) -> None:
    if source == target:
        return
    broken = {
        CHAT: {"messages": [{"role": "user", "content": 7}]},
        RESPONSES: {"input": [{"role": "user", "content": 7}]},
        MESSAGES: {"messages": [{"role": "user", "content": 7}]},
        GEMINI: {"contents": [{"role": "user", "parts": 7}]},
    }[source]

    assert next(iter(LEAST[source].keys() & broken.keys())) in refused(source, target, **broken)


@pytest.mark.parametrize(
    ("source", "status", "body", "kind"),
    [
        (CHAT, 429, {"error": {"message": "x", "code": "insufficient_quota"}}, "payment"),
        (CHAT, 429, {"error": {"message": "x", "code": "rate_limit_exceeded"}}, "rate_limit"),
        (CHAT, 413, {"error": {"message": "TPM", "code": "rate_limit_exceeded"}}, "rate_limit"),
        (CHAT, 402, {"error": {"message": "Insufficient Balance"}}, "payment"),
        (MESSAGES, 400, {"type": "error", "error": {"message": "Your credit balance is too low"}}, "payment"),
        (MESSAGES, 429, {"type": "error", "error": {"type": "rate_limit_error", "message": "x"}}, "rate_limit"),
        (GEMINI, 429, {"error": {"status": "RESOURCE_EXHAUSTED", "message": "x"}}, "rate_limit"),
    ],
)
def test_5_9_a_quota_that_is_spent_is_not_a_rate_that_will_pass(
    source: str, status: int, body: Any, kind: FaultKind
) -> None:
    fault = fault_of(source, status, body)

    assert (status, kind) == (fault.status, fault.kind)
    assert ("insufficient_quota" == error(CHAT, fault)[2]["error"]["code"]) == (kind == "payment")


@pytest.mark.parametrize(
    "text",
    [
        "prompt is too long: 3333404 tokens > 200000 maximum",
        "This model's maximum context length is 8192 tokens",
        "Your input exceeds the context window of this model.",
        "The total length of all messages is too long.",
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        "This model's maximum prompt length is 131072 but the request contains 200000 tokens.",
        "the request exceeds the available context size, try increasing it",
        "Input is too long for requested model.",
    ],
)
def test_5_9_a_prompt_that_is_too_long_is_told_as_such(text: str) -> None:
    for source in EVERY:
        fault = fault_of(source, 400, {"error": {"message": text}})

        assert "context_length" == fault.kind
        assert "context_length_exceeded" == error(CHAT, fault)[2]["error"]["code"]


SECRETS = [
    "sk-proj-abcdefghijkl1234",
    "sk-ant-api03-abcdefghij",
    "sk-****************1234",
    "org-AbCdEfGh12345678",
    "gsk_abcdefghijklmnop1234",
    "xai-abcdefghijklmnop1234",
    "AIzaSyA1234567890abcdefghijklmnopqrstuv",
    "ya29.a0AfH6SMBx1234567890",
    "AKIAIOSFODNN7EXAMPLE",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.abc",
    "arn:aws:iam::123456789012:role/gateway",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("source", EVERY)
def test_5_10_keys_and_accounts_of_the_operator_do_not_reach_the_caller(source: str, secret: str) -> None:
    body = {"error": {"message": f"The key {secret} of this account may not do that."}}

    for target in EVERY:
        _, _, envelope = error(target, fault_of(source, 403, body))
        _, _, ours = error(target, Fault(403, "permission", f"The key {secret} is wrong"))

        assert secret not in json.dumps(envelope)
        assert secret not in json.dumps(ours)
        assert "may not do that" in message(target, envelope)


def test_5_10_a_key_without_a_shape_is_known_by_the_words_before_it() -> None:
    fault = fault_of(CHAT, 401, {"error": {"message": "Authentication Fails, Your api key: 0123abcd4567 is invalid"}})

    assert "Authentication Fails, Your api key: *** is invalid" == fault.message
    plain = "Unexpected token: the request is no JSON"
    assert plain == fault_of(CHAT, 400, {"error": {"message": plain}}).message

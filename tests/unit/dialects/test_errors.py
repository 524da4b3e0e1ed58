"""Every recorded and every reported error of a chat provider, as a caller of each format gets it: held to the classes
that the official SDKs make of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import anthropic
import httpx2 as httpx
import openai
import pytest
from anthropic.types import ErrorResponse
from cells import each_cell
from crossings import APIS, CHAT, DIALECTS, GEMINI, MESSAGES, RESPONSES, dialect_of, recorded
from google.genai import errors as google_errors
from recordings import SHARED, body
from translating import caller_stream

from edge_extproc.dialects.base import Dialect, Headers
from edge_extproc.model.fault import Fault, FaultKind, kind_of
from edge_extproc.model.reply import Failed


@dataclass(frozen=True)
class Told:
    """One error as it came from its provider."""

    source: Dialect
    status: int
    headers: Headers
    body: bytes


def errors() -> Iterator[tuple[str, Told]]:
    for id, recording in recorded().items():
        answer = recording["response"]
        if answer["status"] >= 400:
            yield id, Told(dialect_of(recording), answer["status"], tuple(answer["headers"].items()), body(answer))
    path = SHARED / "errors_reported.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        row = json.loads(line)
        if row["api"] in APIS and not row["streaming"]:
            headers = tuple(row["headers"].items())
            yield row["id"], Told(DIALECTS[APIS[row["api"]]], row["status"], headers, row["body"].encode())


ERRORS = dict(errors())
# What the provider's own words say, where its status alone would say another thing.
KINDS: dict[str, FaultKind] = {
    "anthropic-messages-2c9674cf883b0bc3": "context_length",
    "openai-responses-4e6e6a0b8e3148be": "context_length",
    "openrouter-chat_completions-4c3565731e7ad3d7": "context_length",
    "perplexity-chat_completions-961076b969186836": "context_length",
    "gemini-generate_content-319af6f449a3b12a": "authentication",
    "gemini-generate_content-8eb1f74c18ffd78d": "authentication",
    "openai-responses-4fe7cd7bbf192226": "not_found",
    "openai-responses-5b2853ca3c01392a": "not_found",
    "openai-responses-5ceac4330ea66842": "not_found",
    "openai-responses-3db9b07e8874ce27": "not_found",
    "openai-responses-be19a1fed43b6ea2": "not_found",
    "gemini-stream_generate_content-3fea1c77e2750fb6": "authentication",
    "err-08-openai-429": "payment",
    "err-15-azure-400": "content_filter",
    "anthropic-messages-error-credit": "payment",
    "anthropic-messages-error-length": "context_length",
    "azure-chat_completions-error-content-filter": "content_filter",
    "gemini-generate_content-error-key": "authentication",
    "gemini-chat_completions-error-key": "authentication",
    "xai-chat_completions-error-key": "authentication",
    "openai-chat_completions-error-context-length": "context_length",
    "openai-chat_completions-error-permission": "not_found",  # its code is model_not_found
    "openai-chat_completions-error-quota": "payment",
    "openai-responses-error-length": "context_length",
}
# A client takes as long to make as many errors take to read.
OPENAI = openai.OpenAI(api_key="-")
ANTHROPIC = anthropic.Anthropic(api_key="-")
NAMELESS = httpx.Request("POST", "https://gateway.example/")


def fault_of(id: str) -> Fault:
    told = ERRORS[id]
    return told.source.read_error(told.status, told.headers, told.body)


def openai_error(status: int, envelope: bytes) -> openai.APIStatusError:
    return OPENAI._make_status_error_from_response(httpx.Response(status, content=envelope, request=NAMELESS))


def anthropic_error(status: int, envelope: bytes) -> anthropic.APIStatusError:
    return ANTHROPIC._make_status_error_from_response(httpx.Response(status, content=envelope, request=NAMELESS))


@each_cell("id", sorted(ERRORS))
def test_an_error_is_read_for_what_it_is(id: str) -> None:
    fault = fault_of(id)

    assert ERRORS[id].status == fault.status
    assert KINDS.get(id, kind_of(fault.status)) == fault.kind
    assert fault.message


@each_cell("id", sorted(ERRORS))
def test_an_error_reaches_a_caller_of_every_format_as_its_sdk_knows_it(id: str) -> None:
    fault = fault_of(id)
    for name in (CHAT, RESPONSES, MESSAGES, GEMINI):
        status, headers, envelope = DIALECTS[name].write_error(fault)

        assert ERRORS[id].status == status
        assert ("retry-after" in dict(headers)) == (fault.retry_after is not None)
        check: dict[str, Any] = {CHAT: check_openai, RESPONSES: check_openai, MESSAGES: check_anthropic}
        check.get(name, check_google)(fault, status, envelope)


def check_openai(fault: Fault, status: int, envelope: bytes) -> None:
    raised = openai_error(status, envelope)

    assert status == raised.status_code
    assert fault.message in raised.message
    assert (raised.type, raised.param) == (raised.body["type"], fault.param)  # type: ignore[call-overload, index]
    if fault.kind == "payment":
        assert "insufficient_quota" in (raised.code, raised.type)  # a host's own code stays


def check_anthropic(fault: Fault, status: int, envelope: bytes) -> None:
    raised = anthropic_error(status, envelope)

    assert status == raised.status_code
    if status != 413:  # the API's request_too_large is not in the SDK's list
        ErrorResponse.model_validate_json(envelope)
    message = json.loads(envelope)["error"]["message"]
    if fault.kind == "context_length":  # by these words its clients know it
        assert message.startswith("prompt is too long: ")
        assert message.endswith(fault.message.removeprefix("prompt is too long: "))
    else:
        assert fault.message == message
    by_type = {
        "authentication": anthropic.AuthenticationError,
        "permission": anthropic.PermissionDeniedError,
        "not_found": anthropic.NotFoundError,
        "rate_limit": anthropic.RateLimitError,
    }
    if kind_of(status) == fault.kind and fault.kind in by_type:
        assert isinstance(raised, by_type[fault.kind])


def check_google(fault: Fault, status: int, envelope: bytes) -> None:
    with pytest.raises(google_errors.APIError) as caught:
        google_errors.APIError.raise_for_response(httpx.Response(status, content=envelope, request=NAMELESS))

    assert (status, fault.message) == (caught.value.code, caught.value.message)
    assert caught.value.status


@each_cell("id", sorted(ERRORS))
def test_how_long_to_wait_is_kept(id: str) -> None:
    told = dict(ERRORS[id].headers)
    asked = [float(told["retry-after-ms"]) / 1000] if "retry-after-ms" in told else []
    asked += [float(told["retry-after"])] if "retry-after" in told else []

    fault = fault_of(id)

    if asked:
        assert asked[0] == fault.retry_after
    assert b"retryDelay" not in ERRORS[id].body or fault.retry_after


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "This model's maximum context length is 128000 tokens. However, your messages resulted in 140000 tokens.",
            "prompt is too long: 140000 tokens > 128000 maximum. This model's",
        ),
        (
            "The input token count (1,200,000) exceeds the maximum number of tokens allowed (1,048,576).",
            "prompt is too long: 1200000 tokens > 1048576 maximum. The input",
        ),
        ("Input is too long for requested model.", "prompt is too long: Input is too long"),
        ("prompt is too long: 9 tokens > 8 maximum", "prompt is too long: 9 tokens > 8 maximum"),
        ("input length and `max_tokens` exceed context limit: 9 + 8 > 7", "input length and `max_tokens` exceed"),
    ],
)
def test_a_caller_of_anthropic_hears_that_its_prompt_is_too_long(message: str, expected: str) -> None:
    fault = Fault(400, "context_length", message, "context_length_exceeded")
    _, _, body = DIALECTS[MESSAGES].write_error(fault)
    streamed = caller_stream(MESSAGES, [Failed(fault)])[-1]

    assert json.loads(body)["error"]["message"].startswith(expected)
    assert streamed["error"]["message"].startswith(expected)
    assert message in json.loads(body)["error"]["message"]

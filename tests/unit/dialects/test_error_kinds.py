"""What the clients of each format act on: a prompt that is too long, a rate limit with its time, an overload, a quota,
a filter. Told by every provider in its own words, and recognised by the caller of every format."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from cells import each_cell
from translating import CHAT, MESSAGES, RESPONSES, caller_stream

from edge_extproc.errors import UpstreamError
from edge_extproc.model.fault import Fault, FaultKind, wait_in
from edge_extproc.model.reply import Failed, ReplyStarted
from edge_extproc.registry import load, names

GEMINI, BEDROCK = "gemini_generate", "bedrock_converse"
DIALECTS = {name: load("dialects", name) for name in names("dialects")}

# Provider, dialect, status, message, code or type.
TOO_LONG: dict[str, tuple[str, int, str, Any]] = {
    "openai": (CHAT, 400, "This model's maximum context length is 128000 tokens. However, you used 140000.", None),
    "openai responses": (RESPONSES, 400, "Your input exceeds the context window of this model.", None),
    "azure": (CHAT, 400, "no words that tell it", "context_length_exceeded"),
    "azure small": (
        CHAT,
        413,
        "Request body too large for gpt-4o model. Max size: 8000 tokens.",
        "tokens_limit_reached",
    ),
    "copilot": (
        CHAT,
        400,
        "prompt token count of 64001 exceeds the limit of 64000",
        "model_max_prompt_tokens_exceeded",
    ),
    "vllm": (CHAT, 400, "The decoder prompt (length 40000) is longer than the maximum model length of 32768.", 400),
    "vllm max_model_len": (CHAT, 400, "Prompt has 9000 tokens, more than max_model_len 8192", 400),
    "sglang": (CHAT, 400, "Requested token count exceeds the model's maximum context length of 8192 tokens.", 400),
    "ollama": (CHAT, 400, "prompt too long; exceeded max context length by 400 tokens", None),
    "ollama embeddings": (CHAT, 400, "the input length exceeds the context length", None),
    "llama.cpp": (CHAT, 400, "the request exceeds the available context size, try increasing it", 400),
    "openrouter": (
        CHAT,
        400,
        "This endpoint's maximum context length is 8192 tokens. However, you requested about 9000",
        400,
    ),
    "deepseek": (CHAT, 400, "This model's maximum context length is 65536 tokens. However, you requested 70000.", None),
    "groq": (CHAT, 400, "Please reduce the length of the messages or completion.", "context_length_exceeded"),
    "cerebras": (CHAT, 400, "Please reduce the length of the messages or completion. Current length is 9000", None),
    "mistral": (
        CHAT,
        400,
        "Prompt contains 40000 tokens and 0 draft tokens, too large for model with 32768 maximum",
        "3051",
    ),
    "xai": (CHAT, 400, "This model's maximum prompt length is 131072 but the request contains 140000 tokens.", None),
    "together": (CHAT, 422, "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 8193.", None),
    "hugging face": (CHAT, 422, "Input validation error: `inputs` must have less than 4096 tokens. Given: 5000", None),
    "fireworks": (CHAT, 400, "The prompt is too long: 140000, model maximum context length: 131071", None),
    "kimi": (CHAT, 400, "Invalid request: Your request exceeded model token limit: 8192", None),
    "kimi tokens": (CHAT, 400, "Invalid request: Input token length too long", None),
    "zhipu": (CHAT, 400, "Prompt \u8d85\u957f", "1261"),
    "zhipu english": (CHAT, 400, "Prompt exceeds max length", "1261"),
    "volcengine": (CHAT, 400, "Total tokens of image and text exceed max message tokens.", "InvalidParameter"),
    "qwen": (CHAT, 400, "<400> InternalError.Algo.InvalidParameter: Range of input length should be [1, 129024]", None),
    "minimax": (CHAT, 400, "invalid params, context window exceeds limit (2013)", None),
    "cohere": (CHAT, 400, "too many tokens: total number of tokens in the prompt cannot exceed 4081", None),
    "anthropic": (MESSAGES, 400, "prompt is too long: 208310 tokens > 200000 maximum", None),
    "anthropic max_tokens": (
        MESSAGES,
        400,
        "input length and `max_tokens` exceed context limit: 190000 + 32000 > 200000",
        None,
    ),
    "vertex claude": (MESSAGES, 400, "Prompt is too long", None),
    "gemini": (
        GEMINI,
        400,
        "The input token count (1200000) exceeds the maximum number of tokens allowed (1048576).",
        None,
    ),
    "vertex": (GEMINI, 400, "Unable to submit request because the input token count is 1200000", None),
    "bedrock claude": (BEDROCK, 400, "Input is too long for requested model.", None),
    "bedrock nova": (BEDROCK, 400, "Input Tokens Exceeded: Number of input tokens exceeds maximum length.", None),
    "bedrock titan": (
        BEDROCK,
        400,
        "Too many input tokens. Max input tokens: 8192, request input token count: 9999",
        None,
    ),
    "bedrock llama": (BEDROCK, 400, "This model's maximum context length is 8192 tokens.", None),
}
# Mistakes about tokens that are none of the prompt.
NOT_TOO_LONG = (
    "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
    "max_tokens: must be greater than or equal to 1",
    "temperature is too long a word",
    "tools: at most 128 are allowed",
)
OVERLOADED = {
    "openai": (CHAT, 503, "The server is overloaded", "server_is_overloaded"),
    "openai slow down": (CHAT, 503, "Slow down", "slow_down"),
    "anthropic": (MESSAGES, 529, "Overloaded", "overloaded_error"),
    "gemini": (GEMINI, 503, "The model is overloaded. Please try again later.", "UNAVAILABLE"),
    "bedrock": (BEDROCK, 503, "Bedrock is unable to process your request", "ServiceUnavailableException"),
}
FILTERED = {
    "azure": (CHAT, 400, "The response was filtered", "content_filter"),
    "openai": (CHAT, 400, "Your request was rejected by the safety system", "moderation_blocked"),
    "xai": (CHAT, 403, "Content violates usage guidelines.", None),
    "bedrock": (BEDROCK, 400, "Output blocked by content filtering policy", "ValidationException"),
    "anthropic": (MESSAGES, 400, "Output blocked by content filtering policy", "invalid_request_error"),
}
WAITS = [
    (CHAT, "Rate limit reached. Please try again in 6.2s. Visit", 6.2),
    (CHAT, "Please try again in 20ms.", 0.02),
    (CHAT, "Please try again in 7m12.5s.", 432.5),
    (CHAT, "Please try again in 1h2m3s.", 3723.0),
    (CHAT, "Please retry after 26 seconds.", 26.0),
    (CHAT, "Too many requests", None),
    (MESSAGES, "Rate limited. Please try again in 5s", 5.0),
    (GEMINI, "You exceeded your current quota. Please retry in 39.2s.", 39.2),
    (BEDROCK, "Too many requests, please wait 3 seconds", 3.0),
]


def fault_of(source: str, status: int, message: str, word: Any, headers: Any = ()) -> Fault:
    error: Any
    match source:
        case "gemini_generate":
            google = {400: "INVALID_ARGUMENT", 429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}[status]
            error = {"error": {"code": status, "message": message, "status": google}}
        case "bedrock_converse":
            kind = {400: "ValidationException", 429: "ThrottlingException", 503: "ServiceUnavailableException"}[status]
            error = {"__type": kind, "message": message}
        case "anthropic_messages":
            kind = {400: "invalid_request_error", 429: "rate_limit_error", 529: "overloaded_error"}[status]
            error = {"type": "error", "error": {"type": kind, "message": message}}
        case _:
            error = {"error": {"message": message, "type": None, "code": word}}
    return DIALECTS[source].read_error(status, headers, json.dumps(error).encode())


def written(target: str, fault: Fault) -> Any:
    return json.loads(DIALECTS[target].write_error(fault)[2])


@each_cell("provider", sorted(TOO_LONG))
def test_every_client_knows_a_prompt_that_is_too_long(provider: str) -> None:
    fault = fault_of(*TOO_LONG[provider])

    assert "context_length" == fault.kind
    assert "context_length_exceeded" == written(CHAT, fault)["error"]["code"]
    assert "context_length_exceeded" == written(RESPONSES, fault)["error"]["code"]
    begin = ("prompt is too long", "input length and `max_tokens` exceed context limit")
    assert written(MESSAGES, fault)["error"]["message"].lower().startswith(begin)
    assert "INVALID_ARGUMENT" == written(GEMINI, fault)["error"]["status"]
    for target in DIALECTS:
        assert DIALECTS[target].write_error(fault)[0] in (400, 413, 422)
        again = DIALECTS[target].read_error(*DIALECTS[target].write_error(fault))
        assert "context_length" == again.kind


@each_cell("provider", sorted(TOO_LONG))
def test_a_prompt_that_is_too_long_is_known_in_a_stream_too(provider: str) -> None:
    events = [ReplyStarted("r", "m"), Failed(fault_of(*TOO_LONG[provider]))]
    failed = next(each for each in caller_stream(RESPONSES, events) if each["type"] == "response.failed")
    message = caller_stream(MESSAGES, events)[-1]["error"]["message"]

    assert caller_stream(CHAT, events)[-1]["error"]["code"] == "context_length_exceeded"
    assert failed["response"]["error"]["code"] == "context_length_exceeded"
    assert message.lower().startswith(("prompt is too long", "input length and `max_tokens` exceed context limit"))


@pytest.mark.parametrize(
    ("param", "kind"),
    [
        ("user", "invalid_request"),
        ("input[1].id", "invalid_request"),
        ("messages[1].tool_calls[0].id", "invalid_request"),
        ("tools[0].function.description", "invalid_request"),
        ("messages[3].content", "context_length"),
        ("messages.[3].content", "context_length"),
        ("input[0].content[0].text", "context_length"),
        ("input", "context_length"),
        (None, "context_length"),
    ],
)
@pytest.mark.parametrize("source", [CHAT, RESPONSES])
def test_only_a_long_string_of_the_conversation_makes_the_prompt_too_long(
    source: str, param: str | None, kind: FaultKind
) -> None:
    """A client that shortens its conversation would otherwise do so for ever."""
    error = {
        "message": f"Invalid '{param}': string too long. Expected a string with maximum length 64.",
        "type": "invalid_request_error",
        "param": param,
        "code": "string_above_max_length",
    }
    fault = DIALECTS[source].read_error(400, (), json.dumps({"error": error}).encode())

    assert kind == fault.kind
    assert ("context_length" == kind) is written(MESSAGES, fault)["error"]["message"].startswith("prompt is too long")


@pytest.mark.parametrize("message", NOT_TOO_LONG)
@pytest.mark.parametrize("source", sorted(DIALECTS))
def test_another_mistake_is_not_a_long_prompt(source: str, message: str) -> None:
    assert "invalid_request" == fault_of(source, 400, message, None).kind


@pytest.mark.parametrize(
    ("table", "kind"), [(OVERLOADED, "overloaded"), (FILTERED, "content_filter")], ids=["overloaded", "filtered"]
)
def test_overloads_and_filters_are_known(table: dict[str, Any], kind: FaultKind) -> None:
    words = {
        "overloaded": {MESSAGES: "overloaded_error", GEMINI: "UNAVAILABLE", CHAT: "server_error"},
        "content_filter": {
            MESSAGES: "invalid_request_error",
            GEMINI: "INVALID_ARGUMENT",
            CHAT: "invalid_request_error",
        },
    }[kind]
    for provider, row in table.items():
        fault = fault_of(*row)
        assert kind == fault.kind, provider
        assert words[MESSAGES] == written(MESSAGES, fault)["error"]["type"]
        assert words[GEMINI] == written(GEMINI, fault)["error"]["status"]
        assert words[CHAT] == written(CHAT, fault)["error"]["type"]


@pytest.mark.parametrize(("source", "message", "seconds"), WAITS)
def test_a_rate_limit_keeps_the_time_that_its_message_names(source: str, message: str, seconds: float | None) -> None:
    fault = fault_of(source, 429, message, None)

    assert ("rate_limit", seconds) == (fault.kind, fault.retry_after)
    for target in DIALECTS:
        headers = dict(DIALECTS[target].write_error(fault)[1])
        assert (seconds is not None) == ("retry-after" in headers)


def test_a_header_says_it_better_than_a_message() -> None:
    assert 9.0 == fault_of(CHAT, 429, "try again in 6s", None, (("retry-after", "9"),)).retry_after
    assert fault_of(CHAT, 400, "try again in 6s", None).retry_after is None


def test_googles_delay_is_read_in_openais_format_too() -> None:
    info = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "17s"}
    body = [{"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED", "details": [info]}}]

    assert 17.0 == DIALECTS[CHAT].read_error(429, (), json.dumps(body).encode()).retry_after


@pytest.mark.parametrize(
    "message", ["wait", "try again in a minute", "retry after the call", "", "wait " + "9" * 400 + "s"]
)
def test_a_message_without_a_time_names_none(message: str) -> None:
    assert wait_in(message) in (None, float("inf"))


NOW = ("date", "Mon, 30 Nov 2026 02:00:00 GMT")
# Headers of an error 429, and the seconds that they mean.
HEADERS: dict[str, tuple[tuple[tuple[str, str], ...], float | None]] = {
    "seconds": ((("retry-after", "7"),), 7.0),
    "part of a second": ((("retry-after", "0.5"),), 0.5),
    "milliseconds": ((("retry-after-ms", "1500"), ("retry-after", "9")), 1.5),
    "azure": ((("x-ms-retry-after-ms", "250"),), 0.25),
    "date": ((NOW, ("retry-after", "Mon, 30 Nov 2026 02:00:42 GMT")), 42.0),
    "date without a clock": ((("retry-after", "Mon, 30 Nov 2026 02:00:42 GMT"),), None),
    "past date": ((NOW, ("retry-after", "Mon, 30 Nov 2026 01:00:00 GMT")), None),
    "openai requests": (
        (
            ("x-ratelimit-remaining-requests", "0"),
            ("x-ratelimit-reset-requests", "1m2.5s"),
            ("x-ratelimit-remaining-tokens", "9"),
            ("x-ratelimit-reset-tokens", "6h0m0s"),
        ),
        62.5,
    ),
    "openai tokens": (
        (
            ("x-ratelimit-remaining-requests", "9"),
            ("x-ratelimit-reset-requests", "120ms"),
            ("x-ratelimit-remaining-tokens", "0"),
            ("x-ratelimit-reset-tokens", "7.66s"),
        ),
        7.66,
    ),
    "no limit is used up": ((("x-ratelimit-reset-requests", "2s"), ("x-ratelimit-reset-tokens", "12ms")), 2.0),
    "anthropic": (
        (
            NOW,
            ("anthropic-ratelimit-tokens-remaining", "0"),
            ("anthropic-ratelimit-tokens-reset", "2026-11-30T02:00:30Z"),
        ),
        30.0,
    ),
    "draft of the ietf": ((("ratelimit-reset", "17"),), 17.0),
    "unix time": ((NOW, ("x-ratelimit-reset", "1796004060")), 60.0),
    "unix time in milliseconds": ((NOW, ("x-ratelimit-reset", "1796004060000")), 60.0),
    "unix time without a clock": ((("x-ratelimit-reset", "1796004060"),), None),
    "retry-after is better": ((("retry-after", "3"), ("x-ratelimit-reset-requests", "90s")), 3.0),
    "nonsense": ((("retry-after", "soon"), ("x-ratelimit-reset-requests", "later"), ("ratelimit-reset", "")), None),
    "infinite": ((("retry-after", "inf"), ("x-ratelimit-reset", "nan")), None),
}


@each_cell("form", sorted(HEADERS))
@each_cell("target", sorted(DIALECTS))
@each_cell("source", sorted(DIALECTS))
def test_a_rate_limit_keeps_its_time_for_every_ordered_pair(source: str, target: str, form: str) -> None:
    headers, seconds = HEADERS[form]
    fault = fault_of(source, 429, "Slow down", None, headers)
    status, told, body = DIALECTS[target].write_error(fault)
    again = DIALECTS[target].read_error(status, told, body)

    assert ("rate_limit", 429) == (fault.kind, status)
    assert seconds == pytest.approx(fault.retry_after) if seconds is not None else fault.retry_after is None
    assert dict(told).get("retry-after") == (None if seconds is None else str(math.ceil(seconds)))
    assert "rate_limit" == again.kind


@pytest.mark.parametrize("source", sorted(DIALECTS))
def test_a_reset_is_no_time_to_wait_for_another_error(source: str) -> None:
    assert fault_of(source, 400, "no", None, (("x-ratelimit-reset-requests", "9s"),)).retry_after is None


# Of each format: a used-up account, and a filter.
PAID = {
    CHAT: (429, {"error": {"message": "x", "type": "insufficient_quota", "code": "insufficient_quota"}}),
    RESPONSES: (429, {"error": {"message": "x", "code": "billing_hard_limit_reached"}}),
    MESSAGES: (
        400,
        {"type": "error", "error": {"type": "invalid_request_error", "message": "Your credit balance is too low"}},
    ),
    GEMINI: (
        403,
        {
            "error": {
                "code": 403,
                "message": "x",
                "status": "PERMISSION_DENIED",
                "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "BILLING_DISABLED"}],
            }
        },
    ),
}
BLOCKED = {
    CHAT: (400, {"error": {"message": "x", "code": "content_filter"}}),
    RESPONSES: (400, {"error": {"message": "x", "code": "content_filter"}}),
    MESSAGES: (
        400,
        {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": "Output blocked by content filtering policy"},
        },
    ),
    GEMINI: (
        400,
        {
            "error": {
                "code": 400,
                "message": "blocked by our content policy: content filter",
                "status": "INVALID_ARGUMENT",
            }
        },
    ),
    BEDROCK: (400, {"message": "Output blocked by content filtering policy"}),
}
# How each format's clients know them.
PAID_WORDS = {CHAT: "insufficient_quota", RESPONSES: "insufficient_quota", MESSAGES: "billing_error"}
BLOCKED_WORDS = {CHAT: "content_filter", RESPONSES: "content_filter", MESSAGES: "invalid_request_error"}


@each_cell("target", sorted(DIALECTS))
@each_cell("source", sorted(BLOCKED))
def test_a_filter_and_a_quota_stay_what_they_are_for_every_ordered_pair(source: str, target: str) -> None:
    dialect = DIALECTS[target]
    for table, kind, words in ((PAID, "payment", PAID_WORDS), (BLOCKED, "content_filter", BLOCKED_WORDS)):
        if source not in table:  # Bedrock has no error for a used-up account
            continue
        status, body = table[source]
        fault = DIALECTS[source].read_error(status, (), json.dumps(body).encode())
        written_body = dialect.write_error(fault)[2]
        own_word = MESSAGES == source == target and kind == "payment"  # Anthropic's own type stays

        assert kind == fault.kind
        assert own_word or words.get(target, "").encode() in written_body


def test_a_quota_of_bedrock_is_a_rate_limit_with_its_status() -> None:
    headers = (("x-amzn-errortype", "ServiceQuotaExceededException"),)
    fault = DIALECTS[BEDROCK].read_error(400, headers, b'{"message":"x"}')

    assert ("rate_limit", 429) == (fault.kind, fault.status)


def test_a_used_up_quota_is_no_rate_limit() -> None:
    quota = fault_of(CHAT, 429, "You exceeded your current quota", "insufficient_quota")
    rate = fault_of(CHAT, 429, "Rate limit reached", "rate_limit_exceeded")

    assert ("payment", "rate_limit") == (quota.kind, rate.kind)
    assert ["insufficient_quota", "rate_limit_exceeded"] == [written(CHAT, f)["error"]["code"] for f in (quota, rate)]
    assert ["billing_error", "rate_limit_error"] == [written(MESSAGES, f)["error"]["type"] for f in (quota, rate)]


# A reply of status 200 that is an error keeps what it says.
IN_A_REPLY = [
    (CHAT, {"error": {"message": "slow down", "code": 429}}, "rate_limit", 429),
    (
        CHAT,
        {"error": {"message": "This model's maximum context length is 9 tokens", "code": 400}},
        "context_length",
        400,
    ),
    (CHAT, {"object": "error", "message": "engine dead", "code": 500}, "api", 500),
    (CHAT, {"detail": "no such thing"}, "api", 502),
    (RESPONSES, {"status": "failed", "error": {"code": "rate_limit_exceeded", "message": "x"}}, "rate_limit", 429),
    (RESPONSES, {"error": {"code": "context_length_exceeded", "message": "x"}}, "context_length", 400),
    (MESSAGES, {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}, "overloaded", 529),
    (GEMINI, {"error": {"code": 429, "message": "x", "status": "RESOURCE_EXHAUSTED"}}, "rate_limit", 429),
]


@pytest.mark.parametrize(("source", "body", "kind", "status"), IN_A_REPLY)
def test_an_error_in_a_reply_keeps_its_kind(source: str, body: Any, kind: FaultKind, status: int) -> None:
    with pytest.raises(UpstreamError) as raised:
        DIALECTS[source].read_reply(json.dumps(body).encode())

    fault = raised.value.fault()
    assert (kind, status) == (fault.kind, fault.status)

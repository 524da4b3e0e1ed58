"""The main job, on real Envoy, with the official SDKs; only the provider is a rehearsal."""

from __future__ import annotations

import base64
import json

import anthropic
import gateway as gateways
import httpx2 as httpx
import openai
import pytest
from gateway import KEY, OTHER_KEY

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("running")]

HELLO = [{"role": "user", "content": "Hello"}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a city.",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
]
PIXEL = base64.b64encode(
    bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
        "1f15c4890000000d49444154789c626001000000ffff03000006000557bfabd40000000049454e44ae426082"
    )
).decode()


@pytest.fixture
def chat(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client.chat.completions


@pytest.fixture
def messages(running):
    with anthropic.Anthropic(base_url=running.url, api_key=KEY, max_retries=0, timeout=30) as client:
        yield client.messages


@pytest.fixture
def http(running):
    with httpx.Client(base_url=running.url, headers={"authorization": f"Bearer {KEY}"}, timeout=30) as client:
        yield client


@pytest.fixture
def settles(running):
    """The access line of what a test did: call it after the request."""
    running.all_settled()
    before = len(running.access_lines())

    def last():
        return running.settled(before + 1)[before]

    return last


def reached(rehearsal_url):
    """The last request that the provider saw."""
    return httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["data"][-1]


# --- replies, streams, tools, on both lanes and from both sides


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_an_openai_caller_gets_a_reply(chat, settles, model):
    reply = chat.create(model=model, messages=HELLO, max_tokens=100)

    assert "You asked: Hello" in reply.choices[0].message.content
    assert "stop" == reply.choices[0].finish_reason
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens > 0
    line = settles()
    assert ("ok", 200, "acme", model, 1) == tuple(line[k] for k in ("outcome", "status", "tenant", "model", "attempts"))
    assert (reply.usage.prompt_tokens, reply.usage.completion_tokens) == (line["tokens_input"], line["tokens_output"])


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_an_anthropic_caller_gets_a_reply(messages, settles, model):
    reply = messages.create(model=model, messages=HELLO, max_tokens=100)

    assert "You asked: Hello" in reply.content[0].text
    assert "end_turn" == reply.stop_reason
    line = settles()
    assert (reply.usage.input_tokens, reply.usage.output_tokens) == (line["tokens_input"], line["tokens_output"])


@pytest.mark.parametrize("model", ["chat", "claude"])
@pytest.mark.parametrize("usage", [True, False])
def test_an_openai_caller_gets_a_stream_and_usage_only_if_asked(chat, settles, model, usage):
    options = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(chat.create(model=model, messages=HELLO, max_tokens=100, stream=True, **options))

    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "You asked: Hello" in text
    assert ["stop"] == [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert usage == any(c.usage is not None for c in chunks)
    line = settles()
    assert line["stream"]
    assert line["tokens_input"] > 0 < line["tokens_output"]
    assert line["first_token_ms"] > 0


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_an_anthropic_caller_gets_a_stream(messages, settles, model):
    with messages.stream(model=model, messages=HELLO, max_tokens=100) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()

    assert "You asked: Hello" in text == final.content[0].text
    assert "end_turn" == final.stop_reason
    assert final.usage.output_tokens == settles()["tokens_output"] > 0


@pytest.mark.parametrize("model", ["chat", "claude"])
@pytest.mark.parametrize("stream", [True, False])
def test_an_openai_caller_calls_tools_and_answers_them(chat, model, stream):
    turn = [{"role": "user", "content": "call weather"}]
    asked = {"model": model, "messages": turn, "tools": TOOLS, "tool_choice": "required", "max_tokens": 200}
    if stream:
        with openai_stream(chat, **asked) as events:
            message = events.get_final_completion().choices[0].message
    else:
        message = chat.create(**asked).choices[0].message

    call = message.tool_calls[0]
    assert "weather" == call.function.name
    assert {"city"} == set(json.loads(call.function.arguments))
    turn += [
        {"role": "assistant", "tool_calls": [call.model_dump(include={"id", "type", "function"})]},
        {"role": "tool", "tool_call_id": call.id, "content": "rain"},
    ]
    answer = chat.create(model=model, messages=turn, tools=TOOLS, max_tokens=200)
    assert "rain" in answer.choices[0].message.content


def openai_stream(chat, **asked):
    return chat.stream(**asked)


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_an_anthropic_caller_calls_tools(messages, model):
    tools = [{"name": "weather", "input_schema": TOOLS[0]["function"]["parameters"]}]
    turn = [{"role": "user", "content": "call weather"}]
    asked = {"model": model, "messages": turn, "tools": tools, "tool_choice": {"type": "any"}, "max_tokens": 200}
    with messages.stream(**asked) as stream:
        final = stream.get_final_message()

    call = next(block for block in final.content if block.type == "tool_use")
    assert ("weather", {"city"}, "tool_use") == (call.name, set(call.input), final.stop_reason)
    result = {"type": "tool_result", "tool_use_id": call.id, "content": "rain"}
    turn += [{"role": "assistant", "content": [call.model_dump(include={"type", "id", "name", "input"})]}]
    turn += [{"role": "user", "content": [result]}]
    assert "rain" in messages.create(model=model, messages=turn, tools=tools, max_tokens=200).content[0].text


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_an_image_reaches_the_provider(chat, model):
    picture = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}
    content = [{"type": "text", "text": "What is this?"}, picture]
    reply = chat.create(model=model, messages=[{"role": "user", "content": content}], max_tokens=100)

    assert "1 image" in reply.choices[0].message.content


def test_the_models_are_those_of_config_and_of_the_key(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY) as client:
        assert {"chat", "claude"} <= {model.id for model in client.models.list()}
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=OTHER_KEY) as client:
        assert [] == list(client.models.list())


# --- what a caller may not do


def test_a_wrong_key_is_refused_in_the_callers_dialect_before_the_body_is_read(running, settles):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as told:
            client.chat.completions.create(model="chat", messages=HELLO)

    assert "invalid_api_key" == told.value.code
    assert ("rejected", 401, 0) == tuple(settles()[k] for k in ("outcome", "status", "bytes_in"))
    with anthropic.Anthropic(base_url=running.url, api_key="wrong", max_retries=0) as client:
        with pytest.raises(anthropic.AuthenticationError) as told:
            client.messages.create(model="chat", messages=HELLO, max_tokens=10)
    assert "authentication_error" == told.value.body["error"]["type"]


def test_two_different_keys_are_refused(http):
    reply = http.post("/v1/chat/completions", headers={"x-api-key": OTHER_KEY}, json={})

    assert (401, "conflicting_api_keys") == (reply.status_code, reply.json()["error"]["code"])


def test_a_model_that_the_key_may_not_ask_for_is_not_there(running):
    with openai.OpenAI(base_url=f"{running.url}/v1", api_key=OTHER_KEY, max_retries=0) as client:
        with pytest.raises(openai.NotFoundError, match="no model 'chat' for this key"):
            client.chat.completions.create(model="chat", messages=HELLO)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/v1/nothing", b"{}", 404, "unknown_path"),
        ("GET", "/v1/chat/completions", b"", 405, "method_not_allowed"),
        ("OPTIONS", "/v1/chat/completions", b"", 405, "method_not_allowed"),
        ("POST", "/v1/chat/completions", b"", 400, "invalid_request"),
        ("POST", "/v1/chat/completions", b"{not json", 400, "invalid_request"),
        ("POST", "/v1/chat/completions", b"[]", 400, "invalid_request"),
        ("POST", "/v1/chat/completions", b'{"messages": []}', 400, "invalid_request"),
    ],
)
def test_a_request_that_makes_no_sense_gets_a_clear_error(http, method, path, body, status, code):
    reply = http.request(method, path, content=body, headers={"content-type": "application/json"})

    assert (status, code) == (reply.status_code, reply.json()["error"]["code"])
    assert "application/json" == reply.headers["content-type"]


def test_a_head_request_gets_headers_alone(http):
    reply = http.head("/v1/models")

    assert (200, b"") == (reply.status_code, reply.content)


def test_a_body_over_the_limit_is_413_and_the_gateway_lives_on(running, http, chat):
    big = b'{"model": "chat", "messages": "' + b"x" * (20 << 20) + b'"}'
    try:
        reply = http.post("/v1/chat/completions", content=big)
        assert (413, "request_too_large") == (reply.status_code, reply.json()["error"]["code"])
    except (httpx.WriteError, httpx.ReadError):
        pass  # Envoy answers and hangs up while we still send; not every client reads the answer then
    assert chat.create(model="chat", messages=HELLO).choices


def test_a_body_just_under_the_limit_passes(chat):
    text = "word " * (2 << 20)
    reply = chat.create(model="chat", messages=[{"role": "user", "content": text[: 7 << 20]}])

    assert reply.usage.prompt_tokens > 1_000_000


# --- what travels, and what does not


def test_nothing_internal_and_no_key_of_the_caller_reaches_a_provider(http, rehearsal_url):
    smuggled = {
        "x-edge-exchange": "guess",
        "x-edge-role": "upstream",
        "x-envoy-max-retries": "99",
        "x-envoy-retry-on": "5xx",
        "cookie": "session=1",
        "openai-organization": "org-of-the-caller",
        "x-forwarded-for": "203.0.113.9",
    }
    http.post("/v1/chat/completions", headers=smuggled, json={"model": "chat", "messages": HELLO}).raise_for_status()
    seen = reached(rehearsal_url)
    headers = {name.lower(): value for name, value in seen["headers"]}

    assert "Bearer sk-provider-openai" == headers["authorization"]
    assert not [n for n in headers if n.startswith(("x-edge-", "x-envoy-", "x-forwarded-"))]
    assert not {"cookie", "openai-organization", "x-api-key", "accept-encoding"} & set(headers)
    assert KEY not in json.dumps(seen)


def test_the_raw_lane_keeps_the_callers_bytes(http, rehearsal_url):
    body = (
        b'{ "messages" : [{"role":"user","content":"caf\\u00e9"}], "temperature":1.10,\n "model":"chat" , "seed": 7 }'
    )
    http.post("/v1/chat/completions", content=body).raise_for_status()

    sent = base64.b64decode(reached(rehearsal_url)["body"])
    assert body.replace(b'"chat"', b'"rehearsal"') == sent


def test_what_a_provider_cannot_be_told_is_named(http):
    asked = {"model": "claude", "messages": HELLO, "max_tokens": 20, "seed": 7}
    reply = http.post("/v1/chat/completions", json=asked)

    assert "seed" in reply.headers["x-edge-dropped"]


def test_what_must_not_be_lost_is_refused(chat):
    with pytest.raises(openai.BadRequestError, match="logprobs"):
        chat.create(model="claude", messages=HELLO, max_tokens=20, logprobs=True)


# --- providers' bad days


def test_a_provider_that_is_down_is_a_clear_error(chat, messages, settles):
    with pytest.raises(openai.InternalServerError) as told:
        chat.create(model="down", messages=HELLO)

    assert ("provider_unreachable", 502) == (told.value.code, told.value.status_code)
    assert "upstream_error" == settles()["outcome"]
    with pytest.raises(anthropic.InternalServerError, match="could not be reached"):
        messages.create(model="down", messages=HELLO, max_tokens=10)


def test_the_next_candidate_is_asked_where_the_first_is_down(chat, settles):
    assert "Hello" in chat.create(model="down-then-up", messages=HELLO).choices[0].message.content
    assert ("openai", 2, "ok") == tuple(settles()[k] for k in ("provider", "attempts", "outcome"))


@pytest.mark.parametrize("stream", [True, False])
def test_a_retry_crosses_to_another_format_with_another_credential(http, rehearsal_url, settles, stream):
    asked = {"model": "503-then-claude", "messages": HELLO, "max_tokens": 50, "stream": stream}
    reply = http.post("/v1/chat/completions", json=asked).raise_for_status()
    headers = {name.lower(): value for name, value in reached(rehearsal_url)["headers"]}

    assert ("[DONE]" if stream else "You asked") in reply.text
    assert "sk-ant-provider" == headers["x-api-key"]
    assert "authorization" not in headers
    assert not [n for n in headers if n.startswith(("x-edge-", "x-envoy-", "x-forwarded-"))]
    assert ("anthropic", 2, "cross") == tuple(settles()[k] for k in ("provider", "attempts", "lane"))


@pytest.mark.parametrize(("status", "error"), [(400, openai.BadRequestError), (429, openai.RateLimitError)])
def test_a_providers_error_keeps_its_status_on_both_lanes(chat, status, error):
    for provider in ("rehearsal", "claude-rehearsal"):
        with pytest.raises(error) as told:
            chat.create(model=f"{provider}(status={status})", messages=HELLO, max_tokens=10)
        assert told.value.message


def test_retry_after_is_kept(http):
    reply = http.post("/v1/messages", json={"model": "rehearsal-429", "messages": HELLO, "max_tokens": 10})

    assert (429, "1") == (reply.status_code, reply.headers["retry-after"])
    assert "rate_limit_error" == reply.json()["error"]["type"]


@pytest.mark.parametrize("model", ["rehearsal(end=2)", "claude-rehearsal(end=2)"])
def test_a_stream_without_its_end_fails_in_both_sdks(chat, messages, settles, model):
    with pytest.raises(openai.APIError):
        list(chat.create(model=model, messages=HELLO, max_tokens=50, stream=True))
    line = settles()
    assert ("broken_stream", True) == (line["outcome"], line["estimated"])
    with pytest.raises(anthropic.APIError), messages.stream(model=model, messages=HELLO, max_tokens=50) as stream:
        list(stream)


@pytest.mark.parametrize("model", ["rehearsal(cut=2)", "claude-rehearsal(cut=2)", "rehearsal(drop=2)"])
def test_a_stream_that_is_cut_never_looks_complete(chat, model):
    with pytest.raises((openai.APIError, httpx.HTTPError)):
        list(chat.create(model=model, messages=HELLO, max_tokens=50, stream=True))


@pytest.mark.parametrize("model", ["rehearsal(error=2)", "claude-rehearsal(error=2)"])
def test_an_error_within_a_stream_is_an_error(chat, messages, model):
    with pytest.raises(openai.APIError):
        list(chat.create(model=model, messages=HELLO, max_tokens=50, stream=True))
    with pytest.raises(anthropic.APIError), messages.stream(model=model, messages=HELLO, max_tokens=50) as stream:
        list(stream)


@pytest.mark.parametrize("model", ["rehearsal-html", "rehearsal-empty", "claude-rehearsal(body=html,status=500)"])
def test_nonsense_of_a_provider_is_a_clear_error(chat, model):
    with pytest.raises(openai.APIStatusError) as told:
        chat.create(model=model, messages=HELLO, max_tokens=50)

    assert told.value.status_code >= 500


def test_a_compressed_reply_is_read_all_the_same(chat, settles):
    assert "Hello" in chat.create(model="rehearsal-gzip", messages=HELLO).choices[0].message.content
    assert settles()["tokens_output"] > 0


def test_a_caller_who_leaves_is_billed_for_what_was_seen(running, settles):
    asked = {"model": "rehearsal(pace=100ms)", "messages": HELLO, "stream": True}
    with httpx.Client(base_url=running.url, headers={"authorization": f"Bearer {KEY}"}) as client:
        with client.stream("POST", "/v1/chat/completions", json=asked) as reply:
            next(reply.iter_bytes())

    line = settles()
    assert ("caller_left", True) == (line["outcome"], line["estimated"])
    assert line["tokens_input"] > 0


def test_what_happened_can_be_seen_at_the_admin_port(running, chat):
    chat.create(model="chat", messages=HELLO)
    text = running.metrics()

    assert 'edge_requests_total{model="chat",outcome="ok",provider="openai",tenant="acme"}' in text
    assert {"ready": True} == {"ready": httpx.get(f"{running.admin}/readyz").json()["ready"]}
    assert 200 == httpx.get(f"{running.admin}/healthz").status_code


def test_no_secret_was_written_to_any_log(running):
    told = "\n".join(running.lines) + running.metrics()

    for secret in (KEY, OTHER_KEY, "sk-provider-openai", "sk-ant-provider", gateways.PEPPER):
        assert secret not in told

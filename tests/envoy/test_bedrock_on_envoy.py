"""Bedrock behind real Envoy: a loopback host that checks each signature and answers with recorded bytes, and callers
with the official SDKs of OpenAI and Anthropic, and boto3."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

import anthropic
import boto3
import gateway as gateways
import openai
import pytest
from botocore import UNSIGNED
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from gateway import KEY
from recordings import body, recordings

from edge_extproc.codecs.aws_eventstream import MEDIA_TYPE, event, exception

pytestmark = pytest.mark.envoy

ACCESS, SECRET, TOKEN, REGION = "AKIDOFTHETESTS", "a-secret/of+the-tests", "a-session-token", "eu-central-1"
HELLO = [{"role": "user", "content": "Hello"}]
USAGE = {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7, "cacheReadInputTokens": 0}


def frames(*events: tuple[str, Any]) -> bytes:
    return b"".join(event(kind, json.dumps(payload).encode()) for kind, payload in events)


def _delta(index: int, value: Any) -> tuple[str, Any]:
    return "contentBlockDelta", {"contentBlockIndex": index, "delta": value, "p": "abcdef"}


def _start(index: int, id: str) -> tuple[str, Any]:
    start = {"toolUse": {"toolUseId": id, "name": "weather"}}
    return "contentBlockStart", {"contentBlockIndex": index, "start": start}


THINKS_AND_CALLS = [
    {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "sig"}}},
    {"text": "Let me look."},
    {"toolUse": {"toolUseId": "tooluse_a", "name": "weather", "input": {"city": "Bonn"}}},
    {"toolUse": {"toolUseId": "tooluse_b", "name": "weather", "input": {}}},
]
STREAM = (
    ("messageStart", {"role": "assistant"}),
    _delta(0, {"reasoningContent": {"text": "Hm."}}),
    _delta(0, {"reasoningContent": {"signature": "sig"}}),
    ("contentBlockStop", {"contentBlockIndex": 0}),
    _delta(1, {"text": "Let me "}),
    _delta(1, {"text": "look."}),
    ("contentBlockStop", {"contentBlockIndex": 1}),
    (
        "contentBlockStart",
        {"contentBlockIndex": 2, "start": {"toolUse": {"toolUseId": "tooluse_a", "name": "weather"}}},
    ),
    _delta(2, {"toolUse": {"input": '{"city":'}}),
    _delta(2, {"toolUse": {"input": '"Bonn"}'}}),
    ("contentBlockStop", {"contentBlockIndex": 2}),
    (
        "contentBlockStart",
        {"contentBlockIndex": 3, "start": {"toolUse": {"toolUseId": "tooluse_b", "name": "weather"}}},
    ),
    ("contentBlockStop", {"contentBlockIndex": 3}),
    ("messageStop", {"stopReason": "tool_use"}),
    ("metadata", {"usage": USAGE, "metrics": {"latencyMs": 3}}),
)
WHOLE = {
    "output": {"message": {"role": "assistant", "content": THINKS_AND_CALLS}},
    "stopReason": "tool_use",
    "usage": USAGE,
    "metrics": {"latencyMs": 3},
}


def answer(model: str, verb: str) -> tuple[int, str, bytes]:
    """By the name of the model: a recording's own id, or one of the cases that are written out here."""
    if "throttled" in model:
        return 429, "application/json", b'{"message":"Too many requests"}'
    if "torn" in model:
        return 200, MEDIA_TYPE, frames(*STREAM[:6]) + exception("serviceUnavailableException", b'{"message":"gone"}')
    id = next((part for part in model.split("/") if part.startswith("bedrock-")), None)
    if id is not None:
        recording = RECORDED[id]["response"]
        kind = recording["headers"].get("content-type", MEDIA_TYPE if RECORDED[id]["streaming"] else "application/json")
        return recording["status"], kind, body(recording)
    if verb == "converse-stream":
        return 200, MEDIA_TYPE, frames(*STREAM)
    return 200, "application/json", json.dumps(WHOLE).encode()


RECORDED = {r["id"]: r for r in recordings("converse", "converse_stream", "invoke_model", "invoke_model_stream")}


class Bedrock:
    """A host that lets in only what is signed right; `asked` is what it saw."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _answer(self) -> None:
                sent = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                host.asked.append((self.path, headers, json.loads(sent)))
                _, _, model, verb = self.path.split("/")
                status, kind, payload = answer(unquote(model), verb)
                if not is_signed(self.path, headers, sent):
                    status, kind, payload = 403, "application/json", b'{"message":"The signature does not match"}'
                self.send_response(status)
                self.send_header("content-type", kind)
                self.send_header("x-amzn-requestid", "0e1a-request")
                if status == 429:
                    self.send_header("x-amzn-errortype", "ThrottlingException:http://internal.amazon.com/")
                    self.send_header("retry-after", "3")
                self.send_header("content-length", str(len(payload)))
                self.end_headers()
                for at in range(0, len(payload), 501):  # frames do not end where writes do
                    self.wfile.write(payload[at : at + 501])
                    self.wfile.flush()

            def log_message(self, *_: object) -> None:
                pass

        Handler.do_POST = Handler._answer  # type: ignore[attr-defined]  # http.server finds it by this name
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()


def is_signed(path: str, headers: dict[str, str], sent: bytes) -> bool:
    """botocore signs what has arrived, and must come to the same."""
    names = headers.get("authorization", "").partition("SignedHeaders=")[2].partition(",")[0].split(";")
    request = AWSRequest("POST", f"http://{headers['host']}{path}", data=sent)
    request.context["timestamp"] = headers.get("x-amz-date", "")
    for name in names:
        request.headers[name] = headers.get(name, "")
    signer = SigV4Auth(Credentials(ACCESS, SECRET, TOKEN), "bedrock", REGION)
    signature = signer.signature(signer.string_to_sign(request, signer.canonical_request(request)), request)
    return headers.get("authorization", "").endswith(signature) and headers.get("x-amz-security-token") == TOKEN


@pytest.fixture(scope="module")
def host() -> Iterator[Bedrock]:
    found = Bedrock()
    yield found
    found.server.shutdown()
    found.server.server_close()


@pytest.fixture(scope="module")
def bedrock(host: Bedrock) -> Iterator[gateways.RunningGateway]:
    provider = (
        f"{{kind: bedrock, region: {REGION}, base_url: '{host.url}', credential: {{kind: aws, "
        f"access_key_id: {ACCESS}, secret_access_key: '{SECRET}', session_token: {TOKEN}}}}}"
    )
    models = '"claude/*": [{provider: aws}]\n"other/*": [{provider: aws}]\n"arn:*": [{provider: aws}]'
    text = gateways.config("http://127.0.0.1:9", models=models)
    text = text.replace("providers:\n", f"providers:\n  aws: {provider}\n", 1)
    with gateways.RunningGateway(text) as found:
        yield found


@pytest.fixture
def chat(bedrock: gateways.RunningGateway) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{bedrock.url}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client.chat.completions


@pytest.fixture
def messages(bedrock: gateways.RunningGateway) -> Iterator[Any]:
    with anthropic.Anthropic(base_url=bedrock.url, api_key=KEY, max_retries=0, timeout=30) as client:
        yield client.messages


def boto3_with(key: str, url: str) -> Any:
    """With AWS_BEARER_TOKEN_BEDROCK boto3 sends the key just so, but over TLS alone, which this gateway has not."""
    rules = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}, read_timeout=30)
    client = boto3.client("bedrock-runtime", endpoint_url=url, region_name=REGION, config=rules)

    def add(request: Any, **_: Any) -> None:
        request.headers["Authorization"] = f"Bearer {key}"

    client.meta.events.register("request-created.bedrock-runtime.*", add)
    return client


def test_an_openai_caller_gets_a_reply(chat: Any, host: Bedrock) -> None:
    reply = chat.create(model="claude/case", messages=HELLO)

    message = reply.choices[0].message
    assert "Let me look." == message.content
    assert [("tooluse_a", '{"city":"Bonn"}'), ("tooluse_b", "{}")] == [
        (call.id, call.function.arguments) for call in message.tool_calls
    ]
    assert ("tool_calls", 7, "claude/case") == (reply.choices[0].finish_reason, reply.usage.total_tokens, reply.model)
    assert "0e1a-request" in reply.id
    path, headers, sent = host.asked[-1]
    assert "/model/claude%2Fcase/converse" == path
    assert {"role": "user", "content": [{"text": "Hello"}]} == sent["messages"][0]
    assert "application/json" == headers["accept"]
    assert KEY not in str(headers)


def test_an_openai_caller_gets_a_stream(chat: Any, host: Bedrock) -> None:
    with chat.stream(model="claude/case", messages=HELLO, stream_options={"include_usage": True}) as stream:
        final = stream.get_final_completion()

    message = final.choices[0].message
    assert ("Let me look.", "tool_calls", 7) == (
        message.content,
        final.choices[0].finish_reason,
        final.usage.total_tokens,
    )
    assert ['{"city":"Bonn"}', "{}"] == [call.function.arguments for call in message.tool_calls]
    assert MEDIA_TYPE == host.asked[-1][1]["accept"]
    assert host.asked[-1][0].endswith("/converse-stream")


@pytest.mark.parametrize("stream", [False, True])
def test_an_anthropic_caller_gets_thinking_text_and_tools(messages: Any, stream: bool) -> None:
    asked = {"model": "other/case", "messages": HELLO, "max_tokens": 100}
    if stream:
        with messages.stream(**asked) as events:
            final = events.get_final_message()
    else:
        final = messages.create(**asked)

    assert ["thinking", "text", "tool_use", "tool_use"] == [block.type for block in final.content]
    assert ("Hm.", "sig") == (final.content[0].thinking, final.content[0].signature)
    assert [{"city": "Bonn"}, {}] == [block.input for block in final.content[2:]]
    assert ("tool_use", 5, 2) == (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens)


def test_an_arn_reaches_the_host_as_one_segment_and_is_signed_right(chat: Any, host: Bedrock) -> None:
    arn = "arn:aws:bedrock:eu-central-1:123456789012:inference-profile/eu.amazon.nova"
    chat.create(model=arn, messages=HELLO)

    path = host.asked[-1][0]
    assert arn == unquote(path.split("/")[2])
    assert 4 == len(path.split("/"))


def test_an_error_keeps_its_kind_and_its_wait(chat: Any, messages: Any) -> None:
    with pytest.raises(openai.RateLimitError) as told:
        chat.create(model="other/throttled", messages=HELLO)
    assert "3" == told.value.response.headers["retry-after"]
    with pytest.raises(anthropic.RateLimitError):
        messages.create(model="other/throttled", messages=HELLO, max_tokens=9)


def test_a_stream_that_breaks_is_told_as_an_error(chat: Any, messages: Any, bedrock: gateways.RunningGateway) -> None:
    with pytest.raises(openai.APIError, match="gone"):
        list(chat.create(model="other/torn", messages=HELLO, stream=True))
    with pytest.raises(anthropic.APIStatusError):
        with messages.stream(model="other/torn", messages=HELLO, max_tokens=9) as events:
            list(events)
    bedrock.all_settled()
    assert {"broken_stream"} == {line["outcome"] for line in bedrock.access_lines()[-2:]}


def test_a_caller_of_converse_gets_a_reply_and_a_stream(bedrock: gateways.RunningGateway) -> None:
    boto = boto3_with(KEY, bedrock.url)
    asked = {"modelId": "other/case", "messages": [{"role": "user", "content": [{"text": "Hello"}]}]}
    reply = boto.converse(**asked)

    assert THINKS_AND_CALLS == reply["output"]["message"]["content"]
    assert 7 == reply["usage"]["totalTokens"]
    events = list(boto.converse_stream(**asked)["stream"])
    assert ["messageStart", "metadata"] == [next(iter(events[0])), next(iter(events[-1]))]
    assert "Let me look." == "".join(
        e["contentBlockDelta"]["delta"].get("text", "") for e in events if "contentBlockDelta" in e
    )
    with pytest.raises(boto.exceptions.ThrottlingException, match="Too many requests"):
        boto.converse(**{**asked, "modelId": "other/throttled-too"})


@pytest.mark.parametrize("api", ["converse", "converse_stream"])
def test_every_recorded_answer_of_converse_reaches_both_sdks(
    api: str, chat: Any, messages: Any, subtests: pytest.Subtests
) -> None:
    ids = [id for id, r in RECORDED.items() if r["api"] == api and r["response"]["status"] == 200]
    for number, id in enumerate(sorted(ids)):
        with subtests.test(id):
            if number % 2:
                asked = {"model": f"other/{id}", "messages": HELLO, "max_tokens": 9}
                if api == "converse":
                    assert messages.create(**asked).usage.output_tokens >= 0
                else:
                    with messages.stream(**asked) as events:
                        assert events.get_final_message().stop_reason is not None
            elif api == "converse":
                assert chat.create(model=f"other/{id}", messages=HELLO).choices[0].finish_reason
            else:
                chunks = list(chat.create(model=f"other/{id}", messages=HELLO, stream=True))
                assert 1 == sum(1 for c in chunks if c.choices and c.choices[0].finish_reason)


def test_recorded_answers_of_an_invoked_claude_reach_an_anthropic_caller(
    messages: Any, host: Bedrock, subtests: pytest.Subtests
) -> None:
    for id, recording in sorted(RECORDED.items()):
        if "claude" not in recording["model"] or "anthropic_version" not in recording["request"]["body"]:
            continue
        if recording["response"]["status"] != 200 or not recording["api"].startswith("invoke_model"):
            continue
        with subtests.test(id):
            asked = {"model": f"claude/{id}", "messages": HELLO, "max_tokens": 9}
            if recording["api"] == "invoke_model":
                final = messages.create(**asked)
                assert json.loads(body(recording["response"]))["id"] == final.id
            else:
                with messages.stream(**asked) as events:
                    final = events.get_final_message()
            assert final.content
            path, _, sent = host.asked[-1]
            assert path.endswith("/invoke" if recording["api"] == "invoke_model" else "/invoke-with-response-stream")
            assert ("bedrock-2023-05-31", False, False) == (
                sent["anthropic_version"],
                "model" in sent,
                "stream" in sent,
            )


def test_a_caller_of_converse_needs_a_key_of_the_gateway(bedrock: gateways.RunningGateway) -> None:
    client = boto3_with("wrong", bedrock.url)

    with pytest.raises(client.exceptions.ClientError) as told:
        client.converse(modelId="other/case", messages=[{"role": "user", "content": [{"text": "Hi"}]}])
    assert 401 == told.value.response["ResponseMetadata"]["HTTPStatusCode"]
    assert "UnrecognizedClientException" == told.value.response["Error"]["Code"]

"""Paths besides the usual ones, on real Envoy: the Azure client's, Bedrock's InvokeModel, paths without a version, and
stored conversations. Each chat path is called with every provider, streamed and not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import boto3
import gateway as gateways
import httpx2
import openai
import pytest
from botocore import UNSIGNED
from botocore.config import Config
from gateway import KEY, OTHER_KEY
from outputs import OUTPUTS, expected, media_type, recorded, source
from recordings import body as bytes_of
from replaying import Replaying

from edge_extproc import registry
from edge_extproc.codecs.aws_eventstream import MEDIA_TYPE
from edge_extproc.model.reply import Reply, fold
from edge_extproc.providers.base import ProviderSettings

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("many")]

HELLO = [{"role": "user", "content": "Hello"}]
CLAUDE = {"messages": HELLO, "max_tokens": 100}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
# For each path: the dialect of its replies, the path of a reply and of a stream, and the body.
PATHS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "azure": (
        "openai_chat",
        "/openai/deployments/{model}/chat/completions?api-version=2024-10-21",
        "/openai/deployments/{model}/chat/completions?api-version=2024-10-21",
        {"messages": HELLO},
    ),
    "azure responses": (
        "openai_responses",
        "/openai/responses?api-version=2025-04-01-preview",
        "/openai/responses?api-version=2025-04-01-preview",
        {"model": "{model}", "input": "Hello"},
    ),
    "invoke": (
        "anthropic_messages",
        "/model/{model}/invoke",
        "/model/{model}/invoke-with-response-stream",
        {**CLAUDE, "anthropic_version": "bedrock-2023-05-31"},
    ),
    "chat": ("openai_chat", "/chat/completions", "/chat/completions", {"model": "{model}", "messages": HELLO}),
    "responses": ("openai_responses", "/responses", "/responses", {"model": "{model}", "input": "Hello"}),
    "messages": ("anthropic_messages", "/messages", "/messages", {"model": "{model}", **CLAUDE}),
    "gemini": (
        "gemini_generate",
        "/models/{model}:generateContent",
        "/models/{model}:streamGenerateContent?alt=sse",
        GEMINI,
    ),
}
IN_BODY = {"openai_chat", "openai_responses", "anthropic_messages"}
FORMS = {"azure": "api-key", "gemini": "x-goog-api-key"}


@pytest.fixture(scope="module")
def client(many: gateways.RunningGateway) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=many.url, timeout=30) as found:
        yield found


def credential(path: str) -> dict[str, str]:
    name = FORMS.get(path)
    return {name: KEY} if name is not None else {"authorization": f"Bearer {KEY}"}


def read(dialect_name: str, content_type: str, body: bytes) -> Reply:
    """What the caller got, read by its own dialect."""
    dialect = registry.load("dialects", dialect_name)
    if content_type == "application/json":
        found: Reply = dialect.read_reply(body)
        return found
    host = registry.load("providers", "bedrock").build(ProviderSettings("b", "https://b.example", None))
    unframer = host.unframe(dialect_name, content_type)
    if unframer is not None:
        body = unframer.feed(body) + unframer.close()
    reader = dialect.reader(dialect.stream_type)
    events = [event for frame in reader.frames(body) for event in reader.read(frame)]
    return fold(dialect_name, events + reader.close()[1])


def cell(path: str, provider: str, stream: bool, client: httpx2.Client, replay: Replaying) -> None:
    dialect, plain, streamed, body = PATHS[path]
    output = OUTPUTS[provider]
    found = recorded(output, "text", stream)
    assert found is not None
    said = bytes_of(found["response"])
    replay.answers(said, media_type(output, stream))
    sent = json.loads(json.dumps(body).replace("{model}", provider))
    if stream and path != "invoke" and dialect in IN_BODY:
        sent["stream"] = True
    if stream and dialect == "openai_chat":
        sent["stream_options"] = {"include_usage": True}
    response = client.post((streamed if stream else plain).format(model=provider), json=sent, headers=credential(path))

    assert 200 == response.status_code, response.text
    content_type = response.headers["content-type"].partition(";")[0]
    assert (MEDIA_TYPE if path == "invoke" else "text/event-stream") == content_type if stream else True
    want = expected(source(said, media_type(output, stream), output, stream))
    seen = expected(read(dialect, content_type, response.content))
    assert (want.text, want.prompt, want.completion) == (seen.text, seen.prompt, seen.completion)
    (asked,) = replay.asked
    assert b"Hello" in asked.body
    assert KEY not in str(asked.headers)
    assert f"sk-of-{provider}" in {value.removeprefix("Bearer ") for value in asked.headers.values()}
    if "bedrock" not in provider:
        assert b"bedrock-2023-05-31" not in asked.body


@pytest.mark.parametrize("path", PATHS)
def test_each_path_reaches_each_provider(path: str, client: httpx2.Client, replay: Replaying) -> None:
    broken = []
    for provider in OUTPUTS:
        for stream in (False, True):
            try:
                cell(path, provider, stream, client, replay)
            except Exception as error:  # noqa: BLE001 - all that breaks is told at the end, together
                broken.append(f"{provider}, {'stream' if stream else 'reply'}: {type(error).__name__}: {error}")

    assert not broken, "\n\n".join(broken)


def test_the_azure_client_works(many: gateways.RunningGateway, replay: Replaying) -> None:
    reply = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    }
    azure = openai.AzureOpenAI(
        azure_endpoint=many.url, api_key=KEY, api_version="2024-10-21", max_retries=0, timeout=30
    )
    with azure:
        replay.answers(json.dumps(reply).encode())
        found = azure.chat.completions.create(model="openai", messages=[{"role": "user", "content": "Hello"}])
        chat = replay.asked[0]
        replay.answers(b'{"data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}')
        vectors = azure.embeddings.create(model="openai", input="a", encoding_format="float")
        embedded = replay.asked[0]
        models = azure.models.list()

    assert "Hi" == found.choices[0].message.content
    assert ("/v1/chat/completions", "gpt-5-mini") == (chat.path, chat.json["model"])
    assert [0.5] == vectors.data[0].embedding
    assert ("/v1/embeddings", "gpt-5-mini") == (embedded.path, embedded.json["model"])
    assert "openai" in [model.id for model in models.data]
    assert "api-key" not in chat.headers


def boto3_client(url: str) -> Any:
    rules = Config(signature_version=UNSIGNED, retries={"total_max_attempts": 1}, read_timeout=30)
    found = boto3.client("bedrock-runtime", endpoint_url=url, region_name="eu-central-1", config=rules)

    def add(request: Any, **_: Any) -> None:
        request.headers["Authorization"] = f"Bearer {KEY}"

    found.meta.events.register("request-created.bedrock-runtime.*", add)
    return found


@pytest.mark.parametrize("provider", ["openai", "google", "anthropic", "bedrock-invoke"])
def test_boto3_invokes_any_model_with_a_body_of_claude(
    provider: str, many: gateways.RunningGateway, replay: Replaying
) -> None:
    output, bedrock = OUTPUTS[provider], boto3_client(many.url)
    body = json.dumps({**CLAUDE, "anthropic_version": "bedrock-2023-05-31"})
    whole = bytes_of(recorded(output, "text", False)["response"])  # type: ignore[index]
    stream = bytes_of(recorded(output, "text", True)["response"])  # type: ignore[index]

    replay.answers(whole, "application/json")
    reply = json.loads(bedrock.invoke_model(modelId=provider, body=body)["body"].read())
    replay.answers(stream, media_type(output, True))
    events = [
        json.loads(each["chunk"]["bytes"])
        for each in bedrock.invoke_model_with_response_stream(modelId=provider, body=body)["body"]
    ]

    assert expected(source(whole, "application/json", output, False)).text == reply["content"][-1]["text"]
    assert ["message_start", "message_stop"] == [events[0]["type"], events[-1]["type"]]
    text = "".join(e["delta"].get("text", "") for e in events if e["type"] == "content_block_delta")
    assert expected(source(stream, media_type(output, True), output, True)).text == text


def test_an_error_of_invoke_is_one_of_bedrock(many: gateways.RunningGateway, replay: Replaying) -> None:
    bedrock = boto3_client(many.url)
    replay.answers(b'{"error":{"message":"slow down","type":"rate_limit"}}', status=429)

    with pytest.raises(bedrock.exceptions.ThrottlingException):
        bedrock.invoke_model(modelId="openai", body=json.dumps(CLAUDE))


def test_titan_embeddings_keep_their_path(client: httpx2.Client, replay: Replaying) -> None:
    replay.answers(b'{"data":[{"index":0,"embedding":[0.5]}],"usage":{"prompt_tokens":1,"total_tokens":1}}')

    response = client.post("/model/openai/invoke", json={"inputText": "a"}, headers=credential("invoke"))

    assert [0.5] == response.json()["embedding"]


def test_lists_of_models_need_no_version(client: httpx2.Client) -> None:
    listed = client.get("/models", headers={"authorization": f"Bearer {KEY}"}).json()
    one = client.get("/models/google", headers={"authorization": f"Bearer {KEY}"}).json()
    googles = client.get("/models", headers={"x-goog-api-key": KEY}).json()

    assert "google" in [row["id"] for row in listed["data"]]
    assert "google" == one["id"]
    assert "models/google" in [row["name"] for row in googles["models"]]


# --- a gateway that stores conversations


@pytest.fixture(scope="module")
def storing(replay: Replaying) -> Iterator[gateways.RunningGateway]:
    key = "conversations: {key: a-key-of-the-tests-long-enough}"
    with gateways.RunningGateway(gateways.config(replay.url, more=key, workers=2)) as found:
        yield found


ANSWER = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "content": [{"type": "text", "text": "Bonjour"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 2},
}


def test_a_conversation_with_claude_is_continued_by_ids(storing: gateways.RunningGateway, replay: Replaying) -> None:
    """Two workers share the Valkey that `up` starts. The official SDK checks each reply."""
    stream = bytes_of(recorded(OUTPUTS["anthropic"], "text", True)["response"])  # type: ignore[index]
    with openai.OpenAI(base_url=f"{storing.url}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        replay.answers(json.dumps(ANSWER).encode())
        last = client.responses.create(model="claude-1", input="turn 0", extra_headers={"connection": "close"})
        for n in range(1, 6):
            last = client.responses.create(
                model="claude-1",
                input=f"turn {n}",
                previous_response_id=last.id,
                extra_headers={"connection": "close"},
            )
        replay.answers(stream, "text/event-stream")
        events = list(
            client.responses.create(model="claude-1", input="streamed", previous_response_id=last.id, stream=True)
        )
        replay.answers(json.dumps(ANSWER).encode())
        final = events[-1].response  # type: ignore[union-attr]
        client.responses.create(model="claude-1", input="last", previous_response_id=final.id)
        sent = [m for m in replay.asked[-1].json["messages"] if m["role"] == "user"]
        read_again = client.responses.retrieve(final.id)
        streamed_again = list(client.responses.retrieve(final.id, stream=True))
        rest = list(client.responses.retrieve(final.id, stream=True, starting_after=3))
        items = client.responses.input_items.list(final.id)
        conversation = client.conversations.create(metadata={"topic": "x"})
        client.responses.create(model="claude-1", input="in it", conversation=conversation.id)
        in_it = client.conversations.items.list(conversation.id, order="asc")
        of_conversation = client.conversations.items.delete(in_it.data[0].id, conversation_id=conversation.id)  # type: ignore[arg-type]
        left = client.conversations.items.list(conversation.id)
        client.responses.delete(final.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(final.id)

    counts = [line for line in storing.metrics().splitlines() if line.startswith("edge_conversation_operations_total")]
    assert any('operation="write",result="done"' in line for line in counts)
    texts = [m["content"] if isinstance(m["content"], str) else m["content"][0]["text"] for m in sent]
    assert [*(f"turn {n}" for n in range(6)), "streamed", "last"] == texts
    assert final.output_text == read_again.output_text
    assert ["streamed"] == [item.content[0].text for item in items.data]  # type: ignore[union-attr]
    assert ["in it", "Bonjour"] == [item.content[0].text for item in in_it.data]  # type: ignore[union-attr]
    assert (events, events[4:]) == (streamed_again, rest)
    assert (conversation, ["Bonjour"]) == (of_conversation, [item.content[0].text for item in left.data])  # type: ignore[union-attr]


def test_another_tenant_does_not_continue_it(storing: gateways.RunningGateway, replay: Replaying) -> None:
    replay.answers(json.dumps(ANSWER).encode())
    url = f"{storing.url}/v1/responses"
    body = {"model": "claude-1", "input": "mine"}
    mine = httpx2.post(url, json=body, headers={"authorization": f"Bearer {KEY}"}).json()
    other = {"authorization": f"Bearer {OTHER_KEY}"}

    continued = httpx2.post(
        url, json={"model": "only-this", "input": "x", "previous_response_id": mine["id"]}, headers=other
    )
    found = httpx2.get(f"{url}/{mine['id']}", headers=other)

    assert (400, "previous_response_not_found") == (continued.status_code, continued.json()["error"]["code"])
    assert (404, "not_found") == (found.status_code, found.json()["error"]["code"])


def test_moderations_need_no_model(storing: gateways.RunningGateway, replay: Replaying) -> None:
    replay.answers(b'{"id":"modr-1","model":"omni-moderation-latest","results":[]}')
    for path in ("/v1/moderations", "/moderations"):
        response = httpx2.post(storing.url + path, json={"input": "a"}, headers={"authorization": f"Bearer {KEY}"})
        assert "modr-1" == response.json()["id"]

    assert ["/v1/moderations"] * 2 == [asked.path for asked in replay.asked]
    assert [{"input": "a"}] * 2 == [asked.json for asked in replay.asked]

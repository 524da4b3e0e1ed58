"""Two tenants at one account of each provider, on real Envoy with two workers."""

from __future__ import annotations

import io
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import gateway as gateways
import openai
import pytest
from gateway import KEY, OTHER_KEY
from replaying import Replaying

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("tenants")]

REPLY = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "m",
    "output": [],
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "usage": {
        "input_tokens": 1,
        "output_tokens": 1,
        "total_tokens": 2,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens_details": {"reasoning_tokens": 0},
    },
}
STREAM = b"".join(
    b"event: %s\ndata: %s\n\n" % (event["type"].encode(), json.dumps(event).encode())
    for event in (
        {"type": "response.created", "sequence_number": 0, "response": {**REPLY, "status": "in_progress"}},
        {"type": "response.completed", "sequence_number": 1, "response": REPLY},
    )
)
# New connections, so that both workers get some of the requests.
TIMES = 6


@pytest.fixture(scope="module")
def two(replay: Replaying) -> Iterator[gateways.RunningGateway]:
    text = gateways.config(
        replay.url,
        workers=2,
        more="endpoints: {/v1/files: openai, /v1/batches: openai, /v1/responses: openai}\nretries: {attempts: 1}\n"
        "routing: {breaker: {open: 10m}}",
    ).replace("models: [only-this], ", "")
    with gateways.RunningGateway(text) as running:
        yield running


def client(two: gateways.RunningGateway, key: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{two.url}/v1", api_key=key, max_retries=0, timeout=30)


def file(id: str) -> dict[str, object]:
    about = {"object": "file", "bytes": 1, "created_at": 1, "filename": "a", "purpose": "batch", "status": "processed"}
    return {"id": id, **about}


def test_files_and_their_lists_belong_to_their_tenant(two: gateways.RunningGateway, replay: Replaying) -> None:
    for id, key in (("file-a", KEY), ("file-u", OTHER_KEY)):
        replay.answers(json.dumps(file(id)).encode())
        with client(two, key) as sdk:
            assert id == sdk.files.create(file=("a", io.BytesIO(b"x")), purpose="batch").id
    listing = {"object": "list", "data": [file("file-a"), file("file-of-nobody"), file("file-u")], "has_more": False}
    for id, key, foreign in (("file-a", KEY, "file-u"), ("file-u", OTHER_KEY, "file-a")) * TIMES:
        replay.answers(json.dumps(listing).encode())
        with client(two, key) as sdk:
            assert [id] == [each.id for each in sdk.files.list()]
            replay.answers(json.dumps(file(id)).encode())
            assert id == sdk.files.retrieve(id).id
            with pytest.raises(openai.NotFoundError) as refused:
                sdk.files.retrieve(foreign)
            with pytest.raises(openai.NotFoundError) as unknown:
                sdk.files.retrieve("file-x")
            with pytest.raises(openai.NotFoundError):
                sdk.batches.create(input_file_id=foreign, endpoint="/v1/responses", completion_window="24h")
        assert refused.value.message.replace(foreign, "file-x") == unknown.value.message
        assert ["GET"] == [each.method for each in replay.asked]


def test_a_streamed_response_can_be_continued_by_its_tenant_alone(
    two: gateways.RunningGateway, replay: Replaying
) -> None:
    replay.answers(STREAM, "text/event-stream", chunked=True)
    with client(two, KEY) as sdk:
        events = [event.type for event in sdk.responses.create(model="m", input="hi", stream=True)]
    assert ["response.created", "response.completed"] == events
    for _ in range(TIMES):
        replay.answers(json.dumps(REPLY).encode())
        with client(two, KEY) as sdk:
            assert "resp_1" == sdk.responses.create(model="m", input="on", previous_response_id="resp_1").id
            assert "resp_1" == sdk.responses.retrieve("resp_1").id
        assert 2 == len(replay.asked)
        with client(two, OTHER_KEY) as sdk:
            with pytest.raises(openai.NotFoundError):
                sdk.responses.create(model="m", input="on", previous_response_id="resp_1")
            with pytest.raises(openai.NotFoundError):
                sdk.responses.retrieve("resp_1")
            with pytest.raises(openai.NotFoundError):
                sdk.responses.delete("resp_1")
        assert 2 == len(replay.asked)


def test_equal_requests_with_one_key_reach_the_provider_once(two: gateways.RunningGateway, replay: Replaying) -> None:
    replay.answers(STREAM, "text/event-stream", chunked=True)

    def ask(key: str, words: str = "hi") -> tuple[int, bytes]:
        asked = json.dumps({"model": "m", "input": words, "stream": True}).encode()
        told = {"authorization": f"Bearer {key}", "content-type": "application/json", "idempotency-key": "one"}
        request = urllib.request.Request(f"{two.url}/v1/responses", asked, told)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    with ThreadPoolExecutor(12) as threads:
        found = list(threads.map(lambda _: ask(KEY), range(24)))
    assert [(200, STREAM)] * 24 == found
    assert 1 == len(replay.asked)
    assert (200, STREAM) == ask(OTHER_KEY)
    acme, umbrella = (each.headers["idempotency-key"] for each in replay.asked)
    assert acme != umbrella
    assert "one" not in (acme, umbrella)
    assert 422 == ask(KEY, "ho")[0]
    assert 2 == len(replay.asked)


def test_a_tenant_whose_calls_fail_takes_the_provider_from_nobody(
    two: gateways.RunningGateway, replay: Replaying
) -> None:
    def ask(key: str) -> int:
        with client(two, key) as sdk:
            try:
                sdk.chat.completions.create(model="poison", messages=[{"role": "user", "content": "hi"}])
            except openai.APIStatusError as error:
                return error.status_code
            return 200

    replay.answers(b'{"error":{"message":"it broke"}}', status=500)
    for _ in range(12):
        assert ask(KEY) in (500, 502, 503)
    gateways.until(lambda: ask(KEY) == 503)
    sent = len(replay.asked)
    assert 503 == ask(KEY)
    assert sent == len(replay.asked)
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    replay.answers(json.dumps(reply).encode())
    assert [200] * TIMES == [ask(OTHER_KEY) for _ in range(TIMES)]
    assert 503 == ask(KEY)

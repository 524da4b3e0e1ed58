"""What is asked besides chat, on real Envoy, with the official SDKs."""

from __future__ import annotations

import io
import json

import anthropic
import gateway as gateways
import openai
import pytest
from gateway import KEY
from google import genai
from replaying import Replaying

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("many")]


@pytest.fixture
def client(many):
    with openai.OpenAI(base_url=f"{many.url}/v1", api_key=KEY, max_retries=0, timeout=30) as found:
        yield found


def last(replay: Replaying, count: int = 1):
    gateways.until(lambda: len(replay.asked) == count)
    return replay.asked[-1]


def test_embeddings_of_google_reach_the_openai_sdk(client, replay):
    replay.answers(b'{"embeddings":[{"values":[0.5,-0.25]},{"values":[1,2]}],"usageMetadata":{"promptTokenCount":3}}')
    found = client.embeddings.create(model="google", input=["a", "b"], dimensions=2)

    assert [[0.5, -0.25], [1.0, 2.0]] == [row.embedding for row in found.data]
    assert 3 == found.usage.prompt_tokens
    asked = last(replay)
    assert "/v1beta/models/gemini-2.5-flash:batchEmbedContents" == asked.path
    assert "sk-of-google" == asked.headers["x-goog-api-key"]


def test_a_file_goes_up_and_comes_down_byte_for_byte(client, replay):
    content = bytes(range(256)) * 40
    uploaded = {"id": "file-1", "object": "file", "bytes": 1, "created_at": 1, "filename": "a"}
    replay.answers(json.dumps({**uploaded, "purpose": "batch", "status": "processed"}).encode())
    client.files.create(file=("a.bin", io.BytesIO(content)), purpose="batch")
    up = last(replay)

    assert ("POST", "/v1/files", "Bearer sk-of-openai") == (up.method, up.path, up.headers["authorization"])
    assert content in up.body
    assert up.headers["content-type"].startswith("multipart/form-data; boundary=")

    replay.answers(content, "application/octet-stream")
    assert content == client.files.content("file-1").content
    down = last(replay)
    assert ("GET", "/v1/files/file-1/content", b"") == (down.method, down.path, down.body)
    assert not {"x-request-id-of-us", "content-type"} & down.headers.keys()

    replay.answers(b'{"id":"file-1","object":"file","deleted":true}')
    assert client.files.delete("file-1").deleted
    assert "DELETE" == last(replay).method

    replay.answers(b'{"object":"list","data":[],"has_more":false}')
    assert [] == client.files.list(limit=3).data
    assert "/v1/files?limit=3" == last(replay).path


def test_a_batch_can_be_cancelled_without_a_body(client, replay):
    batch = {
        "id": "b",
        "object": "batch",
        "completion_window": "24h",
        "created_at": 1,
        "endpoint": "/v1/chat/completions",
    }
    replay.answers(json.dumps({**batch, "input_file_id": "f", "status": "cancelling"}).encode())

    assert "cancelling" == client.batches.cancel("b").status
    assert ("POST", "/v1/batches/b/cancel") == (last(replay).method, last(replay).path)


def test_sound_is_transcribed_with_only_the_model_changed(client, replay):
    sound = bytes(range(256)) * 400
    replay.answers(b'{"text":"Hello","usage":{"type":"tokens","input_tokens":4,"output_tokens":2,"total_tokens":6}}')
    found = client.audio.transcriptions.create(file=("a.wav", io.BytesIO(sound)), model="openai")
    asked = last(replay)

    assert ("Hello", 4) == (found.text, found.usage.input_tokens)
    assert sound in asked.body
    assert b"gpt-5-mini" in asked.body


def test_speech_comes_as_it_is(client, replay):
    sound = bytes(range(256)) * 400
    replay.answers(sound, "audio/mpeg")

    assert sound == client.audio.speech.create(model="openai", voice="alloy", input="Hello").content
    assert "gpt-5-mini" == last(replay).json["model"]


def test_an_image_is_asked_for_and_metered(client, many, replay):
    many.all_settled()
    before = len(many.access_lines())
    usage = {
        "input_tokens": 5,
        "output_tokens": 6,
        "total_tokens": 11,
        "input_tokens_details": {"image_tokens": 0, "text_tokens": 5},
    }
    replay.answers(json.dumps({"created": 1, "data": [{"b64_json": "AAAA"}], "usage": usage}).encode())
    found = client.images.generate(model="openai", prompt="a cat")

    assert "AAAA" == found.data[0].b64_json
    line = many.settled(before + 1)[before]
    assert ("passed", 5, 0, 6) == tuple(
        line[name] for name in ("operation", "tokens_input", "tokens_output", "tokens_output_image")
    )


def test_a_completion_before_chat_is_streamed(client, replay):
    chunk = {"id": "c", "object": "text_completion", "created": 1, "model": "m", "choices": []}
    said = {**chunk, "choices": [{"text": "Hi", "index": 0, "finish_reason": "stop"}]}
    used = {**chunk, "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
    frames = [f"data: {json.dumps(each)}\n\n" for each in (said, used)]
    replay.answers("".join([*frames, "data: [DONE]\n\n"]).encode(), "text/event-stream")
    found = list(client.completions.create(model="openai", prompt="Say hi", stream=True))

    assert ["Hi"] == [chunk.choices[0].text for chunk in found]


def test_tokens_are_counted_at_google_for_an_anthropic_client(many, replay):
    replay.answers(b'{"totalTokens":9}')
    with anthropic.Anthropic(base_url=many.url, api_key=KEY, max_retries=0) as client:
        counted = client.messages.count_tokens(model="google", messages=[{"role": "user", "content": "Hello"}])
        rough = client.messages.with_raw_response.count_tokens(
            model="openai", messages=[{"role": "user", "content": "Hello"}]
        )

    assert 9 == counted.input_tokens
    assert ("tokens", True) == (rough.headers["x-edge-estimated"], rough.parse().input_tokens > 0)
    assert 1 == len(replay.asked)


def test_models_are_listed_in_the_shape_of_each_sdk(client, many):
    names = sorted(gateways.MANY)
    assert names == sorted(model.id for model in client.models.list())
    assert "openai" == client.models.retrieve("openai").id
    with anthropic.Anthropic(base_url=many.url, api_key=KEY, max_retries=0) as claude:
        assert names == sorted(model.id for model in claude.models.list())
        assert "google" == claude.models.retrieve("google").id
    google = genai.Client(api_key=KEY, http_options={"base_url": many.url})
    assert [f"models/{name}" for name in names] == sorted(model.name for model in google.models.list())
    assert "models/openai" == google.models.get(model="openai").name
    google.close()

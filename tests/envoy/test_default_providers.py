"""`up` with nothing but a provider's key: the built-in configuration, on real Envoy, its provider on the loopback."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gateway as gateways
import msgspec
import pytest
from gateway import KEY, RunningGateway
from openai import NotFoundError, OpenAI
from ports import free_port
from replaying import Replaying, replaying

from edge_extproc.config.default_models import default_providers
from edge_extproc.config.load import default_text
from edge_extproc.model.default_provider import DefaultProvider

pytestmark = pytest.mark.envoy

REPLIES = {
    "openai": {
        "id": "c1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-4o-mini",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
    },
    "anthropic": {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-haiku-4-5",
        "content": [{"type": "text", "text": "Hi"}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    },
    "google": {
        "candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "Hi"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5},
    },
}
EMBEDDINGS = {
    "openai": {
        "object": "list",
        "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}],
        "model": "text-embedding-3-small",
        "usage": {"prompt_tokens": 1, "total_tokens": 1},
    },
    "google": {"embedding": {"values": [0.5, 0.25]}, "embeddings": [{"values": [0.5, 0.25]}]},
}
REPLIES["openai_compatible"] = REPLIES["openai"]
PATHS = {
    "openai_compatible": "/v1/chat/completions",
    "openai": "/v1/chat/completions",
    "anthropic": "/v1/messages",
    "google": "/v1/models/gemini-2.5-flash:generateContent",
}
SECRET = "a-key-of-the-provider-0123456789"


@dataclass
class Started:
    kind: str
    known: DefaultProvider
    provider: Replaying
    gateway: RunningGateway
    sdk: OpenAI


@pytest.fixture(
    scope="module",
    # One host stands for the others, which differ only in their rows (tests/unit/config/test_load.py).
    params=[
        (each, key) for each in default_providers() if each.host in (None, "openrouter") for key in each.default.keys
    ],
    ids=lambda p: p[1],
)
def started(request: pytest.FixtureRequest) -> Iterator[Started]:
    builtin, variable = request.param
    kind, known = builtin.kind, builtin.default
    state = Path(tempfile.mkdtemp(prefix="edge-"))
    (state / "dev-key").write_text(KEY)
    (state / "pepper").write_text(gateways.PEPPER)
    environ = {**{key: "" for each in default_providers() for key in each.default.keys}, variable: SECRET}
    text = default_text(environ, state, rehearsal_port=0, port=free_port(), admin_port=free_port())
    with replaying() as provider:
        # The one thing that is not as it would be: where the provider is.
        text = text.replace(f"kind: {kind},", f"kind: {kind}, base_url: '{provider.url}/v1',")
        with (
            RunningGateway(text, environment=environ) as gateway,
            OpenAI(base_url=f"{gateway.url}/v1", api_key=KEY, max_retries=0) as sdk,
        ):
            yield Started(kind, known, provider, gateway, sdk)
    shutil.rmtree(state, ignore_errors=True)


def test_its_models_are_listed(started: Started) -> None:
    listed = [model.id for model in started.sdk.models.list()]

    assert {"chat", *started.known.models} <= {*listed}
    assert ("embedding" in listed) == (started.known.embedding is not None)


@pytest.mark.parametrize("name", ["chat", None])
def test_the_snippets_model_and_the_providers_own_are_answered(started: Started, name: str | None) -> None:
    started.provider.answers(msgspec.json.encode(REPLIES[started.kind]))
    model = name or started.known.chat
    reply = started.sdk.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hello"}])

    assert "Hi" == reply.choices[0].message.content
    (asked,) = started.provider.asked
    assert PATHS[started.kind] == asked.path
    assert started.known.chat in (asked.path + str(asked.json.get("model")))
    assert SECRET in {asked.headers.get(name, "").removeprefix("Bearer ") for name in CREDENTIALS}


CREDENTIALS = ("authorization", "x-api-key", "x-goog-api-key")


def test_embeddings_are_answered_where_the_provider_has_any(started: Started) -> None:
    if started.known.embedding is None:
        with pytest.raises(NotFoundError, match="embedding"):
            started.sdk.embeddings.create(model="embedding", input="Hello")
        return
    started.provider.answers(msgspec.json.encode(EMBEDDINGS[started.kind]))
    for name in ("embedding", started.known.embedding):
        made = started.sdk.embeddings.create(model=name, input="Hello", encoding_format="float")
        assert [0.5, 0.25] == made.data[0].embedding


def test_images_and_audio_are_answered_where_the_provider_has_any(started: Started) -> None:
    listed = {model.id for model in started.sdk.models.list()}
    if started.kind != "openai":
        assert not {"gpt-image-1", "tts-1"} & listed
        return
    started.provider.answers(b'{"created": 1, "data": [{"b64_json": "aGk="}]}')
    image = started.sdk.images.generate(model="gpt-image-1", prompt="A door")
    started.provider.answers(b"RIFF", "audio/wav")
    speech = started.sdk.audio.speech.create(model="tts-1", voice="alloy", input="Hello")
    started.provider.answers(b'{"text": "Hello"}')
    text = started.sdk.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"RIFF"))

    assert {"gpt-image-1", "tts-1", "whisper-1"} <= listed
    assert image.data is not None
    assert ("aGk=", b"RIFF", "Hello") == (image.data[0].b64_json, speech.content, text.text)
    assert "/v1/audio/transcriptions" == started.provider.asked[-1].path

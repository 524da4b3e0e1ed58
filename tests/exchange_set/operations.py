"""The APIs that are no chat: embeddings, completions, reranking, pictures, sound, moderation, lists of models."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Sequence
from typing import Any

from .base import CREATED, DONE, PIXEL, UNICODE, WAV, Exchange, Json, compact, pieces, pretty, sse, token, uuid
from .openai_chat import error, headers

TEXTS = ("A ferry crosses the channel.", "A lighthouse stands on a cliff.")


def vector(seed: str, size: int = 8) -> list[float]:
    """Numbers that 32 bits hold exactly, so that no format rounds them."""
    digits = token("vector " + seed, size, "".join(chr(33 + each) for each in range(64)))
    return [(ord(each) - 64) / 64 for each in digits]


def packed(values: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


def _embedded(model: str, inputs: int, *, base64_: bool = False, size: int = 8, **more: Any) -> Json:
    vectors = [vector(f"{model} {at}", size) for at in range(inputs)]
    rows = [
        {"object": "embedding", "index": at, "embedding": packed(each) if base64_ else each}
        for at, each in enumerate(vectors)
    ]
    return {"object": "list", "data": rows, "model": model, "usage": {"prompt_tokens": 6, "total_tokens": 6}, **more}


def embeddings() -> Iterator[Exchange]:
    where = ("openai", "embeddings", "POST /v1/embeddings", "api.openai.com")
    small = "text-embedding-3-small"
    rows: list[tuple[str, Json, Json]] = [
        ("text", {"input": TEXTS[0]}, {}),
        ("batch", {"input": list(TEXTS), "encoding_format": "float"}, {"inputs": 2}),
        ("base64", {"input": list(TEXTS), "encoding_format": "base64"}, {"inputs": 2, "base64_": True}),
        ("dimensions", {"input": [TEXTS[0]], "dimensions": 4, "user": "sailor-7"}, {"size": 4}),
        ("unicode", {"input": [UNICODE, "🙂"]}, {"inputs": 2}),
        ("tokens", {"input": [[1734, 88, 12]]}, {}),
    ]
    for name, asked, told in rows:
        body = _embedded(small, **{"inputs": 1, **told})
        asked = {"model": small, **asked}
        yield Exchange(name, *where, small, asked, pretty(body), response_headers=headers(f"embeddings {name}"))
    hello = {"model": small, "input": "Hello"}
    wrong = error("The model `none` does not exist.", "invalid_request_error", None, "model_not_found")
    yield Exchange("error-model", *where, "none", {**hello, "model": "none"}, wrong, 404)
    wrong = error("Incorrect API key provided: sk-wrong.", "invalid_request_error", None, "invalid_api_key")
    yield Exchange("error-key", *where, small, hello, wrong, 401)
    wrong = error("'$.input' is invalid.", "invalid_request_error")
    yield Exchange("error-value", *where, small, {**hello, "input": []}, wrong, 400)
    wrong = error("Project does not have access to model.", "invalid_request_error", None, "model_not_found")
    yield Exchange("error-permission", *where, small, hello, wrong, 403)
    more: Any
    for provider, host, endpoint, model, more in (
        ("azure", "harbour.openai.azure.com", "POST /openai/v1/embeddings", small, {}),
        ("mistral", "api.mistral.ai", "POST /v1/embeddings", "mistral-embed", {"id": uuid("mistral")}),
        ("openrouter", "openrouter.ai", "POST /api/v1/embeddings", f"openai/{small}", {"provider": "OpenAI"}),
    ):
        at = (provider, "embeddings", endpoint, host, model)
        yield Exchange("batch", *at, {"model": model, "input": list(TEXTS)}, compact(_embedded(model, 2, **more)))
    model = "voyage-3.5"
    at = ("voyage", "embeddings", "POST /v1/embeddings", "api.voyageai.com", model)
    told = {**_embedded(model, 2, base64_=True), "usage": {"total_tokens": 6}}
    asked = {"model": model, "input": list(TEXTS), "input_type": "document", "encoding_format": "base64"}
    yield Exchange("base64", *at, asked, compact(told))


def google_embeddings() -> Iterator[Exchange]:
    model = "gemini-embedding-001"
    host = "generativelanguage.googleapis.com"
    at = ("gemini", "embed_content", f"POST /v1beta/models/{model}:batchEmbedContents", host, model)

    def asks(text: str, **more: Any) -> Json:
        return {"model": f"models/{model}", "content": {"parts": [{"text": text}]}, **more}

    asked = {"requests": [asks(each) for each in TEXTS]}
    values = [{"values": vector(each)} for each in TEXTS]
    yield Exchange("batch", *at, asked, pretty({"embeddings": values}))
    asked = {"requests": [asks(TEXTS[0], outputDimensionality=4)]}
    counted = {"promptTokenCount": 6, "promptTokenDetails": [{"modality": "TEXT", "tokenCount": 6}]}
    short = [{"values": vector("short", 4)}]
    yield Exchange("dimensions", *at, asked, pretty({"embeddings": short, "usageMetadata": counted}))
    picture = {"parts": [{"inline_data": {"mime_type": "image/png", "data": PIXEL}}]}
    asked = {"requests": [{"model": f"models/{model}", "content": picture}]}
    yield Exchange("picture", *at, asked, pretty({"embeddings": short}))
    wrong = {"error": {"code": 404, "message": "models/none is not found.", "status": "NOT_FOUND"}}
    yield Exchange("error-model", *at, {"requests": [asks("Hi")]}, pretty(wrong), 404)
    model = "text-embedding-005"
    base = "POST /v1beta1/projects/PROJECT/locations/us-central1/publishers/google/models"
    at = ("vertex", "vertex_predict", f"{base}/{model}:predict", "us-central1-aiplatform.googleapis.com", model)
    rows = [
        {"embeddings": {"statistics": {"truncated": False, "token_count": 3}, "values": vector(each)}} for each in TEXTS
    ]
    asked = {"instances": [{"content": each} for each in TEXTS], "parameters": {"outputDimensionality": 8}}
    yield Exchange("batch", *at, asked, compact({"predictions": rows, "metadata": {"billableCharacterCount": 53}}))
    wrong = {"error": {"code": 404, "message": "Publisher Model none was not found.", "status": "NOT_FOUND"}}
    yield Exchange("error-model", *at, {"instances": [{"content": "Hi"}]}, compact(wrong), 404)


def completions() -> Iterator[Exchange]:
    model = "gpt-3.5-turbo-instruct"
    where = ("openai", "completions", "POST /v1/completions", "api.openai.com", model)
    usage = {"prompt_tokens": 4, "completion_tokens": 6, "total_tokens": 10}
    rows: list[tuple[str, Json, list[tuple[str, str]]]] = [
        ("text", {"prompt": "A bridge is", "max_tokens": 20}, [(" a way over water.", "stop")]),
        ("length", {"prompt": ["A rope is"], "max_tokens": 4}, [(" made of long", "length")]),
        ("several", {"prompt": "A boat named", "n": 2}, [(" Thistle", "stop"), (" Albatross", "stop")]),
        ("stop", {"prompt": "one, two,", "stop": ["five"], "seed": 1}, [(" three, four, ", "stop")]),
        ("unicode", {"prompt": "Echo: " + UNICODE}, [(UNICODE, "stop")]),
    ]
    for name, asked, said in rows:
        begin = {
            "id": "cmpl-" + token(f"completion {name}", 29),
            "object": "text_completion",
            "created": CREATED,
            "model": f"{model}:20230824-v2",
        }
        choices = [
            {"text": text, "index": at, "logprobs": None, "finish_reason": end} for at, (text, end) in enumerate(said)
        ]
        body = {**begin, "choices": choices, "usage": usage}
        yield Exchange(name, *where, {"model": model, **asked}, pretty(body), response_headers=headers(name))
        told: list[Json] = []
        for at, (text, end) in enumerate(said):
            for each in pieces(text):
                choice = {"text": each, "index": at, "logprobs": None, "finish_reason": None}
                told.append({**begin, "choices": [choice], "usage": None})
            told.append(
                {**begin, "choices": [{"text": "", "index": at, "logprobs": None, "finish_reason": end}], "usage": None}
            )
        told.append({**begin, "choices": [], "usage": usage})
        asked = {"model": model, **asked, "stream": True, "stream_options": {"include_usage": True}}
        yield Exchange(f"{name}-stream", *where, asked, sse(told, end=DONE), stream_format="sse")
    hello = {"model": model, "prompt": "Hello"}
    for name, status, body_ in (
        ("error-value", 400, error("max_tokens is too large: 99999.", "invalid_request_error", "max_tokens")),
        (
            "error-permission",
            403,
            error("Project does not have access.", "invalid_request_error", None, "model_not_found"),
        ),
        ("error-model", 404, error("This is a chat model.", "invalid_request_error", "model")),
    ):
        yield Exchange(name, *where, hello, body_, status)
    filters = {"hate": {"filtered": False, "severity": "safe"}}
    azure = ("azure", "completions", "POST /openai/deployments/instruct/completions", "harbour.openai.azure.com", model)
    choice = {
        "text": " water",
        "index": 0,
        "finish_reason": "stop",
        "logprobs": None,
        "content_filter_results": filters,
    }
    told_ = {"id": "cmpl-2", "object": "text_completion", "created": CREATED, "model": model, "choices": [choice]}
    yield Exchange("text", *azure, {"prompt": "A bridge crosses", "max_tokens": 9}, compact({**told_, "usage": usage}))
    local = ("local-openai-compatible", "completions", "POST /v1/completions", "127.0.0.1:8000", "Qwen/Qwen3-8B")
    choice = {"index": 0, "text": " water", "logprobs": None, "finish_reason": "length", "stop_reason": None}
    told_ = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": CREATED,
        "model": local[4],
        "choices": [choice],
        "usage": usage,
    }
    yield Exchange("text", *local, {"model": local[4], "prompt": "A bridge crosses", "max_tokens": 1}, compact(told_))


def others() -> Iterator[Exchange]:
    host = "api.openai.com"
    usage = {"total_tokens": 25, "input_tokens": 14, "output_tokens": 11}
    model = "gpt-image-1-mini"
    body: Json = {"created": CREATED, "data": [{"b64_json": PIXEL}], "size": "1024x1024", "usage": usage}
    where = ("openai", "images", "POST /v1/images/generations", host, model)
    asked: Json = {"model": model, "prompt": "A red dot"}
    yield Exchange("usage", *where, asked, pretty(body))
    yield Exchange(
        "url",
        *where,
        {**asked, "n": 1},
        pretty({"created": CREATED, "data": [{"url": "https://harbour.example/dot.png"}]}),
    )
    wrong = error(
        "Your request was rejected by the safety system.", "image_generation_user_error", None, "moderation_blocked"
    )
    yield Exchange("error-safety", *where, asked, wrong, 400)
    model = "gpt-4o-mini-transcribe"
    part = b"--edge\r\nContent-Disposition: form-data; name="
    sound = b'"file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n' + base64.b64decode(WAV)
    form = part + b'"model"\r\n\r\n' + model.encode() + b"\r\n" + part + sound + b"\r\n--edge--\r\n"
    sent = {"content-type": "multipart/form-data; boundary=edge"}
    told: Json = {
        "text": "Silence.",
        "usage": {"type": "tokens", "total_tokens": 9, "input_tokens": 7, "output_tokens": 2},
    }
    where = ("openai", "audio", "POST /v1/audio/transcriptions", host, model)
    yield Exchange("transcription", *where, form, compact(told), request_headers=sent)
    told = {"text": "Silence.", "usage": {"type": "duration", "seconds": 1}}
    yield Exchange("transcription-by-time", *where, form, compact(told), request_headers=sent)
    where = ("openai", "audio", "POST /v1/audio/speech", host, "gpt-4o-mini-tts")
    asked = {"model": "gpt-4o-mini-tts", "input": "Hello", "voice": "alloy", "response_format": "wav"}
    found = {"content-type": "audio/wav"}
    yield Exchange("speech", *where, asked, base64.b64decode(WAV), response_headers=found)
    model = "omni-moderation-latest"
    rated = {"flagged": False, "categories": {"violence": False}, "category_scores": {"violence": 0.0004}}
    where = ("openai", "moderations", "POST /v1/moderations", host, model)
    told = {"id": "modr-" + token("moderation", 24), "model": model, "results": [rated]}
    yield Exchange("text", *where, {"model": model, "input": TEXTS[0]}, pretty(told))
    ranks = [{"relevance_score": 0.75, "index": 1}, {"relevance_score": 0.25, "index": 0}]
    asked = {"model": "rerank-2.5-lite", "query": "Where is the lighthouse?", "documents": list(TEXTS)}
    told = {"object": "list", "data": ranks, "model": "rerank-2.5-lite", "usage": {"total_tokens": 26}}
    at = ("voyage", "rerank", "POST /v1/rerank", "api.voyageai.com", "rerank-2.5-lite")
    yield Exchange("two", *at, asked, compact(told))
    asked = {**asked, "model": "rerank-v3.5", "top_n": 1}
    told = {"id": uuid("rerank"), "results": ranks[:1], "meta": {"billed_units": {"search_units": 1}}}
    at = ("cohere", "rerank", "POST /v2/rerank", "api.cohere.com", "rerank-v3.5")
    yield Exchange("top", *at, asked, compact(told))
    row = {"id": "gpt-4.1-mini", "object": "model", "created": CREATED, "owned_by": "system"}
    at = ("openai", "models", "GET /v1/models", host, "")
    yield Exchange("list", *at, b"", pretty({"object": "list", "data": [row]}))


def exchanges() -> Iterator[Exchange]:
    yield from embeddings()
    yield from google_embeddings()
    yield from completions()
    yield from others()

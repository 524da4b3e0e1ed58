"""The OpenAI side of the rehearsal provider, besides chat: legacy completions, images, speech, transcriptions,
moderations; and rerank, as Cohere and Jina have it.

The replies are the smallest valid ones: a picture of one point, a tenth of a second of silence, a sentence about the
request.
"""

from __future__ import annotations

import base64
import struct
import zlib
from collections.abc import Iterator, Mapping
from email import message_from_bytes
from typing import Any

import orjson

from .format import Answer, RequestMeta, Stream, Whole
from .model_output import Prompt, play, words
from .reading import Fields, Refused

DONE = b"data: [DONE]\n\n"
WAV = "audio/wav"

_COMPLETION_FIELDS = (
    *("model", "prompt", "best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "n"),
    *("presence_penalty", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user"),
)
_CATEGORIES = (
    *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
    *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
)


# --- legacy completions


def completions(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/completions"""
    model, text = body.text("model"), body.text("prompt")
    if not meta.script.lenient:
        body.only(*_COMPLETION_FIELDS)
    output = play(
        Prompt(text, tokens=words(text), limit=body.maybe_whole("max_tokens", 1, 1 << 20)), meta.script.tokens
    )
    usage = {
        "prompt_tokens": words(text),
        "completion_tokens": output.tokens,
        "total_tokens": words(text) + output.tokens,
    }
    finish = "length" if output.finish == "length" else "stop"

    def frame(piece: str, reason: str | None, **more: object) -> dict[str, Any]:
        choices = [{"index": 0, "text": piece, "logprobs": None, "finish_reason": reason}]
        common = {"id": f"cmpl-{meta.identity}", "object": "text_completion", "created": meta.now, "model": model}
        return {**common, "choices": choices, **more}

    def events() -> Iterator[bytes]:
        for piece in output.text:
            yield _event(frame(piece, None))
        yield _event(frame("", finish))
        options = body.maybe_nested("stream_options")
        if options is not None and options.flag("include_usage"):
            yield _event({**frame("", None), "choices": [], "usage": usage})

    if body.flag("stream"):
        return Stream(events(), DONE)
    return Whole(orjson.dumps(frame("".join(output.text), finish, usage=usage)))


def _event(value: object) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


# --- images


def images(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/images/generations, and /v1/images/edits and /v1/images/variations as forms"""
    body.text("model")
    count = _number(body, "n") or 1
    if not 1 <= count <= 10:
        raise body.refuse("n", f"{count} is not within 1 and 10", "invalid_value")
    prompt = words(body.maybe_text("prompt") or "")
    usage = {
        "input_tokens": prompt,
        "input_tokens_details": {"text_tokens": prompt, "image_tokens": 0},
        "output_tokens": count,
        "total_tokens": prompt + count,
    }
    data = [{"b64_json": base64.b64encode(_picture()).decode()} for _ in range(count)]
    return Whole(orjson.dumps({"created": meta.now, "data": data, "usage": usage}))


def _picture() -> bytes:
    """A PNG of one grey point."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00\x80")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + parts


# --- audio


def speech(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/audio/speech"""
    del meta
    for name in ("model", "input", "voice"):
        body.text(name)
    samples = bytes(2 * 800)  # a tenth of a second at 8 kHz
    form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 16000, 2, 16)
    data = struct.pack("<4sI", b"data", len(samples)) + samples
    return Whole(b"RIFF" + struct.pack("<I", 4 + len(form) + len(data)) + b"WAVE" + form + data, WAV)


def transcriptions(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/audio/transcriptions and /v1/audio/translations"""
    del meta
    body.text("model")
    size = body.values.get("file")
    if not isinstance(size, int):
        raise body.refuse("file", "this field is required", "missing_required_parameter")
    text = f"You sent {size} bytes of audio."
    if body.maybe_text("response_format") == "text":
        return Whole(f"{text}\n".encode(), "text/plain; charset=utf-8")
    usage = {"type": "tokens", "input_tokens": 1, "output_tokens": words(text), "total_tokens": 1 + words(text)}
    return Whole(orjson.dumps({"text": text, "usage": usage}))


# --- moderations and rerank


def moderations(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/moderations"""
    match body.values.get("input"):
        case str():
            count = 1
        case [_, *_] as inputs:
            count = len(inputs)
        case _:
            raise body.refuse("input", "a string or an array of inputs is expected here", "invalid_type")
    result = {
        "flagged": False,
        "categories": dict.fromkeys(_CATEGORIES, False),
        "category_scores": dict.fromkeys(_CATEGORIES, 0.0),
        "category_applied_input_types": {name: ["text"] for name in _CATEGORIES},
    }
    model = body.maybe_text("model") or "omni-moderation-latest"
    return Whole(orjson.dumps({"id": f"modr-{meta.identity}", "model": model, "results": [result] * count}))


def rerank(body: Fields, meta: RequestMeta) -> Answer:
    """POST /v1/rerank and /v2/rerank: by the words that a document shares with the query"""
    body.text("model")
    query = set(body.text("query").lower().split())
    documents = body.maybe_array("documents") or []
    texts = [str(each.get("text", "")) if isinstance(each, dict) else str(each) for each in documents]
    scores = [len(query & set(text.lower().split())) / (len(query) or 1) for text in texts]
    ranked = sorted(range(len(scores)), key=lambda at: (-scores[at], at))
    most = body.maybe_whole("top_n", 1, 10_000) or len(ranked)
    results = [{"index": at, "relevance_score": scores[at]} for at in ranked[:most]]
    usage = {"billed_units": {"search_units": 1}}
    return Whole(orjson.dumps({"id": meta.identity, "results": results, "meta": usage}))


# --- forms


def read_form(body: bytes, headers: Mapping[str, str]) -> Fields:
    """The fields of a form. A file counts as its number of bytes. Raises Refused."""
    content_type = headers.get("content-type", "")
    message = message_from_bytes(b"content-type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
    if message.get_content_type() != "multipart/form-data" or not message.is_multipart():
        raise Refused("content-type: multipart/form-data is expected here", status=415)
    fields: dict[str, object] = {}
    for part in message.walk():
        name = part.get_param("name", header="content-disposition")
        if not isinstance(name, str):
            continue
        content = part.get_payload(decode=True)
        raw = content if isinstance(content, bytes) else b""
        fields[name] = len(raw) if part.get_filename() is not None else raw.decode(errors="replace")
    return Fields(fields)


def _number(body: Fields, name: str) -> int | None:
    """A number, which a form has as text."""
    value = body.values.get(name)
    return int(value) if isinstance(value, str) and value.isdecimal() else body.maybe_whole(name, 1, 10)

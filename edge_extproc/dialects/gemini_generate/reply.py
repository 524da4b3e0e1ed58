"""Reads and writes complete generateContent replies: candidates, finish reasons and usage."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType

from ...codecs.json_values import TokenCounts, as_object, encode, object_in, text_of
from ...errors import BadRequest
from ...model.content import Audio, FileRef, Image, Inline, Json, Opaque, Part, Refusal, Text, Thinking, ToolCall, Url
from ...model.reply import Choice, Finish, FinishReason, Reply
from ...model.usage import Usage
from ..base import ModelCard
from ..citations import citations_in, grounding
from ..cut_calls import input_of_call, without_cut_calls
from ..failed_finish import reason_of
from ..inline_data import URL_SAFE
from ..logprobs import average, entries_in, gemini_logprobs
from ..wrapped_roots import unwrapped
from .content import (
    CALL,
    MADE_ID,
    PART,
    file_of,
    inline,
    made_id,
    media_type_of,
    opaque,
    sealed,
    signed_by,
    thinking_of,
)
from .fields import NAME, Block, extras_of, names_of, split
from .request_out import FOREIGN_CALL, RESOLUTIONS

# --- replies

# Vertex's numbers of its enum. Its hosts send them for enum-encoding=int.
_FINISH_NUMBERS = (
    "FINISH_REASON_UNSPECIFIED",
    "STOP",
    "MAX_TOKENS",
    "SAFETY",
    "RECITATION",
    "OTHER",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "MALFORMED_FUNCTION_CALL",
    "MODEL_ARMOR",
    "IMAGE_SAFETY",
    "IMAGE_PROHIBITED_CONTENT",
    "IMAGE_RECITATION",
    "IMAGE_OTHER",
    "UNEXPECTED_TOOL_CALL",
    "NO_IMAGE",
)
_FINISHES: Mapping[str, FinishReason] = MappingProxyType(
    {
        "BLOCKLIST": "content_filter",
        "IMAGE_OTHER": "content_filter",
        "IMAGE_PROHIBITED_CONTENT": "content_filter",
        "IMAGE_RECITATION": "content_filter",
        "IMAGE_SAFETY": "content_filter",
        "LANGUAGE": "content_filter",
        "MALFORMED_FUNCTION_CALL": "malformed",
        "MALFORMED_RESPONSE": "malformed",
        "MAX_TOKENS": "length",
        "MISSING_THOUGHT_SIGNATURE": "malformed",
        "MODEL_ARMOR": "content_filter",
        "NO_IMAGE": "content_filter",
        "OTHER": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "RECITATION": "content_filter",
        "SAFETY": "content_filter",
        "SPII": "content_filter",
        "STOP": "stop",
        "TOO_MANY_TOOL_CALLS": "malformed",
        "UNEXPECTED_TOOL_CALL": "malformed",
    }
)
_FINISH_WORDS: Mapping[FinishReason, str] = MappingProxyType(
    {
        "content_filter": "SAFETY",
        "context_window": "MAX_TOKENS",
        "length": "MAX_TOKENS",
        "malformed": "MALFORMED_FUNCTION_CALL",
        "other": "OTHER",
        "pause": "OTHER",
        "refusal": "SAFETY",
        "stop": "STOP",
        "stop_sequence": "STOP",
        "tool_calls": "STOP",
    }
)

REPLY = names_of("candidates", "modelVersion", "responseId")
_CANDIDATE = names_of("content", "finishReason", "index")
_USAGE = names_of(
    "cacheTokensDetails",
    "cachedContentTokenCount",
    "candidatesTokenCount",
    "candidatesTokensDetails",
    "promptTokenCount",
    "promptTokensDetails",
    "thoughtsTokenCount",
    "toolUsePromptTokenCount",
    "toolUsePromptTokensDetails",
    "totalTokenCount",
)
_IMAGE, _AUDIO = ("IMAGE", 2), ("AUDIO", 4)
"""Modalities: the name, and the number in protobuf."""


def read_finish(value: Json, has_calls: bool) -> Finish | None:
    """Gemini sends STOP after calls, too."""
    if value is None:
        return None
    name = value
    if isinstance(value, int):
        name = _FINISH_NUMBERS[value] if 0 <= value < len(_FINISH_NUMBERS) else "UNKNOWN"
    reason = _FINISHES.get(str(name)) or reason_of(str(name))
    return Finish("tool_calls" if reason == "stop" and has_calls else reason, str(value))


def write_finish(finish: Finish | None, *, own: bool) -> Json:
    """A complete reply of another format without a finish reason ended normally."""
    if finish is None:
        return None if own else _FINISH_WORDS["stop"]
    if own and finish.raw is not None:
        return int(finish.raw) if finish.raw.isdecimal() else finish.raw
    return _FINISH_WORDS[finish.reason]


def _tokens_of(modality: tuple[str, int], details: Json, counts: TokenCounts) -> int:
    """The tokens of one modality among those of all."""
    rows = details if isinstance(details, list) else []
    return sum(
        counts.of(row.get("tokenCount", row.get("token_count"))) or 0
        for row in rows
        if isinstance(row, dict) and row.get("modality") in modality
    )


def _new_tokens_of(modality: tuple[str, int], stated: Block, counts: TokenCounts) -> int:
    """The prompt's tokens of one modality that were not read from the cache."""
    prompt = _tokens_of(modality, stated.get("promptTokensDetails"), counts)
    tools = _tokens_of(modality, stated.get("toolUsePromptTokensDetails"), counts)
    return max(prompt + tools - _tokens_of(modality, stated.get("cacheTokensDetails"), counts), 0)


# Google's page on grounding: models before Gemini 3 are charged for a prompt with searches, later ones for each search
# that is not empty.
_CHARGED_BY_PROMPT = re.compile(r"gemini-[12]\b")
_SEARCHES = "GOOGLE_SEARCH_"
"""The tools of search begin with it; `GOOGLE_MAPS` is another tool."""


class SearchCount:
    """The web searches of one reply, as Google charges for them. The grounding metadata lists all of them, in the last
    chunk or in several; a call of the tool shows them before. A reply that ends with calls of functions has no
    metadata."""

    __slots__ = ("_called", "_grounded")

    def __init__(self) -> None:
        self._called = 0
        self._grounded = 0

    def add(self, body: Mapping[str, Json]) -> int:
        """The searches of the reply so far. `body`: the reply, or one chunk of it."""
        listed = body.get("candidates")
        candidates = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
        grounded = sum(_queries(object_in(each, "groundingMetadata").get("webSearchQueries")) for each in candidates)
        self._grounded = max(self._grounded, grounded)
        self._called += sum(_called_queries(part) for each in candidates for part in parts_of(each))
        count = max(self._grounded, self._called)
        return min(count, 1) if _CHARGED_BY_PROMPT.search(text_of(body.get("modelVersion")) or "") else count


def _queries(queries: Json) -> int:
    return sum(isinstance(query, str) and query != "" for query in queries) if isinstance(queries, list) else 0


def _called_queries(part: Block) -> int:
    """The searches that a part begins."""
    call = object_in(part, "toolCall")
    is_search = (text_of(call.get("toolType")) or "").startswith(_SEARCHES)
    return _queries(object_in(call, "args").get("queries")) if is_search else 0


def searches_in(body: Mapping[str, Json]) -> int:
    """The web searches of a complete reply."""
    return SearchCount().add(body)


def read_usage(value: Json, searches: int = 0) -> Usage | None:
    """The usage. None: nothing was counted yet (Vertex sends chunks with only the traffic type)."""
    if not isinstance(value, dict):
        return None
    stated = split(value, _USAGE)[0]
    if not stated:
        return None
    counts = TokenCounts()
    prompt_tokens, tools = counts.of(stated.get("promptTokenCount")), counts.at(stated, "toolUsePromptTokenCount")
    prompt_unknown = prompt_tokens is None or counts.unreadable > 0
    prompt = (prompt_tokens or 0) + tools
    cached = min(counts.at(stated, "cachedContentTokenCount"), prompt)
    audio = min(_new_tokens_of(_AUDIO, stated, counts), prompt - cached)
    image = min(_new_tokens_of(_IMAGE, stated, counts), prompt - cached - audio)
    # Protobuf omits a 0. So a missing count is 0, and a count that cannot be read is unknown.
    answer, thoughts = stated.get("candidatesTokenCount", 0), stated.get("thoughtsTokenCount", 0)
    completion, thought = counts.of(answer), counts.of(thoughts)
    answered = stated.get("candidatesTokensDetails")
    audio_output = min(_tokens_of(_AUDIO, answered, counts), completion or 0)
    image_output = min(_tokens_of(_IMAGE, answered, counts), (completion or 0) - audio_output)
    return Usage(
        input=prompt - cached - audio - image,
        cache_read=cached,
        output=(completion or 0) - audio_output - image_output,
        reasoning=thought or 0,
        input_audio=audio,
        output_audio=audio_output,
        input_image=image,
        output_image=image_output,
        prompt_unknown=prompt_unknown,
        completion_unknown=completion is None or thought is None,
        unreadable=counts.unreadable,
        searches=searches,
    )


def write_usage(usage: Usage) -> Block:
    answer = usage.output + usage.output_audio + usage.output_image
    body: Block = {
        "promptTokenCount": usage.prompt,
        "candidatesTokenCount": answer,
        "totalTokenCount": usage.total,
    }
    if usage.cache_read:
        body["cachedContentTokenCount"] = usage.cache_read
    if usage.reasoning:
        body["thoughtsTokenCount"] = usage.reasoning
    for name, total, audio, image in (
        ("promptTokensDetails", usage.prompt, usage.input_audio, usage.input_image),
        ("candidatesTokensDetails", answer, usage.output_audio, usage.output_image),
    ):
        if audio or image:
            rows = (("TEXT", total - audio - image), ("AUDIO", audio), ("IMAGE", image))
            body[name] = [{"modality": modality, "tokenCount": count} for modality, count in rows if count]
    return body


def _answered_media(known: Block, rest: Block, signature: str | None) -> Image | Audio | None:
    """An image or audio of the reply. Those in thoughts are drafts, and stay unchanged."""
    if known.keys() - {"inlineData", "fileData", "thoughtSignature", "mediaResolution"}:
        return None
    if (resolution := known.get("mediaResolution")) is not None:
        rest = {**rest, "mediaResolution": resolution}
    extras = signed_by(rest, signature)
    try:
        match known:
            case {"inlineData": dict(blob), **others} if "fileData" not in others:
                part = inline(blob, extras, "")
            case {"fileData": dict(file)}:
                part = file_of(file, extras, "")
            case _:
                return None
    except BadRequest:  # media without a type or without data
        return None
    return part if isinstance(part, Image | Audio) else None


class ReplyAssembly:
    """The fields of a reply that belong to all candidates and, in a stream, to all chunks."""

    def __init__(self) -> None:
        self.id: str | None = None
        self._calls = 0

    def part(self, value: Block) -> Part:
        """Never raises BadRequest: an invalid part stays unchanged."""
        known, rest = split(value, PART)
        signature = known.get("thoughtSignature")
        signature = text_of(signature)
        if (media := _answered_media(known, rest, signature)) is not None:
            return media
        if known.keys() - {"text", "functionCall", "thought", "thoughtSignature"}:
            return opaque(value, "")
        match known:
            case {"text": str(text), "thought": True} if "functionCall" not in known:
                return thinking_of(text, signature, rest, "")
            case {"text": str(text)} if "functionCall" not in known:
                return Text(text, extras=signed_by(rest, signature))
            case {"functionCall": dict(call)} if "text" not in known:
                return self._call(call, signature, rest) or opaque(value, "")
        return opaque(value, "")

    def _call(self, call: Block, signature: str | None, rest: Block) -> Part | None:
        """The call. None: its arguments come in pieces, which only a caller that requested this can join."""
        known, others = split(call, CALL)
        name, id, arguments_value = known.get("name"), known.get("id"), known.get("args")
        if others or not isinstance(name, str) or not isinstance(arguments_value, dict | None):
            return None
        arguments = "" if arguments_value is None else encode(arguments_value).decode()
        call_id = made_id(self._calls, self.id or "", name, arguments)
        self._calls += 1
        return ToolCall(
            id if isinstance(id, str) and id else call_id, name, arguments, signature=signature, extras=extras_of(rest)
        )


def is_call(part: Part) -> bool:
    return isinstance(part, ToolCall) or (isinstance(part, Opaque) and part.kind in ("functionCall", "function_call"))


def parts_of(candidate: Block) -> list[Block]:
    content = candidate.get("content")
    parts = content.get("parts") if isinstance(content, dict) else None
    parts = [parts] if isinstance(parts, dict) else parts
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def candidates_of(body: Block) -> list[tuple[int, Block, Block]]:
    """The number, the known fields and the remaining fields of each candidate."""
    listed = body.get("candidates")
    candidates = []
    for position, candidate in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(candidate, dict):
            known, rest = split(candidate, _CANDIDATE)
            index = known.get("index")
            candidates.append((index if isinstance(index, int) else position, known, rest))
    return candidates


def blocked_by(body: Mapping[str, Json]) -> Finish | None:
    """The reason of a refused prompt, which has no candidates."""
    feedback = body.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    return None if reason is None else Finish("content_filter", str(reason))


def created_at(value: Json) -> int | None:
    try:
        return int(datetime.fromisoformat(value).timestamp()) if isinstance(value, str) else None
    except ValueError:
        return None


# The same signature for replies of other dialects' models, in base64 as every SDK decodes it. A Gemini 3 model then
# accepts a history with their calls.
_FOREIGN_SIGNATURE = base64.b64encode(FOREIGN_CALL.encode()).decode()


def base64_of(signature: str | None) -> Block:
    """Signatures are bytes in this format. One that is not base64 is dropped, because SDKs could not decode it."""
    try:
        base64.b64decode((signature or "").translate(URL_SAFE), validate=True)
    except (binascii.Error, ValueError):
        return {}
    return {"thoughtSignature": signature} if signature else {}


class Candidates:
    """Writes the parts of a reply's candidates."""

    def __init__(self, *, own: bool, any_root: bool = False) -> None:
        """`any_root`: a text of another format is within an object."""
        self._own = own
        self._any_root = any_root
        self._called: set[int] = set()
        """The candidates with a function call."""

    def part(self, part: Part, choice: int) -> Block | None:
        """None: the part has no place in this format."""
        extras = dict(part.extras) if self._own and not isinstance(part, Opaque) else {}
        match part:
            case Text():
                return {"text": unwrapped(part.text) if self._any_root else part.text, **extras}
            case Refusal():
                return {"text": part.text}
            case Thinking():
                return {"text": part.text, "thought": True, **sealed(part.signature), **extras}
            case ToolCall():
                return {**self._call(part, choice), **extras}
            case Image() | Audio():
                return _written_media(part, own=self._own)
            case Opaque() if part.dialect == NAME and isinstance(part.value, dict):
                return part.value
            case _:
                return None

    def _call(self, part: ToolCall, choice: int) -> Block:
        call: Block = {"name": part.name}
        if part.id and not MADE_ID.fullmatch(part.id):
            call["id"] = part.id
        if part.arguments or not self._own:
            call["args"] = input_of_call(part)
        signature = part.signature
        if not self._own and choice not in self._called and signature is None:
            signature = _FOREIGN_SIGNATURE
        self._called.add(choice)
        return {"functionCall": call, **base64_of(signature)}


def _written_media(part: Image | Audio, *, own: bool) -> Block:
    """`own`: the reply is of this format, and keeps all its fields."""
    extras = dict(part.extras) if own else {}
    detail = RESOLUTIONS.get(part.detail or "") if own and isinstance(part, Image) else None
    if detail is not None:
        extras["mediaResolution"] = {"level": detail}
    match part.source:
        case Inline(media_type, data):
            blob = as_object(extras.pop("inlineData", {}), "inlineData")
            return {"inlineData": {"mimeType": media_type, "data": data, **blob}, **extras}
        case Url(url, media_type):
            usual = "image/jpeg" if isinstance(part, Image) else "audio/wav"
            kind = media_type or (None if own else media_type_of(url) or usual)
            typed = {"mimeType": kind} if kind else {}
            return {"fileData": {"fileUri": url, **typed, **_file_extras(extras)}, **extras}
        case FileRef(id):
            return {"fileData": {"fileUri": id, **_file_extras(extras)}, **extras}


def _file_extras(extras: Block) -> Block:
    """Separates the fields of fileData from those of the part."""
    return as_object(extras.pop("fileData", {}), "fileData")


_YEAR_10000 = 253_402_300_800


def envelope(id: str | None, model: str | None, created: int | None) -> Block:
    fields: Block = {}
    if model is not None:
        fields["modelVersion"] = model
    if id is not None:
        fields["responseId"] = id
    if created is not None and 0 < created < _YEAR_10000:  # some hosts send 0 or milliseconds
        fields["createTime"] = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return fields


def candidate_of(index: int | None, parts: Iterable[Block], finish: Json, extras: Mapping[str, Json]) -> Block:
    blocks = list(parts)
    candidate: Block = {"content": {"role": "model", **({"parts": blocks} if blocks else {})}}
    if finish is not None:
        candidate["finishReason"] = finish
    if index is not None:
        candidate["index"] = index
    return {**candidate, **extras}


def _sources(choice: Choice) -> Block:
    """The sources that another format's reply cites."""
    cited = [each for part in choice.parts if isinstance(part, Text) for each in citations_in(part.extras)]
    found = tuple(dict.fromkeys((*cited, *citations_in(choice.extras))))
    return {"groundingMetadata": grounding(found)} if found else {}


def _probabilities(choice: Choice) -> Block:
    """The probabilities of the tokens of another format's reply."""
    entries = entries_in(choice.extras)
    return {"logprobsResult": gemini_logprobs(entries), "avgLogprobs": average(entries)} if entries else {}


def write_reply(reply: Reply, *, any_root: bool = False) -> bytes:
    """`any_root`: the caller's schema has a root that is no object, and the provider got an object around it."""
    own = reply.dialect == NAME
    extras = dict(reply.extras) if own else {}
    body: Block = {}
    if not (own and "promptFeedback" in extras and all(not choice.parts for choice in reply.choices)):
        writing = Candidates(own=own, any_root=any_root)
        body["candidates"] = [
            candidate_of(
                None if own else index,
                (block for part in choice.parts if (block := writing.part(part, index)) is not None),
                write_finish(choice.finish, own=own),
                choice.extras if own else {**_sources(choice), **_probabilities(choice)},
            )
            for index, choice in enumerate(reply.choices if own else map(without_cut_calls, reply.choices))
        ]
    if reply.usage is not None:
        body["usageMetadata"] = write_usage(reply.usage)
    return encode({**body, **envelope(reply.id, reply.model, reply.created), **extras})


# --- models


def model_row(card: ModelCard) -> Block:
    return {
        "name": f"models/{card.id}",
        "baseModelId": card.id,
        "version": card.id,
        "displayName": card.id,
        "description": f"Served by {card.owned_by}",
        "supportedGenerationMethods": ["generateContent", "streamGenerateContent"],
    }

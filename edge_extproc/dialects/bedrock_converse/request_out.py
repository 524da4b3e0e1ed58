"""Writes a Chat as a Converse request."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import assert_never

import msgspec

from ...codecs.json_values import as_object, encode
from ...errors import BadRequest, Unsupported
from ...model.call import Chat, FunctionTool, ResponseFormat, ToolChoice
from ...model.content import (
    Audio,
    CacheMark,
    Document,
    FileRef,
    Image,
    Inline,
    Json,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Source,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from ..carried import tool_id
from ..claude import LEAST_TOP_P_WITH_THINKING
from ..dropping import tools_of
from ..inline_data import type_of_image
from ..schemas import output_schema, strict_schema
from ..turns import FORCED, NO_PARAMETERS, BlockKind, RoleGroup, Translation, is_explicit, schema_of
from .content import (
    AUDIO_TYPES,
    DOCUMENT_TYPES,
    IMAGE_TYPES,
    cache_point,
    format_of,
    thinking_block,
    write_redacted,
)
from .fields import MORE, SCALARS, TITLE, Block
from .models import LEVELS, family_of

_WRITE_CHOICE: Mapping[str, str] = MappingProxyType({"auto": "auto", "required": "any", "tool": "tool"})


def _choice(choice: ToolChoice) -> Block | None:
    """None for `none`, which this format lacks."""
    if choice.mode == "none":
        return None
    return {_WRITE_CHOICE[choice.mode]: {"name": choice.name} if choice.mode == "tool" else {}}


def _tool_spec(tool: FunctionTool, schema: Json) -> Block:
    spec: Block = {"name": tool.name}
    if tool.description:
        spec["description"] = tool.description
    spec["inputSchema"] = {"json": schema}
    return spec


def _json_schema(response_format: ResponseFormat, schema: Json) -> Block:
    labels = {"name": response_format.name, "description": response_format.description}
    structure = {
        "schema": encode(schema).decode(),
        **{key: value for key, value in labels.items() if value is not None},
    }
    return {"type": "json_schema", "structure": {"jsonSchema": structure}}


def _nested(path: tuple[str, ...], value: Json) -> Block:
    for key in reversed(path):
        value = {key: value}
    return as_object(value, ".".join(path))


def _merge(into: Block, more: Mapping[str, Json]) -> None:
    """Merges `more` into the object by key."""
    for key, value in more.items():
        before = into.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            merged = dict(before)
            _merge(merged, value)
            into[key] = merged
        else:
            into[key] = value


# What a document may be called: the user guide's page on the Converse API.
_NOT_IN_DOCUMENT_NAME = re.compile(r"[^\w\s\-()\[\]]|_", re.ASCII)
_LONGEST_DOCUMENT_NAME = 200
_TIERS = frozenset({"default", "flex", "priority", "reserved"})
_TIER_WORDS: Mapping[str, str] = MappingProxyType({"standard_only": "default"})
# requestMetadata in the service model.
_METADATA_KEY = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{1,256}", re.ASCII)
_METADATA_VALUE = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,.-]{0,256}", re.ASCII)
_MOST_METADATA = 16
_PDF = "application/pdf"


class _Piece(msgspec.Struct):
    """A block, and the cachePoint after it."""

    block: Block
    mark: CacheMark | None = None


def _blocks(pieces: Iterable[_Piece], *, marked: bool = True) -> list[Block]:
    blocks: list[Block] = []
    for piece in pieces:
        blocks.append(piece.block)
        if marked and piece.mark is not None:
            blocks.append(cache_point(piece.mark))
    return blocks


_KINDS: Mapping[str, BlockKind] = MappingProxyType(
    {"text": "text", "reasoningContent": "thinking", "toolUse": "call", "toolResult": "result"}
)


class RequestWriter(Translation[_Piece]):
    """The translation of one chat of another dialect."""

    title = TITLE

    def __init__(self, chat: Chat, model: str) -> None:
        super().__init__(chat, model)
        self.family = family_of(model)
        self.is_claude = self.family.reasoning == "claude"
        self.more: Block = {}
        """additionalModelRequestFields"""
        self._documents = 0

    def body(self) -> Block:
        chat = self.chat
        self._refuse()
        system, groups = self._conversation()
        body: Block = {}
        if system:
            body["system"] = _blocks(system, marked="system" in self.family.caches)
        marked = "messages" in self.family.caches
        body["messages"] = [{"role": group.role, "content": _blocks(group.blocks, marked=marked)} for group in groups]
        inference: Block = {}
        self._write_scalars(SCALARS, chat, inference)
        stop = [s for s in chat.stop if s.strip()]
        self._drop_field("stop", len(stop) < len(chat.stop))
        if stop:
            inference["stopSequences"] = stop
        thinking = self._reasoning(inference, groups)
        self._sampling(inference, thinking)
        if inference:
            body["inferenceConfig"] = inference
        if config := self._tool_config(groups, thinking):
            body["toolConfig"] = config
        if stop and self.is_claude:
            # Converse does not tell which sequence was met; Claude does.
            body["additionalModelResponseFieldPaths"] = ["/stop_sequence"]
        self._format(body)
        self._account(body)
        if self.more:
            body[MORE] = self.more
        return body

    # fields

    def _account(self, body: Block) -> None:
        """The end user and the service tier; drops fields without a place."""
        chat = self.chat
        self._drop_field("user", chat.user)
        if chat.service_tier not in (None, "auto"):
            tier = _TIER_WORDS.get(str(chat.service_tier), str(chat.service_tier))
            if tier in _TIERS:
                body["serviceTier"] = {"type": tier}
            self._drop_field("service_tier", tier not in _TIERS)
        if chat.metadata:
            if _is_metadata(chat.metadata):
                body["requestMetadata"] = dict(chat.metadata)
            else:
                self._drop_field("metadata", True)
        self._drop_placeless()

    def _sampling(self, inference: Block, thinking: bool) -> None:
        """What the models of the service model take: 0 to 1 of each. Claude has rules of its own."""
        chat = self.chat
        sampling = self.generation.sampling if self.is_claude else "any"
        if sampling == "none" or thinking:
            self._claude_sampling(inference, thinking)
            return
        for name in ("temperature", "top_p"):
            value = getattr(chat, name)
            if value is not None and not 0 <= value <= 1:
                path = self.spelling.field(name)
                raise BadRequest(f"{path} is {value!r}; {TITLE} accepts 0 to 1", param=path)
        if sampling == "one" and chat.temperature is not None and inference.pop("topP", None) is not None:
            self._drop_field("top_p", True)
        if chat.top_k is not None:
            self._drop_field("top_k", not self.family.top_k)
            if self.family.top_k:
                _merge(self.more, _nested(self.family.top_k, chat.top_k))

    def _claude_sampling(self, inference: Block, thinking: bool) -> None:
        """Claude's rules for sampling settings, with thinking or without support for them."""
        chat = self.chat
        keeps_top_p = self.generation.sampling != "none" and (chat.top_p or 0) >= LEAST_TOP_P_WITH_THINKING
        inference.pop("temperature", None)
        # 1 is what the temperature is anyway.
        self._drop_field("temperature", chat.temperature not in (None, 1))
        if chat.top_p is not None and not (thinking and keeps_top_p):
            del inference["topP"]
            self._drop_field("top_p", True)
        self._drop_field("top_k", chat.top_k is not None)

    def _format(self, body: Block) -> None:
        response_format = self.chat.response_format
        # The prompt asks for an object without a schema (crossing.py).
        if response_format is None or response_format.kind != "json_schema":
            return
        if self.is_claude and not self.generation.schemas:
            raise Unsupported(
                self.spelling.field("response_format"), TITLE, f"{self.model!r} has no structured outputs"
            )
        schema = as_object(response_format.schema, self.spelling.field("response_format.schema"))
        self._drop_field("response_format.strict", response_format.strict is False)
        accepted, lost = output_schema(schema, self.spelling.field("response_format.schema"))
        self.dropped.update(lost)
        body["outputConfig"] = {"textFormat": _json_schema(response_format, accepted)}

    # thinking

    def _reasoning(self, inference: Block, groups: list[RoleGroup[_Piece]]) -> bool:
        """Whether a Claude uses thinking, which restricts other settings."""
        reasoning = self.chat.reasoning
        if reasoning is None:
            return False
        explicit, spelled = is_explicit(reasoning), self._reasoning_path(reasoning)
        is_off = reasoning.mode == "disabled" or (reasoning.effort == "none" and not explicit)
        # Groq's word for what is anyway
        effort = None if reasoning.effort in (None, "", "default", "none") else reasoning.effort
        self._check_effort(effort)
        if effort is None and not explicit and not is_off:
            return False
        if self.is_claude:
            if is_off:
                self._disable_thinking(reasoning, self.more)
                return False
            return self._enable_thinking(reasoning, effort, self.more, inference, "maxTokens", groups)
        self._drop_extras(reasoning.extras, self.spelling.field("reasoning"))
        if is_off:
            # What others do unasked cannot be switched off by a field that all of them take.
            self._drop_if(spelled, self.family.reasoning in ("effort", "config"))
            return False
        level = LEVELS[effort or "medium"]
        has_budget = reasoning.budget_tokens is not None and self.family.reasoning != "none"
        self._drop_field("reasoning.budget_tokens", has_budget)
        match self.family.reasoning:
            case "nova":
                # AWS's guide on extended thinking: at high effort, none of these settings may be there. A limit of the
                # caller is more important than the level.
                if level == "high" and "maxTokens" in inference:
                    level = LEVELS["medium"]
                for name, field in (("temperature", "temperature"), ("topP", "top_p")) if level == "high" else ():
                    self._drop_field(field, inference.pop(name, None) is not None)
                self.more["reasoningConfig"] = {"type": "enabled", "maxReasoningEffort": level}
            case "effort":
                self.more["reasoning_effort"] = level
            case "config":
                self.more["reasoning_config"] = level
            case _:
                self.dropped.add(spelled)
        return False

    # tools

    def _tool_config(self, groups: list[RoleGroup[_Piece]], thinking: bool) -> Block:
        chat = self.chat
        names = [
            str(use["name"])
            for group in groups
            for p in group.blocks
            if isinstance(use := p.block.get("toolUse"), dict)
        ]
        has_history = bool(names) or any("toolResult" in p.block for group in groups for p in group.blocks)
        choice, single = chat.tool_choice, chat.parallel_tool_calls is False
        if not chat.tools:
            self._drop_field("tool_choice", choice is not None and choice.mode in FORCED)
            self._drop_field("parallel_tool_calls", single)
            if not names:
                return {}
            # Tool calls in the history want their tools; one that is not offered any more may not be called again.
            if self.is_claude:
                self.more["tool_choice"] = {"type": "none"}
            stubs = [FunctionTool(name) for name in dict.fromkeys(names)]
            return {"tools": [{"toolSpec": _tool_spec(stub, dict(NO_PARAMETERS))} for stub in stubs]}
        tools = self._tools()
        if choice is not None and choice.mode == "none":
            self._drop_field("parallel_tool_calls", single)
            if not has_history:
                return {}
            self._drop_field("tool_choice", not self.is_claude)
            if self.is_claude:
                self.more["tool_choice"] = {"type": "none"}
            return {"tools": tools}
        if choice is not None and choice.mode in FORCED and thinking:
            self._drop_field("tool_choice", True)
            choice = ToolChoice("auto")
        if single and self.is_claude:
            self.more["tool_choice"] = _claude_choice(choice or ToolChoice("auto"))
            return {"tools": tools}
        self._drop_field("parallel_tool_calls", single)
        choice_block = None if choice is None else _choice(choice)
        return {"tools": tools} if choice_block is None else {"tools": tools, "toolChoice": choice_block}

    def _tools(self) -> list[Block]:
        tools: list[Block] = []
        for path, tool in tools_of(self.chat.tools):
            if isinstance(tool, Opaque):
                raise Unsupported(path, TITLE, f"the format has no tool of type {tool.kind!r}")
            where = self._member(path, "parameters")
            schema = self._uncombined(schema_of(tool.parameters, where), where)
            takes_strict = self.is_claude and self.generation.schemas
            held = strict_schema(schema) if tool.strict and takes_strict else None
            spec = _tool_spec(tool, schema if held is None else held)
            if takes_strict and (held is not None or tool.strict is False):
                spec["strict"] = tool.strict
            self._drop_member(path, "strict", tool.strict and held is None)
            self._drop_extras(tool.extras, path)
            tools.append({"toolSpec": spec})
            if self._caches("tools", tool.cache, path):
                tools.append(cache_point(tool.cache or CacheMark()))
        return tools

    def _caches(self, place: str, mark: CacheMark | None, path: str) -> bool:
        """Whether a cache mark is sent. One that the model does not accept there is dropped."""
        if place not in self.family.caches:
            self._drop_mark(mark, path)
        return mark is not None and place in self.family.caches

    # the conversation

    def _plain(self, text: str) -> _Piece:
        return _Piece({"text": text})

    def _kind(self, block: _Piece) -> BlockKind:
        return _KINDS.get(next(iter(block.block)), "media")

    def _strip(self, block: _Piece) -> None:
        block.block["text"] = str(block.block["text"]).rstrip()

    def _block(self, part: Part, path: str) -> _Piece | None:
        """None: the part is dropped."""
        if not isinstance(part, Opaque):
            self._drop_extras(part.extras, path)
            # A family that caches at all does so in the conversation and in the system prompt.
            self._caches("messages", getattr(part, "cache", None), path)
        match part:
            case Text():
                return self._text_piece(part.text, part.cache, path)
            case Refusal():
                return self._text_piece(part.text, None, path)
            case Image():
                self._drop_member(path, "detail", part.detail not in (None, "auto"))
                return _Piece(self._image(part.source, path), part.cache)
            case Document():
                return _Piece(self._document(part, path), part.cache)
            case Audio():
                return _Piece(self._audio(part.source, path))
            case Thinking():
                if not part.signature or not self.is_claude:
                    # A Claude takes what it signed. Whether other models take reasoning of another one is not known.
                    self.dropped.add(path)
                    return None
                return _Piece(thinking_block(part))
            case RedactedThinking() if not self.is_claude:
                self.dropped.add(path)
                return None
            case RedactedThinking():
                return _Piece({"reasoningContent": {"redactedContent": write_redacted(part.data)}})
            case ToolCall():
                return _Piece(self._tool_use(part, path), part.cache)
            case ToolResult():
                return self._tool_result(part, path)
            case Opaque():
                raise Unsupported(path, TITLE, f"the format has no part of type {part.kind!r}")
            case _:
                assert_never(part)

    def _text_piece(self, text: str, cache: CacheMark | None, path: str) -> _Piece | None:
        """Drops empty text and text of only white space, which Bedrock refuses."""
        if text and not text.isspace():
            return _Piece({"text": text}, cache)
        self._drop_if(path, text)
        return None

    def _inline(self, source: Source, path: str) -> Inline:
        match source:
            case Inline():
                return source
            case Url():
                raise Unsupported(
                    path, TITLE, "the API does not fetch URLs; send the bytes, for example as a data: URL"
                )
            case FileRef():
                raise Unsupported(path, TITLE, "the file was uploaded to another provider")
            case _:
                assert_never(source)

    def _image(self, source: Source, path: str) -> Block:
        inline = self._inline(source, path)
        media_type = type_of_image(inline.media_type, inline.data)
        if media_type == _PDF:
            return self._document_block("pdf", None, inline.data)
        format = format_of(IMAGE_TYPES, media_type)
        if format is None:
            raise BadRequest(
                f"{path} is {inline.media_type!r}; {TITLE} accepts {', '.join(IMAGE_TYPES.values())} and PDF",
                param=path,
            )
        return {"image": {"format": format, "source": {"bytes": inline.data}}}

    def _document(self, part: Document, path: str) -> Block:
        inline = self._inline(part.source, path)
        media_type = inline.media_type.lower().partition(";")[0].strip()
        format = format_of(DOCUMENT_TYPES, media_type)
        if format is None and media_type.startswith("text/"):
            format = "txt"
        if format is None:
            raise BadRequest(
                f"{path} is {inline.media_type!r}; {TITLE} accepts {', '.join(DOCUMENT_TYPES)}", param=path
            )
        return self._document_block(format, part.name, inline.data)

    def _document_block(self, format: str, name: str | None, data: str) -> Block:
        """Gives each document a unique name."""
        self._documents += 1
        clean = " ".join(_NOT_IN_DOCUMENT_NAME.sub("-", name or "").split())[: _LONGEST_DOCUMENT_NAME - 8].strip()
        unique = f"{clean} {self._documents}" if clean and self._documents > 1 else clean
        name = unique or f"document {self._documents}"
        return {"document": {"format": format, "name": name, "source": {"bytes": data}}}

    def _audio(self, source: Source, path: str) -> Block:
        inline = self._inline(source, path)
        kind = inline.media_type.lower()
        format = format_of(AUDIO_TYPES, {"audio/mp3": "audio/mpeg", "audio/x-wav": "audio/wav"}.get(kind, kind))
        if format is None:
            raise BadRequest(f"{path} is {inline.media_type!r}; {TITLE} accepts {', '.join(AUDIO_TYPES)}", param=path)
        return {"audio": {"format": format, "source": {"bytes": inline.data}}}

    def _tool_use(self, part: ToolCall, path: str) -> Block:
        arguments = self._arguments_of_call(part, path)
        return {"toolUse": {"toolUseId": tool_id(part.id), "name": part.name, "input": arguments}}

    def _tool_result(self, part: ToolResult, path: str) -> _Piece:
        """Moves a cache mark within a tool result behind the result, because there is none inside."""
        call_id, inner = self._call_id_and_blocks(part, path)
        result: Block = {"toolUseId": call_id, "content": [piece.block for piece in inner]}
        if part.is_error and self.family.takes_status:
            result["status"] = "error"
        self._drop_if(f"{path}.{self.chat.spelling.member('is_error')}", part.is_error and not self.family.takes_status)
        mark = part.cache or next((piece.mark for piece in reversed(inner) if piece.mark is not None), None)
        return _Piece({"toolResult": result}, mark)


def _claude_choice(choice: ToolChoice) -> Block:
    block: Block = {"type": _WRITE_CHOICE[choice.mode], "disable_parallel_tool_use": True}
    if choice.mode == "tool":
        block["name"] = choice.name
    return block


def _is_metadata(metadata: Mapping[str, Json]) -> bool:
    return len(metadata) <= _MOST_METADATA and all(
        _METADATA_KEY.fullmatch(key) and isinstance(value, str) and _METADATA_VALUE.fullmatch(value)
        for key, value in metadata.items()
    )

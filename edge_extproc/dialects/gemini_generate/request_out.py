"""Writes a Chat as a generateContent request."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import assert_never

from ...codecs.json_values import as_object
from ...codecs.openapi_schema import SchemaError, to_openapi
from ...errors import BadRequest, Unsupported
from ...model.call import Chat, FunctionTool, HostedTool, Reasoning, ResponseFormat
from ...model.content import (
    Audio,
    Document,
    FileRef,
    Image,
    Inline,
    Json,
    Message,
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
    plain_text,
)
from ..dropping import DropList, messages_of, parts_of, tools_of
from ..hosted_tools import for_gemini
from ..inline_data import type_of_image
from ..turns import object_of
from .content import DETAILS, GOOGLES_FILE, JSON_TYPE, MADE_ID, TIERS, as_one_object, media_type_of
from .fields import MOST_STOPS, SCALARS, TITLE, Block
from .models import BUDGET_TO_EFFORT, generation_of

# --- writing a request

# Google documents it for calls that another model made: base64 of it is no signature, and no host checks it.
FOREIGN_CALL = "skip_thought_signature_validator"
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/heic", "image/heif"})
RESOLUTIONS: Mapping[str, str] = MappingProxyType({**DETAILS, "medium": "MEDIA_RESOLUTION_MEDIUM"})
_WRITE_MODES: Mapping[str, str] = MappingProxyType({"auto": "AUTO", "required": "ANY", "none": "NONE", "tool": "ANY"})

_REASONING_READ = frozenset({"display", "summary", "generate_summary"})
"""The value of includeThoughts."""


class RequestWriter(DropList):
    """Writes one chat of another dialect. `dropped` collects the dropped fields."""

    def __init__(self, chat: Chat, model: str) -> None:
        super().__init__(chat)
        self._chat = chat
        self._generation = generation_of(model)
        self._names: dict[str, str] = {}
        """The function name of each earlier call, by the call's id."""

    def body(self) -> Block:
        chat = self._chat
        self._refuse()
        body = self._conversation()
        if tools := self._tools():
            body["tools"] = tools
        if chat.tool_choice is not None and tools:
            calling: Block = {"mode": _WRITE_MODES[chat.tool_choice.mode]}
            if chat.tool_choice.name is not None:
                calling["allowedFunctionNames"] = [chat.tool_choice.name]
            body["toolConfig"] = {"functionCallingConfig": calling}
        self._drop_field("tool_choice", chat.tool_choice is not None and "toolConfig" not in body)
        if config := self._config():
            body["generationConfig"] = config
        if (tier := TIERS.get(chat.service_tier or "")) is not None:
            body["serviceTier"] = tier
        self._drop_field("service_tier", chat.service_tier not in (None, "auto", *TIERS))
        self._drop_field("parallel_tool_calls", chat.parallel_tool_calls is False)
        self._drop_field("user", chat.user is not None)
        self._drop_field("metadata", chat.metadata)
        self._drop_extras(chat.extras, "")
        return body

    def _refuse(self) -> None:
        for name in self._chat.needed:
            raise Unsupported(name, TITLE)
        self._refuse_essential(self._chat, TITLE)
        if len(self._chat.stop) > MOST_STOPS:
            stop = self.spelling.field("stop")
            raise BadRequest(f"{stop} has {len(self._chat.stop)} strings; {TITLE} accepts {MOST_STOPS}", param=stop)

    # the conversation

    def _conversation(self) -> Block:
        body: Block = {}
        system: list[Block] = []
        contents: list[tuple[str, list[Block]]] = []
        for path, message in messages_of(self._chat):
            if (text := plain_text(message)) is not None:
                parts: list[Block] = [{"text": text}] if text else []
            else:
                self._drop_if(f"{path}.name", message.name)
                self._drop_extras(message.extras, path)
                parts = self._parts(message, path)
            match message.role:
                case "system" | "developer":
                    system += parts
                case "assistant":
                    self._append(contents, "model", parts)
                case "user" | "tool":
                    self._append(contents, "user", parts)
                case _:
                    assert_never(message.role)
        if not contents:
            path = self.spelling.field("messages")
            raise BadRequest(f"{path} has no user message; {TITLE} requires one", param=path)
        for role, parts in contents:
            self._settle(role, parts)
        body["contents"] = [{"role": role, "parts": parts} for role, parts in contents]
        if system:
            body["systemInstruction"] = {"parts": system}
        return body

    def _append(self, contents: list[tuple[str, list[Block]]], role: str, parts: list[Block]) -> None:
        if contents and contents[-1][0] == role:
            contents[-1][1].extend(parts)
        elif parts:
            contents.append((role, parts))

    def _settle(self, role: str, parts: list[Block]) -> None:
        """A turn in Google's order: results first, and a signature on the first call."""
        if role == "user":
            parts.sort(key=lambda part: "functionResponse" not in part)
        elif self._generation.is_third:
            first = next((part for part in parts if "functionCall" in part), None)
            if first is not None:
                first.setdefault("thoughtSignature", FOREIGN_CALL)

    def _parts(self, message: Message, path: str) -> list[Block]:
        in_system = message.role in ("system", "developer")
        located = parts_of(message.parts, path)
        return [block for where, part in located for block in self._part(part, where, in_system=in_system)]

    def _part(self, part: Part, path: str, *, in_system: bool = False) -> list[Block]:
        """None for what is left out, and several for a result whose images have no place in it."""
        if isinstance(part, Opaque):
            raise Unsupported(path, TITLE, f"the format has no part of type {part.kind!r}")
        if in_system and not isinstance(part, Text | Refusal):
            raise Unsupported(path, TITLE, "the system instruction can contain only text")
        self._drop_mark(getattr(part, "cache", None), path)
        self._drop_extras(part.extras, path)
        block: Block
        match part:
            case Text():
                if not part.text:
                    return []
                block = {"text": part.text}
            case Image():
                image = self._image(part, path)
                if image is None:
                    return []
                block = image
            case Document():
                block = self._source(part.source, "application/pdf", path)
                self._drop_name(part, path, part.name is not None)
            case Audio():
                block = self._source(part.source, "audio/wav", path)
            case Thinking() | RedactedThinking() | Refusal():
                self.dropped.add(path)
                return []
            case ToolCall():
                block = self._call(part, path)
            case ToolResult():
                return self._result(part, path)
            case _:
                assert_never(part)
        return [block]

    def _image(self, part: Image, path: str) -> Block | None:
        source = part.source
        if isinstance(source, Url) and not source.url:
            self.dropped.add(path)
            return None
        if isinstance(source, Inline):
            media_type = type_of_image(source.media_type, source.data)
            if media_type not in (*_IMAGES, "application/pdf"):
                raise BadRequest(
                    f"{path} is {source.media_type!r}; {TITLE} accepts {', '.join(sorted(_IMAGES))} and PDF", param=path
                )
            source = Inline(media_type, source.data)
        block = self._source(source, "image/jpeg", path)
        if part.detail in (None, "auto"):
            return block
        resolution = RESOLUTIONS.get(part.detail or "")
        if resolution is None:
            where = self._member(path, "detail")
            raise BadRequest(f"{where} is {part.detail!r}; use auto, {', '.join(RESOLUTIONS)}", param=where)
        if self._generation.is_third:
            block["mediaResolution"] = {"level": resolution}
        else:
            self._drop_member(path, "detail", True)
        return block

    @staticmethod
    def _source(source: Source, usual: str, path: str) -> Block:
        """inlineData or fileData."""
        match source:
            case Inline():
                return {"inlineData": {"mimeType": source.media_type, "data": source.data}}
            case Url():
                media_type = source.media_type or media_type_of(source.url) or usual
                return {"fileData": {"fileUri": source.url, "mimeType": media_type}}
            case FileRef():
                if not GOOGLES_FILE.match(source.id):
                    raise Unsupported(path, TITLE, "the file was uploaded to another provider")
                return {"fileData": {"fileUri": source.id, "mimeType": usual}}
            case _:
                assert_never(source)

    def _call(self, part: ToolCall, path: str) -> Block:
        """Gemini's callers know no id that Gemini did not give, so neither do its hosts."""
        call: Block = {"name": part.name}
        if part.id and not MADE_ID.fullmatch(part.id):
            call["id"] = part.id
        self._names[part.id] = part.name
        call["args"], is_object = object_of(part.arguments)
        if not is_object:
            self._drop_member(path, "arguments", part.arguments)
        block: Block = {"functionCall": call}
        if part.signature is not None:
            block["thoughtSignature"] = part.signature
        return block

    def _result(self, part: ToolResult, path: str) -> list[Block]:
        name = self._names.get(part.call_id)
        if name is None:
            raise BadRequest(f"{path} is the result of a call {part.call_id!r} that is not in the history", param=path)
        texts: list[str] = []
        media: list[Block] = []
        for where, each in parts_of(part.parts, path):
            if isinstance(each, Text):
                self._drop_mark(each.cache, where)
                self._drop_extras(each.extras, where)
                texts.append(each.text)
            else:
                media += self._part(each, where)
        result: Block = {"name": name, "response": _write_response("\n".join(texts), part.is_error)}
        if part.call_id and not MADE_ID.fullmatch(part.call_id):
            result["id"] = part.call_id
        block: Block = {"functionResponse": result}
        if not media or self._generation.is_third:
            if media:
                result["parts"] = media
            return [block]
        return [block, *media]  # beside it, where the model looks at it all the same

    # tools

    def _tools(self) -> list[Block]:
        """All functions are in one tool, at the position of the first one."""
        declarations: list[Json] = []
        tools: list[Block] = []
        for path, tool in tools_of(self._chat.tools):
            match tool:
                case FunctionTool():
                    if not declarations:
                        tools.append({"functionDeclarations": declarations})
                    declarations.append(self._declaration(tool, path))
                case HostedTool() if (hosted := for_gemini(tool)) is not None:
                    self._drop_member(path, "max_uses", tool.max_uses is not None)
                    self._drop_member(path, "user_location", tool.location is not None)
                    tools.append(hosted)
                case Opaque():
                    raise Unsupported(path, TITLE, f"the format has no tool of type {tool.kind!r}")
                case _:
                    assert_never(tool)
        return tools

    def _declaration(self, tool: FunctionTool, path: str) -> Block:
        declaration: Block = {"name": tool.name}
        if tool.description is not None:
            declaration["description"] = tool.description
        self._drop_member(path, "strict", tool.strict)
        self._drop_mark(tool.cache, path)
        self._drop_extras(tool.extras, path)
        if tool.parameters is None:
            return declaration
        where = self._member(path, "parameters")
        if self._generation.json_schema:
            declaration["parametersJsonSchema"] = as_object(tool.parameters, where)
            return declaration
        narrowed = self._narrowed(tool.parameters, where)
        if narrowed.get("properties"):  # these models refuse an object without properties
            declaration["parameters"] = narrowed
        return declaration

    def _narrowed(self, schema: Json, path: str) -> Block:
        try:
            narrowed, dropped = to_openapi(schema)
        except SchemaError as error:
            where = f"{path}.{error.path}" if error.path else path
            raise BadRequest(f"{where}: {error.why}", param=where) from error
        self.dropped.update(f"{path}.{each}" for each in dropped)
        return narrowed

    # generationConfig

    def _config(self) -> Block:
        chat = self._chat
        config: Block = {}
        self._write_scalars(SCALARS, chat, config)
        if chat.stop:
            config["stopSequences"] = list(chat.stop)
        if chat.response_format is not None:
            config.update(self._format(chat.response_format))
        if chat.reasoning is not None:
            thinking = self._thinking(chat.reasoning)
            if thinking:
                config["thinkingConfig"] = thinking
        return config

    def _format(self, response_format: ResponseFormat) -> Block:
        match response_format.kind:
            case "text":
                return {}
            case "json_object":
                return {"responseMimeType": JSON_TYPE}
            case "json_schema":
                pass
            case _:
                assert_never(response_format.kind)
        path = self.spelling.field("response_format.schema")
        self._drop_field("response_format.strict", response_format.strict is False)
        titles = {"title": response_format.name, "description": response_format.description}
        schema = {
            **{key: value for key, value in titles.items() if value is not None},
            **as_object({} if response_format.schema is None else response_format.schema, path),
        }
        if self._generation.json_schema:
            return {"responseMimeType": JSON_TYPE, "responseJsonSchema": schema}
        return {"responseMimeType": JSON_TYPE, "responseSchema": self._narrowed(schema, path)}

    def _thinking(self, reasoning: Reasoning) -> Block:
        path, generation = self._reasoning_path(reasoning), self._generation
        hidden = reasoning.extras.get("display") == "omitted"
        self._drop_extras(
            {k: v for k, v in reasoning.extras.items() if k not in _REASONING_READ}, self.spelling.field("reasoning")
        )
        if generation.thinking == "none":
            self._drop_if(path, reasoning.effort != "none" and reasoning.mode != "disabled")
            return {}
        effort, budget = reasoning.effort or None, reasoning.budget_tokens
        if effort == "default":  # Groq's word for not saying
            effort = None
        if reasoning.mode == "disabled":
            # Less than that is not to be had from a model that always thinks.
            effort, budget = ("none" if "none" in generation.efforts else "minimal"), None
            self._drop_if(path, "none" not in generation.efforts)
        if generation.thinking == "budget" and budget is not None:
            least, most = generation.budgets
            return _thoughts({"thinkingBudget": min(max(budget, least), most)}, shown=not hidden)
        if effort is None and budget is not None:
            effort = next((name for most, name in BUDGET_TO_EFFORT if budget <= most), "high")
        if effort is None:
            return _thoughts({"thinkingBudget": -1} if generation.thinking == "budget" else {}, shown=not hidden)
        level = generation.efforts.get(effort)
        if level is None:
            where = self.spelling.field("reasoning.effort") if reasoning.effort else path
            raise BadRequest(f"{where} is {effort!r}; this model accepts {', '.join(generation.efforts)}", param=where)
        visible = effort != "none" and not hidden
        if isinstance(level, int):
            return _thoughts({"thinkingBudget": level}, shown=visible)
        return _thoughts({"thinkingLevel": level.upper()}, shown=visible)


def _thoughts(thinking: Block, *, shown: bool) -> Block:
    return {**thinking, "includeThoughts": True} if shown else thinking


def _write_response(text: str, is_error: bool) -> Block:
    """What was read by `_read_response`, and what others give back: an object as it is, text under its key."""
    value = as_one_object(text)
    if value is None:
        return {"error" if is_error else "output": text}
    return value if not is_error or "error" in value else {"error": value}

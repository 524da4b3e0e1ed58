"""Writes a Chat as a Responses request."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import assert_never

from ...codecs.json_values import as_object, maybe_object, maybe_text
from ...errors import BadRequest, Unsupported
from ...model.call import Chat, CustomTool, FunctionTool, HostedTool, ResponseFormat, Tool, ToolChoice
from ...model.content import (
    Audio,
    CustomCall,
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
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
    plain_text,
)
from ...model.host import UNKNOWN_HOST, HostProfile
from ..cache_keys import CACHE_KEY, accepted_key
from ..custom_tools import input_of
from ..dropping import DropList, messages_of, parts_of, tools_of
from ..hosted_tools import for_responses
from ..inline_data import type_of_image
from ..openai_chat.models import (
    WANTED,
    effort_for,
    is_openai,
    is_unsigned,
    never_thinks,
    refused_sampling,
    takes_custom_tools,
)
from ..openai_chat.tools import AllowedTools
from ..openai_chat.tools import is_custom as is_custom_name
from ..strict_schema import is_strict
from ..turns import arguments_of, schema_of
from .content import data_uri, short
from .fields import SCALARS, SHARED_EXTRAS, TITLE, Item
from .models import BUDGETS

# --- writing a request

CALL_ID_LIMIT = 64  # OpenAI's API reference: call_id
_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF = "application/pdf"
_NO_PARAMETERS: Mapping[str, Json] = MappingProxyType({"type": "object", "properties": {}})
_MADE_AGAIN = frozenset({"id", "summary", "content", "status"})


def unsigned_item(text: str) -> Item:
    return {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": text}]}


def call_id_of(id: str) -> str:
    """An id that OpenAI accepts. It is the same for a call and its result."""
    if len(id) <= CALL_ID_LIMIT:
        return id
    return f"call_{hashlib.sha256(id.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


class RequestWriter(DropList):
    """Writes one chat of another dialect. `dropped` collects the dropped fields."""

    def __init__(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> None:
        super().__init__(chat)
        self.chat = chat
        self.model = model
        self.host = host
        self._takes_custom = takes_custom_tools(model, host)
        self._custom_ids: set[str] = set()
        """The calls of custom tools so far."""

    def body(self) -> Item:
        chat = self.chat
        self._refuse()
        instructions, items = self._input()
        body: Item = {"model": self.model}
        if instructions is not None:
            body["instructions"] = instructions
        body["input"] = items
        self._tools(body)
        text: Item = {}
        if chat.response_format is not None:
            if chat.response_format.kind == "json_schema":
                as_object(chat.response_format.schema, self.spelling.field("response_format.schema"))
            text["format"] = self._format(chat.response_format)
        self._write_scalars(SCALARS, chat, body)
        if chat.top_logprobs is not None:
            body["top_logprobs"] = chat.top_logprobs
        user = "safety_identifier" if "safety_identifier" in chat.extras else "user"
        if chat.user is not None and not self.host.takes_user(chat.user):
            self._drop_field("user", True)
        elif chat.user is not None:
            body[user] = chat.user
        self._reasoning(body)
        self._sampling(body)
        if chat.stream:
            body["stream"] = True
        self._rest(body, text)
        if text:
            body["text"] = text
        return body

    def _format(self, required: ResponseFormat) -> Item:
        if required.kind != "json_schema":
            return {"type": required.kind}
        schema_format: Item = {
            "type": "json_schema",
            "name": required.name or "response",
            "schema": required.schema,
        }
        if required.description is not None:
            schema_format["description"] = required.description
        if required.strict is not None:
            schema_format["strict"] = required.strict
        return schema_format

    # what cannot cross

    def _refuse(self) -> None:
        chat = self.chat
        if chat.stop:
            raise Unsupported(self.spelling.field("stop"), TITLE, "the API has no stop sequences")
        if chat.n is not None and chat.n != 1:
            raise Unsupported(self.spelling.field("n"), TITLE, "the API returns one choice per request")
        for name in ("logprobs", "top_logprobs"):
            if getattr(chat, name):
                raise Unsupported(
                    self.spelling.field(name), TITLE, "the API returns token probabilities in another shape"
                )
        for name in chat.needed:
            raise Unsupported(name, TITLE, "only a provider that uses the caller's format supports it")
        self._refuse_essential(chat, TITLE)

    # fields

    def _rest(self, body: Item, text: Item) -> None:
        """`store` is false: this API stores each reply by default, and callers of other APIs did not request it."""
        chat = self.chat
        body["store"] = False
        for name, value in chat.extras.items():
            if name == "verbosity" and isinstance(value, str):
                text["verbosity"] = value
            elif name in SHARED_EXTRAS and value is not None:
                body[name] = accepted_key(value) if name == CACHE_KEY else value
                self._drop_if(name, body[name] != value)
            else:
                self._drop_if(name, value is not None)
        if chat.metadata:
            texts = {key: value for key, value in chat.metadata.items() if isinstance(value, str)}
            self._drop_field("metadata", len(texts) < len(chat.metadata))
            body["metadata"] = texts
        for name in ("top_k", "seed"):
            self._drop_field(name, getattr(chat, name) is not None)
        for name in ("presence_penalty", "frequency_penalty"):
            self._drop_field(name, getattr(chat, name))

    def _reasoning(self, body: Item) -> None:
        reasoning = self.chat.reasoning
        if reasoning is None:
            return
        level: str | None = None
        if reasoning.effort:
            level = reasoning.effort if reasoning.effort != "default" else None  # Groq's word for not saying
        elif reasoning.mode == "disabled":
            level = "none"
        elif reasoning.budget_tokens is not None:
            level = next(level for least, level in BUDGETS if max(reasoning.budget_tokens, 0) >= least)
        elif reasoning.mode == "enabled":
            level = "medium"
        effort = None if level is None else effort_for(self.model, level)
        if effort is not None:
            body["reasoning"] = {"effort": effort}
        is_moot = level is None or (level == "none" and never_thinks(self.model))
        self._drop_if(self._reasoning_path(reasoning), effort is None and not is_moot)
        self._drop_extras(reasoning.extras, self.spelling.field("reasoning"))

    def _sampling(self, body: Item) -> None:
        """The sampling settings that the model accepts. 1 is the default of temperature and top_p."""
        effort = maybe_object(body.get("reasoning"), "reasoning")
        for name in refused_sampling(self.model, maybe_text((effort or {}).get("effort"), "reasoning.effort")):
            if (value := body.pop(name, None)) is not None:
                self._drop_field(name, value != 1 or name not in ("temperature", "top_p"))

    # tools

    def _tools(self, body: Item) -> None:
        chat, choice = self.chat, self.chat.tool_choice
        tools = chat.tools
        if isinstance(choice, AllowedTools):
            tools = tuple(tool for tool in choice.tools if isinstance(tool, FunctionTool))
        if tools:
            body["tools"] = [self._tool(tool, path) for path, tool in tools_of(tools)]
        has_tools = bool(tools)
        self._drop_field("tool_choice", choice is not None and choice.mode not in ("auto", "none") and not has_tools)
        self._drop_field("parallel_tool_calls", chat.parallel_tool_calls is not None and not has_tools)
        if choice is not None and has_tools:
            body["tool_choice"] = self._choice(choice)
        if chat.parallel_tool_calls is not None and has_tools:
            body["parallel_tool_calls"] = chat.parallel_tool_calls

    def _choice(self, choice: ToolChoice) -> Json:
        if isinstance(choice, AllowedTools):
            allowed = [self._tool_name(tool.name) for tool in self.chat.tools if isinstance(tool, FunctionTool)]
            return {"type": "allowed_tools", "mode": choice.mode, "tools": allowed}
        return self._tool_name(choice.name) if choice.mode == "tool" else choice.mode

    def _tool_name(self, name: str | None) -> Item:
        is_custom = self._takes_custom and is_custom_name(name, self.chat.tools)
        return {"type": "custom" if is_custom else "function", "name": name}

    def _tool(self, tool: Tool, path: str) -> Json:
        if isinstance(tool, HostedTool) and (hosted := for_responses(tool)) is not None:
            self._drop_member(path, "max_uses", tool.max_uses is not None)
            return hosted
        if isinstance(tool, Opaque):
            raise Unsupported(path, TITLE, f"the format has no tool of type {tool.kind!r}")
        if isinstance(tool, CustomTool) and self._takes_custom:
            optional = {"description": tool.text, "format": tool.format}
            custom: Item = {"type": "custom", "name": tool.name, **{k: v for k, v in optional.items() if v is not None}}
            self._drop_mark(tool.cache, path)
            self._drop_extras(tool.extras, path)
            return custom
        tool_object: Item = {"type": "function", "name": tool.name}
        if tool.description is not None:
            tool_object["description"] = tool.description
        parameters, where = tool.parameters or dict(_NO_PARAMETERS), self._member(path, "parameters")
        if is_openai(self.model):
            parameters = self._uncombined(schema_of(parameters, where), where)
        tool_object["parameters"] = parameters
        # Absent it is true here, and false elsewhere. A caller of OpenAI's other format knows its rules.
        knows = self.chat.dialect == "openai_chat"
        tool_object["strict"] = bool(tool.strict) and (knows or is_strict(tool_object["parameters"]))
        self._drop_member(path, "strict", tool.strict and not tool_object["strict"])
        self._drop_mark(tool.cache, path)
        self._drop_extras(tool.extras, path)
        return tool_object

    # the conversation

    def _input(self) -> tuple[str | None, list[Json]]:
        """The instructions, and the input items."""
        messages = list(messages_of(self.chat))
        instructions: str | None = None
        if messages and (text := self._instructions(*messages[0])) is not None:
            instructions = text
            messages = messages[1:]
        items: list[Json] = []
        for path, message in messages:
            if (text := plain_text(message)) is not None:
                # Without text, only the assistant's message is left out.
                if text or message.role != "assistant":
                    items.append({"role": message.role, "content": text})
                continue
            self._drop_if(f"{path}.name", message.name)
            self._drop_extras(message.extras, path)
            items.extend(self._items_of_message(message, path))
        return instructions, items

    def _instructions(self, path: str, message: Message) -> str | None:
        """The text that is sent as instructions: that of a leading system message with one text."""
        if not (message.extras or message.name):
            match message:
                case Message("system", (Text() as text,)) if not text.extras:
                    self._drop_mark(text.cache, text.path or f"{path}.content[0]")
                    return text.text
        return None

    def _items_of_message(self, message: Message, path: str) -> Iterator[Json]:
        match message.role:
            case "assistant":
                yield from self._assistant_items(message.parts, path)
            case "system" | "developer" | "user" | "tool":
                yield from self._message_items(message, path)
            case _:
                assert_never(message.role)

    def _message_items(self, message: Message, path: str) -> Iterator[Json]:
        """A message of the caller. Results of calls become items; the parts between them become messages."""
        content: list[Json] = []
        for where, part in parts_of(message.parts, path):
            if not isinstance(part, ToolResult):
                content.append(self._content(part, where))
                continue
            if content:
                yield self._input_message(message, content)
                content = []
            yield self._result(part, where)
        if content:
            yield self._input_message(message, content)

    def _input_message(self, message: Message, content: list[Json]) -> Item:
        return {"role": message.role, "content": short(content)}

    def _result(self, part: ToolResult, path: str) -> Item:
        self._drop_member(path, "is_error", part.is_error)
        self._drop_mark(part.cache, path)
        if not part.call_id:
            where = self._member(path, "call_id")
            raise BadRequest(f"{where} is missing: a tool result needs the id of its call", param=where)
        content = [self._content(each, where) for where, each in parts_of(part.parts, path)]
        call_id = call_id_of(part.call_id)
        kind = "custom_tool_call_output" if part.call_id in self._custom_ids else "function_call_output"
        self._drop_extras(part.extras, path)
        return {"type": kind, "call_id": call_id, "output": short(content) if content else ""}

    def _content(self, part: Part, path: str) -> Json:
        if isinstance(part, Text | Image | Document):
            self._drop_mark(part.cache, path)
            self._drop_extras(part.extras, path)
        match part:
            case Text() | Refusal():
                return {"type": "input_text", "text": part.text}
            case Image():
                return self._image(part, path)
            case Document():
                return self._file(part, path)
            case Audio():
                raise Unsupported(path, TITLE, "the format has no audio")
            case Opaque():
                raise Unsupported(path, TITLE, f"the format has no part of type {part.kind!r}")
            case Thinking() | RedactedThinking() | ToolCall() | ToolResult():
                raise BadRequest(f"{path} is allowed only in an assistant message", param=path)
            case _:
                assert_never(part)

    def _image(self, part: Image, path: str) -> Item:
        item: Item = {"type": "input_image", "detail": part.detail if part.detail is not None else "auto"}
        match part.source:
            case Inline(media_type, _) as source:
                shown = type_of_image(media_type, source.data)
                if shown == _PDF:
                    return self._file(Document(Inline(_PDF, source.data)), path)
                if shown not in _IMAGES:
                    raise BadRequest(
                        f"{path} is {media_type!r}; {TITLE} accepts {', '.join(sorted(_IMAGES))}", param=path
                    )
                item["image_url"] = data_uri(Inline(shown, source.data))
            case Url(url):
                item["image_url"] = url
            case FileRef(id):
                item["file_id"] = self._uploaded(id, path)
            case _:
                assert_never(part.source)
        return item

    def _file(self, part: Document, path: str) -> Item:
        item: Item = {"type": "input_file"}
        match part.source:
            case Inline() as source:
                item["file_data"] = data_uri(source)
                if part.name is None:  # the API insists on a name beside data
                    item["filename"] = "document.pdf" if source.media_type == _PDF else "document.txt"
            case Url(url):
                item["file_url"] = url
            case FileRef(id):
                item["file_id"] = self._uploaded(id, path)
            case _:
                assert_never(part.source)
        if part.name is not None and isinstance(part.source, Inline):
            item["filename"] = part.name
        self._drop_name(part, path, part.name is not None and "filename" not in item)
        return item

    def _uploaded(self, id: str, path: str) -> str:
        """OpenAI's two formats share their files; any other provider's are unknown to it."""
        if self.chat.dialect == "openai_chat":
            return id
        raise Unsupported(path, TITLE, "the file was uploaded to another provider")

    def _assistant_items(self, parts: Sequence[Part], path: str) -> Iterator[Json]:
        """The items of an assistant message."""
        texts: list[str] = []
        for where, part in parts_of(parts, path):
            if isinstance(part, Text | Refusal):
                # Texts that follow each other are one: only an item that the API gave out has several parts, and only
                # such an item has a refusal.
                self._drop_mark(part.cache if isinstance(part, Text) else None, where)
                self._drop_extras(part.extras, where)
                texts.append(part.text)
                continue
            if any(texts):
                yield _assistant_text(texts)
            texts = []
            if isinstance(part, ToolCall):
                yield self._call(part, where)
            elif (item := self._other_item(part, where)) is not None:
                yield item
        if any(texts):
            yield _assistant_text(texts)

    def _other_item(self, part: Part, path: str) -> Json:
        match part:
            case Thinking() | RedactedThinking():
                if isinstance(part, Thinking) and self.host.thoughts in WANTED and is_unsigned(part):
                    self._drop_extras({k: v for k, v in part.extras.items() if k not in _MADE_AGAIN}, path)
                    return unsigned_item(part.text)
                self.dropped.add(path)
                return None
            case Opaque():
                raise Unsupported(path, TITLE, f"the format has no part of type {part.kind!r}")
            case _:
                raise Unsupported(
                    path, TITLE, f"an assistant message cannot contain a part of type {type(part).__name__.lower()}"
                )

    def _call(self, part: ToolCall, path: str) -> Item:
        if not part.id:
            where = self._member(path, "id")
            raise BadRequest(f"{where} is missing: a tool call needs an id, which its result repeats", param=where)
        self._drop_member(path, "signature", part.signature)
        self._drop_mark(part.cache, path)
        self._drop_extras(part.extras, path)
        arguments = "{}" if arguments_of(part.arguments) == {} else part.arguments
        call_id = call_id_of(part.id)
        if isinstance(part, CustomCall) and self._takes_custom:
            self._custom_ids.add(part.id)
            return {"type": "custom_tool_call", "call_id": call_id, "name": part.name, "input": input_of(arguments)}
        return {"type": "function_call", "call_id": call_id, "name": part.name, "arguments": arguments}


def _assistant_text(texts: Sequence[str]) -> Item:
    """A message of the assistant, as an item of the input."""
    return {"role": "assistant", "content": "".join(texts)}

"""Writes a Chat as a chat completions request."""

from __future__ import annotations

from typing import assert_never

from ...codecs.json_values import as_object, left_in
from ...errors import Unsupported
from ...model.call import Chat, CustomTool, Tool
from ...model.content import (
    Audio,
    CacheMark,
    CustomCall,
    Document,
    Extras,
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
from ..dropping import DropList, messages_of, parts_of, tools_of
from ..strict_schema import is_strict
from ..turns import NO_PARAMETERS, arguments_of, object_text, schema_of
from .content import (
    AUDIO_FORMATS,
    is_noted,
    plain,
    set_values,
    short,
    write_source,
)
from .fields import SCALARS, TITLE, Object
from .models import (
    MISTRALS,
    RESULT_SEEN,
    WANTED,
    call_id,
    effort_for,
    effort_of_budget,
    has_thinking_switch,
    is_openai,
    is_unsigned,
    never_thinks,
    refused_sampling,
    takes_custom_tools,
    takes_stop,
)
from .tools import is_custom, write_custom_call, write_custom_tool

# Extras of other dialects that mean the same here, and where each goes.
_SHARED_EXTRAS = frozenset({"prompt_cache_key", "prompt_cache_retention"})


_FORCED = frozenset({"required", "tool"})
_NAMELESS_SCHEMA = "response"


class RequestWriter(DropList):
    """Writes one chat of another dialect. Fields that the format does not have are dropped or refused."""

    def __init__(self, chat: Chat, model: str, host: HostProfile = UNKNOWN_HOST) -> None:
        super().__init__(chat)
        self.chat = chat
        self.model = model
        self.host = host
        self._takes_custom = takes_custom_tools(model, host)

    def body(self) -> Object:
        chat = self.chat
        for name in chat.needed:
            raise Unsupported(name, TITLE, "only a provider that uses the caller's format supports it")
        self._refuse_essential(chat, TITLE)
        body: Object = {"model": self.model, "messages": self._messages()}
        if chat.stream:
            body["stream"] = True
            body["stream_options"] = {"include_usage": True}
        if chat.tools:
            body["tools"] = [self._tool(tool, path) for path, tool in tools_of(chat.tools)]
        self._tool_choice(body)
        self._write_scalars(SCALARS, chat, body)
        set_values(
            body,
            max_completion_tokens=chat.max_output_tokens,
            stop=list(chat.stop) or None,
            response_format=self._format(),
        )
        self._reasoning(body)
        self._sampling(body)
        self._account(body)
        self._extras(body)
        return body

    def _sampling(self, body: Object) -> None:
        """What the model takes; 1 is what temperature and top_p are anyway."""
        effort = body.get("reasoning_effort")
        for name in refused_sampling(self.model, effort if isinstance(effort, str) else None):
            if (value := body.pop(name, None)) is not None:
                self._drop_field(name, value != 1 or name not in ("temperature", "top_p"))
        if not takes_stop(self.model):
            self._drop_field("stop", body.pop("stop", None) is not None)

    def _extras(self, body: Object) -> None:
        for name, value in self.chat.extras.items():
            match value:
                case None:
                    pass
                case {"verbosity": str(verbosity)} if name == "text":
                    body["verbosity"] = verbosity
                    self._drop_extras(left_in(as_object(value, name), frozenset({"verbosity"})), name)
                case _ if name in _SHARED_EXTRAS:
                    body[name] = accepted_key(value) if name == CACHE_KEY else value
                    self._drop_if(name, body[name] != value)
                case _:
                    self.dropped.add(name)

    # what the format does not have

    def _finish(self, block: Object, cache: CacheMark | None, extras: Extras, path: str) -> Object:
        """Drops the cache mark and the extras of a part or tool."""
        self._drop_mark(cache, path)
        self._drop_extras(extras, path)
        return block

    # fields

    def _account(self, body: Object) -> None:
        chat = self.chat
        user = "safety_identifier" if is_noted(chat.extras, "safety_identifier") else "user"
        if chat.user is not None and not self.host.takes_user(chat.user):
            self._drop_field("user", True)
        else:
            set_values(body, **{user: chat.user})
        self._drop_field("metadata", chat.metadata)

    def _format(self) -> Object | None:
        response_format = self.chat.response_format
        if response_format is None:
            return None
        if response_format.kind != "json_schema":
            return {"type": response_format.kind}
        name = response_format.name or _NAMELESS_SCHEMA
        inner: Object = {}
        set_values(
            inner,
            name=name,
            description=response_format.description,
            schema=response_format.schema,
            strict=response_format.strict,
        )
        return {"type": "json_schema", "json_schema": inner}

    def _reasoning(self, body: Object) -> None:
        reasoning = self.chat.reasoning
        if reasoning is None:
            return
        if reasoning.effort is not None:
            level: str | None = (
                reasoning.effort if reasoning.effort != "default" else None
            )  # Groq's word for not saying
        elif reasoning.mode == "disabled":
            level = "none"
        elif reasoning.budget_tokens is not None:
            level = effort_of_budget(reasoning.budget_tokens)
        else:
            # Adaptive is the default of a model. "enabled" without an effort is the middle level.
            level = "medium" if reasoning.mode == "enabled" else None
        effort = None if level is None else effort_for(self.model, level)
        set_values(body, reasoning_effort=effort)
        is_off = level == "none" and effort is None and self.host.thinking_switch and has_thinking_switch(self.model)
        if is_off:
            body["thinking"] = {"type": "disabled"}
        is_moot = level is None or is_off or (level == "none" and never_thinks(self.model))
        self._drop_if(self._reasoning_path(reasoning), effort is None and not is_moot)
        self._drop_extras(reasoning.extras, self.spelling.field("reasoning"))

    # tools

    def _tool(self, tool: Tool, path: str) -> Json:
        if isinstance(tool, Opaque):
            raise Unsupported(path, TITLE, f"the format has no tool of type {tool.kind!r}")
        if isinstance(tool, CustomTool) and self._takes_custom:
            return self._finish(write_custom_tool(tool), tool.cache, tool.extras, path)
        function: Object = {"name": tool.name}
        strict = tool.strict
        # A caller of OpenAI's other format knows its rules.
        if strict and self.chat.dialect != "openai_responses" and not is_strict(tool.parameters):
            self._drop_member(path, "strict", True)
            strict = None
        parameters, where = tool.parameters, self._member(path, "parameters")
        if parameters == {}:  # OpenAI's models refuse it
            parameters = dict(NO_PARAMETERS)
        elif parameters and is_openai(self.model):
            parameters = self._uncombined(schema_of(parameters, where), where)
        set_values(function, description=tool.description, parameters=parameters, strict=strict)
        return self._finish({"type": "function", "function": function}, tool.cache, tool.extras, path)

    def _tool_choice(self, body: Object) -> None:
        chat, choice = self.chat, self.chat.tool_choice
        if not chat.tools:
            self._drop_field("tool_choice", choice is not None and choice.mode in _FORCED)
            self._drop_field("parallel_tool_calls", chat.parallel_tool_calls is False)
            return
        if choice is not None and choice.mode == "tool":
            kind = "custom" if self._takes_custom and is_custom(choice.name, chat.tools) else "function"
            body["tool_choice"] = {"type": kind, kind: {"name": choice.name}}
        elif choice is not None:
            body["tool_choice"] = choice.mode
        set_values(body, parallel_tool_calls=chat.parallel_tool_calls)

    # the conversation

    def _messages(self) -> list[Json]:
        messages: list[Json] = []
        moved: list[Object] = []
        for path, message in messages_of(self.chat):
            if not moved and (text := plain_text(message)) is not None:
                # Without text, only the assistant's message is left out.
                if text or message.role != "assistant":
                    messages.append({"role": "user" if message.role == "tool" else message.role, "content": text})
                continue
            self._drop_extras(message.extras, path)
            match message.role:
                case "system" | "developer":
                    messages += self._prompt(message, path)
                case "user" | "tool":
                    located = list(parts_of(message.parts, path))
                    messages += [self._result(part, at, moved) for at, part in located if isinstance(part, ToolResult)]
                    parts = [self._part(part, at) for at, part in located if not isinstance(part, ToolResult)]
                    if parts:
                        parts, moved = [*moved, *parts], []
                        messages.append(self._with_name(message, {"role": "user", "content": short(parts)}))
                case "assistant":
                    messages += self._moved(moved)
                    moved = []
                    messages += self._assistant(message, path)
                case _:
                    assert_never(message.role)
        messages += self._moved(moved)
        if not self.host.developer_role:
            messages = _with_one_prompt(messages)
        return _bridged(messages) if MISTRALS.search(self.model.lower()) else messages

    @staticmethod
    def _moved(parts: list[Object]) -> list[Json]:
        return [{"role": "user", "content": parts}] if parts else []

    @staticmethod
    def _with_name(message: Message, written: Object) -> Object:
        return written if message.name is None else {**written, "name": message.name}

    def _prompt(self, message: Message, path: str) -> list[Json]:
        parts: list[Object] = []
        for where, part in parts_of(message.parts, path):
            if not isinstance(part, Text):
                raise Unsupported(where, TITLE, "a system prompt can contain only text")
            parts.append(self._part(part, where))
        return [self._with_name(message, {"role": message.role, "content": short(parts)})] if parts else []

    def _result(self, result: ToolResult, path: str, moved: list[Object]) -> Object:
        """A tool message. It can hold text alone: what else there is goes into `moved`."""
        texts: list[Object] = []
        others: list[Object] = []
        for where, part in parts_of(result.parts, path):
            part_object = self._part(part, where)
            (texts if part_object["type"] == "text" else others).append(part_object)
        id = call_id(result.call_id, self.model)
        if others:
            moved += [{"type": "text", "text": f"From the result of tool call {id}:"}, *others]
        self._drop_member(path, "is_error", result.is_error)
        message: Object = {"role": "tool", "tool_call_id": id, "content": short(texts)}
        return self._finish(message, result.cache, result.extras, path)

    def _assistant(self, message: Message, path: str) -> list[Json]:
        """One text, since hosts other than OpenAI take no list here; a reply's texts are one text too."""
        texts: list[str] = []
        refusals: list[str] = []
        calls: list[Json] = []
        thoughts: list[Thinking] = []
        for where, part in parts_of(message.parts, path):
            match part:
                case Text():
                    texts.append(part.text)
                    self._finish({}, part.cache, part.extras, where)
                case Refusal():
                    refusals.append(part.text)
                    self._finish({}, None, part.extras, where)
                case ToolCall():
                    calls.append(self._call(part, where))
                case Thinking() as thought if self.host.thoughts in WANTED and is_unsigned(thought):
                    thoughts.append(thought)
                case Thinking() | RedactedThinking():  # OpenAI has no place for it, and its models no use
                    self.dropped.add(where)
                case _:
                    self._part(part, where)  # raises
                    raise Unsupported(where, TITLE, "an assistant message can contain only text and tool calls")
        if not self.host.refusals:
            texts, refusals = [*texts, *refusals], []
        text = "".join(texts)
        if not text and not refusals and not calls:
            return []
        message_object: Object = {"role": "assistant", "content": text or None}
        if refusals:
            message_object["refusal"] = "".join(refusals)
        if calls:
            message_object["tool_calls"] = calls
        if thoughts and self.host.thoughts == "reasoning_details":
            message_object["reasoning_details"] = [
                {"type": "reasoning.text", "text": thought.text} for thought in thoughts
            ]
        elif thoughts:
            message_object["reasoning_content"] = "".join(thought.text for thought in thoughts)
        return [self._with_name(message, message_object)]

    def _call(self, call: ToolCall, path: str) -> Object:
        id = call_id(call.id, self.model)
        # Templates decode the arguments and expect an object. Groq's models write null for none.
        arguments = "{}" if arguments_of(call.arguments) == {} else call.arguments
        if isinstance(call, CustomCall) and self._takes_custom:
            return self._finish(write_custom_call(id, call.name, arguments), call.cache, call.extras, path)
        if not self.host.any_arguments and (legal := object_text(arguments)) != arguments:
            self._drop_member(path, "arguments", call.arguments)
            arguments = legal
        call_object: Object = {"id": id, "type": "function", "function": {"name": call.name, "arguments": arguments}}
        if call.signature is not None and "gemini" in self.model.lower():
            call_object["extra_content"] = {"google": {"thought_signature": call.signature}}
        elif call.signature is not None:  # other hosts refuse a field that they do not know
            self._drop_member(path, "signature", True)
        return self._finish(call_object, call.cache, call.extras, path)

    def _part(self, part: Part, path: str) -> Object:
        """A part of a user message, a system prompt or a tool result."""
        match part:
            case Text():
                return self._finish({"type": "text", "text": part.text}, part.cache, part.extras, path)
            case Image():
                if isinstance(part.source, FileRef):
                    raise Unsupported(path, TITLE, "the file was uploaded to another provider")
                image: Object = {"url": write_source(part.source)}
                set_values(image, detail=part.detail)
                return self._finish({"type": "image_url", "image_url": image}, part.cache, part.extras, path)
            case Document():
                return self._finish(self._document(part, path), part.cache, part.extras, path)
            case Audio():
                return self._finish(self._audio(part, path), None, part.extras, path)
            case Refusal():
                return self._finish({"type": "refusal", "refusal": part.text}, None, part.extras, path)
            case Opaque():
                raise Unsupported(path, TITLE, f"the format has no part of type {part.kind!r}")
            case Thinking() | RedactedThinking() | ToolCall() | ToolResult():
                raise Unsupported(path, TITLE, f"a {type(part).__name__} is not allowed here")
            case _:
                assert_never(part)

    def _document(self, part: Document, path: str) -> Object:
        source = part.source
        match source:
            case FileRef():
                raise Unsupported(path, TITLE, "the file was uploaded to another provider")
            case Url():
                raise Unsupported(path, TITLE, "the API does not accept documents by URL")
            case Inline() if source.media_type == "text/plain":
                # No media type of text is known to all hosts; text always is.
                text = plain(source.data, path)
                return {"type": "text", "text": f"Title: {part.name}\n\n{text}" if part.name else text}
            case Inline():
                file = {"file_data": write_source(source), "filename": part.name or "document.pdf"}
                return {"type": "file", "file": file}
            case _:
                assert_never(source)

    def _audio(self, part: Audio, path: str) -> Object:
        if not isinstance(part.source, Inline):
            raise Unsupported(path, TITLE, "the API accepts audio only in the request")
        kind = part.source.media_type
        format = AUDIO_FORMATS.get(kind, kind.removeprefix("audio/"))
        return {"type": "input_audio", "input_audio": {"data": part.source.data, "format": format}}


def _with_one_prompt(messages: list[Json]) -> list[Json]:
    """The messages with the leading ones of the system joined: the templates of many models (Qwen's, Mistral's) accept
    only one. A caller of another format wrote no such messages, but a prompt and its parts."""
    contents: list[str | list[Json]] = []
    for message in messages:
        match message:
            case {"role": "system", "content": str() | list() as content, **rest} if not rest:
                contents.append(content)
            case _:
                break
    if len(contents) < 2:
        return messages
    texts = [content for content in contents if isinstance(content, str)]
    joined: Json = "\n\n".join(texts)
    if len(texts) < len(contents):
        joined = [part for each in contents for part in (each if isinstance(each, list) else [_text_part(each)])]
    return [{"role": "system", "content": joined}, *messages[len(contents) :]]


def _text_part(text: str) -> Json:
    return {"type": "text", "text": text}


def _bridged(messages: list[Json]) -> list[Json]:
    """The messages with one of the assistant between a tool's and a user's."""
    bridged: list[Json] = []
    before = None
    for message in messages:
        role = message.get("role") if isinstance(message, dict) else None
        if before == "tool" and role not in ("tool", "assistant"):
            bridged.append(dict(RESULT_SEEN))
        bridged.append(message)
        before = role
    return bridged

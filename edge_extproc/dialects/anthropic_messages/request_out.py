"""Writes a Chat as a Messages request."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import assert_never

from ...codecs.json_values import as_object
from ...errors import BadRequest, Unsupported
from ...model.call import HostedTool, Tool, ToolChoice
from ...model.content import (
    Audio,
    CacheMark,
    Document,
    Extras,
    FileRef,
    Image,
    Inline,
    Json,
    Opaque,
    Part,
    RedactedThinking,
    Refusal,
    Text,
    Thinking,
    ToolCall,
    ToolResult,
    Url,
)
from ..carried import tool_id
from ..claude import LEAST_TOP_P_WITH_THINKING
from ..dropping import tools_of
from ..hosted_tools import for_messages
from ..inline_data import type_of_image
from ..schemas import output_schema, strict_schema
from ..turns import FORCED, NO_PARAMETERS, BlockKind, RoleGroup, Translation, is_explicit, schema_of
from .content import cache_control, document_source, shortened, source_of
from .fields import MAX_USER_ID, SCALARS, TITLE, Block

_WRITE_CHOICE: Mapping[str, str] = MappingProxyType({"auto": "auto", "required": "any", "none": "none", "tool": "tool"})


def _choice(choice: ToolChoice, parallel: bool | None) -> Block:
    block: Block = {"type": _WRITE_CHOICE[choice.mode]}
    if choice.mode == "tool":
        block["name"] = choice.name
    if parallel is not None and choice.mode != "none":
        block["disable_parallel_tool_use"] = not parallel
    return block


_IMAGES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_PDF = "application/pdf"
_KINDS: Mapping[Json, BlockKind] = MappingProxyType(
    {
        "text": "text",
        "thinking": "thinking",
        "redacted_thinking": "thinking",
        "tool_use": "call",
        "tool_result": "result",
    }
)


class RequestWriter(Translation[Block]):
    """The translation of one chat of another dialect."""

    title = TITLE

    def body(self) -> Block:
        chat = self.chat
        self._refuse()
        system, groups = self._conversation()
        tools = self._tools(groups)
        body: Block = {"model": self.model, "max_tokens": self.generation.max_output}
        self._write_scalars(SCALARS, chat, body)
        if system:
            body["system"] = shortened(system)
        body["messages"] = [{"role": group.role, "content": shortened(group.blocks)} for group in groups]
        if tools:
            body["tools"] = tools
        if stop := [s for s in chat.stop if s.strip()]:
            body["stop_sequences"] = stop
        self._drop_field("stop", len(stop) < len(chat.stop))
        if chat.stream:
            body["stream"] = True
        thinking = self._reasoning(body, groups)
        if choice := self._tool_choice(thinking):
            body["tool_choice"] = choice
        self._sampling(body, thinking)
        self._format(body)
        self._account(body)
        return body

    # fields

    def _account(self, body: Block) -> None:
        """The end user; drops fields without a place."""
        chat = self.chat
        if chat.user is not None and len(chat.user) <= MAX_USER_ID:
            body["metadata"] = {"user_id": chat.user}
        self._drop_field("user", chat.user is not None and len(chat.user) > MAX_USER_ID)
        self._drop_field("metadata", chat.metadata)
        self._drop_placeless()

    def _sampling(self, body: Block, thinking: bool) -> None:
        """Removes the sampling settings that the model does not accept, and drops them if they are not the default."""
        chat, sampling = self.chat, self.generation.sampling
        if sampling == "none" or thinking:
            keeps_top_p = sampling != "none" and (chat.top_p or 0) >= LEAST_TOP_P_WITH_THINKING
            for name in ("temperature", "top_k") if keeps_top_p else ("temperature", "top_p", "top_k"):
                is_default = name == "temperature" and chat.temperature == 1
                self._drop_field(name, body.pop(name, None) is not None and not is_default)
            return
        if chat.temperature is None:
            return
        if not 0 <= chat.temperature <= 1:
            path = self.spelling.field("temperature")
            raise BadRequest(f"{path} is {chat.temperature!r}; {TITLE} accepts 0 to 1", param=path)
        if sampling == "one":
            self._drop_field("top_p", body.pop("top_p", None) is not None)

    def _format(self, body: Block) -> None:
        response_format = self.chat.response_format
        # The prompt asks for an object without a schema (crossing.py).
        if response_format is None or response_format.kind != "json_schema":
            return
        if not self.generation.schemas:
            raise Unsupported(
                self.spelling.field("response_format"), TITLE, f"{self.model!r} has no structured outputs"
            )
        schema = as_object(response_format.schema, self.spelling.field("response_format.schema"))
        titles = {"title": response_format.name, "description": response_format.description}
        labelled = {**{k: v for k, v in titles.items() if v is not None}, **schema}
        output = body.setdefault("output_config", {})
        accepted, lost = output_schema(labelled, self.spelling.field("response_format.schema"))
        self.dropped.update(lost)
        as_object(output, "output_config")["format"] = {"type": "json_schema", "schema": accepted}

    # thinking

    def _reasoning(self, body: Block, groups: list[RoleGroup[Block]]) -> bool:
        """Whether thinking is on."""
        reasoning = self.chat.reasoning
        if reasoning is None:
            return False
        explicit = is_explicit(reasoning)
        if reasoning.mode == "disabled" or (reasoning.effort == "none" and not explicit):
            self._disable_thinking(reasoning, body)
            return False
        # Groq's word for what is anyway
        effort = None if reasoning.effort in (None, "", "default") else reasoning.effort
        if effort is None and not explicit:
            return False
        self._check_effort(effort)
        return self._enable_thinking(reasoning, effort, body, body, "max_tokens", groups)

    # tools

    def _tools(self, groups: list[RoleGroup[Block]]) -> list[Block]:
        if self.chat.tools:
            return [self._tool(tool, path) for path, tool in tools_of(self.chat.tools)]
        if not self._has_calls:
            return []
        # Tool calls in the history want their tools; one that is not offered any more may not be called again.
        names = [str(b["name"]) for group in groups for b in group.blocks if b["type"] == "tool_use"]
        return [{"name": name, "input_schema": dict(NO_PARAMETERS)} for name in dict.fromkeys(names)]

    def _tool(self, tool: Tool, path: str) -> Block:
        if isinstance(tool, HostedTool):
            return for_messages(tool)
        if isinstance(tool, Opaque):
            raise Unsupported(path, TITLE, f"the format has no tool of type {tool.kind!r}")
        block: Block = {"name": tool.name}
        if tool.description:
            block["description"] = tool.description
        where = self._member(path, "parameters")
        schema = self._uncombined(schema_of(tool.parameters, where), where)
        held = strict_schema(schema) if tool.strict and self.generation.schemas else None
        block["input_schema"] = schema if held is None else held
        if self.generation.schemas and (held is not None or tool.strict is False):
            block["strict"] = tool.strict
        self._drop_member(path, "strict", tool.strict and held is None)
        if tool.cache is not None:
            block["cache_control"] = cache_control(tool.cache)
        self._drop_extras(tool.extras, path)
        return block

    def _tool_choice(self, thinking: bool) -> Block | None:
        chat = self.chat
        choice, single = chat.tool_choice, chat.parallel_tool_calls is False
        if not chat.tools:
            self._drop_field("tool_choice", choice is not None and choice.mode in FORCED)
            self._drop_field("parallel_tool_calls", single)
            return {"type": "none"} if self._has_calls else None
        if choice is not None and choice.mode in FORCED and thinking:
            self._drop_field("tool_choice", True)
            choice = ToolChoice("auto")
        if choice is None:
            choice = ToolChoice("auto") if single else None
        self._drop_field("parallel_tool_calls", single and choice is not None and choice.mode == "none")
        return None if choice is None else _choice(choice, False if single else None)

    # the conversation

    def _plain(self, text: str) -> Block:
        return {"type": "text", "text": text}

    def _kind(self, block: Block) -> BlockKind:
        return _KINDS.get(block["type"], "media")

    def _strip(self, block: Block) -> None:
        block["text"] = str(block["text"]).rstrip()

    def _block(self, part: Part, path: str) -> Block | None:
        """None: the part is dropped."""
        match part:
            case Text():
                return self._marked(self._text_block(part.text, path), part.cache, part.extras, path)
            case Refusal():
                return self._marked(self._text_block(part.text, path), None, part.extras, path)
            case Image():
                self._drop_member(path, "detail", part.detail not in (None, "auto"))
                return self._marked(self._image(part.source, path), part.cache, part.extras, path)
            case Document():
                return self._marked(self._document(part, path), part.cache, part.extras, path)
            case Audio():
                raise Unsupported(path, TITLE, "the format has no audio")
            case Thinking():
                if not part.signature:
                    self.dropped.add(path)
                    return None
                block: Block = {"type": "thinking", "thinking": part.text, "signature": part.signature}
                return self._marked(block, None, part.extras, path)
            case RedactedThinking():
                return self._marked({"type": "redacted_thinking", "data": part.data}, None, part.extras, path)
            case ToolCall():
                return self._marked(self._tool_use(part, path), part.cache, part.extras, path)
            case ToolResult():
                return self._marked(self._tool_result(part, path), part.cache, part.extras, path)
            case Opaque():
                raise Unsupported(path, TITLE, f"the format has no part of type {part.kind!r}")
            case _:
                assert_never(part)

    def _marked(self, block: Block | None, cache: CacheMark | None, extras: Extras, path: str) -> Block | None:
        self._drop_extras(extras, path)
        if block is not None and cache is not None:
            block["cache_control"] = cache_control(cache)
        return block

    def _text_block(self, text: str, path: str) -> Block | None:
        """Drops empty text and text of only white space, which Anthropic refuses."""
        if text and not text.isspace():
            return {"type": "text", "text": text}
        self._drop_if(path, text)
        return None

    def _image(self, source: Inline | Url | FileRef, path: str) -> Block:
        match source:
            case Inline():
                media_type = type_of_image(source.media_type, source.data)
                if media_type == _PDF:
                    return {"type": "document", "source": source_of(Inline(_PDF, source.data))}
                if media_type not in _IMAGES:
                    raise BadRequest(
                        f"{path} is {source.media_type!r}; {TITLE} accepts {', '.join(sorted(_IMAGES))} and PDF",
                        param=path,
                    )
                return {"type": "image", "source": source_of(Inline(media_type, source.data))}
            case Url():
                self._fetchable(source.url, path)
                is_pdf = source.media_type == _PDF or source.url.split("?")[0].lower().endswith(".pdf")
                return {"type": "document" if is_pdf else "image", "source": source_of(source)}
            case FileRef():
                raise Unsupported(path, TITLE, "the file was uploaded to another provider")
            case _:
                assert_never(source)

    def _document(self, part: Document, path: str) -> Block:
        source = part.source
        match source:
            case FileRef():
                raise Unsupported(path, TITLE, "the file was uploaded to another provider")
            case Url():
                self._fetchable(source.url, path)
            case Inline() if source.media_type != _PDF and not source.media_type.startswith("text/"):
                raise BadRequest(f"{path} is {source.media_type!r}; {TITLE} accepts PDF and text", param=path)
            case Inline():
                pass
            case _:
                assert_never(source)
        block: Block = {"type": "document", "source": document_source(source, path)}
        if part.name:
            block["title"] = part.name
        return block

    @staticmethod
    def _fetchable(url: str, path: str) -> None:
        if not url.lower().startswith(("https://", "http://")):
            raise BadRequest(f"{path} is not an http(s) URL", param=path)

    def _tool_use(self, part: ToolCall, path: str) -> Block:
        arguments = self._arguments_of_call(part, path)
        return {"type": "tool_use", "id": tool_id(part.id), "name": part.name, "input": arguments}

    def _tool_result(self, part: ToolResult, path: str) -> Block:
        call_id, content = self._call_id_and_blocks(part, path)
        block: Block = {"type": "tool_result", "tool_use_id": call_id}
        if content:
            block["content"] = shortened(content)
        if part.is_error:
            # `all content must be type "text" if "is_error" is true`
            is_text = all(each["type"] == "text" for each in content)
            self._drop_member(path, "is_error", not is_text)
            if is_text:
                block["is_error"] = True
        return block

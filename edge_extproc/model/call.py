"""The request of a caller, in two levels of detail.

`Call` has the few fields that authorization, limits, routing and billing need, together with the caller's body.
`Chat` is the whole conversation, independent of the wire format. It is read only if a call is translated to another
format, or if a stage needs its content.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from .content import NO_EXTRAS, CacheMark, Extras, Json, Message, Nothing, Opaque
from .frozen_dataclass import frozen_dataclass
from .spelling import PLAIN, Spelling

Operation: TypeAlias = Literal["chat", "count_tokens", "embeddings", "completions", "models", "passed", "stored", "mcp"]
"""`passed`: an operation that is authenticated, routed and metered, but not translated. `stored`: an operation on what
the gateway stores for its callers. `mcp`: a request to an MCP server."""
NO_TIERS: Mapping[str, str] = Nothing()
NO_FOREIGN: Mapping[str, frozenset[bytes]] = Nothing()


@frozen_dataclass
class StoredCall:
    """What the store of conversations adds to a call."""

    reply_id: str
    """The id of the reply, if the gateway writes the reply."""
    keeps: bool
    """Whether the caller wants the reply stored."""
    input: bytes
    """The caller's own items, without the stored context: a JSON array."""
    previous: str | None = None
    """The id of the stored reply that the call continues."""
    chain: tuple[str, ...] = ()
    """The ids of the stored replies before this call, oldest first."""
    conversation: str | None = None
    """The id of the stored conversation that the call belongs to."""

    @property
    def has_context(self) -> bool:
        """Whether the body of the call contains stored items."""
        return self.previous is not None or self.conversation is not None


@frozen_dataclass
class Call:
    """One request, as its dialect's `read_call` returns it."""

    dialect: str
    operation: Operation
    model: str
    """The model name in the request."""
    stream: bool
    raw: bytes
    """The caller's body, unchanged."""
    wants_usage: bool = True
    """False if the caller's format has usage in streams only on request, and this caller did not request it."""
    max_output_tokens: int | None = None
    choices: int = 1
    stream_type: str | None = None
    """The content type of the stream for this caller, if it differs from the dialect's default (Gemini: a JSON
    array)."""
    betas: tuple[str, ...] = ()
    """Features that the caller enabled by a header (anthropic-beta), in the header's order."""
    format: str = ""
    """The wire format of an operation other than chat. `dialect` is then the format of error responses."""
    method: str = "POST"
    target: str = ""
    """For a `passed` operation: the path below the API's root, with the query."""
    content_type: str = "application/json"
    """The content type of the body."""
    error_dialect: str = ""
    """The dialect of error responses, if it is not `dialect`."""
    has_own_tools: bool = False
    """Whether it has tools, or items of tools, that only its dialect has and that the caller executes. Not every host
    of the dialect knows them."""
    background: bool = False
    """The provider may answer before it has worked, and go on when the caller has left."""
    other_models: tuple[str, ...] = ()
    """Further models that the body names, for a host that chooses among them."""
    tiers: Mapping[str, str] = NO_TIERS
    """The fields of the body that select another price than the usual one, and their values."""
    stored: StoredCall | None = None
    """None: the gateway has no store of conversations, or the dialect does not use it. `raw` contains the stored
    context."""
    foreign_reasoning: Mapping[str, frozenset[bytes]] = NO_FOREIGN
    """For each provider that cannot decrypt some of the encrypted reasoning in `raw`: these texts."""
    unreadable: frozenset[bytes] = frozenset()
    """Those of the provider that the request is written for."""


@frozen_dataclass
class FunctionTool:
    """A function that the model may call."""

    name: str
    description: str | None = None
    parameters: Json = None
    """A JSON Schema; None if the request has none."""
    strict: bool | None = None
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)
    """Where it stood in the caller's body, as `tools[0]`."""


@frozen_dataclass
class CustomTool(FunctionTool):
    """A tool whose input is free text (OpenAI's custom tools). `description` and `parameters` are those of the function
    that replaces it in formats without such tools: it has one string parameter, `input`."""

    text: str | None = None
    """The description, as the caller gave it."""
    format: Json = None
    """The constraint of the input as OpenAI Responses spells it: {"type": "grammar", "syntax": …, "definition": …}."""


@frozen_dataclass
class ReplacedTool(Opaque):
    """A tool that only its dialect has. Another format gets `functions` in its place."""

    functions: tuple[FunctionTool, ...] = ()
    lost: tuple[str, ...] = ()
    """Paths of the fields that `functions` do not have."""


HostedService: TypeAlias = Literal["web_search", "web_fetch", "code_execution"]


@frozen_dataclass
class HostedTool(Opaque):
    """A tool that the provider executes, and that several formats have."""

    service: HostedService = "web_search"
    allowed_domains: tuple[str, ...] = ()
    """The only domains that it may use. Empty: all."""
    blocked_domains: tuple[str, ...] = ()
    location: Mapping[str, Json] | None = None
    """The approximate place of the end user: city, country, region, timezone."""
    max_uses: int | None = None
    lost: tuple[str, ...] = field(default=(), compare=False)
    """Paths of its fields that no other format has."""


Tool: TypeAlias = FunctionTool | Opaque


@frozen_dataclass
class ToolChoice:
    """Whether the model may, must or must not call tools."""

    mode: Literal["auto", "required", "none", "tool"]
    name: str | None = None
    """The name of the tool if `mode` is "tool"."""


@frozen_dataclass
class ResponseFormat:
    """The required format of the reply's text."""

    kind: Literal["text", "json_object", "json_schema"]
    schema: Json = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None
    any_root: bool = False
    """Whether the root of the schema may be no object in the caller's format, which then restores the reply."""


@frozen_dataclass
class Reasoning:
    """How much the model should reason: an effort, a budget of tokens, or both."""

    mode: Literal["enabled", "disabled", "adaptive"] | None = None
    """Anthropic's `thinking.type`; None if the caller gave only an effort."""
    effort: str | None = None
    budget_tokens: int | None = None
    extras: Extras = NO_EXTRAS


@frozen_dataclass
class Chat:
    """A chat request, independent of the wire format. None means that the request does not have the field."""

    dialect: str
    """The dialect of the request, and of its `extras` and `Opaque` parts."""
    model: str
    messages: tuple[Message, ...]
    stream: bool = False
    include_usage: bool = False
    tools: tuple[Tool, ...] = ()
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop: tuple[str, ...] = ()
    n: int | None = None
    seed: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    service_tier: str | None = None
    user: str | None = None
    """The id of the end user, for the provider's abuse detection."""
    metadata: Mapping[str, Json] | None = None
    extras: Extras = NO_EXTRAS
    needed: tuple[str, ...] = ()
    """Fields that only a provider of `dialect` supports and that are essential for the reply, such as a stored
    conversation, in the caller's spelling. A call with such fields is not translated."""
    storable: tuple[str, ...] = field(default=(), compare=False)
    """Those of `needed` that name what the gateway's store of conversations did not replace: there is no store, or it
    does not have the record."""
    lost: tuple[str, ...] = field(default=(), compare=False)
    """Paths in the caller's body that were left out before a writer got the chat."""
    spelling: Spelling = field(default=PLAIN, compare=False, repr=False)
    """How the caller spelled the fields. A writer names what it drops or refuses by it."""


@frozen_dataclass
class Written:
    """A request body for one dialect, and the fields of the request that it has no place for."""

    body: bytes
    dropped: tuple[str, ...] = ()
    """Paths in the caller's spelling, such as `messages[2].name`; sorted, without duplicates."""
    asks_for_json: bool = False
    """The format has no JSON mode, so the prompt asks for a JSON object. The reply must be checked."""

"""What the caller asks.

`Call` is the cheap view: enough to authenticate, limit, route and bill, with the caller's own bytes beside it.
`Chat` is the whole conversation in our own nouns, read only when a call crosses from one wire format to
another (or when a stage must see its content).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Literal, TypeAlias

from .content import NO_EXTRAS, CacheMark, Extras, Json, Message, Opaque
from .noun import noun
from .spelling import PLAIN, Spelling

Operation: TypeAlias = Literal["chat", "count_tokens", "embeddings", "completions", "models", "passed"]
"""`passed` is whatever we authenticate, route and meter, and do not translate."""


@noun
class Call:
    """One request as its dialect's `read_call` saw it."""

    dialect: str
    operation: Operation
    model: str
    """As the caller named it."""
    stream: bool
    raw: bytes
    """The caller's body, untouched."""
    wants_usage: bool = True
    """False where the caller's format gives usage in a stream only on request and this caller did not ask."""
    max_output_tokens: int | None = None
    choices: int = 1
    stream_type: str | None = None
    """The content type in which this caller wants a stream, where that is not its dialect's own (Gemini: a JSON
    array)."""
    betas: tuple[str, ...] = ()
    """Features of the caller's own format that it switched on in a header (anthropic-beta), in its order."""
    format: str = ""
    """Of an operation other than chat: its wire format. `dialect` then is the one in whose words its caller hears
    errors."""
    method: str = "POST"
    target: str = ""
    """Of a call that is only passed on: where it goes below the API's root, with its query."""
    content_type: str = "application/json"
    """Of the body."""


@noun
class FunctionTool:
    name: str
    description: str | None = None
    parameters: Json = None
    """JSON Schema, or None where the caller gave none."""
    strict: bool | None = None
    cache: CacheMark | None = None
    extras: Extras = NO_EXTRAS
    path: str = field(default="", compare=False, repr=False)
    """Where it stood in the caller's body, as `tools[0]`."""


Tool: TypeAlias = FunctionTool | Opaque


@noun
class ToolChoice:
    mode: Literal["auto", "required", "none", "tool"]
    name: str | None = None
    """Which tool, where `mode` is "tool"."""


@noun
class ResponseFormat:
    kind: Literal["text", "json_object", "json_schema"]
    schema: Json = None
    name: str | None = None
    description: str | None = None
    strict: bool | None = None


@noun
class Reasoning:
    """How much the model shall think. Callers give an effort, or a budget of tokens, or both."""

    mode: Literal["enabled", "disabled", "adaptive"] | None = None
    """Anthropic's switch; None where the caller gave only an effort."""
    effort: str | None = None
    budget_tokens: int | None = None
    extras: Extras = NO_EXTRAS


@noun
class Chat:
    """A whole chat request in our own nouns. None means that the caller did not say."""

    dialect: str
    """Whose `extras` and `Opaque` parts these are."""
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
    """An id of the end user, for the provider's abuse detection."""
    metadata: Mapping[str, Json] | None = None
    extras: Extras = NO_EXTRAS
    needed: tuple[str, ...] = ()
    """What only a provider of `dialect` can honour and no answer can do without (a stored conversation, say), as the
    caller spells it: where there is any, the call does not cross."""
    spelling: Spelling = field(default=PLAIN, compare=False, repr=False)
    """How the caller spelled the fields: so a writer names what it drops or refuses."""


@noun
class Written:
    """A request body for one dialect, and the caller's fields that it could not carry."""

    body: bytes
    dropped: tuple[str, ...] = ()
    """Paths in the caller's own spelling, such as `messages[2].name`; sorted, without repeats."""

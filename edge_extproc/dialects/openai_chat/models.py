"""The capabilities of models: reasoning effort levels, sampling settings, and the ids of calls."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from ...model.content import Json, RedactedThinking, Thinking
from ...model.host import HostProfile, Thoughts

# --- reasoning effort

_LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

# The first matching row applies. A model without a row gets no effort: hosts answer an unsupported effort with an
# error. OpenAI's API reference on ReasoningEffort: gpt-5.1 accepts none, low, medium and high; earlier models have no
# `none`; gpt-5-pro accepts only `high`; xhigh came after gpt-5.1-codex-max. Assumptions, on the safe side: codex models
# accept neither none nor minimal, newer pro models nothing below medium, and the rows of other makers.
_EFFORTS: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"(^|/)gpt-5-pro"), ("high",)),
    (re.compile(r"(^|/)gpt-5(\.\d)?-codex"), ("low", "medium", "high")),
    (re.compile(r"(^|/)gpt-5\.\d-pro"), ("medium", "high", "xhigh")),
    (re.compile(r"(^|/)gpt-5\.1(?!\d)"), ("none", "low", "medium", "high")),
    (re.compile(r"(^|/)gpt-5\.\d"), ("none", "low", "medium", "high", "xhigh")),
    (re.compile(r"(^|/)gpt-5(?!.*chat)"), ("minimal", "low", "medium", "high")),
    (re.compile(r"(^|/)o1-(mini|preview)"), ()),
    (re.compile(r"(^|/)(o\d|gpt-oss|gemini-(2\.5|3))"), ("low", "medium", "high")),
    (re.compile(r"(^|/)grok-3-mini"), ("low", "high")),
)


# Models that refuse stop sequences and sampling settings (`Unsupported value: 'temperature' does not support 0.7 with
# this model`): OpenAI's guide on reasoning models. From GPT-5.1 on they are accepted while the model does not think. Up
# to 5.4 it thinks only on request. Codex and pro models always think (AnswerDotAI/shell_sage#77,
# epam/ai-dial-chat#8538; of pro models it is assumed).
_NEVER_SAMPLED = re.compile(r"(^|/)(o\d|gpt-5(?!\.\d)(?!.*chat))")
_SAMPLED_UNTHINKING = re.compile(r"(^|/)gpt-5\.(\d)(?!.*chat)")
_LAST_UNTHINKING = 4
SAMPLING = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs")
_PENALTIES = ("presence_penalty", "frequency_penalty")
# Models of other makers, each with the settings that it refuses, by their makers' guides and by reports of refusals.
# Kimi K2.5 and later have fixed values, which depend on thinking (HKUDS/nanobot#4967, QuantumNous/new-api#5372). Grok 3
# mini and Grok 4 take no penalties (ChatGPTNextWeb/NextChat#6593, miaoxworld/NativeTavern#83). DeepSeek's reasoner
# ignores the other settings, by its guide.
_REFUSED_SAMPLING: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"(^|/)kimi-k(2\.[5-9]|[3-9])"), ("temperature", "top_p", *_PENALTIES)),
    (re.compile(r"(^|/)grok-(3-mini|[4-9]|code)"), _PENALTIES),
    (re.compile(r"(^|/)deepseek-reasoner"), ("logprobs", "top_logprobs")),
)
# xAI's guide on reasoning: no stop sequences beside it.
_NEVER_STOPPED = re.compile(r"(^|/)grok-(3-mini|code|[4-9](?!.*non-reasoning))")


def refused_sampling(model: str, effort: str | None) -> tuple[str, ...]:
    """The sampling settings that a model refuses at this effort."""
    name = model.lower()
    if _NEVER_SAMPLED.search(name):
        return SAMPLING
    match = _SAMPLED_UNTHINKING.search(name)
    if match is None:
        return next((names for pattern, names in _REFUSED_SAMPLING if pattern.search(name)), ())
    is_unthinking = effort == "none" or (effort is None and int(match[2]) <= _LAST_UNTHINKING)
    return () if is_unthinking and "none" in efforts_of(name) else SAMPLING


def takes_stop(model: str) -> bool:
    name = model.lower()
    always_thinks = _SAMPLED_UNTHINKING.search(name) is not None and "none" not in efforts_of(name)
    return not always_thinks and _NEVER_SAMPLED.search(name) is None and _NEVER_STOPPED.search(name) is None


# OpenAI's guide on function calling: custom tools since GPT-5.
_CUSTOM_TOOLS = re.compile(r"(^|/)(gpt-([5-9]|\d\d)(?!.*chat)|codex)")


def takes_custom_tools(model: str, host: HostProfile) -> bool:
    """Whether the model and its host support tools with free text as input."""
    return host.custom_tools and _CUSTOM_TOOLS.search(model.lower()) is not None


# Models that think unless `thinking` has the type `disabled`: the guides of Moonshot, Z.AI and DeepSeek.
# Kimi K2 Thinking always thinks.
_SWITCHED = re.compile(r"(^|/)(kimi-k(2\.[5-9]|[3-9])|glm-(4\.[5-9]|[5-9])|deepseek-(chat|v3\.[1-9]|v[4-9]))")
_NEVER_THINKS = re.compile(r"(^|/)(gpt-[34]|gpt-5.*chat|chatgpt-4)")


def has_thinking_switch(model: str) -> bool:
    return _SWITCHED.search(model.lower()) is not None


def never_thinks(model: str) -> bool:
    """Whether the model is known not to think, so that a request to turn thinking off loses nothing."""
    return _NEVER_THINKS.search(model.lower()) is not None


# OpenAI's own models, whose schemas of tools have rules of their own. gpt-oss runs on the servers of others.
_OPENAI = re.compile(r"(^|/)(gpt-(?!oss)|chatgpt|codex|o\d)")


def is_openai(model: str) -> bool:
    return _OPENAI.search(model.lower()) is not None


def efforts_of(model: str) -> tuple[str, ...]:
    """The effort levels that a model is known to accept."""
    name = model.lower()
    return next((levels for pattern, levels in _EFFORTS if pattern.search(name)), ())


# The thinking tokens of each level, for callers that give only a budget. 1024 is Anthropic's minimum; each level has
# twice as many as the previous one.
_BUDGETS: tuple[tuple[int, str], ...] = (
    (16_384, "max"),
    (8_192, "xhigh"),
    (4_096, "high"),
    (2_048, "medium"),
    (0, "low"),
)


def effort_for(model: str, effort: str) -> str | None:
    """The level of the model nearest to `effort` (the highest one not above it, otherwise the lowest), or None."""
    levels = efforts_of(model)
    if effort == "none":
        return effort if effort in levels else None
    if effort not in _LEVELS:
        return effort if levels else None
    thinking = [level for level in levels if level != "none"]
    below = [level for level in thinking if _LEVELS.index(level) <= _LEVELS.index(effort)]
    nearest = below[-1:] or thinking[:1]
    return nearest[0] if nearest else None


def effort_of_budget(budget: int) -> str:
    return next(level for least, level in _BUDGETS if max(budget, 0) >= least)


# --- writing a request

SERVICE_TIERS: Mapping[str, str] = MappingProxyType(
    {"standard_only": "default", **{tier: tier for tier in ("auto", "default", "flex", "scale", "priority")}}
)
WANTED: frozenset[Thoughts] = frozenset({"reasoning_content", "reasoning_details"})
"""Hosts that require unsigned thinking of the history."""

LONGEST_CALL_ID = 40  # OpenAI: `messages.[1].tool_calls.[0].id: string too long ... maximum length 40`
_CALL_ID = re.compile(rf"[a-zA-Z0-9_-]{{1,{LONGEST_CALL_ID}}}")


# Mistral's models: their hosts accept only ids of nine letters and digits.
MISTRALS = re.compile(r"(mis|minis|magis|codes|devs|vox|pix|mix|maths)tral")
# They refuse a message of the user after one of a tool (zed-industries/zed#37021, NousResearch/hermes-agent#20154).
# This message of the assistant goes between them.
RESULT_SEEN: Mapping[str, Json] = MappingProxyType({"role": "assistant", "content": "OK."})
_MISTRAL_CALL_ID = re.compile(r"[a-zA-Z0-9]{9}")
# Moonshot's guide on tool calling with Kimi K2: the model expects ids of this shape in its history.
_KIMI_CALL_ID = re.compile(r"functions\.[a-zA-Z0-9_-]+:\d+")


def call_id(id: str, model: str) -> str:
    """An id that the model's hosts accept (OpenAI: 40 characters). It is the same for a call and its result."""
    is_mistral = MISTRALS.search(model.lower()) is not None
    if (_MISTRAL_CALL_ID if is_mistral else _CALL_ID).fullmatch(id):
        return id
    if "kimi" in model.lower() and _KIMI_CALL_ID.fullmatch(id):
        return id
    digest = hashlib.sha256(id.encode("utf-8", "surrogatepass")).hexdigest()
    return digest[:9] if is_mistral else f"call_{digest[:32]}"


def is_unsigned(part: Thinking | RedactedThinking) -> bool:
    """Whether thinking has only text, and no encrypted or signed part."""
    sealed = ("encrypted_content", "thoughtSignature")
    return isinstance(part, Thinking) and not part.signature and not any(part.extras.get(key) for key in sealed)


# --- hosts that require reasoning


def with_reasoning(message: dict[str, Json]) -> bool:
    """Adds a substitute to an assistant's message without reasoning. Returns whether it did.

    Hosts that require reasoning cannot get that of another model, which is encrypted or was never sent. Moonshot
    accepts any text (anomalyco/opencode#10996). DeepSeek V4 refuses an empty text (NousResearch/hermes-agent#18263),
    requires one in replies without calls too (#15228 there), and gives empty replies if each message has the same text
    (Lingtai-AI/lingtai-kernel#9). So the substitute describes the message."""
    if message.get("role") != "assistant" or message.get("reasoning_content"):
        return False
    reasoning, calls, content = message.pop("reasoning", None), message.get("tool_calls"), message.get("content")
    if isinstance(reasoning, str) and reasoning:
        message["reasoning_content"] = reasoning
        return True
    omitted: list[str] = []
    for call in calls if isinstance(calls, list) else ():
        match call:
            case {"id": str(id), "function": {"name": str(name)}}:
                omitted.append(f"{name} ({id})")
    excerpt = content.strip()[:_LONGEST_SUBSTITUTE] if isinstance(content, str) else ""
    message["reasoning_content"] = f"I call {', '.join(omitted)}." if omitted else f"I answer: {excerpt}"
    return True


_LONGEST_SUBSTITUTE = 100


def has_calls(messages: Sequence[Json]) -> bool:
    return any(isinstance(message, dict) and message.get("tool_calls") for message in messages)


def is_thinking(body: Mapping[str, Json]) -> bool:
    """Whether thinking is on, as it is by default at such hosts."""
    match body:
        case {"thinking": {"type": "disabled"}} | {"reasoning_effort": "none"}:
            return False
        case _:
            return True

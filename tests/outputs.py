"""The wire formats of each kind of host, and an exchange of each that shows a feature: the recorded ones where
recordings lie beside the checkout, and else those of the project's own set."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from typing import Any

import recordings
from sdk_calls import Seen

from edge_extproc import registry
from edge_extproc.errors import UpstreamError
from edge_extproc.model.content import Text, Thinking, ToolCall
from edge_extproc.model.reply import Failed, Reply, fold
from edge_extproc.providers.base import ProviderSettings


@dataclass(frozen=True)
class Output:
    title: str
    provider: str
    """Whose exchanges these are."""
    reply: str
    stream: str
    """APIs of the exchanges."""
    dialect: str


# One row for each wire format of each kind of host; the key is the provider (and model) in gateway.MANY.
OUTPUTS = {
    "openai": Output("OpenAI chat", "openai", "chat_completions", "chat_completions", "openai_chat"),
    "openai-responses": Output("OpenAI responses", "openai", "responses", "responses", "openai_responses"),
    "anthropic": Output("Anthropic", "anthropic", "messages", "messages", "anthropic_messages"),
    "google": Output("Google AI Studio", "gemini", "generate_content", "stream_generate_content", "gemini_generate"),
    "vertex-gemini": Output(
        "Vertex AI, Gemini", "vertex", "generate_content", "stream_generate_content", "gemini_generate"
    ),
    "vertex-claude": Output(
        "Vertex AI, Claude",
        "vertex",
        "vertex_raw_predict",
        "vertex_stream_raw_predict",
        "anthropic_messages",
    ),
    "azure": Output("Azure, chat", "azure", "chat_completions", "chat_completions", "openai_chat"),
    "azure-responses": Output("Azure, responses", "azure", "responses", "responses", "openai_responses"),
    "bedrock-converse": Output("Bedrock Converse", "bedrock", "converse", "converse_stream", "bedrock_converse"),
    "bedrock-invoke": Output(
        "Bedrock InvokeModel, Claude",
        "bedrock",
        "invoke_model",
        "invoke_model_stream",
        "anthropic_messages",
    ),
    "compatible": Output(
        "OpenAI-compatible (OpenRouter)", "openrouter", "chat_completions", "chat_completions", "openai_chat"
    ),
}
# What a recording must show to be the answer to a feature. An image or a schema is in the question alone: any plain
# text answers it.
SHOWS = {
    "tools": ("tool_calls",),
    "parallel tools": ("parallel_tool_calls",),
    "reasoning": ("reasoning_output", "reasoning_tokens"),  # the first that there is: OpenAI's chat tells tokens alone
}
OTHERS = {"tool_calls", "parallel_tool_calls", "reasoning_output"}
# Other things that a recording may show, which are no part of these cells.
BESIDE = {
    "audio_input",
    "citations",
    "custom_tools",
    "guardrail",
    "legacy_functions",
    "logprobs",
    "n>1",
    "redacted_thinking",
    "refusal",
    "server_tools",
    "stop_sequences",
}


@functools.cache
def recorded(output: Output, feature: str, stream: bool) -> dict[str, Any] | None:
    """The first recording that answers this, and shows nothing beside it."""
    for wanted in SHOWS.get(feature, ("",)):
        found = showing(output, feature, wanted, stream)
        if found is not None:
            return found
    return None


def showing(output: Output, feature: str, wanted: str, stream: bool) -> dict[str, Any] | None:
    for row in recordings.index():
        shows = set(row["features"])
        if (row["provider"], row["api"], row["status"]) != (
            output.provider,
            output.stream if stream else output.reply,
            200,
        ):
            continue
        if row["streaming"] != stream or shows & BESIDE or row["stream_format"] == "json_array":
            continue
        if output.dialect == "anthropic_messages" and "claude" not in (row["model"] or ""):
            continue
        if (wanted not in shows) if wanted else bool(shows & OTHERS):
            continue
        if feature == "tools" and "parallel_tool_calls" in shows:
            continue
        found: dict[str, Any] = recordings.whole(row)
        if found["response"].get("body") and is_whole(found, output, stream):
            return found
    return None


def is_whole(found: dict[str, Any], output: Output, stream: bool) -> bool:
    """Some recordings break off, or hold an error; they are for other tests."""
    try:
        return source(recordings.body(found["response"]), media_type(output, stream), output, stream).choices != ()
    except UpstreamError:
        return False


def media_type(output: Output, stream: bool) -> str:
    if not stream:
        return "application/json"
    return "application/vnd.amazon.eventstream" if output.provider == "bedrock" else "text/event-stream"


def source(body: bytes, content_type: str, output: Output, stream: bool) -> Reply:
    """What the provider said, read by its own dialect."""
    dialect = registry.load("dialects", output.dialect)
    if not stream:
        return dialect.read_reply(body)
    if output.provider == "bedrock":
        host = registry.load("providers", "bedrock").build(ProviderSettings("b", "https://b.example", None))
        unframer = host.unframe(output.dialect, content_type)
        if unframer is not None:
            body = unframer.feed(body) + unframer.close()
            content_type = dialect.stream_type
    reader = dialect.reader(content_type)
    events = [event for frame in reader.frames(body) for event in reader.read(frame)]
    events += reader.close()[1]
    if any(isinstance(event, Failed) for event in events):
        raise UpstreamError("the recorded stream broke")
    return fold(dialect.name, events)


def expected(reply: Reply) -> Seen:
    parts = reply.choices[0].parts if reply.choices else ()
    usage = reply.usage
    return Seen(
        "".join(part.text for part in parts if isinstance(part, Text)),
        [(part.name, json.loads(part.arguments or "{}")) for part in parts if isinstance(part, ToolCall)],
        "".join(part.text for part in parts if isinstance(part, Thinking)),
        usage.prompt if usage is not None else 0,
        usage.completion if usage is not None else 0,
    )

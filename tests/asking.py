"""The providers of the tests: the format of each, and the request that it gets for a caller's request."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from edge_extproc.dialects.base import Dialect
from edge_extproc.model.host import UNKNOWN_HOST, HostProfile
from edge_extproc.providers.openai import OPENAI_HOST
from edge_extproc.providers.openai_compatible import row
from edge_extproc.registry import load

CHAT, RESPONSES, MESSAGES, GEMINI, CONVERSE = (
    "openai_chat",
    "openai_responses",
    "anthropic_messages",
    "gemini_generate",
    "bedrock_converse",
)
DIALECTS: dict[str, Dialect] = {name: load("dialects", name) for name in (CHAT, RESPONSES, MESSAGES, GEMINI, CONVERSE)}
CALLERS = tuple(DIALECTS)
PATHS = {
    CHAT: "/v1/chat/completions",
    RESPONSES: "/v1/responses",
    MESSAGES: "/v1/messages",
    GEMINI: "/v1beta/models/m:generateContent",
    CONVERSE: "/model/m/converse",
}
"""The path of a request that does not stream, by the caller's format."""
Json = dict[str, Any]


@dataclass(frozen=True)
class Provider:
    """A provider and model that may answer a turn."""

    dialect: str
    model: str
    host: HostProfile = UNKNOWN_HOST


PROVIDERS = {
    "claude": Provider(MESSAGES, "claude-sonnet-4-5"),
    "claude 4.6": Provider(MESSAGES, "claude-opus-4-6"),
    "claude on bedrock": Provider(CONVERSE, "anthropic.claude-sonnet-4-5-20250929-v1:0"),
    "gpt": Provider(CHAT, "gpt-5.2", OPENAI_HOST),
    "gpt by responses": Provider(RESPONSES, "gpt-5.2", OPENAI_HOST),
    "gemini": Provider(GEMINI, "gemini-3-flash-preview"),
    "kimi": Provider(CHAT, "kimi-k2.6", row("moonshot").profile),
    "deepseek": Provider(CHAT, "deepseek-v4-pro", row("deepseek").profile),
}


def provider_request(caller: str, body: Json, path: str, provider: Provider) -> tuple[bytes, tuple[str, ...]]:
    """The request that the provider gets, on the raw lane if it has the caller's format."""
    dialect = DIALECTS[caller]
    call = dialect.read_call(json.dumps(body).encode(), "chat", ((":path", path),), path)
    if provider.dialect == caller:
        written = dialect.splice(call, provider.model, provider.host)
    else:
        written = DIALECTS[provider.dialect].write_chat(dialect.read_chat(call), provider.model, provider.host)
    return written.body, written.dropped

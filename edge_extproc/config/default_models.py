"""What is served without a configuration file: the providers whose keys are in the environment, and their models.

The names are those that /v1/models lists; any other name of a family is passed on too. `chat` and `embedding` are there
whatever the provider is, so that an example works with any key.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from .secrets import KEY_PREFIX

CHAT, EMBEDDING = "chat", "embedding"


@dataclass(frozen=True, slots=True)
class Known:
    """A provider of which only the key has to be given."""

    name: str
    """Of the provider, and of its kind."""
    keys: tuple[str, ...]
    """Variables that may hold its key. The first that does counts, as in the provider's own SDK."""
    chat: str
    """A small model that every account has."""
    embedding: str | None
    models: tuple[str, ...]
    families: tuple[str, ...]


KNOWN = (
    Known(
        "openai",
        ("OPENAI_API_KEY",),
        "gpt-4o-mini",
        "text-embedding-3-small",
        (
            *("gpt-5", "gpt-5-mini", "gpt-5-nano", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-4o", "gpt-4o-mini"),
            *("o3", "o4-mini", "text-embedding-3-small", "text-embedding-3-large"),
        ),
        (
            *("gpt-*", "o1*", "o3*", "o4*", "chatgpt-*", "codex-*", "text-embedding-*"),
            *("dall-e-*", "tts-*", "whisper-*", "omni-moderation-*"),
        ),
    ),
    Known(
        "anthropic",
        ("ANTHROPIC_API_KEY",),
        "claude-haiku-4-5",
        None,
        ("claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"),
        ("claude-*",),
    ),
    Known(
        "google",
        ("GOOGLE_API_KEY", "GEMINI_API_KEY"),
        "gemini-2.5-flash",
        "gemini-embedding-001",
        ("gemini-2.5-pro", "gemini-2.5-flash", "gemini-2.5-flash-lite", "gemini-embedding-001"),
        ("gemini-*", "gemma-*"),
    ),
)


def needs_rehearsal(environ: Mapping[str, str]) -> bool:
    """Whether no provider's key is at hand."""
    return not any(_at_hand(environ))


def providers_and_models(environ: Mapping[str, str], rehearsal_port: int) -> tuple[list[str], list[str]]:
    """The lines of both sections."""
    found = list(_at_hand(environ))
    if not found:
        return _rehearsal(rehearsal_port)
    providers = [f"{known.name}: {{kind: {known.name}, api_key: {{env: {variable}}}}}" for known, variable in found]
    models = [_model(CHAT, found[0][0].name, found[0][0].chat)]
    embedding = next((known for known, _ in found if known.embedding is not None), None)
    if embedding is not None:
        models.append(_model(EMBEDDING, embedding.name, embedding.embedding))
    for known, _ in found:
        models += [_model(name, known.name) for name in (*known.models, *known.families)]
    return providers, models


def _at_hand(environ: Mapping[str, str]) -> Iterator[tuple[Known, str]]:
    """Those of which there is a key, and its variable. A key of this gateway is not one: applications have it in the
    same variables, and a gateway that is started beside them would send it to the provider."""
    for known in KNOWN:
        for variable in known.keys:
            if environ.get(variable, KEY_PREFIX).startswith(KEY_PREFIX) or not environ[variable]:
                continue
            yield known, variable
            break


def _rehearsal(port: int) -> tuple[list[str], list[str]]:
    url = json.dumps(f"http://127.0.0.1:{port}/v1")
    providers = [
        # Any key will do there, but as with the real ones there must be one.
        f"rehearsal-openai: {{kind: openai, base_url: {url}, api_key: rehearsal}}",
        f"rehearsal-anthropic: {{kind: anthropic, base_url: {url}, api_key: rehearsal}}",
    ]
    models = {
        CHAT: "rehearsal-openai",
        EMBEDDING: "rehearsal-openai",
        "rehearsal": "rehearsal-openai",
        "rehearsal-anthropic": "rehearsal-anthropic",
        "gpt-*": "rehearsal-openai",
        "claude-*": "rehearsal-anthropic",
        "*": "rehearsal-openai",
    }
    return providers, [_model(name, provider) for name, provider in models.items()]


def _model(name: str, provider: str, model: str | None = None) -> str:
    there = f", model: {json.dumps(model)}" if model is not None else ""
    return f"{json.dumps(name)}: [{{provider: {provider}{there}}}]"

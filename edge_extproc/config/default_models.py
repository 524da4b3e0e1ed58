"""The built-in configuration: the providers whose keys are in the environment, and their models.

/v1/models lists the models by name; any other name of a family is passed on too. The models `chat` and `embedding`
exist with every provider, so that an example works with any key. Each kind of provider declares its own defaults
(`DefaultProvider`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache

from .. import registry
from ..model.default_provider import DefaultProvider
from .secrets import KEY_PREFIX

CHAT, EMBEDDING = "chat", "embedding"


@cache
def default_providers() -> tuple[tuple[str, DefaultProvider], ...]:
    """Kind and default of each kind of provider that has one, in the order in which they are preferred."""
    kinds = ((name, registry.load("providers", name).default) for name in registry.names("providers"))
    return tuple(sorted(((name, default) for name, default in kinds if default is not None), key=lambda e: e[1].order))


def needs_rehearsal(environ: Mapping[str, str]) -> bool:
    """Whether no key of a provider is set."""
    return not any(_with_key(environ))


def providers_and_models(environ: Mapping[str, str], rehearsal_port: int) -> tuple[list[str], list[str]]:
    """The lines of the sections `providers` and `models`."""
    with_key = list(_with_key(environ))
    if not with_key:
        return _rehearsal(rehearsal_port)
    providers = [f"{kind}: {{kind: {kind}, api_key: {{env: {variable}}}}}" for kind, _, variable in with_key]
    first, default, _ = with_key[0]
    models = [_model(CHAT, first, default.chat)]
    embeddings = [(kind, default.embedding) for kind, default, _ in with_key if default.embedding is not None]
    if embeddings:
        models.append(_model(EMBEDDING, *embeddings[0]))
    for kind, default, _ in with_key:
        models += [_model(name, kind) for name in (*default.models, *default.families)]
    return providers, models


def _with_key(environ: Mapping[str, str]) -> Iterator[tuple[str, DefaultProvider, str]]:
    """Kind, default and variable of each provider whose key is set. A key of this gateway does not count: applications
    have it in the same variables, and a gateway started beside them would send it to the provider."""
    for kind, default in default_providers():
        for variable in default.keys:
            if environ.get(variable, KEY_PREFIX).startswith(KEY_PREFIX) or not environ[variable]:
                continue
            yield kind, default, variable
            break


def _rehearsal(port: int) -> tuple[list[str], list[str]]:
    url = json.dumps(f"http://127.0.0.1:{port}/v1")
    providers = [
        # The rehearsal provider accepts any key, and requires one as real providers do.
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

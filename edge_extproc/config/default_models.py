"""The built-in configuration: the providers whose keys are in the environment, the servers that run on this machine,
and their models.

/v1/models lists the models by name; any other name of a family is passed on too. The models `chat` and `embedding`
exist with every provider that has such models, so that an example works with any key. Each kind of provider declares
its own defaults (`DefaultProvider`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from .. import registry
from ..model.default_provider import DefaultProvider
from .secrets import KEY_PREFIX

CHAT, EMBEDDING = "chat", "embedding"
# A server on this machine lists its models without their operations. These are the names of embedding models in
# Ollama's library.
_EMBEDS = re.compile(r"embed|minilm|(?:^|/)bge-")


@dataclass(frozen=True, slots=True)
class BuiltinProvider:
    """A provider that the built-in configuration uses if its key is set."""

    name: str
    kind: str
    host: str | None
    """For a kind of many hosts."""
    default: DefaultProvider


@dataclass(frozen=True, slots=True)
class LocalHost:
    """A host that may run on this machine."""

    name: str
    kind: str
    url: str
    """Its default address."""
    variable: str
    """The environment variable with another address."""


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A host that runs on this machine."""

    name: str
    kind: str
    url: str
    models: tuple[str, ...]

    @property
    def chat(self) -> str | None:
        return next((name for name in self.models if not _EMBEDS.search(name)), None)

    @property
    def embedding(self) -> str | None:
        return next((name for name in self.models if _EMBEDS.search(name)), None)


@cache
def default_providers() -> tuple[BuiltinProvider, ...]:
    """In the order in which they are preferred."""
    found = []
    for kind in registry.names("providers"):
        plugin = registry.load("providers", kind)
        if plugin.default is not None:
            found.append(BuiltinProvider(kind, kind, None, plugin.default))
        found += [BuiltinProvider(host, kind, host, default) for host, default in plugin.default_hosts.items()]
    return tuple(sorted(found, key=lambda each: each.default.order))


def local_hosts() -> Iterator[LocalHost]:
    for kind in registry.names("providers"):
        plugin = registry.load("providers", kind)
        for host, variable in plugin.local_hosts.items():
            yield LocalHost(host, kind, plugin.hosts[host].base_url, variable)


def has_key(environ: Mapping[str, str]) -> bool:
    """Whether the key of any provider is set."""
    return bool(key_variables(environ))


def providers_and_models(
    environ: Mapping[str, str], rehearsal_port: int, local: Sequence[LocalServer] = ()
) -> tuple[list[str], list[str]]:
    """The lines of the sections `providers` and `models`."""
    with_key = key_variables(environ)
    if not with_key and not local:
        return _rehearsal(rehearsal_port)
    providers = [provider_line(each, f"{{env: {variable}}}") for each, variable in with_key]
    providers += [server_line(each) for each in local]
    return providers, models_of([*(each for each, _ in with_key), *local])


def models_of(providers: Sequence[BuiltinProvider | LocalServer]) -> list[str]:
    """The lines of the section `models`. The first provider that can serves `chat` and `embedding`."""
    models: dict[str, str] = {}
    for alias in (CHAT, EMBEDDING):
        names = [(each.name, _alias(each, alias)) for each in providers]
        preferred = next(((provider, name) for provider, name in names if name is not None), None)
        if preferred is not None:
            models[alias] = _model(alias, *preferred)
    for each in providers:
        for name in _names(each):
            models.setdefault(name, _model(name, each.name))
    return list(models.values())


def _alias(provider: BuiltinProvider | LocalServer, alias: str) -> str | None:
    source = provider.default if isinstance(provider, BuiltinProvider) else provider
    return source.chat if alias == CHAT else source.embedding


def _names(provider: BuiltinProvider | LocalServer) -> tuple[str, ...]:
    if isinstance(provider, LocalServer):
        return provider.models
    return (*provider.default.models, *provider.default.families)


def provider_line(provider: BuiltinProvider, api_key: str) -> str:
    """A line of the section `providers`. `api_key`: YAML."""
    host = f", host: {provider.host}" if provider.host is not None else ""
    return f"{provider.name}: {{kind: {provider.kind}{host}, api_key: {api_key}}}"


def server_line(server: LocalServer) -> str:
    """A line of the section `providers`."""
    return f"{server.name}: {{kind: {server.kind}, host: {server.name}, base_url: {json.dumps(server.url)}}}"


def key_variables(environ: Mapping[str, str]) -> list[tuple[BuiltinProvider, str]]:
    """Each provider whose key is set, with the variable. A key of this gateway does not count: applications have it in
    the same variables, and a gateway started beside them would send it to the provider."""
    set_ones = {name for name, value in environ.items() if value and not value.startswith(KEY_PREFIX)}
    found = ((each, next((n for n in each.default.keys if n in set_ones), None)) for each in default_providers())
    return [(each, variable) for each, variable in found if variable is not None]


def _rehearsal(port: int) -> tuple[list[str], list[str]]:
    url = json.dumps(f"http://127.0.0.1:{port}/v1")
    providers = [
        # The rehearsal provider accepts any key, and requires one as real providers do.
        # It stores no replies, which the real OpenAI does.
        f"rehearsal-openai: {{kind: openai, base_url: {url}, api_key: rehearsal, profile: {{stores_replies: false}}}}",
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

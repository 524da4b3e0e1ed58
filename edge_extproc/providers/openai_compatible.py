"""Hosts that speak OpenAI's chat format at an address of their own: rows of data, or just a `base_url` in config.

To add one, add a row: its name, its base URL, and the name under which genai-prices lists it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..errors import ConfigError
from .base import Host, ProviderSettings
from .openai import CHAT_ONLY, OpenAI, OpenAIKind

# Addresses as each host's own documentation gives them for the OpenAI SDK.
HOSTS: dict[str, Host] = {
    "cerebras": Host("https://api.cerebras.ai/v1", "cerebras"),
    "deepseek": Host("https://api.deepseek.com/v1", "deepseek"),
    "fireworks": Host("https://api.fireworks.ai/inference/v1", "fireworks"),
    "groq": Host("https://api.groq.com/openai/v1", "groq"),
    "huggingface": Host("https://router.huggingface.co/v1", "huggingface"),
    "mistral": Host("https://api.mistral.ai/v1", "mistral"),
    "ollama": Host("http://127.0.0.1:11434/v1", "ollama", needs_key=False),
    "openrouter": Host("https://openrouter.ai/api/v1", "openrouter"),
    "perplexity": Host("https://api.perplexity.ai", "perplexity"),
    "together": Host("https://api.together.xyz/v1", "together"),
    "vllm": Host("http://127.0.0.1:8000/v1", "vllm", needs_key=False),
    "xai": Host("https://api.x.ai/v1", "x-ai"),
}


class OpenAICompatibleKind:
    default_base_url = None
    needs_key = False
    hosts: Mapping[str, Host] = MappingProxyType(HOSTS)
    apis = OpenAIKind.apis

    def build(self, settings: ProviderSettings) -> OpenAI:
        """`options["host"]` names a row; without it the host is unknown to the price table, hence unpriced."""
        host = settings.options.get("host")
        return OpenAI(
            settings, kind="openai_compatible", price_list=row(host).price_list if host else "", spoken=CHAT_ONLY
        )


def row(host: str) -> Host:
    """Raises ConfigError that says which rows there are."""
    try:
        return HOSTS[host]
    except KeyError:
        raise ConfigError(f"no OpenAI-compatible host {host!r}; have {', '.join(sorted(HOSTS))}") from None


PLUGIN = OpenAICompatibleKind()

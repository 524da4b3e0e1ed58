"""The OpenAI-compatible hosts of the built-in configuration: those whose key is in the environment, and those that run
on this machine.

The variables are those of each host's own documentation. The models are names that the price lists know.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ..model.default_provider import DefaultProvider

WITH_KEY: Mapping[str, DefaultProvider] = MappingProxyType(
    {
        "mistral": DefaultProvider(
            order=10,
            keys=("MISTRAL_API_KEY",),
            chat="mistral-small-latest",
            embedding="mistral-embed",
            models=("mistral-small-latest", "mistral-medium-latest", "mistral-embed"),
            families=("mistral-*", "ministral-*", "magistral-*", "codestral-*", "devstral-*", "pixtral-*", "voxtral-*"),
        ),
        "deepseek": DefaultProvider(
            order=11,
            keys=("DEEPSEEK_API_KEY",),
            chat="deepseek-chat",
            embedding=None,
            models=("deepseek-chat", "deepseek-reasoner"),
            families=("deepseek-*",),
        ),
        "groq": DefaultProvider(
            order=12,
            keys=("GROQ_API_KEY",),
            chat="openai/gpt-oss-20b",
            embedding=None,
            models=("llama-3.3-70b-versatile", "llama-3.1-8b-instant", "whisper-large-v3", "whisper-large-v3-turbo"),
            families=("llama-3*", "whisper-large-*"),
        ),
        "xai": DefaultProvider(
            order=13,
            keys=("XAI_API_KEY",),
            chat="grok-3-mini",
            embedding=None,
            models=("grok-3-mini", "grok-4-fast-reasoning", "grok-4-fast-non-reasoning"),
            families=("grok-*",),
        ),
        "moonshot": DefaultProvider(
            order=14,
            keys=("MOONSHOT_API_KEY",),
            chat="kimi-k2.5",
            embedding=None,
            models=("kimi-k2.5", "kimi-k2-thinking"),
            families=("kimi-*", "moonshot-*"),
        ),
        # Last: it has the models of all others.
        "openrouter": DefaultProvider(
            order=20,
            keys=("OPENROUTER_API_KEY",),
            chat="openai/gpt-5-mini",
            embedding=None,
            models=("openai/gpt-5-mini", "anthropic/claude-haiku-4.5", "google/gemini-2.5-flash"),
            families=("*/*",),
        ),
    }
)
# The variable is the one that Ollama's own client reads: https://github.com/ollama/ollama/blob/main/docs/faq.mdx
ON_THIS_MACHINE: Mapping[str, str] = MappingProxyType({"ollama": "OLLAMA_HOST"})

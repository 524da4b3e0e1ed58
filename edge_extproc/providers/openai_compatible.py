"""Hosts with OpenAI's chat format: a table of known hosts, or any other host by its `base_url`.

To add a host, add a row: its name, its base URL, its id in genai-prices ("" if it is not there), and its differences
from OpenAI (docs/extending.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from ..errors import ConfigError
from ..model.frozen_dataclass import frozen_dataclass
from ..model.host import UNKNOWN_HOST, HostProfile
from .base import HostAddress, ProviderKind, ProviderSettings
from .default_hosts import ON_THIS_MACHINE, WITH_KEY
from .openai import CHAT_ONLY, OPENAI, OpenAIKind, OpenAIProvider
from .quirks import Quirks


@frozen_dataclass
class CompatibleHost(HostAddress):
    quirks: Quirks = Quirks()
    responses: bool = False
    """Whether the host also accepts OpenAI's Responses format."""
    profile: HostProfile = UNKNOWN_HOST


# A host that does not know the newer name would apply no limit.
_OLDER_LIMIT = (("max_completion_tokens", "max_tokens"),)
_LIMIT = Quirks(renamed=_OLDER_LIMIT)
# Hosts taken to know the role `developer`: GitHub Models, OpenRouter and xAI. Assumed; where it is wrong, config says
# so. Whether those that serve OpenAI's models take its custom tools is not known: they get functions.
_DEVELOPER = HostProfile(developer_role=True, custom_tools=False)

# Hosts that refuse a message's reasoning_content, by their users' reports: Groq (janhq/jan#8136), Cerebras
# (QwenLM/qwen-code#11045; it takes `reasoning`), Mistral (charmbracelet/crush#1590). They refuse each unknown field of
# a message (ed-donner/llm_engineering#1130, BerriAI/litellm#30882).
_NO_THOUGHTS = HostProfile(thoughts="refused", strict_messages=True)
# Hosts whose thinking models refuse the history of a tool call without its reasoning: DeepSeek's guide on thinking
# mode; Moonshot by its users' reports (anomalyco/opencode#16318, microsoft/vscode#306695).
# Both and Z.AI turn thinking off by `thinking`, by their guides (router-for-me/CLIProxyAPI#1716, t8y2/dbx#3030).
_WANTS_THOUGHTS = HostProfile(thoughts="reasoning_content", thoughts_required=True, thinking_switch=True)
# Hosts of OpenAI Responses that take functions and tools of their own: that none takes OpenAI's tools of the caller is
# assumed, after llama.cpp's refusal of namespaces (ggml-org/llama.cpp#23229). Functions are safe everywhere.
_FUNCTIONS_ONLY = HostProfile(callers_tools=False)
# The bounds of `user`, by their users' reports: Zhipu takes 6 to 128 characters (looplj/axonhub#1669), OpenRouter up to
# 128 (ujisati/claude-code-provider-proxy#11). That Z.AI and OpenRouter want reasoning back is assumed: both have a
# field for it in their replies.
_ZAI = HostProfile(user_limit=128, user_least=6, thoughts="reasoning_content", thinking_switch=True)
_OPENROUTER = HostProfile(
    user_limit=128, thoughts="reasoning_details", developer_role=True, custom_tools=False, callers_tools=False
)

# The addresses are from each host's documentation for the OpenAI SDK. `{account}` is the configured `account`.
HOSTS: dict[str, CompatibleHost] = {
    "avian": CompatibleHost("https://api.avian.io/v1", "avian", quirks=_LIMIT),
    "baseten": CompatibleHost("https://inference.baseten.co/v1", "baseten"),
    "cerebras": CompatibleHost("https://api.cerebras.ai/v1", "cerebras", profile=_NO_THOUGHTS),
    "cloudflare": CompatibleHost(
        "https://api.cloudflare.com/client/v4/accounts/{account}/ai/v1", "cloudflare", quirks=_LIMIT
    ),
    "cohere": CompatibleHost("https://api.cohere.ai/compatibility/v1", "cohere", quirks=_LIMIT),
    "deepinfra": CompatibleHost("https://api.deepinfra.com/v1/openai", "", quirks=_LIMIT),
    "deepseek": CompatibleHost(
        "https://api.deepseek.com",
        "deepseek",
        quirks=_LIMIT,
        responses=True,
        profile=replace(_WANTS_THOUGHTS, callers_tools=False),
    ),
    "fireworks": CompatibleHost(
        "https://api.fireworks.ai/inference/v1", "fireworks", responses=True, profile=_FUNCTIONS_ONLY
    ),
    "github": CompatibleHost("https://models.github.ai/inference", "", profile=_DEVELOPER),
    "groq": CompatibleHost(
        "https://api.groq.com/openai/v1", "groq", responses=True, profile=replace(_NO_THOUGHTS, callers_tools=False)
    ),
    "huggingface": CompatibleHost("https://router.huggingface.co/v1", "", quirks=_LIMIT),
    "llamacpp": CompatibleHost("http://127.0.0.1:8080/v1", "", needs_key=False, quirks=_LIMIT),
    "lmstudio": CompatibleHost("http://127.0.0.1:1234/v1", "", needs_key=False, quirks=_LIMIT),
    # It refuses unknown fields, and always reports usage in the last chunk.
    "mistral": CompatibleHost(
        "https://api.mistral.ai/v1",
        "mistral",
        gen_ai_provider="mistral_ai",
        profile=_NO_THOUGHTS,
        quirks=Quirks(
            renamed=(*_OLDER_LIMIT, ("seed", "random_seed")),
            unknown=frozenset(
                {
                    "logit_bias",
                    "logprobs",
                    "prompt_cache_key",
                    "prompt_cache_retention",
                    "safety_identifier",
                    "service_tier",
                    "store",
                    "stream_options",
                    "top_logprobs",
                    "user",
                    "verbosity",
                    "web_search_options",
                }
            ),
        ),
    ),
    "moonshot": CompatibleHost("https://api.moonshot.ai/v1", "moonshotai", profile=_WANTS_THOUGHTS),
    "novita": CompatibleHost("https://api.novita.ai/v3/openai", "novita", quirks=_LIMIT),
    "nvidia": CompatibleHost("https://integrate.api.nvidia.com/v1", "", quirks=_LIMIT),
    "ollama": CompatibleHost("http://127.0.0.1:11434/v1", "", needs_key=False, quirks=_LIMIT),
    "openrouter": CompatibleHost("https://openrouter.ai/api/v1", "openrouter", responses=True, profile=_OPENROUTER),
    "perplexity": CompatibleHost("https://api.perplexity.ai", "perplexity", quirks=_LIMIT),
    "sambanova": CompatibleHost("https://api.sambanova.ai/v1", ""),
    "together": CompatibleHost("https://api.together.xyz/v1", "together", quirks=_LIMIT),
    "vercel": CompatibleHost("https://ai-gateway.vercel.sh/v1", "", profile=HostProfile(custom_tools=False)),
    "vllm": CompatibleHost("http://127.0.0.1:8000/v1", "", needs_key=False, responses=True, profile=_FUNCTIONS_ONLY),
    "xai": CompatibleHost(
        "https://api.x.ai/v1",
        "x-ai",
        gen_ai_provider="x_ai",
        responses=True,
        profile=replace(_DEVELOPER, callers_tools=False),
    ),
    "zai": CompatibleHost("https://api.z.ai/api/paas/v4", "zai", quirks=_LIMIT, profile=_ZAI),
}
_UNKNOWN = CompatibleHost("", "")


class OpenAICompatibleKind(ProviderKind):
    has_sockets = True
    models_path = "/models"
    needs_key = False
    hosts: Mapping[str, HostAddress] = MappingProxyType(HOSTS)
    apis = OpenAIKind.apis
    options = frozenset({"account"})
    default_hosts = WITH_KEY
    local_hosts = ON_THIS_MACHINE
    profiles: Mapping[str, HostProfile] = MappingProxyType({name: host.profile for name, host in HOSTS.items()})

    def build(self, settings: ProviderSettings) -> OpenAIProvider:
        """`options["host"]`: the name of a row. Without it, the host is unpriced and has the profile of an unknown
        host."""
        name = settings.options.get("host")
        host = row(name) if name else _UNKNOWN
        return OpenAIProvider(
            settings,
            kind="openai_compatible",
            price_list=host.price_list,
            operations=OPENAI if host.responses else CHAT_ONLY,
            profile=settings.profile(host.profile),
            quirks=host.quirks,
        )


def row(host: str) -> CompatibleHost:
    """Raises ConfigError, which lists the known hosts."""
    try:
        return HOSTS[host]
    except KeyError:
        raise ConfigError(f"no OpenAI-compatible host {host!r}; have {', '.join(sorted(HOSTS))}") from None


PLUGIN: ProviderKind = OpenAICompatibleKind()

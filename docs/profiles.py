"""Writes docs/profiles.md, the profiles of hosts and models, from the tables that the translation uses. `make docs`
runs it. A test checks that the page is up to date."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from edge_extproc.dialects import claude
from edge_extproc.dialects.bedrock_converse.models import family_of
from edge_extproc.dialects.gemini_generate import models as gemini
from edge_extproc.dialects.openai_chat.models import SAMPLING, efforts_of, refused_sampling, takes_stop
from edge_extproc.model.host import UNKNOWN_HOST, HostProfile
from edge_extproc.providers import anthropic_betas
from edge_extproc.providers.anthropic import ANTHROPIC_HOST
from edge_extproc.providers.google import GEMINI_HOST
from edge_extproc.providers.openai import OPENAI_HOST, OPENAI_PROXY
from edge_extproc.providers.openai_compatible import HOSTS
from edge_extproc.providers.quirks import NO_QUIRKS, Quirks
from edge_extproc.providers.vertex import VERTEX_HOST

PAGE = Path(__file__).with_suffix(".md")
INTRODUCTION = """\
# Profiles of hosts and models

This page is generated from the tables in the code, which also name their sources. A host or a model that is not listed
gets only fields that all hosts accept.

`providers.X.profile` changes the profile of a host:

```yaml
providers:
  proxy:
    kind: openai
    base_url: https://llm.example.com/v1
    profile:
      like: openai                # start with the profile of OpenAI, or of a host below
      user_limit: 128             # or none
      thoughts: reasoning_content # as_they_came, refused, reasoning_content, reasoning_details
      models: {smart: claude-sonnet-4-5, "prod-*": gpt-5.2}   # the model behind an alias, a deployment or an ARN
```
"""
GPTS = (
    "gpt-4.1",
    "o3",
    "gpt-5",
    "gpt-5-pro",
    "gpt-5-codex",
    "gpt-5.1",
    "gpt-5.2",
    "gpt-5.2-pro",
    "gpt-oss-120b",
    "gemini-3-flash",
    "grok-3-mini",
    "grok-4",
    "kimi-k2.6",
    "deepseek-reasoner",
)
CLAUDES = ("3-opus", "3-5-sonnet", "3-7-sonnet", "opus-4", "opus-4-1", "sonnet-4-5", "opus-4-6", "opus-4-7", "opus-5")
GEMINIS = (
    "gemini-2.0-flash",
    "gemini-2.5-flash-lite",
    "gemini-2.5-flash",
    "gemini-2.5-pro",
    "gemini-3-flash",
    "gemini-3-pro",
    "gemini-3.1-pro",
)
BEDROCK = (
    "anthropic.claude-3-5-sonnet",
    "anthropic.claude-sonnet-4-5",
    "amazon.nova-pro",
    "amazon.nova-2-lite",
    "meta.llama4",
    "mistral.large",
    "cohere.command-r",
    "openai.gpt-oss-120b",
    "deepseek.r1",
    "another",
)


def page() -> str:
    hosts = {"openai": OPENAI_HOST, "openai, at another address": OPENAI_PROXY, "an unknown host": UNKNOWN_HOST}
    rows = [_host(name, profile, NO_QUIRKS) for name, profile in hosts.items()]
    rows += [_host(name, row.profile, row.quirks) for name, row in sorted(HOSTS.items())]
    flags = sorted({*anthropic_betas.BEDROCK, *anthropic_betas.VERTEX, *anthropic_betas.FIELDS})
    parts = [
        INTRODUCTION,
        "## Hosts of OpenAI's formats\n",
        _table(
            (
                "host",
                "user",
                "long ids",
                "reasoning in the history",
                "`thinking` off",
                "unknown fields of a message",
                "`refusal`",
                "`developer`",
                "arguments that are no object",
                "custom tools",
                "the caller's tools in Responses",
                "stores replies",
                "other names",
                "unknown",
            ),
            rows,
        ),
        "## Tools that hosts execute\n\nCallers of other formats may use them there.\n",
        _table(
            ("host", "tools"),
            (
                ("Anthropic", _codes(sorted(ANTHROPIC_HOST.hosted_tools))),
                ("Google AI Studio", _codes(sorted(GEMINI_HOST.hosted_tools))),
                ("OpenAI, in Responses", _codes(sorted(OPENAI_HOST.hosted_tools))),
                ("Vertex AI", _codes(sorted(VERTEX_HOST.hosted_tools))),
            ),
        ),
        "## Anthropic's beta flags\n",
        _table(
            ("flag", "Bedrock", "Vertex AI", "its fields"),
            (
                (
                    f"`{flag}`",
                    _yes(flag in anthropic_betas.BEDROCK),
                    _yes(flag in anthropic_betas.VERTEX),
                    _codes(anthropic_betas.FIELDS.get(flag, ())),
                )
                for flag in flags
            ),
        ),
        "## Models of OpenAI's formats\n",
        _table(
            ("model", "efforts", "sampling settings", "stop"),
            ((f"`{m}`", _codes(efforts_of(m)), _sampling(m), _yes(takes_stop(m))) for m in GPTS),
        ),
        "## Claude\n",
        _table(
            ("from", "maximum of tokens", "thinking", "efforts", "structured outputs", "sampling settings"),
            (_claude(f"claude-{name}") for name in CLAUDES),
        ),
        "## Gemini\n",
        _table(
            ("model", "thinking", "JSON Schema", "efforts"),
            ((f"`{m}`", *_gemini(gemini.generation_of(m))) for m in GEMINIS),
        ),
        "## Families on Bedrock (Converse)\n",
        _table(
            ("model", "reasoning", "its reasoning in the history", "cache marks in", "`toolResult.status`", "`top_k`"),
            (
                (
                    f"`{m}`",
                    f.reasoning,
                    _yes(f.takes_reasoning),
                    ", ".join(sorted(f.caches)),
                    _yes(f.takes_status),
                    _codes(f.top_k),
                )
                for m in BEDROCK
                for f in (family_of(m),)
            ),
        ),
    ]
    return "\n".join(parts)


def _host(name: str, profile: HostProfile, quirks: Quirks) -> tuple[str, ...]:
    required = " (required beside tool calls)" if profile.thoughts_required else ""
    return (
        name,
        _user(profile),
        "rewritten" if profile.strict_ids else "",
        profile.thoughts + required,
        _yes(profile.thinking_switch),
        "refused" if profile.strict_messages else "",
        _yes(profile.refusals),
        _yes(profile.developer_role),
        _yes(profile.any_arguments),
        _yes(profile.custom_tools),
        _yes(profile.callers_tools),
        _yes(profile.stores_replies),
        ", ".join(f"`{ours}` → `{theirs}`" for ours, theirs in quirks.renamed),
        _codes(sorted(quirks.unknown)),
    )


def _user(profile: HostProfile) -> str:
    least = f"≥ {profile.user_least}" if profile.user_least else ""
    most = f"≤ {profile.user_limit}" if profile.user_limit is not None else ""
    return ", ".join(filter(None, (least, most)))


def _claude(model: str) -> tuple[str, ...]:
    known = claude.generation_of(model)
    thinking = "adaptive" if known.adaptive else "by a budget" if known.budgets else ""
    return (
        f"`{model}`",
        f"{known.max_output:,}",
        thinking,
        _codes(known.efforts),
        _yes(known.schemas),
        known.sampling,
    )


def _gemini(known: gemini.Generation) -> tuple[str, ...]:
    efforts = ", ".join(f"{effort} → {value}" for effort, value in known.efforts.items())
    return known.thinking, _yes(known.json_schema), efforts


def _sampling(model: str) -> str:
    refused = refused_sampling(model, None)
    return "yes" if not refused else "" if refused == SAMPLING else f"without {_codes(refused)}"


def _yes(value: bool) -> str:
    return "yes" if value else ""


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

"""The most output tokens of well-known models, for calls without an output limit. The first glob that matches the
model's name in lower case applies.

A row may be too high, which reserves too much. It is never too low, which could exceed a budget: if hosts, versions or
sources differ, the row has the largest number. The numbers are from the models' providers. Each row was checked against
the `max_output_tokens` of every chat model in LiteLLM's public table (release 1.106.2, November 2026). genai-prices has
context windows only, and no recorded reply comes near any of these numbers. Open models produce as much as their host
allows, up to their context window.

Anthropic's API always requires a limit. A model without a row here, such as Claude 3.7 and later, gets
limiter.default_max_output.
"""

KNOWN: tuple[tuple[str, int], ...] = (
    ("*gpt-3.5-turbo-16k*", 16_384),
    ("*gpt-3.5-turbo-instruct*", 4_097),
    ("*gpt-3.5*", 4_096),
    ("*gpt-4-turbo*", 4_096),
    ("*gpt-4.1*", 32_768),
    # A variant with long output.
    ("*gpt-4o*extended*", 65_536),
    ("*gpt-4o-64k*", 65_536),
    ("*gpt-4o*", 16_384),
    ("*gpt-4", 8_192),
    ("*gpt-4-0*", 8_192),
    ("*gpt-5*-pro*", 272_000),
    ("*gpt-5*", 131_072),
    ("*gpt-6*", 131_072),
    ("*claude-3-haiku*", 4_096),
    ("*claude-3-opus*", 4_096),
    ("*claude-3-5*", 8_192),
    ("*gemini-1.5*", 8_192),
    ("*gemini-2.0*thinking*", 65_536),
    ("*gemini-2.0*", 8_192),
    ("*gemini-2.5*", 65_536),
    ("*gemini-3*", 65_536),
    ("*gemini-4*", 1_048_576),
    ("*deepseek-v4*", 1_048_576),
    ("*deepseek*", 163_840),
    ("*kimi*", 1_048_576),
    ("*qwen3*", 262_144),
    ("*glm-4*", 202_800),
    ("*glm-5*", 1_048_576),
    ("*grok-4*", 2_000_000),
    ("*grok*", 262_144),
    ("*minimax*", 1_048_576),
    ("*llama-4*scout*", 10_000_000),
    ("*llama-4*", 1_048_576),
    ("*nemotron-3*", 262_144),
    ("*mistral*", 262_144),
    ("*gemma-4*", 262_144),
)

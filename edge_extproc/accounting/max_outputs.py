"""The most tokens that well-known models answer with, where a caller sets no bound. The first glob that fits the
name in lower case counts.

A row may be too high, which reserves more than it need, but never too low, which could overshoot a budget: where hosts,
versions or sources differ, it has the largest. What the models' own providers say, checked row by row against the
`max_output_tokens` of every chat model in LiteLLM's public table (release 1.106.2, November 2026; genai-prices tells
context windows alone, and no recorded answer comes near to any of these). Open models answer with as much as their host
lets them, up to their context window.

Anthropic's API always wants a bound; what has no row here, Claude from 3.7 on for one, has limiter.default_max_output.
"""

KNOWN: tuple[tuple[str, int], ...] = (
    ("*gpt-3.5-turbo-16k*", 16_384),
    ("*gpt-3.5-turbo-instruct*", 4_097),
    ("*gpt-3.5*", 4_096),
    ("*gpt-4-turbo*", 4_096),
    ("*gpt-4.1*", 32_768),
    # A trial of long answers.
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

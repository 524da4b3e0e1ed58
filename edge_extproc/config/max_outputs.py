"""The most tokens that well-known models answer with, where a caller sets no bound. From the providers' own model
pages, as of November 2026; where versions of a name differ, the largest. The first glob that fits counts.

Anthropic's API always wants a bound, so its models stand here for callers of other formats.
"""

KNOWN: tuple[tuple[str, int], ...] = (
    ("*gpt-3.5*", 4_096),
    ("*gpt-4-turbo*", 4_096),
    ("*gpt-4.1*", 32_768),
    ("*gpt-4o*", 16_384),
    ("*chatgpt-4o*", 16_384),
    ("*gpt-4", 8_192),
    ("*gpt-4-0*", 8_192),
    ("*gpt-5*", 131_072),
    ("*claude-3-haiku*", 4_096),
    ("*claude-3-opus*", 4_096),
    ("*claude-3-5*", 8_192),
    ("*gemini-1.5*", 8_192),
    ("*gemini-2.0*", 8_192),
    ("*gemini-2.5*", 65_536),
    ("*gemini-3*", 65_536),
)

"""Tokens, in buckets that never overlap, so that a sum is a sum and a price is paid once."""

from __future__ import annotations

from .noun import noun

MOST_TOKENS = 100_000_000
"""The greatest token count that is believed. The largest context window of a model is 10 million tokens; a provider
that reads it several times within one reply (server-side tools) stays below ten times that. Sums of such counts are
exact in a double and fit any integer column."""

BUCKETS = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "input_audio",
    "output_audio",
)
"""The names of the token buckets of `Usage`."""


@noun
class Usage:
    """Token counts of one reply. The prompt is `prompt`, the answer is `completion`. The buckets are disjoint, with
    one exception: see `cached_twice`."""

    input: int = 0
    """Prompt tokens that were neither read from nor written to the provider's cache, without audio."""
    cache_read: int = 0
    cache_write: int = 0
    """Written to the provider's cache for its default time (Anthropic: 5 minutes)."""
    cache_write_1h: int = 0
    output: int = 0
    """Answer tokens without `reasoning` and `output_audio`."""
    reasoning: int = 0
    """Thinking tokens, where the provider counts them apart; otherwise they are within `output`."""
    input_audio: int = 0
    output_audio: int = 0
    cached_twice: int = 0
    """Tokens in both `cache_read` and `cache_write`, where a host bills the same tokens as read and as written
    (OpenRouter with Gemini). The prompt holds them once."""
    prompt_unknown: bool = False
    """The reply did not state its prompt tokens, or stated what is no count: the prompt is to be estimated."""
    completion_unknown: bool = False
    """The same of the answer."""
    unreadable: int = 0
    """Numbers of the reported usage that are no plausible counts. They are read as missing."""

    @property
    def prompt(self) -> int:
        cached = self.cache_read + self.cache_write + self.cache_write_1h
        return self.input + cached + self.input_audio - self.cached_twice

    @property
    def completion(self) -> int:
        return self.output + self.reasoning + self.output_audio

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            **{name: getattr(self, name) + getattr(other, name) for name in BUCKETS},
            cached_twice=self.cached_twice + other.cached_twice,
            prompt_unknown=self.prompt_unknown or other.prompt_unknown,
            completion_unknown=self.completion_unknown or other.completion_unknown,
            unreadable=self.unreadable + other.unreadable,
        )


def cached_twice(prompt: int, read: int, written: int) -> int:
    """How many tokens are both read and written, where `prompt` holds all of them. Counts that fit beside each other
    are taken as disjoint; otherwise the smaller one lies within the greater one."""
    return 0 if read + written <= prompt else min(read, written)

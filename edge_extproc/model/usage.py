"""Token counts of a reply, in disjoint buckets, so that sums are correct and each token is priced once."""

from __future__ import annotations

from .frozen_dataclass import frozen_dataclass

MOST_TOKENS = 100_000_000
"""The largest plausible token count. The largest context window of a model is 10 million tokens. A provider that reads
it several times within one reply (server-side tools) stays below ten times that. Sums of such counts are exact in a
double and fit any integer column."""

MOST_SEARCHES = 10_000
"""The largest plausible number of web searches of a reply. A search costs as much as thousands of tokens."""

BUCKETS = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "input_audio",
    "output_audio",
    "input_image",
    "output_image",
)
"""The names of the token buckets of `Usage`."""


@frozen_dataclass
class Usage:
    """Token counts of one reply. `prompt` and `completion` are the sums for the request and the reply. The buckets are
    disjoint, with one exception: see `cached_twice`."""

    input: int = 0
    """Prompt tokens without audio and images that were neither read from nor written to the provider's cache."""
    cache_read: int = 0
    cache_write: int = 0
    """Prompt tokens written to the provider's cache for its default time (Anthropic: 5 minutes)."""
    cache_write_1h: int = 0
    output: int = 0
    """Reply tokens without `reasoning`, `output_audio` and `output_image`."""
    reasoning: int = 0
    """Reasoning tokens, if the provider counts them separately; otherwise they are part of `output`."""
    input_audio: int = 0
    output_audio: int = 0
    input_image: int = 0
    """Tokens of images in the prompt, if the provider counts them separately; otherwise they are part of `input`."""
    output_image: int = 0
    cached_twice: int = 0
    """Tokens in both `cache_read` and `cache_write`, if a host bills the same tokens as read and as written
    (OpenRouter with Gemini). `prompt` counts them once."""
    prompt_unknown: bool = False
    """The reply reported no plausible prompt count: it must be estimated."""
    completion_unknown: bool = False
    """The reply reported no plausible completion count: it must be estimated."""
    unreadable: int = 0
    """The number of implausible counts in the reported usage. They are treated as missing."""
    searches: int = 0
    """Web searches that the provider executed, and charges for besides the tokens."""

    @property
    def prompt(self) -> int:
        cached = self.cache_read + self.cache_write + self.cache_write_1h
        return self.uncached + cached - self.cached_twice

    @property
    def uncached(self) -> int:
        """Prompt tokens of all kinds that were neither read from nor written to the provider's cache."""
        return self.input + self.input_audio + self.input_image

    @property
    def completion(self) -> int:
        return self.output + self.reasoning + self.output_audio + self.output_image

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
            searches=self.searches + other.searches,
        )


def cached_twice(prompt: int, read: int, written: int) -> int:
    """The number of tokens that are both read and written, if `prompt` includes all of them. Counts whose sum fits into
    `prompt` are disjoint; otherwise the smaller one is contained in the larger one."""
    return 0 if read + written <= prompt else min(read, written)

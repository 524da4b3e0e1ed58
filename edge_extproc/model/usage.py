"""Tokens, in buckets that never overlap, so that a sum is a sum and a price is paid once."""

from __future__ import annotations

from dataclasses import fields

from .noun import noun


@noun
class Usage:
    """Token counts of one reply. The buckets are disjoint: the prompt is `prompt`, the answer is `completion`."""

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

    @property
    def prompt(self) -> int:
        return self.input + self.cache_read + self.cache_write + self.cache_write_1h + self.input_audio

    @property
    def completion(self) -> int:
        return self.output + self.reasoning + self.output_audio

    @property
    def total(self) -> int:
        return self.prompt + self.completion

    def __add__(self, other: Usage) -> Usage:
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Usage)))

"""Texts to vectors, in our own nouns."""

from __future__ import annotations

from typing import TypeAlias

from .noun import noun
from .usage import Usage

Input: TypeAlias = "str | tuple[int, ...]"
"""A text, or its tokens by number."""


@noun
class Embed:
    """What shall be embedded. None means that the caller did not say."""

    model: str
    inputs: tuple[Input, ...]
    """In the caller's order; never empty."""
    single: bool = False
    """The caller asked for one, not for a list of one."""
    dimensions: int | None = None
    task: str | None = None
    """What the vectors are for, in Google's words (RETRIEVAL_QUERY, ...)."""
    title: str | None = None
    """Of a document that is embedded for retrieval."""
    dropped: tuple[str, ...] = ()
    """Fields of the caller's that no other format has, as it spells them."""


@noun
class Embedded:
    """One vector for each input, in the order of the inputs."""

    vectors: tuple[tuple[float, ...], ...]
    model: str | None = None
    usage: Usage | None = None

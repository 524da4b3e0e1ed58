"""Requests and replies of embeddings, independent of the wire format."""

from __future__ import annotations

from typing import TypeAlias

from .frozen_dataclass import frozen_dataclass
from .usage import Usage

Input: TypeAlias = "str | tuple[int, ...]"
"""A text, or its token numbers."""


@frozen_dataclass
class Embed:
    """An embeddings request. None means that the request does not have the field."""

    model: str
    inputs: tuple[Input, ...]
    """In the caller's order; never empty."""
    single: bool = False
    """The request has a single input, not a list of one."""
    dimensions: int | None = None
    task: str | None = None
    """The purpose of the vectors, in Google's terms (RETRIEVAL_QUERY, ...)."""
    title: str | None = None
    """The title of a document that is embedded for retrieval."""
    dropped: tuple[str, ...] = ()
    """Fields of the request that no other format has, in the caller's spelling."""


@frozen_dataclass
class Embedded:
    """An embeddings reply: one vector for each input, in the order of the inputs."""

    vectors: tuple[tuple[float, ...], ...]
    model: str | None = None
    usage: Usage | None = None

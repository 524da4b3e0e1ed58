"""The models of a kind of provider in the built-in configuration."""

from __future__ import annotations

from .frozen_dataclass import frozen_dataclass


@frozen_dataclass
class DefaultProvider:
    """The defaults of a provider that needs only a key."""

    order: int
    """If the keys of several providers are set, the lowest serves the models `chat` and `embedding`."""
    keys: tuple[str, ...]
    """Environment variables for the key. The first that is set counts, as in the provider's own SDK."""
    chat: str
    """A small model that every account can use."""
    embedding: str | None
    models: tuple[str, ...]
    """Listed by /v1/models."""
    families: tuple[str, ...]
    """Globs of further models, which can be used and are not listed."""

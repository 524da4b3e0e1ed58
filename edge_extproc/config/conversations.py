"""The section `conversations`: the store of conversations for callers that refer to earlier replies by their ids."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .limits import StoreUrl
from .part import ConfigSection, one_of
from .quantities import Count, PositiveDuration, Size
from .secrets import Secret
from .wrong import wrong

_SHORTEST_KEY = 16


def _key(value: Secret) -> Secret:
    if len(value.reveal()) < _SHORTEST_KEY:
        raise wrong(
            f"this key has less than {_SHORTEST_KEY} characters",
            "generate one: openssl rand -base64 32",
            show=False,
        )
    return value


EncryptionKey = Annotated[Secret, AfterValidator(_key)]


class ConversationsConfig(ConfigSection):
    """The store of conversations. With it, `previous_response_id`, `conversation` and `store` of OpenAI Responses work
    with each provider. Without the section, only a provider that stores conversations itself accepts them."""

    store: Annotated[Literal["auto", "memory", "redis"], one_of("auto", "memory", "redis")] = "auto"
    """auto: redis if `url` or `limiter.url` is given; otherwise memory with one worker, and the gateway's own Valkey
    for `up` with several workers."""
    url: StoreUrl | None = None
    """Default: limiter.url."""
    key: EncryptionKey | None = None
    """Encrypts the records, and the kept replies of idempotency keys. It is required for all stores except memory."""
    previous_keys: tuple[EncryptionKey, ...] = ()
    """Earlier keys. Records that they encrypted can still be read."""
    ttl: PositiveDuration = timedelta(days=30)
    """A record that is not used for this time is removed."""
    entries: Count = 10_000
    """The most records of one tenant."""
    size: Size = Field(default="64MiB", validate_default=True)
    """The most bytes of one tenant."""
    memory: Size = Field(default="256MiB", validate_default=True)
    """The most bytes of all tenants, for a store in memory."""
    timeout: PositiveDuration = timedelta(seconds=1)
    """The longest time of one store operation."""

    @model_validator(mode="after")
    def _consistent(self) -> ConversationsConfig:
        if self.store == "memory" and self.url is not None:
            raise wrong("a url is given, but store is memory", "leave one of them out", key="store")
        return self

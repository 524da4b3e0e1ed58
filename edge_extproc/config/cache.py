"""The section `cache`: the cache of replies. Without the section there is no cache."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, model_validator

from .part import ConfigSection, Label, Text, frozen, one_of, thawed
from .paths import ReadableFile
from .quantities import MAX_MESSAGE_TIMEOUT, Boolean, Count, Duration, PositiveDuration, Size, write_duration
from .secrets import Secret
from .semantic import SemanticCacheConfig, SimilarCalls
from .wrong import wrong


def _temperature(value: object) -> float:
    try:
        number = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= 2:
        raise wrong("this is not a temperature", "write a number from 0 to 2")
    return number


def _wait(value: timedelta) -> timedelta:
    if value > _LONGEST_WAIT:
        raise wrong(
            "this is too long", f"write at most {write_duration(_LONGEST_WAIT)}: Envoy waits no longer for the agent"
        )
    return value


# The remaining seconds are for the work after the wait.
_LONGEST_WAIT = MAX_MESSAGE_TIMEOUT - timedelta(seconds=5)

Temperature = Annotated[float, BeforeValidator(_temperature)]
Sharing = Annotated[Literal["team", "tenant", "global"], one_of("tenant", "team", "global")]


class CacheRulesConfig(ConfigSection):
    """The rules that may differ by model or tenant. A key that is not given has the value of the level above."""

    enabled: Boolean | None = None
    """false on one level overrides true on any other."""
    share: Sharing | None = None
    """As `cache.share`."""
    across_dialects: Boolean | None = None
    """As `cache.across_dialects`."""
    max_temperature: Temperature | None = None
    """As `cache.max_temperature`."""
    tool_calls: Boolean | None = None
    """As `cache.tool_calls`."""
    ttl: PositiveDuration | None = None
    """As `cache.ttl`."""
    stale_if_error: Duration | None = None
    """As `cache.stale_if_error`."""
    ignore: tuple[Text, ...] | None = None
    """As `cache.ignore`."""
    semantic: SimilarCalls | None = None
    """As `cache.semantic.calls`."""

    def given(self) -> dict[str, object]:
        """The given values, as fields of cache/policy.py's `CachePolicy`."""
        values: dict[str, object] = {
            "enabled": self.enabled,
            "sharing": self.share,
            "across_dialects": self.across_dialects,
            "max_temperature": self.max_temperature,
            "tool_calls": self.tool_calls,
            "ttl": self.ttl.total_seconds() if self.ttl is not None else None,
            "stale": self.stale_if_error.total_seconds() if self.stale_if_error is not None else None,
            "ignore": frozenset(self.ignore) if self.ignore is not None else None,
            "semantic": self.semantic,
        }
        return {name: value for name, value in values.items() if value is not None}


class CacheMemoryConfig(ConfigSection):
    """L1: the memory of each worker."""

    entries: Count = 1000
    """The most replies in one worker."""
    size: Size = Field(default="64MiB", validate_default=True)
    """The most bytes in one worker."""
    ttl: PositiveDuration = timedelta(minutes=5)
    """How long a reply may be used."""


class SingleFlightConfig(ConfigSection):
    """How long a call waits for the reply to an equal call in progress. 0s: it does not wait."""

    wait: Annotated[Duration, AfterValidator(_wait)] = timedelta(seconds=20)
    """The longest wait of a call that is no stream. At most 25s."""
    wait_of_streams: Annotated[Duration, AfterValidator(_wait)] = timedelta(seconds=1)
    """The same for streaming calls. It is shorter, because such a call would get its first token soon."""


def _redis_url(value: str) -> str:
    right = "write redis://host:6379/0, rediss://host:6379/0 or unix:///path"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise wrong("this is not a URL", right) from None
    if url.username is not None or url.password is not None:
        raise wrong("this URL contains a user or a password", "give them as username and password", show=False)
    if url.query or url.fragment or url.scheme not in ("redis", "rediss", "unix"):
        raise wrong("this is not an address of a Redis", right)
    if url.scheme == "unix":
        if not url.path or url.netloc:
            raise wrong("this is not a path of a Unix socket", right)
    elif not url.hostname or port == 0 or not re.fullmatch(r"(/\d{0,3})?", url.path):
        raise wrong("this URL has no host, or a database that is not a number", right)
    return value


def _node(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise wrong("this is not a host with its port", "write host:6379")
    return value


def split_node(node: str) -> tuple[str, int]:
    """The host and port of host:port."""
    host, _, port = node.rpartition(":")
    return host.strip("[]"), int(port)


RedisUrl = Annotated[Text, AfterValidator(_redis_url)]
Node = Annotated[Text, AfterValidator(_node)]


class RedisSentinelConfig(ConfigSection):
    """The Sentinels, which know the master."""

    master: Label
    """The name of the monitored server."""
    nodes: tuple[Node, ...]
    """The Sentinels, as host:port."""
    database: int = Field(default=0, ge=0, le=999)
    """The number of the database."""
    username: Text | None = None
    """The user at the Sentinels."""
    password: Secret | None = None
    """The Sentinels' own password."""


class RedisTlsConfig(ConfigSection):
    ca: ReadableFile | None = None
    """A PEM file with the trusted authorities. Default: those of the system."""
    certificate: ReadableFile | None = None
    """The client certificate, if the server requires one."""
    private_key: ReadableFile | None = None
    """The key of the client certificate."""


class CacheRedisConfig(ConfigSection):
    """L2: replies that all workers and replicas share. Give exactly one of url, cluster and sentinel."""

    url: RedisUrl | None = None
    """redis://host:port/database, rediss:// for TLS, or unix:///path."""
    cluster: tuple[Node, ...] | None = None
    """Some nodes of the cluster, as host:port."""
    sentinel: RedisSentinelConfig | None = None
    """Sentinels, which name the server."""
    username: Text | None = None
    """The user at the server."""
    password: Secret | None = None
    """The password at the server."""
    tls: RedisTlsConfig | None = None
    """With cluster or sentinel: use TLS. With a url of rediss://: its TLS options."""
    namespace: Label = "edge"
    """The prefix of all keys."""
    ttl: PositiveDuration = timedelta(hours=1)
    """How long a reply may be used."""
    budget: PositiveDuration = timedelta(milliseconds=5)
    """The longest time that a lookup may take. After it, the lookup counts as a miss."""
    compress_above: Size = Field(default="8KiB", validate_default=True)
    """A larger reply is compressed."""

    @model_validator(mode="after")
    def _one(self) -> CacheRedisConfig:
        addresses = [name for name in ("url", "cluster", "sentinel") if getattr(self, name)]
        if len(addresses) != 1:
            raise wrong(
                "exactly one of url, cluster and sentinel is needed", "url: redis://host:6379/0 is the simplest"
            )
        if self.tls is not None and self.url is not None and not self.url.startswith("rediss://"):
            raise wrong("tls is given for a URL without TLS", "write rediss://", key="url")
        return self


class CacheConfig(ConfigSection):
    """The cache of replies."""

    enabled: Boolean = True
    """false: replies are cached only for the models and tenants that enable it below."""
    share: Sharing = "tenant"
    """Who may read a cached reply: the team of its caller, the tenant, or all tenants."""
    across_dialects: Boolean = False
    """Equal chats hit the same entry from every dialect. Every call must then be parsed completely."""
    max_temperature: Temperature = 0.0
    """A call with a higher temperature, or without one, is not cached. 2: every call is cached."""
    tool_calls: Boolean = False
    """Cache replies that contain tool calls."""
    ttl: PositiveDuration | None = None
    """How long a cached reply may be used. Default: the ttl of memory and of Redis."""
    stale_if_error: Duration = timedelta(0)
    """How much longer a reply may be used if no provider can answer: each one has failed, has an open circuit breaker
    or took too long. The reply has the header `x-edge-cache: stale`. 0s: never."""
    ignore: tuple[Text, ...] = ()
    """Top-level fields of a request that are ignored in comparisons, such as user."""
    max_ttl: PositiveDuration = timedelta(hours=24)
    """The longest time that a caller may ask for."""
    max_entry: Size = Field(default="1MiB", validate_default=True)
    """A larger reply is not cached."""
    memory: CacheMemoryConfig = CacheMemoryConfig()
    """L1: the memory of each worker."""
    single_flight: SingleFlightConfig = SingleFlightConfig()
    """How long equal calls wait for each other."""
    redis: CacheRedisConfig | None = None
    """L2: a shared store. Absent: each worker has only its own memory."""
    semantic: SemanticCacheConfig | None = None
    """L3: replies to calls that mean the same. Absent: only equal calls hit."""
    models: Annotated[Mapping[Text, CacheRulesConfig], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Rules by model: a name or a glob. An exact name wins, then the longest glob."""
    tenants: Annotated[Mapping[Text, CacheRulesConfig], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Rules by tenant. They override those by model."""

    def common(self) -> dict[str, object]:
        """The values as fields of cache/policy.py's `CachePolicy`."""
        return {
            "enabled": self.enabled,
            "sharing": self.share,
            "across_dialects": self.across_dialects,
            "max_temperature": self.max_temperature,
            "tool_calls": self.tool_calls,
            "ttl": self.ttl.total_seconds() if self.ttl is not None else None,
            "stale": self.stale_if_error.total_seconds(),
            "ignore": frozenset(self.ignore),
            "max_ttl": self.max_ttl.total_seconds(),
            "semantic": self.semantic.calls if self.semantic is not None else "off",
        }

"""What a configuration may say of the cache of replies. Without the section there is none."""

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
from .wrong import wrong


def _temperature(value: object) -> float:
    try:
        found = float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else -1.0
    except ValueError:
        found = -1.0
    if not 0 <= found <= 2:
        raise wrong("this is no temperature", "write a number from 0 to 2")
    return found


def _wait(value: timedelta) -> timedelta:
    if value > _LONGEST_WAIT:
        raise wrong("this is too long", f"write at most {write_duration(_LONGEST_WAIT)}: Envoy waits no longer for us")
    return value


# Some seconds are left to do what has to be done all the same.
_LONGEST_WAIT = MAX_MESSAGE_TIMEOUT - timedelta(seconds=5)

Temperature = Annotated[float, BeforeValidator(_temperature)]
Sharing = Annotated[Literal["team", "tenant", "global"], one_of("tenant", "team", "global")]


class CacheRulesConfig(ConfigSection):
    """What may differ by model or tenant; what is not given is as the level above says."""

    enabled: Boolean | None = None
    """false wins over any other level's true."""
    share: Sharing | None = None
    across_dialects: Boolean | None = None
    max_temperature: Temperature | None = None
    tool_calls: Boolean | None = None
    ttl: PositiveDuration | None = None
    stale_if_error: Duration | None = None
    ignore: tuple[Text, ...] | None = None

    def given(self) -> dict[str, object]:
        """In the words of the cache's own rules, without what is not given here."""
        said: dict[str, object] = {
            "enabled": self.enabled,
            "sharing": self.share,
            "across_dialects": self.across_dialects,
            "max_temperature": self.max_temperature,
            "tool_calls": self.tool_calls,
            "ttl": self.ttl.total_seconds() if self.ttl is not None else None,
            "stale": self.stale_if_error.total_seconds() if self.stale_if_error is not None else None,
            "ignore": frozenset(self.ignore) if self.ignore is not None else None,
        }
        return {name: value for name, value in said.items() if value is not None}


class CacheMemoryConfig(ConfigSection):
    """In each worker."""

    entries: Count = 1000
    size: Size = Field(default="64MiB", validate_default=True)
    ttl: PositiveDuration = timedelta(minutes=5)


class SingleFlightConfig(ConfigSection):
    """How long a call waits for the reply to an equal one that is under way; 0s: it does not wait."""

    wait: Annotated[Duration, AfterValidator(_wait)] = timedelta(seconds=20)
    wait_of_streams: Annotated[Duration, AfterValidator(_wait)] = timedelta(seconds=1)
    """Of a call that wants a stream: going alone, its caller would soon read the first word."""


def _redis_url(value: str) -> str:
    right = "write redis://host:6379/0, rediss://host:6379/0 or unix:///path"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise wrong("this is no URL", right) from None
    if url.username is not None or url.password is not None:
        raise wrong("this URL holds a user or a password", "give them as username and password", show=False)
    if url.query or url.fragment or url.scheme not in ("redis", "rediss", "unix"):
        raise wrong("this is no address of a Redis", right)
    if url.scheme == "unix":
        if not url.path or url.netloc:
            raise wrong("this is no path of a Unix socket", right)
    elif not url.hostname or port == 0 or not re.fullmatch(r"(/\d{0,3})?", url.path):
        raise wrong("this URL names no host, or no database by its number", right)
    return value


def _node(value: str) -> str:
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise wrong("this is no host with its port", "write host:6379")
    return value


def split_node(node: str) -> tuple[str, int]:
    """Of host:port."""
    host, _, port = node.rpartition(":")
    return host.strip("[]"), int(port)


RedisUrl = Annotated[Text, AfterValidator(_redis_url)]
Node = Annotated[Text, AfterValidator(_node)]


class RedisSentinelConfig(ConfigSection):
    """Who knows which Redis is the master."""

    master: Label
    nodes: tuple[Node, ...]
    """Of the Sentinels, host:port."""
    database: int = Field(default=0, ge=0, le=999)
    username: Text | None = None
    password: Secret | None = None
    """Of the Sentinels themselves."""


class RedisTlsConfig(ConfigSection):
    ca: ReadableFile | None = None
    """A PEM file with the authorities to trust, for a private one; else those of the system."""
    certificate: ReadableFile | None = None
    """Our own, where the server asks for one."""
    private_key: ReadableFile | None = None


class CacheRedisConfig(ConfigSection):
    """Replies that all workers and replicas share. Exactly one of url, cluster and sentinel."""

    url: RedisUrl | None = None
    """redis://host:port/database, rediss:// for TLS, or unix:///path."""
    cluster: tuple[Node, ...] | None = None
    """Some of its nodes, host:port."""
    sentinel: RedisSentinelConfig | None = None
    username: Text | None = None
    password: Secret | None = None
    tls: RedisTlsConfig | None = None
    """With cluster or sentinel: use TLS. With url: what it needs beside rediss://."""
    namespace: Label = "edge"
    """How the names of all keys begin."""
    ttl: PositiveDuration = timedelta(hours=1)
    budget: PositiveDuration = timedelta(milliseconds=5)
    """What a look-up may add to a call; then it goes on without."""
    compress_above: Size = Field(default="8KiB", validate_default=True)

    @model_validator(mode="after")
    def _one(self) -> CacheRedisConfig:
        given = [name for name in ("url", "cluster", "sentinel") if getattr(self, name)]
        if len(given) != 1:
            raise wrong(
                "exactly one of url, cluster and sentinel is needed", "url: redis://host:6379/0 is the simplest"
            )
        if self.tls is not None and self.url is not None and not self.url.startswith("rediss://"):
            raise wrong("tls is given for a URL without TLS", "write rediss://", key="url")
        return self


class CacheConfig(ConfigSection):
    """Replies that were given before are given again."""

    enabled: Boolean = True
    share: Sharing = "tenant"
    """Who may have a reply again: the caller's team, its tenant, or all tenants."""
    across_dialects: Boolean = False
    """Let the same chat hit whatever API it is asked through. Costs reading every call whole."""
    max_temperature: Temperature = 0.0
    """A call with a higher one, or with none, is asked anew each time; 2 caches every call."""
    tool_calls: Boolean = False
    """Keep replies that call tools."""
    ttl: PositiveDuration | None = None
    """How long a reply may be given; where not given, as long as memory and Redis keep things."""
    stale_if_error: Duration = timedelta(0)
    """For how much longer a reply may be given where no provider can answer: each has failed, is left alone or took too
    long. It is marked `x-edge-cache: stale`. 0s: never."""
    ignore: tuple[Text, ...] = ()
    """Fields of a request's top level that do not matter, such as user."""
    max_ttl: PositiveDuration = timedelta(hours=24)
    """The longest time that a caller may ask for."""
    max_entry: Size = Field(default="1MiB", validate_default=True)
    """A longer reply is not kept."""
    memory: CacheMemoryConfig = CacheMemoryConfig()
    single_flight: SingleFlightConfig = SingleFlightConfig()
    redis: CacheRedisConfig | None = None
    models: Annotated[Mapping[Text, CacheRulesConfig], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """By name or glob; an exact name wins, then the longest glob."""
    tenants: Annotated[Mapping[Text, CacheRulesConfig], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """They win over models."""

    def common(self) -> dict[str, object]:
        """In the words of the cache's own rules."""
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
        }

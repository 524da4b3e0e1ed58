"""Limits and budgets of callers at each level, and the store of their counters.

The limits of sizes and counts, which Envoy applies, are `BodyLimitsConfig` in envoy.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from .access import PolicyConfig
from .guardrails import GuardrailRuleConfig
from .part import ConfigSection, Text, frozen, one_of, thawed
from .quantities import MAX_COUNT, Boolean, Count, Percent, PositiveDuration, read_integer
from .secrets import Secret
from .wrong import wrong

_MICRO = 1_000_000
_MAX_DOLLARS = 10_000_000
_MAX_TOKENS = 10_000_000_000


def read_dollars(value: object) -> int:
    """Parses 12, 12.50 or "12.50" as micro-dollars. A float is read by its decimal digits."""
    text = value.removeprefix("$") if isinstance(value, str) else str(value)
    if isinstance(value, float):
        text = f"{Decimal(text):f}"  # Python writes 0.000002 as 2e-06
    right = "write dollars, such as 25 or 12.50"
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong("this is not an amount of money", right)
    if not re.fullmatch(r"\d{1,9}(\.\d{1,6})?", text):
        raise wrong("this is not an amount of money", right + ", with at most six digits behind the point")
    try:
        micro = int(Decimal(text) * _MICRO)
    except InvalidOperation:  # pragma: no cover - the pattern excludes it
        raise wrong("this is not an amount of money", right) from None
    if not 0 <= micro <= _MAX_DOLLARS * _MICRO:
        raise wrong("this amount is over ten million dollars", right)
    return micro


def write_dollars(micro: int) -> str:
    return f"{Decimal(micro) / _MICRO:f}"


def _tokens(value: object) -> int:
    count = read_integer(value)
    if not 1 <= count <= _MAX_TOKENS:
        raise wrong("this number is out of range", f"write one from 1 to {_MAX_TOKENS}")
    return count


def _zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise wrong("there is no such time zone", "write a name such as Europe/Berlin or UTC") from None
    return value


def _webhook(value: str) -> str:
    if not re.fullmatch(r"https?://[^\s@?#]+", value):
        raise wrong("this is not a URL to post to", "write http(s)://host/path, without user, query or fragment")
    return value


def _replicas(value: object) -> int | Literal["auto"]:
    if value == "auto":
        return "auto"
    right = f"write auto, or a number from 1 to {MAX_COUNT}"
    if not isinstance(value, int | str) or isinstance(value, bool) or not re.fullmatch(r"\d{1,18}", str(value)):
        raise wrong("this is neither auto nor a number", right)
    if not 1 <= int(value) <= MAX_COUNT:
        raise wrong("this number is out of range", right)
    return int(value)


def redis_url(value: Secret) -> Secret:
    if not re.fullmatch(r"(redis|rediss|unix)://\S+", value.reveal()):
        raise wrong("this is not an address of a Redis", "write redis://host:6379/0, rediss://… or unix:///path")
    return value


Dollars = Annotated[
    int,
    BeforeValidator(read_dollars),
    PlainSerializer(write_dollars, return_type=str, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}),
]
"""Stored as micro-dollars."""
Tokens = Annotated[
    int, BeforeValidator(_tokens), WithJsonSchema({"type": "integer", "minimum": 1, "maximum": _MAX_TOKENS})
]
TimeZone = Annotated[Text, AfterValidator(_zone)]
Replicas = Annotated[
    int | Literal["auto"],
    BeforeValidator(_replicas),
    WithJsonSchema({"anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_COUNT}, {"const": "auto"}]}),
]
StoreUrl = Annotated[Secret, AfterValidator(redis_url)]


class AllowanceConfig(ConfigSection):
    """The limits of one tenant, team, user or key. The limits of all levels apply together."""

    requests_per_minute: Count | None = None
    """The most requests in a minute."""
    tokens_per_minute: Tokens | None = None
    """Tokens of prompts and replies together."""
    concurrent: Count | None = None
    """The most concurrent requests."""
    dollars_per_hour: Dollars | None = None
    """US dollars in an hour, such as 2 or 2.50."""
    dollars_per_day: Dollars | None = None
    """US dollars in a day."""
    dollars_per_month: Dollars | None = None
    """Calendar months, as hours and days are those of the calendar."""
    dollars_per_run: Dollars | None = None
    """The most that one run of an agent and its sub-agents may cost. A call names its run by x-edge-run."""
    tokens_per_run: Tokens | None = None
    """Tokens of the prompts and replies of one run together."""
    requests_per_run: Count | None = None
    """The most requests of one run."""
    time_per_run: PositiveDuration | None = None
    """From the first call of a run. Later calls are refused."""
    time_zone: TimeZone = "UTC"
    """The time zone of the calendar: a day begins at midnight there."""
    mode: Annotated[Literal["hard", "soft"], one_of("hard", "soft")] = "hard"
    """hard: requests above the limit get status 429. soft: only a warning."""
    warn_at: Percent = 80
    """The share of a limit from which callers and the webhook are warned."""
    fail: Annotated[Literal["closed", "local"], one_of("closed", "local")] = "closed"
    """While the store is down. closed: requests are refused (503). local: each worker admits its share."""
    unpriced: Annotated[Literal["refuse", "allow"], one_of("refuse", "allow")] = "refuse"
    """Calls with an unknown price under a budget. allow: they count at the prices of limiter.assumed_price."""

    @property
    def is_empty(self) -> bool:
        return not any(getattr(self, name) is not None for name in MEASURED)


# The measure and window of each key of an allowance.
MEASURED: Mapping[str, tuple[str, str | None]] = {
    "requests_per_minute": ("requests", "minute"),
    "tokens_per_minute": ("tokens", "minute"),
    "concurrent": ("concurrent", None),
    "dollars_per_hour": ("dollars", "hour"),
    "dollars_per_day": ("dollars", "day"),
    "dollars_per_month": ("dollars", "month"),
    "dollars_per_run": ("dollars", "run"),
    "tokens_per_run": ("tokens", "run"),
    "requests_per_run": ("requests", "run"),
    "time_per_run": ("seconds", "run"),
}


def _holder(value: str) -> str:
    if value != "*" and not re.fullmatch(r"[^\x00-\x1f\x7f]{1,256}", value):
        raise wrong("this is not a name", "write a name, or * for each that has no limits of its own")
    return value


class HolderConfig(ConfigSection):
    """A team or a user of a tenant."""

    name: Annotated[Text, AfterValidator(_holder)]
    """*: each team or user that is not named, with a counter of its own."""
    limits: AllowanceConfig = AllowanceConfig()
    """The limits of this team or user."""
    policy: PolicyConfig = PolicyConfig()
    """What this team or user may use."""
    guardrails: tuple[GuardrailRuleConfig, ...] = ()
    """Rules for its calls, in addition to those of the tenant. Those of * also apply to a named team or user."""


class WebhookConfig(ConfigSection):
    """Receives a POST of JSON when a limit is nearly or fully used, once in each window of the limit."""

    url: Annotated[Text, AfterValidator(_webhook)]
    """The http(s):// URL."""
    secret: Secret | None = None
    """Signs each body: x-edge-signature: sha256=<hexadecimal HMAC>."""


class AssumedPriceConfig(ConfigSection):
    """US dollars for a million tokens of a model whose price is not known. It is higher than real prices, so that no
    call is free."""

    input: Dollars = Field(default=20, validate_default=True)
    """The price of a million prompt tokens."""
    output: Dollars = Field(default=100, validate_default=True)
    """The price of a million output tokens."""


class LimiterConfig(ConfigSection):
    """The store of counters, and the assumptions for unknown lengths and prices."""

    store: Annotated[Literal["auto", "memory", "redis"], one_of("auto", "memory", "redis")] = "auto"
    """auto: redis if a url is given; otherwise memory with one worker, and the gateway's own Valkey for `up` with
    several workers."""
    url: StoreUrl | None = None
    """redis://host:6379/0, rediss:// for TLS, or unix:///path."""
    timeout: PositiveDuration = timedelta(milliseconds=250)
    """The longest time of one store operation."""
    replicas: Replicas = 1
    """The number of gateways that share these limits. More than one need a Redis. auto: the workers of all gateways
    are counted there."""
    lease: PositiveDuration = timedelta(seconds=60)
    """How long the calls of a dead worker keep their reservations."""
    lost: Annotated[Literal["charge", "release"], one_of("charge", "release")] = "charge"
    """Whether the reservations of a dead worker's calls count as used, or are released."""
    max_output: Annotated[Mapping[Text, Count], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """The most output tokens of models, by the provider's name or by a glob. It is used before the built-in table of
    well-known models and default_max_output."""
    default_max_output: Count = 131_072
    """The most output tokens of an unknown model, for a call without a bound."""
    usual_output: Count = 2_048
    """The output tokens that a call without a bound reserves from tokens per minute."""
    context_window: Count = 1_000_000
    """The longest prompt of any model. A prompt that is not in the body counts as this many tokens."""
    assumed_price: AssumedPriceConfig = AssumedPriceConfig()
    """The prices of models whose price is not known."""
    webhook: WebhookConfig | None = None
    """Where warnings about limits are sent. Absent: nowhere."""
    runs: Boolean = False
    """Count the runs of all callers, so that a call can cap its run by x-edge-run-limit. Caps of runs in `limits` do
    this by themselves."""

    @property
    def has_several_replicas(self) -> bool:
        """Whether several gateways share these limits, or may share them."""
        return self.replicas == "auto" or self.replicas > 1

    @model_validator(mode="after")
    def _consistent(self) -> LimiterConfig:
        if self.store == "redis" and self.url is None:
            raise wrong("there is no url", "give url: redis://host:6379/0", key="store")
        if self.store == "memory" and self.url is not None:
            raise wrong("a url is given, but store is memory", "leave one of them out", key="store")
        if self.lease < timedelta(seconds=3):
            raise wrong("this lease is too short to be renewed in time", "write 3s or more", key="lease")
        return self

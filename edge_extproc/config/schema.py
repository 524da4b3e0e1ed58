"""What a configuration may say: one frozen snapshot, every limit with its default.

Each section has a file of its own beside this one, whose models check what can be seen from one value; mistakes.py
checks what needs two. They know no file: load.py says where a value stands.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, Field, PlainSerializer

from .. import registry
from ..model.plan import Candidate as PlanCandidate
from ..model.principal import Level
from .access import PolicyConfig, RoleConfig
from .admin import AdminConfig
from .agent import AgentConfig
from .cache import CacheConfig
from .callers import AuthConfig, CallerConfig
from .endpoints import Endpoints
from .envoy import BodyLimitsConfig, EnvoyConfig, ListenConfig, RetriesConfig, TimeoutsConfig
from .limits import AllowanceConfig, LimiterConfig
from .part import ConfigSection, Label, Text, frozen, thawed
from .prices import PriceConfig
from .provider import ProviderConfig, ProviderName
from .routing import CandidateConfig, ModelOrCandidates, RoutingConfig
from .store import StoreConfig
from .telemetry import TelemetryConfig


class Config(ConfigSection):
    """One configuration. Nothing of it changes; a stream keeps the one that it began with."""

    listen: ListenConfig = ListenConfig()
    admin: AdminConfig = AdminConfig()
    agent: AgentConfig = Field(default_factory=dict, validate_default=True)
    limits: BodyLimitsConfig = BodyLimitsConfig()
    limiter: LimiterConfig = Field(default_factory=dict, validate_default=True)
    timeouts: TimeoutsConfig = TimeoutsConfig()
    retries: RetriesConfig = RetriesConfig()
    envoy: EnvoyConfig = Field(default_factory=dict, validate_default=True)
    telemetry: TelemetryConfig = TelemetryConfig()
    auth: AuthConfig
    endpoints: Endpoints = Field(default_factory=dict, validate_default=True)
    """Paths, with all below them, that go to a provider as they are: {"/v1/files": openai}."""
    cache: CacheConfig | None = None
    store: StoreConfig | None = None
    """Absent: no ledger is kept."""
    roles: Annotated[Mapping[Label, RoleConfig], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    callers: tuple[CallerConfig, ...]
    providers: Annotated[Mapping[ProviderName, ProviderConfig], AfterValidator(frozen), PlainSerializer(thawed)]
    prices: tuple[PriceConfig, ...] = ()
    """Asked before the public lists."""
    routing: RoutingConfig = RoutingConfig()
    models: Annotated[Mapping[Text, ModelOrCandidates], AfterValidator(frozen), PlainSerializer(thawed)]
    """Names, or globs with * and ?, to candidates in order. An exact name wins, then the longest glob."""

    def rows(self) -> dict[str, tuple[PlanCandidate, ...]]:
        """`models` in the words of a plan: an empty model is the one that was asked for."""
        return {name: self.plan_candidates(model.candidates) for name, model in self.models.items()}

    def plan_candidates(self, found: Iterable[CandidateConfig]) -> tuple[PlanCandidate, ...]:
        return tuple(PlanCandidate(c.provider, c.model or "", self._dialect(c), c.weight) for c in found)

    def _dialect(self, candidate: CandidateConfig) -> str:
        """What `api` stands for, "" where nothing was said."""
        provider = self.providers[candidate.provider]
        api = candidate.api or provider.api
        if api is None:
            return ""
        dialect: str = registry.load("providers", provider.kind).apis[api]
        return dialect

    def fingerprint(self) -> str:
        """Twelve digits that tell one configuration from another; secrets do not count."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def database_url(self) -> str | None:
        """None where no store is configured. It may hold a password."""
        if self.store is None:
            return None
        if self.store.database is not None:
            return self.store.database.reveal()
        return f"sqlite:///{self.agent.state_dir / 'edge.db'}"

    def journal_dir(self) -> Path:
        """Where workers write down what they settled, until the ledger has it."""
        return self.agent.state_dir / "journal"

    @property
    def has_admin_api(self) -> bool:
        return bool(self.admin.tokens)

    @property
    def quarantine_file(self) -> Path:
        """Rows that the ledger cannot take."""
        return self.agent.state_dir / "quarantine.jsonl"

    @property
    def managed_file(self) -> Path:
        """What the admin API manages, for the workers."""
        return self.agent.state_dir / "managed.json"

    @property
    def asks_for_responses(self) -> bool:
        """Whether the agent hears of a response only where it has asked for it in answer to the request's headers. Then
        what Envoy refuses for its source costs no stream; but a body that is too large is refused in Envoy's words
        where it comes before that answer (docs/adr/074)."""
        return self.envoy.source_limit is not None

    @property
    def counted_file(self) -> Path:
        """What one worker without a shared store has counted in dollars."""
        return self.agent.state_dir / "counted.json"

    @property
    def has_limits(self) -> bool:
        """Whether any caller has a limit or a budget, or may be given one while the gateway runs."""
        return self.has_admin_api or any(not allowance.is_empty for _, _, _, allowance in self.allowances())

    def allowances(self) -> Iterator[tuple[str, Level, str, AllowanceConfig]]:
        """Tenant, level, name and what that one may use."""
        for caller in self.callers:
            yield caller.tenant, "tenant", caller.tenant, caller.limits
            yield from ((caller.tenant, "team", team.name, team.limits) for team in caller.teams)
            yield from ((caller.tenant, "user", user.name, user.limits) for user in caller.users)
            yield from ((caller.tenant, "key", key.id, key.limits) for key in caller.keys)

    def policies(self) -> Iterator[tuple[str, Level, str, PolicyConfig]]:
        """Tenant, level, name and what that one may do."""
        for caller in self.callers:
            yield caller.tenant, "tenant", caller.tenant, caller.policy
            yield from ((caller.tenant, "team", team.name, team.policy) for team in caller.teams)
            yield from ((caller.tenant, "user", user.name, user.policy) for user in caller.users)
            yield from ((caller.tenant, "key", key.id, key.policy) for key in caller.keys)

    def own_store_socket(self) -> Path | None:
        """Where `up` keeps the limits that several workers share; None where it need not."""
        shared = self.limiter.store == "auto" and self.limiter.url is None and self.agent.workers > 1
        return self.agent.socket_dir / "valkey.sock" if shared and self.has_limits else None

    def envoy_admin_socket(self) -> Path | None:
        """None where Envoy's admin interface is on a port."""
        if self.envoy.admin.port is not None:
            return None
        return self.envoy.admin.socket or self.agent.socket_dir / "envoy-admin.sock"

"""The schema of the configuration: `Config` is one immutable snapshot with all defaults.

Each section has a file of its own in this package, which checks single values. mistakes.py checks combinations of
values. load.py adds file, line and column to each mistake.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field, PlainSerializer, WithJsonSchema

from .. import registry
from ..model.plan import Candidate as PlanCandidate
from ..model.principal import Level
from .access import PolicyConfig, RoleConfig
from .admin import AdminConfig
from .agent import AgentConfig
from .cache import CacheConfig
from .callers import AuthConfig, CallerConfig
from .conversations import ConversationsConfig
from .endpoints import Endpoints
from .envoy import BodyLimitsConfig, EnvoyConfig, ListenConfig, RetriesConfig, TimeoutsConfig
from .guardrails import GuardrailRuleConfig, GuardrailsConfig
from .idempotency import IdempotencyConfig
from .limits import AllowanceConfig, LimiterConfig
from .mcp import McpConfig, McpServerConfig
from .part import ConfigSection, Label, Text, frozen, thawed
from .prices import PriceConfig
from .prompt_cache import PromptCacheConfig
from .provider import ProviderConfig, ProviderName
from .quantities import read_integer
from .records import RecordsConfig
from .routing import CandidateConfig, ModelOrCandidates, RoutingConfig
from .sockets import SocketsConfig
from .store import StoreConfig
from .telemetry import TelemetryConfig
from .wrong import wrong

# Higher with each change that gives an existing key another meaning, or removes it (docs/adr/207).
VERSION = 1


def _known_version(value: int) -> int:
    if value > VERSION:
        raise wrong(f"this gateway knows version {VERSION} only", "upgrade the gateway, or use the older file")
    if value < VERSION:
        raise wrong("there is no such version", f"write {VERSION}")
    return value


class Config(ConfigSection):
    """One configuration. It is immutable, and a stream keeps the one that it began with."""

    version: Annotated[
        int, BeforeValidator(read_integer), AfterValidator(_known_version), WithJsonSchema({"const": VERSION})
    ] = VERSION
    """The version of the file's format. A gateway refuses a newer one than it knows."""
    listen: ListenConfig = ListenConfig()
    """Where callers connect."""
    admin: AdminConfig = AdminConfig()
    """The admin port: health, metrics, the admin API and the admin pages."""
    agent: AgentConfig = Field(default_factory=dict, validate_default=True)
    """The policy server: its processes, its files, and the addresses at which Envoy reaches it."""
    limits: BodyLimitsConfig = BodyLimitsConfig()
    """Limits of sizes and counts. Limits of callers are in `callers`."""
    limiter: LimiterConfig = Field(default_factory=dict, validate_default=True)
    """The store of the callers' limits, and assumptions for unknown lengths and prices."""
    timeouts: TimeoutsConfig = TimeoutsConfig()
    """The timeouts of requests and connections."""
    retries: RetriesConfig = RetriesConfig()
    """When and how often a request is sent again."""
    envoy: EnvoyConfig = Field(default_factory=dict, validate_default=True)
    """Envoy: its version and its process."""
    telemetry: TelemetryConfig = TelemetryConfig()
    """Logs, traces and exported metrics."""
    auth: AuthConfig
    """How callers authenticate."""
    endpoints: Endpoints = Field(default_factory=dict, validate_default=True)
    """Passthrough paths and their providers, including all paths below: {"/v1/files": openai}."""
    records: RecordsConfig = RecordsConfig()
    """Where the owners of stored objects and the replies of idempotency keys are kept."""
    idempotency: IdempotencyConfig = Field(default_factory=dict, validate_default=True)
    """Requests with an idempotency key are sent once."""
    cache: CacheConfig | None = None
    """The cache of replies. Absent: replies are not cached."""
    conversations: ConversationsConfig | None = None
    """Absent: the gateway stores no conversations."""
    prompt_cache: PromptCacheConfig = PromptCacheConfig()
    """Why a provider read less of a prompt from its prompt cache than it could have."""
    guardrails: GuardrailsConfig = GuardrailsConfig()
    """Rules about the texts of calls and replies: they block, mask, flag or route."""
    store: StoreConfig | None = None
    """Absent: there is no ledger."""
    roles: Annotated[Mapping[Label, RoleConfig], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Roles by name. Keys, tokens and certificates name them."""
    callers: tuple[CallerConfig, ...]
    """The tenants, with their keys and limits."""
    providers: Annotated[Mapping[ProviderName, ProviderConfig], AfterValidator(frozen), PlainSerializer(thawed)]
    """The hosts that serve models, by a name of your choice."""
    sockets: SocketsConfig = SocketsConfig()
    """What becomes of WebSocket sessions."""
    mcp: McpConfig = Field(default_factory=dict, validate_default=True)
    """MCP servers, to which callers get through the gateway."""
    prices: tuple[PriceConfig, ...] = ()
    """Prices that take precedence over the public lists."""
    routing: RoutingConfig = RoutingConfig()
    """Settings of routing that all models share."""
    models: Annotated[Mapping[Text, ModelOrCandidates], AfterValidator(frozen), PlainSerializer(thawed)]
    """Models by name, or by glob with * and ?. An exact name wins, then the longest glob."""

    def rows(self) -> dict[str, tuple[PlanCandidate, ...]]:
        """The candidates of each row of `models`. An empty model name means the requested one."""
        return {name: self.plan_candidates(model.candidates) for name, model in self.models.items()}

    def plan_candidates(self, candidates: Iterable[CandidateConfig]) -> tuple[PlanCandidate, ...]:
        return tuple(PlanCandidate(c.provider, c.model or "", self._dialect(c), c.weight) for c in candidates)

    def _dialect(self, candidate: CandidateConfig) -> str:
        """The dialect of a candidate's `api`. "": no `api` is configured."""
        provider = self.providers[candidate.provider]
        api = candidate.api or provider.api
        if api is None:
            return ""
        dialect: str = registry.load("providers", provider.kind).apis[api]
        return dialect

    def fingerprint(self) -> str:
        """Twelve hexadecimal digits that identify the configuration. Secrets are not included."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def database_url(self) -> str | None:
        """None: no store is configured. The URL may contain a password."""
        if self.store is None:
            return None
        if self.store.database is not None:
            return self.store.database.reveal()
        return f"sqlite:///{self.agent.state_dir / 'edge.db'}"

    def journal_dir(self) -> Path:
        """The directory of the workers' journals: settlements that are not yet in the ledger."""
        return self.agent.state_dir / "journal"

    @property
    def has_admin_api(self) -> bool:
        return bool(self.admin.tokens) or self.admin.has_pages

    @property
    def quarantine_file(self) -> Path:
        """The file of rows that the ledger refused."""
        return self.agent.state_dir / "quarantine.jsonl"

    def records_url(self) -> str | None:
        """The Redis or Valkey of the records. None: they are in a file. The URL may contain a password."""
        url = self.records.url or (self.limiter.url if self.limiter.has_several_replicas else None)
        return url.reveal() if url is not None else None

    @property
    def records_file(self) -> Path:
        """The file of records, without a Redis for them."""
        return self.agent.state_dir / "records.db"

    @property
    def managed_file(self) -> Path:
        """The file with the managed state of the admin API, which the workers read."""
        return self.agent.state_dir / "managed.json"

    @property
    def response_phase_opt_in(self) -> bool:
        """Whether Envoy sends response phases only if the agent's answer to the request headers enables them. Then a
        request that Envoy refuses for its source address costs no stream. But if a too large body arrives before that
        answer, its error is Envoy's own (docs/adr/074)."""
        return self.envoy.source_limit is not None

    def socket_providers(self) -> tuple[str, ...]:
        """The providers to which WebSockets go. None where others configure the proxy's routes (Istio)."""
        if self.envoy.istio is not None:
            return ()
        return tuple(name for name, provider in self.providers.items() if provider.sockets)

    @property
    def bridges_responses(self) -> bool:
        """Whether each response of a WebSocket session of the Responses API becomes a request."""
        return self.sockets.responses == "requests" and self.envoy.istio is None

    @property
    def reports_ends(self) -> bool:
        """Whether Envoy reports to each worker how its exchanges have ended. Istio's proxies do not."""
        return self.envoy.istio is None and self.agent.envoys_addresses() is not None

    @property
    def has_sockets(self) -> bool:
        """Whether any upgrade is permitted."""
        return self.bridges_responses or bool(self.socket_providers())

    def mcp_servers(self) -> Mapping[str, McpServerConfig]:
        """The MCP servers that have a route. None where others configure the proxy's routes (Istio)."""
        return self.mcp.servers if self.envoy.istio is None else {}

    @property
    def counted_file(self) -> Path:
        """The file with the dollar counters of the only worker, without a shared store."""
        return self.agent.state_dir / "counted.json"

    @property
    def has_limits(self) -> bool:
        """Whether any caller has a limit, or can get one while the gateway runs."""
        return (
            self.has_admin_api
            or self.limiter.runs
            or any(not allowance.is_empty for _, _, _, allowance in self.allowances())
        )

    def allowances(self) -> Iterator[tuple[str, Level, str, AllowanceConfig]]:
        """Tenant, level, name and limits of each holder."""
        for caller in self.callers:
            yield caller.tenant, "tenant", caller.tenant, caller.limits
            yield from ((caller.tenant, "team", team.name, team.limits) for team in caller.teams)
            yield from ((caller.tenant, "user", user.name, user.limits) for user in caller.users)
            yield from ((caller.tenant, "key", key.id, key.limits) for key in caller.keys)

    def policies(self) -> Iterator[tuple[str, Level, str, PolicyConfig]]:
        """Tenant, level, name and policy of each holder."""
        for caller in self.callers:
            yield caller.tenant, "tenant", caller.tenant, caller.policy
            yield from ((caller.tenant, "team", team.name, team.policy) for team in caller.teams)
            yield from ((caller.tenant, "user", user.name, user.policy) for user in caller.users)
            yield from ((caller.tenant, "key", key.id, key.policy) for key in caller.keys)

    def guardrail_rules(self) -> Iterator[tuple[tuple[str, Level, str] | None, GuardrailRuleConfig]]:
        """All rules about texts, each with the tenant, level and name of its holder. None: the rule is for all
        callers."""
        yield from ((None, rule) for rule in self.guardrails.rules)
        for caller in self.callers:
            tenant = caller.tenant
            yield from (((tenant, "tenant", tenant), rule) for rule in caller.guardrails)
            yield from (((tenant, "team", team.name), rule) for team in caller.teams for rule in team.guardrails)
            yield from (((tenant, "user", user.name), rule) for user in caller.users for rule in user.guardrails)
            yield from (((tenant, "key", key.id), rule) for key in caller.keys for rule in key.guardrails)

    @property
    def rebuilds_limits(self) -> bool:
        """Whether counters that the shared store has lost are rebuilt from the ledger: it must have the requests of all
        gateways that share the store."""
        is_shared = self.store is not None and self.store.database is not None
        return self.has_limits and self.store is not None and (is_shared or not self.limiter.has_several_replicas)

    def own_store_socket(self) -> Path | None:
        """The socket of the gateway's own Valkey, for limits or conversations of several workers. None: it is not
        needed."""
        if self.limiter.url is not None or self.agent.workers == 1:
            return None
        for_limits = self.limiter.store == "auto" and self.has_limits
        stored = self.conversations
        for_conversations = stored is not None and stored.store == "auto" and stored.url is None
        return self.agent.socket_dir / "valkey.sock" if for_limits or for_conversations else None

    def conversations_url(self) -> str | None:
        """The address of the store of conversations; it may contain a password. None: the store is in memory."""
        stored, own = self.conversations, self.own_store_socket()
        if stored is None or stored.store == "memory":
            return None
        url = stored.url or self.limiter.url
        if url is not None:
            return url.reveal()
        return f"unix://{own}" if own is not None else None

    def limit_store_url(self) -> str | None:
        """The address of the shared store of limits, which may contain a password. None: there is none."""
        if self.limiter.url is not None:
            return self.limiter.url.reveal()
        own = self.own_store_socket()
        return f"unix://{own}" if own is not None else None

    def envoy_admin_socket(self) -> Path | None:
        """None: Envoy's admin interface is on a port."""
        if self.envoy.admin.port is not None:
            return None
        return self.envoy.admin.socket or self.agent.socket_dir / "envoy-admin.sock"

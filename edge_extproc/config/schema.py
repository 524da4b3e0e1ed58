"""What a configuration may say: one frozen snapshot, every limit with its default.

The models check what can be seen from one value, `mistakes` what needs two. They know no file: load.py says where a
value stands.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    JsonValue,
    PlainSerializer,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import GenerateJsonSchema

from .. import registry
from ..model.paths import BY_MODEL
from ..model.plan import Candidate as PlanCandidate
from ..model.principal import Level
from .access import Policy, Role
from .admin import Admin, StoredHash, StrongKey
from .agent import Agent
from .cache import Cache
from .credentials import UpstreamCredential
from .endpoints import Endpoints
from .identity import Certificate, Issuer
from .limits import Allowance, Holder, Limiter
from .part import (
    Automatic,
    IpAddress,
    Label,
    Part,
    Text,
    automatic,
    cores,
    frozen,
    one_of,
    thawed,
)
from .paths import AnyPath, ReadableFile
from .quantities import (
    Boolean,
    Count,
    Duration,
    ErrorStatus,
    Instant,
    Percent,
    Port,
    PositiveDuration,
    Size,
    write_duration,
    write_size,
)
from .routing import Candidate, ModelOrCandidates, Routing
from .secrets import Secret
from .source_limit import SourceLimit
from .store import Store
from .telemetry import Telemetry
from .wrong import wrong

# A Unix socket's address has 108 bytes with its closing zero (sun_path in sys/un.h).
MAX_SOCKET_PATH = 107
MAX_PORT = 65_535
MIN_PEPPER_LENGTH = 16


# --- small types


def _provider_name(value: str) -> str:
    # It becomes a part of the name of an Envoy cluster, where a dot would cut the names of statistics.
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", value):
        raise wrong("this is no provider's name", "use up to 64 of A-Z a-z 0-9 _ -, and begin with a letter or digit")
    return value


def _header_size(size: int) -> int:
    if not 1024 <= size <= 8192 << 10:
        raise wrong("this size is not between 1KiB and 8MiB", "60KiB is Envoy's own default")
    return size


def _attempts(count: int) -> int:
    if count > 20:
        raise wrong("this number is out of range", "write one from 1 to 20")
    return count


def _http_version(value: object) -> object:
    if value == "auto" or isinstance(value, bool):
        return value
    if value in ("true", "false"):
        return value == "true"
    raise wrong("this is none of auto, true and false", "write auto to let TLS decide")


def _kind(value: str) -> str:
    have = registry.names("providers")
    if value not in have:
        raise wrong(f"there is no such kind of provider; have {', '.join(have)}", "write one of them")
    return value


def _region(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", value):
        raise wrong("this is no region", "write one as its cloud does, such as us-east-1 or global")
    return value


def _api_version(value: str) -> str:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(?:-preview)?|preview|latest|v1", value):
        raise wrong("this is no api version", "write one as Azure does, such as 2024-10-21")
    return value


def _segment(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}", value):
        raise wrong("this cannot stand in a path", "write the id that the host's own pages show")
    return value


def _header_safe(secret: Secret) -> Secret:
    # It is sent in a header: another character would end the header or be refused there, far from its cause.
    if not re.fullmatch(r"[\x20-\x7e]+", secret.reveal()):
        raise wrong("this secret holds a character that no API key has", "give printable ASCII on one line")
    return secret


def _strong_pepper(secret: Secret) -> Secret:
    if len(secret.reveal().encode()) < MIN_PEPPER_LENGTH:
        raise wrong("this pepper is too short", f"give {MIN_PEPPER_LENGTH} or more random characters")
    return secret


def _base_url(value: str) -> str:
    right = "write http(s)://host[:port]/path, such as https://api.openai.com/v1"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise wrong("this is no URL", right) from None
    if url.scheme not in ("http", "https"):
        raise wrong("this URL begins with neither https:// nor http://", right)
    if not url.hostname or not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", url.hostname) or port == 0:
        raise wrong("this URL names no host", right)
    if url.username is not None or url.password is not None:
        raise wrong("this URL holds a user or a password", "leave it out, and give the key as api_key", show=False)
    if url.query or url.fragment or "?" in value or "#" in value:
        raise wrong("this URL has a query or a fragment", right)
    if not re.fullmatch(r"[A-Za-z0-9._~!$&'()*+,;=:@%/-]*", url.path):
        raise wrong("this URL's path holds a character that no URL has", right)
    return value.rstrip("/")


# --- the parts


class Tls(Part):
    """Either `generate`, or a certificate and its key."""

    generate: Boolean = False
    """Use a certificate of our own, kept in <state_dir>/tls."""
    certificate: ReadableFile | None = None
    """A PEM file with the whole chain, the server's own certificate first."""
    private_key: ReadableFile | None = None
    client_ca: ReadableFile | None = None
    """A PEM file with the authorities of client certificates; without it none is asked for."""
    client_certificate: Annotated[Literal["optional", "required"], one_of("optional", "required")] = "optional"

    @model_validator(mode="after")
    def _either(self) -> Tls:
        given = (self.certificate is not None, self.private_key is not None)
        if self.generate and any(given):
            raise wrong("both generate and a certificate are given", "leave one of them out")
        if not self.generate and not all(given):
            raise wrong("a certificate and a private_key are needed", "give both, or generate: true for one of our own")
        if self.client_certificate == "required" and self.client_ca is None:
            raise wrong("a client certificate is required, and none could be verified", "give client_ca")
        return self


class Listen(Part):
    """The gateway's door."""

    address: IpAddress = "127.0.0.1"
    port: Port = 10000
    tls: Tls | None = None
    """Absent: plain HTTP."""


class Limits(Part):
    request_body: Size = Field(default="32MiB", validate_default=True)
    """413 beyond it. The body is held whole: a retry sends it again."""
    response_body: Size = Field(default="32MiB", validate_default=True)
    """Of a reply that is not streamed; streams have none."""
    request_headers: Annotated[Size, AfterValidator(_header_size)] = Field(default="60KiB", validate_default=True)
    """All of them together; beyond it the request is cut off. Envoy counts in KiB, up to 8 MiB."""
    request_header_count: Count = 100
    message_timeout: PositiveDuration = timedelta(seconds=5)
    """How long the agent may think about one message of Envoy's."""
    connections: Count = 10_000
    """Of callers, at one time."""
    streams_per_connection: Count = 100
    """Requests at one time over one HTTP/2 connection."""


class Timeouts(Part):
    connect: PositiveDuration = timedelta(seconds=5)
    first_byte: PositiveDuration = timedelta(seconds=600)
    """Of each try: until the provider's response begins. A reply that is not streamed begins when it is whole."""
    stream_idle: PositiveDuration = timedelta(seconds=600)
    """How long nothing may move on a request that is under way. Both are the default of the providers' own SDKs."""
    request: Duration = timedelta(0)
    """Of a whole request with all its tries; 0s: none, so that long streams are not cut."""
    receive: PositiveDuration = timedelta(seconds=60)
    """How long a caller may take to send a request."""
    receive_headers: PositiveDuration = timedelta(seconds=10)
    client_idle: PositiveDuration = timedelta(minutes=15)
    """How long a caller's connection may lie idle."""


class BackOff(Part):
    base: PositiveDuration = timedelta(milliseconds=100)
    max: PositiveDuration = timedelta(seconds=10)

    @model_validator(mode="after")
    def _ordered(self) -> BackOff:
        if self.max < self.base:
            raise wrong("max is shorter than base", "make it as long or longer")
        return self


class Budget(Part):
    """How many of a provider's requests may be retries at one time. When a provider is down, all of its requests are
    retried elsewhere: Envoy's own defaults (20 %, 3) would hand its errors to callers."""

    percent: Percent = 100
    min_concurrency: Count = 1000


class Retries(Part):
    attempts: Annotated[Count, AfterValidator(_attempts)] = 3
    """All tries of one request, over all candidates."""
    back_off: BackOff = BackOff()
    on_status: tuple[ErrorStatus, ...] = (408, 409, 429, 529)
    """Besides every 5xx, resets and refused connections."""
    retry_after: PositiveDuration = timedelta(seconds=60)
    """The longest Retry-After that is waited for, where there is no other provider to ask. After a longer one, the
    back-off decides."""
    budget: Budget = Budget()


class EnvoyAdmin(Part):
    """Envoy's own admin interface, which can stop it: a Unix socket unless a port of 127.0.0.1 is given."""

    socket: AnyPath | None = None
    port: Port | None = None

    @model_validator(mode="after")
    def _either(self) -> EnvoyAdmin:
        if self.socket is not None and self.port is not None:
            raise wrong("both socket and port are given", "leave one of them out")
        return self


LogLevel = Annotated[
    Literal["trace", "debug", "info", "warning", "error", "critical", "off"],
    one_of("trace", "debug", "info", "warning", "error", "critical", "off"),
]


class Envoy(Part):
    version: Text = "1.40"
    """Major and minor, in quotes: 1.40 without them is the number 1.4."""
    concurrency: Annotated[
        Count,
        automatic(max(1, cores() // 2)),
        WithJsonSchema(Automatic),
    ] = Field(default="auto", validate_default=True)
    """Envoy's worker threads. auto: half the cores, at least 1."""
    admin: EnvoyAdmin = EnvoyAdmin()
    log_level: LogLevel = "warning"
    access_log: Text = "stdout"
    """stdout, off, or the path of a file."""
    source_limit: SourceLimit | None = None
    """How much one address may send; as much as it likes where not given."""
    raw: Annotated[Mapping[str, JsonValue], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    """Merged into the rendered bootstrap: objects key by key, lists of things with a name by name, all else replaced.
    For what this file cannot say; Envoy's own field names, in snake_case."""


class Auth(Part):
    pepper: Annotated[Secret, AfterValidator(_strong_pepper)]
    """Hashed together with every key; <state_dir>/pepper where not given."""
    api_keys: Boolean = True
    """Whether keys are taken."""
    jwt: tuple[Issuer, ...] = ()
    """Whose tokens are taken."""
    certificates: tuple[Certificate, ...] = ()
    """Which client certificates are taken, instead of or beside a key; the first row that fits counts."""
    trust_forwarded_certificates: Boolean = False
    """An Envoy that is not ours writes x-forwarded-client-cert, and removes what callers send under that name."""
    trust_ext_authz: Boolean = False
    """ext_authz runs before, with this agent as its service: what it found out is taken from its metadata, so that a
    request is authenticated once."""


class Key(Part):
    """Either the key itself, which is hashed at load, or the hash of it."""

    id: Label
    """Stands for the key in logs and metrics."""
    key: StrongKey | None = None
    hash: StoredHash | None = None
    """hmac-sha256: and the HMAC-SHA256 of the key under the pepper, in hexadecimal."""
    expires: Instant | None = None
    disabled: Boolean = False
    team: Label | None = None
    user: Label | None = None
    limits: Allowance = Allowance()
    policy: Policy = Policy()
    roles: tuple[Text, ...] | None = None
    """Names of `roles`, of which one must allow all of a call; not given: no role bounds this key."""

    @model_validator(mode="after")
    def _either(self) -> Key:
        if (self.key is None) == (self.hash is None):
            raise wrong("exactly one of key and hash is needed", "give key: {env: NAME} or hash: hmac-sha256:…")
        return self

    @property
    def digest(self) -> str | None:
        """The hash without the name of its algorithm."""
        return self.hash.partition(":")[2] if self.hash is not None else None


class Caller(Part):
    tenant: Label
    models: tuple[Text, ...] = ("*",)
    """Names or globs of the models that this tenant may ask for."""
    keys: tuple[Key, ...] = ()
    limits: Allowance = Allowance()
    """Of the whole tenant."""
    policy: Policy = Policy()
    """Holds for all of the tenant's callers."""
    teams: tuple[Holder, ...] = ()
    users: tuple[Holder, ...] = ()


class ProviderTls(Part):
    ca: ReadableFile | None = None
    """A PEM file with the authorities to trust, for a private one; else those of the system."""
    server_name: Text | None = None
    """What the certificate must be for, where it is not the host of base_url."""


class Pool(Part):
    max_connections: Count = 4096
    max_pending: Count = 10_000
    max_requests: Count = 20_000
    """At one time: every open stream counts."""
    idle: PositiveDuration = timedelta(seconds=90)
    """Shorter than the idle timeouts of providers and of what lies between, so that we close first."""
    http2: Annotated[Literal["auto"] | bool, BeforeValidator(_http_version)] = "auto"
    """auto: what TLS negotiates; HTTP/1.1 without TLS."""
    keepalive: PositiveDuration = timedelta(seconds=60)
    """Idle time before the first TCP probe: a silent wait for a slow model outlives NAT tables."""
    dns_refresh: PositiveDuration = timedelta(seconds=30)
    """Where DNS itself gives no time to live."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a provider is."""

    host: str
    port: int
    tls: bool

    @property
    def ip(self) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
        """None where the host is a name."""
        try:
            return ipaddress.ip_address(self.host)
        except ValueError:
            return None

    @property
    def is_loopback(self) -> bool:
        return self.host == "localhost" or (self.ip is not None and self.ip.is_loopback)

    @property
    def authority(self) -> str:
        """As a Host header spells it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"


class Provider(Part):
    kind: Annotated[Text, AfterValidator(_kind)]
    host: Text | None = None
    """Of openai_compatible: one of the hosts that we know."""
    base_url: Annotated[Text, AfterValidator(_base_url)] | None = None
    """The kind's or the host's own where not given."""
    api_key: Annotated[Secret, AfterValidator(_header_safe)] | None = None
    credential: UpstreamCredential | None = None
    """Instead of a key: what the cloud of the host takes, renewed while we run."""
    region: Annotated[Text, AfterValidator(_region)] | None = None
    """Of a cloud's host: it is in the address, and in signatures."""
    api_version: Annotated[Text, AfterValidator(_api_version)] | None = None
    """Of azure: with it, paths name a deployment; without it, the v1 API is asked."""
    project: Annotated[Text, AfterValidator(_segment)] | None = None
    """Of vertex: the cloud project; without it (and with an api_key), express mode."""
    account: Annotated[Text, AfterValidator(_segment)] | None = None
    """Of a host whose address names one (cloudflare)."""
    api: Text | None = None
    """Which of the kind's wire formats chats are sent in, such as chat or responses of openai. Where not given: the
    caller's own if the host speaks it, else the kind's first."""
    location: Label | None = None
    """Where it works, in words of your own, for policies that name regions; a cloud's region where not given."""
    allow_plaintext: Boolean = False
    """Send prompts and the key over http:// to another machine."""
    tls: ProviderTls = ProviderTls()
    pool: Pool = Pool()

    @model_validator(mode="after")
    def _reachable(self) -> Provider:
        kind = registry.load("providers", self.kind)
        hosts = kind.hosts
        if self.host is not None and self.host not in hosts:
            if not hosts:
                raise wrong(f"kind {self.kind} has no hosts to choose from", "leave it out", key="host")
            raise wrong(f"there is no such host; have {', '.join(sorted(hosts))}", "write one of them", key="host")
        if self.api is not None and self.api not in kind.apis:
            raise wrong(
                f"kind {self.kind} has no such api; have {', '.join(kind.apis)}", "write one of them", key="api"
            )
        own = hosts[self.host].base_url if self.host is not None else kind.default_base_url
        needs_key = hosts[self.host].needs_key if self.host is not None else kind.needs_key
        if self.base_url is None and own is None:
            right = f"give base_url, or a host: {', '.join(sorted(hosts))}" if hosts else "give base_url"
            raise wrong(f"kind {self.kind} has no address of its own", right)
        # A host of one's own may let everybody in.
        if self.api_key is None and self.credential is None and self.base_url is None and needs_key:
            raise wrong("api_key is missing", "give {env: NAME} or {file: path}")
        self._optioned(kind)
        self._proven(kind)
        endpoint = self.endpoint
        if not endpoint.tls and not endpoint.is_loopback and not self.allow_plaintext:
            raise wrong(
                "this URL would send prompts and keys unencrypted to another machine",
                "use https://, or say allow_plaintext: true",
                key="base_url",
            )
        return self

    def _optioned(self, kind: Any) -> None:
        """What only some kinds have, and what an address cannot do without."""
        for name in ("api_version", "project", "account"):
            if getattr(self, name) is not None and name not in getattr(kind, "options", ()):
                raise wrong(f"kind {self.kind} has no {name}", "leave it out", key=name)
        own = kind.hosts[self.host].base_url if self.host is not None and self.base_url is None else ""
        if "{account}" in own and self.account is None:
            raise wrong("account is missing", "give the id that the host's own pages show")
        for name in getattr(kind, "needed_with_credential", ()):
            if self.credential is not None and getattr(self, name) is None:
                raise wrong(f"{name} is missing", "give it: it stands in every path")

    def _proven(self, kind: Any) -> None:
        regional = "{region}" in (kind.default_base_url or "")
        if self.region is not None and not regional:
            raise wrong(f"kind {self.kind} has no regions", "leave it out", key="region")
        signs = self.credential is not None and self.credential.kind == "aws"
        express = "project" in getattr(kind, "options", ()) and self.project is None
        if self.region is None and regional and not express and (self.base_url is None or signs):
            raise wrong("region is missing", "give one, such as us-east-1")
        if self.credential is None:
            return
        kinds = getattr(kind, "credentials", {})
        if self.credential.kind not in kinds:
            have = f"; it takes {', '.join(kinds)}" if kinds else ""
            raise wrong(f"kind {self.kind} takes no such credential{have}", "give api_key", key="credential")
        if self.api_key is not None:
            raise wrong("both api_key and credential are given", "leave one of them out")

    @property
    def url(self) -> str:
        """The base URL in force, without a slash at its end."""
        if self.base_url is not None:
            return self.base_url
        kind = registry.load("providers", self.kind)
        found: str = kind.hosts[self.host].base_url if self.host is not None else kind.default_base_url
        if self.region == "global" or (self.region is None and self.project is None):
            found = found.replace("{region}-", "")  # Vertex: without a region, the host has no prefix
        return found.replace("{region}", self.region or "").replace("{account}", self.account or "")

    @property
    def endpoint(self) -> Endpoint:
        url = urlsplit(self.url)
        tls = url.scheme == "https"
        return Endpoint(url.hostname or "", url.port or (443 if tls else 80), tls)


ProviderName = Annotated[Text, AfterValidator(_provider_name)]


class Config(Part):
    """One configuration. Nothing of it changes; a stream keeps the one that it began with."""

    listen: Listen = Listen()
    admin: Admin = Admin()
    agent: Agent = Field(default_factory=dict, validate_default=True)
    limits: Limits = Limits()
    limiter: Limiter = Field(default_factory=dict, validate_default=True)
    timeouts: Timeouts = Timeouts()
    retries: Retries = Retries()
    envoy: Envoy = Field(default_factory=dict, validate_default=True)
    telemetry: Telemetry = Telemetry()
    auth: Auth
    endpoints: Endpoints = Field(default_factory=dict, validate_default=True)
    """Paths, with all below them, that go to a provider as they are: {"/v1/files": openai}."""
    cache: Cache | None = None
    store: Store | None = None
    """Absent: no ledger is kept."""
    roles: Annotated[Mapping[Label, Role], AfterValidator(frozen), PlainSerializer(thawed)] = Field(
        default_factory=dict, validate_default=True
    )
    callers: tuple[Caller, ...]
    providers: Annotated[Mapping[ProviderName, Provider], AfterValidator(frozen), PlainSerializer(thawed)]
    routing: Routing = Routing()
    models: Annotated[Mapping[Text, ModelOrCandidates], AfterValidator(frozen), PlainSerializer(thawed)]
    """Names, or globs with * and ?, to candidates in order. An exact name wins, then the longest glob."""

    def rows(self) -> dict[str, tuple[PlanCandidate, ...]]:
        """`models` in the words of a plan: an empty model is the one that was asked for."""
        return {name: self.plan_candidates(model.candidates) for name, model in self.models.items()}

    def plan_candidates(self, found: Iterable[Candidate]) -> tuple[PlanCandidate, ...]:
        return tuple(PlanCandidate(c.provider, c.model or "", self._dialect(c), c.weight) for c in found)

    def _dialect(self, candidate: Candidate) -> str:
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

    def allowances(self) -> Iterator[tuple[str, Level, str, Allowance]]:
        """Tenant, level, name and what that one may use."""
        for caller in self.callers:
            yield caller.tenant, "tenant", caller.tenant, caller.limits
            yield from ((caller.tenant, "team", team.name, team.limits) for team in caller.teams)
            yield from ((caller.tenant, "user", user.name, user.limits) for user in caller.users)
            yield from ((caller.tenant, "key", key.id, key.limits) for key in caller.keys)

    def policies(self) -> Iterator[tuple[str, Level, str, Policy]]:
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


# --- what needs more than one value


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong and what would be right, by the path of the value."""

    path: tuple[str | int, ...]
    text: str


def mistakes(config: Config) -> Iterator[Finding]:
    if config.limits.request_body < config.limits.response_body:
        # One buffer of Envoy's serves both ways, and a route can only make it larger for requests.
        yield Finding(
            ("limits", "request_body"),
            f"this is less than response_body ({write_size(config.limits.response_body)}), "
            "so Envoy would not hold to it; make response_body as small",
        )
    yield from _ports(config)
    yield from _sockets(config)
    yield from _callers(config)
    yield from _admin(config)
    yield from _identity(config)
    yield from _models(config)
    yield from _endpoints(config)
    yield from _cache(config)
    yield from _limits(config)
    yield from _roles(config)


def _ports(config: Config) -> Iterator[Finding]:
    taken: dict[int, str] = {}
    for path, port in (
        (("listen", "port"), config.listen.port),
        (("admin", "port"), config.admin.port),
        (("envoy", "admin", "port"), config.envoy.admin.port),
    ):
        if port is None:
            continue
        if port in taken:
            yield Finding(path, f"port {port} is that of {taken[port]} too; choose another one")
        taken.setdefault(port, ".".join(path))


def _sockets(config: Config) -> Iterator[Finding]:
    if config.agent.tcp is not None:
        last = config.agent.workers - 1
        if (port := config.agent.tcp.port_of(last)) > MAX_PORT:
            yield Finding(
                ("agent", "tcp", "port"),
                f"worker {last} would listen at {port}; choose one below {MAX_PORT - last + 1}",
            )
    admin = config.envoy_admin_socket()
    store = config.own_store_socket()
    others = [str(path) for path in (admin, store) if path is not None]
    longest = max((*config.agent.worker_sockets(), *others), key=lambda p: len(os.fsencode(p)))
    length = len(os.fsencode(longest))
    if length > MAX_SOCKET_PATH:
        yield Finding(
            ("agent", "sockets"),
            f"{longest} has {length} bytes, the path of a Unix socket at most {MAX_SOCKET_PATH}; "
            "choose a shorter directory, such as /run/edge",
        )


def _admin(config: Config) -> Iterator[Finding]:
    if config.admin.tokens and config.store is None:
        yield Finding(("admin", "tokens"), "the admin API keeps what it manages in a database; add store: {}")
    tenants = {caller.tenant for caller in config.callers}
    for n, token in enumerate(config.admin.tokens):
        if token.tenant is not None and token.tenant not in tenants:
            have = ", ".join(sorted(tenants)) or "none"
            yield Finding(("admin", "tokens", n, "tenant"), f"there is no tenant {token.tenant!r}; have {have}")
    yield from _twice((("admin", "tokens", n, "id"), token.id) for n, token in enumerate(config.admin.tokens))


def _callers(config: Config) -> Iterator[Finding]:
    callers, auth = config.callers, config.auth
    by_other_ways = config.has_admin_api or auth.jwt or auth.certificates
    if not by_other_ways and not (auth.api_keys and any(caller.keys for caller in callers)):
        yield Finding(("callers",), "there is no key, so nobody could call; give a tenant and a key")
    yield from _twice((("callers", n, "tenant"), c.tenant) for n, c in enumerate(callers))
    for n, caller in enumerate(callers):
        yield from _twice((("callers", n, "teams", m, "name"), team.name) for m, team in enumerate(caller.teams))
        yield from _twice((("callers", n, "users", m, "name"), user.name) for m, user in enumerate(caller.users))
    yield from _twice(
        (("callers", n, "keys", m, "id"), key.id) for n, c in enumerate(callers) for m, key in enumerate(c.keys)
    )


def _identity(config: Config) -> Iterator[Finding]:
    auth, tenants = config.auth, {caller.tenant for caller in config.callers}
    have = ", ".join(sorted(tenants)) or "none"
    yield from _twice((("auth", "jwt", n, "issuer"), each.issuer) for n, each in enumerate(auth.jwt))
    rows = [
        *(("jwt", n, each.tenant, each.default_roles) for n, each in enumerate(auth.jwt)),
        *(("certificates", n, each.tenant, each.roles) for n, each in enumerate(auth.certificates)),
    ]
    for section, n, tenant, roles in rows:
        if tenant is not None and tenant not in tenants:
            yield Finding(("auth", section, n, "tenant"), f"there is no tenant {tenant!r} among callers; have {have}")
        for name in roles or ():
            if name not in config.roles:
                known = ", ".join(sorted(config.roles)) or "none"
                yield Finding(("auth", section, n), f"there is no role {name!r}; have {known}")
    verified = config.listen.tls is not None and config.listen.tls.client_ca is not None
    if auth.certificates and not verified and not auth.trust_forwarded_certificates:
        yield Finding(
            ("auth", "certificates"),
            "nobody verifies client certificates; give listen.tls.client_ca, or trust_forwarded_certificates: true "
            "where an Envoy of your own does and sanitizes x-forwarded-client-cert",
        )


def _roles(config: Config) -> Iterator[Finding]:
    have = ", ".join(sorted(config.roles)) or "none"
    for n, caller in enumerate(config.callers):
        for m, key in enumerate(caller.keys):
            for k, name in enumerate(key.roles or ()):
                if name not in config.roles:
                    yield Finding(("callers", n, "keys", m, "roles", k), f"there is no role {name!r}; have {have}")


def _limits(config: Config) -> Iterator[Finding]:
    if not config.has_limits:
        return
    limiter = config.limiter
    if limiter.store == "memory" and config.agent.workers > 1:
        yield Finding(
            ("limiter", "store"),
            f"{config.agent.workers} workers would each count for themselves, so callers could use that many times "
            "their limits; give limiter.url, leave store out, or set agent.workers: 1",
        )
    if limiter.replicas > 1 and limiter.url is None:
        yield Finding(
            ("limiter", "replicas"),
            f"{limiter.replicas} gateways share these limits, but no store; give limiter.url of a Redis",
        )


def _twice(found: Iterable[tuple[tuple[str | int, ...], str]]) -> Iterator[Finding]:
    seen: dict[str, tuple[str | int, ...]] = {}
    for path, name in found:
        if name in seen:
            yield Finding(path, f"{name!r} was already given; give each {path[-1]} once")
        seen.setdefault(name, path)


def _models(config: Config) -> Iterator[Finding]:
    for name, model in config.models.items():
        yield from _unknown_names(config, ("models", name), model.candidates)
        for n, rule in enumerate(model.rules):
            yield from _unknown_names(config, ("models", name, "rules", n), rule.candidates or ())
        for key, other in (
            ("context_length", model.fallbacks.context_length),
            ("content_filter", model.fallbacks.content_filter),
        ):
            if other is not None and (other not in config.models or other == name):
                have = ", ".join(sorted(set(config.models) - {name})) or "no other"
                yield Finding(
                    ("models", name, "fallbacks", key), f"there is no other model {other!r} here; have {have}"
                )


def _endpoints(config: Config) -> Iterator[Finding]:
    tenants = [caller.tenant for caller in config.callers]
    have = ", ".join(sorted(config.providers)) or "none"
    for path, endpoint in config.endpoints.items():
        if endpoint.provider not in config.providers:
            yield Finding(("endpoints", path), f"there is no provider {endpoint.provider!r}; have {have}")
        for tenant in endpoint.tenants or ():
            if tenant not in tenants:
                told = f"there is no tenant {tenant!r}; have {', '.join(sorted(tenants))}"
                yield Finding(("endpoints", path, "tenants"), told)
        if endpoint.tenants is None and len(tenants) > 1 and path not in BY_MODEL:
            yield Finding(
                ("endpoints", path),
                "all tenants would see what any of them stores there; name those who may: "
                f"{{provider: {endpoint.provider}, tenants: [{tenants[0]}]}}",
            )


def _cache(config: Config) -> Iterator[Finding]:
    if config.cache is None:
        return
    tenants = {caller.tenant for caller in config.callers}
    for tenant in config.cache.tenants:
        if tenant not in tenants:
            have = ", ".join(sorted(tenants)) or "none"
            yield Finding(("cache", "tenants", tenant), f"there is no tenant {tenant!r}; have {have}")
    for model in config.cache.models:
        if not any(model == row or fnmatchcase(model, row) or fnmatchcase(row, model) for row in config.models):
            have = ", ".join(sorted(config.models)) or "none"
            yield Finding(("cache", "models", model), f"no model is called {model!r}; have {have}")


def _unknown_names(config: Config, path: tuple[str | int, ...], candidates: Iterable[Candidate]) -> Iterator[Finding]:
    have = ", ".join(sorted(config.providers)) or "none"
    for n, candidate in enumerate(candidates):
        here = (*path, "candidates", n)
        if candidate.provider not in config.providers:
            yield Finding((*here, "provider"), f"there is no provider {candidate.provider!r}; have {have}")
            continue
        kind = config.providers[candidate.provider].kind
        apis = registry.load("providers", kind).apis
        if candidate.api is not None and candidate.api not in apis:
            yield Finding((*here, "api"), f"kind {kind} has no api {candidate.api!r}; have {', '.join(apis)}")


class _JsonSchema(GenerateJsonSchema):
    def encode_default(self, dft: Any) -> Any:
        """As a user would write it."""
        return write_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def json_schema() -> dict[str, Any]:
    found = Config.model_json_schema(schema_generator=_JsonSchema)
    # A file need not say where the pepper lies.
    found["required"].remove("auth")
    return found

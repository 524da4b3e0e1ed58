"""Checks of a configuration that need more than one value, such as references between sections."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import ip_address

from .. import registry
from ..model.paths import BY_MODEL
from .access import PolicyConfig
from .document import dotted
from .envoy import ANY_ADDRESS
from .guardrails import GuardrailRuleConfig
from .quantities import MAX_PORT
from .routing import CandidateConfig
from .schema import Config

# A Unix socket's address has 108 bytes with its closing zero (sun_path in sys/un.h).
MAX_SOCKET_PATH = 107


@dataclass(frozen=True, slots=True)
class Mistake:
    """One mistake: the path of the value, and a text that says what is wrong and how to correct it."""

    path: tuple[str | int, ...]
    text: str


def mistakes(config: Config) -> Iterator[Mistake]:
    yield from _ports(config)
    yield from _sockets(config)
    yield from _callers(config)
    yield from _admin(config)
    yield from _identity(config)
    yield from _models(config)
    yield from _endpoints(config)
    yield from _consumer(config)
    yield from _prices(config)
    yield from _cache(config)
    yield from _conversations(config)
    yield from _limits(config)
    yield from _roles(config)
    yield from _guardrails(config)
    yield from _mcp(config)


def _ports(config: Config) -> Iterator[Mistake]:
    ports: list[tuple[tuple[str | int, ...], str, int]] = [
        (("listen", "port"), config.listen.address, config.listen.port)
    ]
    ports += [(("listen", "more", n, "port"), each.address, each.port) for n, each in enumerate(config.listen.more)]
    ports.append((("admin", "port"), config.admin.address, config.admin.port))
    if config.envoy.admin.port is not None:
        ports.append((("envoy", "admin", "port"), "127.0.0.1", config.envoy.admin.port))
    for n, (path, address, port) in enumerate(ports):
        for other, there, other_port in ports[:n]:
            if port == other_port and _overlap(address, there):
                yield Mistake(path, f"port {port} is also the port of {dotted(other)}; choose another one")
                break


def _overlap(one: str, other: str) -> bool:
    """Whether two listeners at these addresses cannot have the same port. One at :: also has all IPv4 addresses."""
    versions = {ip_address(one).version, ip_address(other).version}
    if ANY_ADDRESS in (one, other):
        return True
    return len(versions) == 1 and (one == other or "0.0.0.0" in (one, other))  # noqa: S104 - compared, not bound


def _sockets(config: Config) -> Iterator[Mistake]:
    if config.agent.tcp is not None:
        last = config.agent.workers - 1
        if (port := config.agent.tcp.port_of(last)) > MAX_PORT:
            yield Mistake(
                ("agent", "tcp", "port"),
                f"worker {last} would listen at {port}; choose one below {MAX_PORT - last + 1}",
            )
    yield from _bridge(config)
    admin = config.envoy_admin_socket()
    store = config.own_store_socket()
    others = [str(path) for path in (admin, store) if path is not None]
    others += config.agent.bridge_sockets() if config.bridges_responses else []
    longest = max((*config.agent.worker_sockets(), *others), key=lambda p: len(os.fsencode(p)))
    length = len(os.fsencode(longest))
    if length > MAX_SOCKET_PATH:
        yield Mistake(
            ("agent", "sockets"),
            f"{longest} has {length} bytes, and the path of a Unix socket may have {MAX_SOCKET_PATH}; "
            "choose a shorter directory, such as /run/edge",
        )


def _admin(config: Config) -> Iterator[Mistake]:
    if config.admin.tokens and config.store is None:
        yield Mistake(("admin", "tokens"), "the admin API needs a database; add store: {}")
    if config.admin.pages and config.store is None:
        yield Mistake(("admin", "pages"), "the admin pages need a database; add store: {}")
    may_sign_in = config.admin.tokens or config.admin.is_local or any(role.admin for role in config.roles.values())
    if config.admin.pages and not may_sign_in:
        yield Mistake(("admin", "pages"), "nobody could sign in; add admin.tokens, or a role with the right admin")
    tenants = {caller.tenant for caller in config.callers}
    for n, token in enumerate(config.admin.tokens):
        if token.tenant is not None and token.tenant not in tenants:
            have = ", ".join(sorted(tenants)) or "none"
            yield Mistake(("admin", "tokens", n, "tenant"), f"there is no tenant {token.tenant!r}; have {have}")
    yield from _twice((("admin", "tokens", n, "id"), token.id) for n, token in enumerate(config.admin.tokens))


def _bridge(config: Config) -> Iterator[Mistake]:
    """A worker sends the requests of a session to the first listener, from this machine and without a certificate."""
    if not config.bridges_responses:
        return
    path, tls = ("sockets", "responses"), config.listen.tls
    if config.agent.tcp is not None:
        yield Mistake(path, "requests needs workers on the machine of Envoy; leave agent.tcp out, or write provider")
    if tls is not None and tls.client_certificate == "required":
        yield Mistake(path, "requests needs a listener without required client certificates; write provider")
    if config.envoy.source_limit is not None:
        yield Mistake(path, "with requests, all sessions have one source address; leave envoy.source_limit out")


def _callers(config: Config) -> Iterator[Mistake]:
    callers, auth = config.callers, config.auth
    by_other_ways = config.has_admin_api or auth.jwt or auth.certificates
    if not by_other_ways and not (auth.api_keys and any(caller.keys for caller in callers)):
        yield Mistake(("callers",), "there is no key, so no request would be accepted; give a tenant and a key")
    yield from _twice((("callers", n, "tenant"), c.tenant) for n, c in enumerate(callers))
    for n, caller in enumerate(callers):
        yield from _twice((("callers", n, "teams", m, "name"), team.name) for m, team in enumerate(caller.teams))
        yield from _twice((("callers", n, "users", m, "name"), user.name) for m, user in enumerate(caller.users))
    yield from _twice(
        (("callers", n, "keys", m, "id"), key.id) for n, c in enumerate(callers) for m, key in enumerate(c.keys)
    )


def _identity(config: Config) -> Iterator[Mistake]:
    auth, tenants = config.auth, {caller.tenant for caller in config.callers}
    have = ", ".join(sorted(tenants)) or "none"
    yield from _twice((("auth", "jwt", n, "issuer"), each.issuer) for n, each in enumerate(auth.jwt))
    rows = [
        *(("jwt", n, each.tenant, each.default_roles) for n, each in enumerate(auth.jwt)),
        *(("certificates", n, each.tenant, each.roles) for n, each in enumerate(auth.certificates)),
    ]
    for section, n, tenant, roles in rows:
        if tenant is not None and tenant not in tenants:
            yield Mistake(("auth", section, n, "tenant"), f"there is no tenant {tenant!r} among callers; have {have}")
        for name in roles or ():
            if name not in config.roles:
                known = ", ".join(sorted(config.roles)) or "none"
                yield Mistake(("auth", section, n), f"there is no role {name!r}; have {known}")
    listeners = [each for _, each in config.listen.listeners()]
    verified = any(each.tls is not None and each.tls.client_ca is not None for each in listeners)
    if auth.certificates and not verified and not auth.trust_forwarded_certificates:
        yield Mistake(
            ("auth", "certificates"),
            "client certificates are not verified; give listen.tls.client_ca, or trust_forwarded_certificates: true if "
            "an Envoy of your own verifies them and sanitizes x-forwarded-client-cert",
        )


def _roles(config: Config) -> Iterator[Mistake]:
    have = ", ".join(sorted(config.roles)) or "none"
    for n, caller in enumerate(config.callers):
        for m, key in enumerate(caller.keys):
            for k, name in enumerate(key.roles or ()):
                if name not in config.roles:
                    yield Mistake(("callers", n, "keys", m, "roles", k), f"there is no role {name!r}; have {have}")


def _guardrails(config: Config) -> Iterator[Mistake]:
    rules = list(_guardrail_paths(config))
    yield from _twice(((*path, "name"), rule.name) for path, rule in rules)
    tenants = sorted(caller.tenant for caller in config.callers)
    for path, rule in rules:
        scope = rule.for_
        if rule.route_to is not None and rule.route_to not in config.models:
            have = ", ".join(sorted(config.models)) or "none"
            yield Mistake((*path, "route_to"), f"there is no model {rule.route_to!r}; have {have}")
        for key, names, have_names in (
            ("tenants", scope.tenants, tenants),
            ("roles", scope.roles, sorted(config.roles)),
        ):
            for n, name in enumerate(names):
                if not any(fnmatchcase(each, name) for each in have_names):
                    have = ", ".join(have_names) or "none"
                    yield Mistake((*path, "for", key, n), f"there is no {key[:-1]} {name!r}; have {have}")
        for n, model in enumerate(scope.models):
            # A rule names the tools of an MCP server as SERVER/TOOL.
            of_server = any(fnmatchcase(server, model.partition("/")[0]) for server in config.mcp.servers)
            if not of_server and not any(fnmatchcase(model, row) or fnmatchcase(row, model) for row in config.models):
                have = ", ".join(sorted(config.models)) or "none"
                yield Mistake((*path, "for", "models", n), f"there is no model {model!r}; have {have}")


def _guardrail_paths(config: Config) -> Iterator[tuple[tuple[str | int, ...], GuardrailRuleConfig]]:
    """All rules about texts, with their paths."""
    for n, rule in enumerate(config.guardrails.rules):
        yield ("guardrails", "rules", n), rule
    for n, caller in enumerate(config.callers):
        for m, rule in enumerate(caller.guardrails):
            yield ("callers", n, "guardrails", m), rule
        lists: list[tuple[str, list[tuple[GuardrailRuleConfig, ...]]]] = [
            ("teams", [team.guardrails for team in caller.teams]),
            ("users", [user.guardrails for user in caller.users]),
            ("keys", [key.guardrails for key in caller.keys]),
        ]
        for section, holders in lists:
            for m, rules in enumerate(holders):
                for k, rule in enumerate(rules):
                    yield ("callers", n, section, m, "guardrails", k), rule


def _mcp(config: Config) -> Iterator[Mistake]:
    servers = config.mcp.servers
    if servers and config.envoy.istio is not None:
        yield Mistake(("mcp", "servers"), "MCP needs routes of its own, which Istio's configuration does not have here")
    have = ", ".join(sorted(servers)) or "none"
    accepted = {audience for issuer in config.auth.jwt for audience in issuer.audiences}
    for name, server in servers.items():
        for n, audience in enumerate(server.audiences):
            if audience not in accepted:
                told = f"no issuer has the audience {audience!r}, so each token for it is refused; add it to auth.jwt"
                yield Mistake(("mcp", "servers", name, "audiences", n), told)
    for path, named in _mcp_access(config):
        for name in named:
            if not any(fnmatchcase(server, name) for server in servers):
                yield Mistake((*path, name), f"there is no MCP server {name!r}; have {have}")


def _mcp_access(config: Config) -> Iterator[tuple[tuple[str | int, ...], Iterable[str]]]:
    """The names of servers that each holder names, with their paths."""
    for name, role in config.roles.items():
        yield ("roles", name, "mcp"), role.mcp or ()
    for n, caller in enumerate(config.callers):
        yield ("callers", n, "mcp"), caller.mcp
        yield ("callers", n, "policy", "mcp"), caller.policy.mcp or ()
        lists: list[tuple[str, list[PolicyConfig]]] = [
            ("teams", [team.policy for team in caller.teams]),
            ("users", [user.policy for user in caller.users]),
            ("keys", [key.policy for key in caller.keys]),
        ]
        for section, policies in lists:
            for m, policy in enumerate(policies):
                yield ("callers", n, section, m, "policy", "mcp"), policy.mcp or ()


def _conversations(config: Config) -> Iterator[Mistake]:
    stored = config.conversations
    if stored is None:
        return
    url = config.conversations_url()
    if stored.store == "redis" and url is None:
        yield Mistake(("conversations", "store"), "there is no url; give conversations.url or limiter.url")
    elif url is None and config.agent.workers > 1:
        yield Mistake(
            ("conversations", "store"),
            f"each of {config.agent.workers} workers would have a store of its own and not find the replies of the "
            "others; give conversations.url, or set agent.workers: 1",
        )
    elif url is not None and stored.key is None:
        yield Mistake(
            ("conversations",),
            "key is missing: conversations in a Redis or Valkey are encrypted; give key: {env: NAME} or {file: path}, "
            "with a text from `openssl rand -base64 32`",
        )


def _limits(config: Config) -> Iterator[Mistake]:
    if not config.has_limits:
        return
    limiter = config.limiter
    if limiter.store == "memory" and config.agent.workers > 1:
        yield Mistake(
            ("limiter", "store"),
            f"each of {config.agent.workers} workers would have counters of its own, so callers could use that many "
            "times their limits; give limiter.url, leave store out, or set agent.workers: 1",
        )
    if limiter.has_several_replicas and limiter.url is None:
        several = "several" if limiter.replicas == "auto" else limiter.replicas
        yield Mistake(
            ("limiter", "replicas"),
            f"{several} gateways need a shared store for these limits; set limiter.url to a Redis",
        )


def _twice(names: Iterable[tuple[tuple[str | int, ...], str]]) -> Iterator[Mistake]:
    seen: dict[str, tuple[str | int, ...]] = {}
    for path, name in names:
        if name in seen:
            yield Mistake(path, f"{name!r} was already given; give each {path[-1]} once")
        seen.setdefault(name, path)


def _models(config: Config) -> Iterator[Mistake]:
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
                yield Mistake(
                    ("models", name, "fallbacks", key), f"there is no other model {other!r} here; have {have}"
                )


def _prices(config: Config) -> Iterator[Mistake]:
    have = ", ".join(sorted(config.providers)) or "none"
    for n, price in enumerate(config.prices):
        if price.provider not in config.providers:
            yield Mistake(("prices", n, "provider"), f"there is no provider {price.provider!r}; have {have}")


def _consumer(config: Config) -> Iterator[Mistake]:
    consumer, have = config.agent.consumer, ", ".join(sorted(config.providers)) or "none"
    if consumer.provider is not None:
        if consumer.provider not in config.providers:
            text = f"there is no provider {consumer.provider!r}; have {have}"
            yield Mistake(("agent", "consumer", "provider"), text)
        if consumer.routes or consumer.route_header:
            text = "routes and route_header have no effect with provider; remove one or the other"
            yield Mistake(("agent", "consumer", "provider"), text)
    for route, provider in consumer.routes.items():
        if provider not in config.providers:
            text = f"there is no provider {provider!r}; have {have}"
            yield Mistake(("agent", "consumer", "routes", route), text)


def _endpoints(config: Config) -> Iterator[Mistake]:
    tenants = [caller.tenant for caller in config.callers]
    have = ", ".join(sorted(config.providers)) or "none"
    for path, endpoint in config.endpoints.items():
        if endpoint.provider not in config.providers:
            yield Mistake(("endpoints", path), f"there is no provider {endpoint.provider!r}; have {have}")
        for tenant in endpoint.tenants or ():
            if tenant not in tenants:
                text = f"there is no tenant {tenant!r}; have {', '.join(sorted(tenants))}"
                yield Mistake(("endpoints", path, "tenants"), text)
        provider = config.providers.get(endpoint.provider)
        unchecked = provider is not None and not provider.shared_account and not endpoint.shared
        if endpoint.tenants is None and len(tenants) > 1 and path not in BY_MODEL and unchecked:
            yield Mistake(
                ("endpoints", path),
                "every tenant would see the objects that the others store there; name the tenants that may use it: "
                f"{{provider: {endpoint.provider}, tenants: [{tenants[0]}]}}",
            )


def _cache(config: Config) -> Iterator[Mistake]:
    if config.cache is None:
        return
    tenants = {caller.tenant for caller in config.callers}
    for tenant in config.cache.tenants:
        if tenant not in tenants:
            have = ", ".join(sorted(tenants)) or "none"
            yield Mistake(("cache", "tenants", tenant), f"there is no tenant {tenant!r}; have {have}")
    for model in config.cache.models:
        if not any(model == row or fnmatchcase(model, row) or fnmatchcase(row, model) for row in config.models):
            have = ", ".join(sorted(config.models)) or "none"
            yield Mistake(("cache", "models", model), f"there is no model {model!r}; have {have}")


def _unknown_names(
    config: Config, path: tuple[str | int, ...], candidates: Iterable[CandidateConfig]
) -> Iterator[Mistake]:
    have = ", ".join(sorted(config.providers)) or "none"
    for n, candidate in enumerate(candidates):
        here = (*path, "candidates", n)
        if candidate.provider not in config.providers:
            yield Mistake((*here, "provider"), f"there is no provider {candidate.provider!r}; have {have}")
            continue
        kind = config.providers[candidate.provider].kind
        apis = registry.load("providers", kind).apis
        if candidate.api is not None and candidate.api not in apis:
            yield Mistake((*here, "api"), f"kind {kind} has no api {candidate.api!r}; have {', '.join(apis)}")

"""Renders Envoy's clusters: the agent's workers, the providers, and clusters of several providers."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from typing import Any, TypeAlias

from ..config.agent import MutualTlsConfig
from ..config.mcp import McpServerConfig
from ..config.provider import PoolConfig, ProviderConfig, ProviderEndpointConfig
from ..config.schema import Config
from ..model.envoy_names import (
    AFFINITY,
    AGENT,
    BRIDGE,
    NAMESPACE,
    WORKER,
    chain_name,
    cluster_name,
    mcp_cluster_name,
    socket_cluster_name,
)
from ..proxy import envoy_versions
from . import certificate_files
from .envoy_types import (
    Json,
    cluster_v3,
    common_dns,
    core,
    dns,
    endpoint_v3,
    extension,
    fields,
    file_source,
    matcher,
    route_v3,
    tcp_address,
    tls,
    type_v3,
    typed,
    upstreams,
)

# Every exchange and every retry is a stream of the agent's cluster. Envoy's default limit is 1024.
_AGENT_STREAMS = 100_000
_AGENT_CONNECTIONS = 1024
# A worker that does not answer three checks in a row gets no new exchanges. The timeout equals the time that a request
# waits for it (limits.message_timeout). A worker that is only busy answers sooner. A worker that has died refuses the
# connection, and each stream is retried at once.
_HEALTH_TIMEOUT = timedelta(seconds=5)
_HEALTH_INTERVAL = timedelta(seconds=2)
_UNHEALTHY_AFTER = 3
# A worker takes part in a TLS handshake, and may be busy. Without TLS, the kernel alone connects.
_CONNECT_TIMEOUT = timedelta(seconds=1)
_TLS_CONNECT_TIMEOUT = timedelta(seconds=3)
_AGENT_DNS_REFRESH = timedelta(seconds=5)
_AGENT_TCP_IDLE = 15
_TCP_PROBES = 3
_TCP_PROBE_INTERVAL = 10
_HTTP2_PING = timedelta(seconds=30)
_HTTP2_PING_TIMEOUT = timedelta(seconds=5)


# --- the agent's workers


def agent_cluster(config: Config) -> Json:
    """The workers, local or remote. Each is an endpoint of its own, so that Envoy chooses the worker, not the
    kernel."""
    tcp = config.agent.tcp
    cluster = cluster_v3.Cluster(
        name=AGENT,
        connect_timeout=_CONNECT_TIMEOUT if tcp is None or tcp.tls is None else _TLS_CONNECT_TIMEOUT,
        # If at least one worker is healthy, only healthy ones are used; if none is, all are.
        common_lb_config=cluster_v3.ClusterCommonLbConfig(
            healthy_panic_threshold=type_v3.Percent(value=1),
            # By default, a change of a worker's health takes effect up to a second after the one before it.
            update_merge_window=timedelta(0),
        ),
        per_connection_buffer_limit_bytes=max(config.limits.request_body, config.limits.response_body),
        circuit_breakers=cluster_v3.CircuitBreakers(
            thresholds=[
                cluster_v3.CircuitBreakersThresholds(
                    max_connections=_AGENT_CONNECTIONS,
                    max_pending_requests=_AGENT_STREAMS,
                    max_requests=_AGENT_STREAMS,
                    max_retries=_AGENT_STREAMS,
                )
            ]
        ),
        health_checks=[
            core.HealthCheck(
                timeout=_HEALTH_TIMEOUT,
                interval=_HEALTH_INTERVAL,
                # For a cluster that was not used yet: a worker that starts after Envoy is found at once.
                no_traffic_interval=_HEALTH_INTERVAL,
                unhealthy_threshold=_UNHEALTHY_AFTER,
                healthy_threshold=1,
                grpc_health_check=core.HealthCheckGrpcHealthCheck(),
            )
        ],
        load_assignment=endpoint_v3.ClusterLoadAssignment(
            cluster_name=AGENT,
            endpoints=[
                endpoint_v3.LocalityLbEndpoints(
                    lb_endpoints=[
                        endpoint_v3.LbEndpoint(endpoint=endpoint_v3.Endpoint(address=address))
                        for address in _worker_addresses(config)
                    ]
                )
            ],
        ),
    )
    if tcp is not None:
        # The kernel answers for a busy worker. An HTTP/2 PING would end all exchanges of a worker that answers late.
        cluster.upstream_connection_options = cluster_v3.UpstreamConnectionOptions(
            tcp_keepalive=_probes(_AGENT_TCP_IDLE)
        )
    protocol = upstreams.HttpProtocolOptions(
        explicit_http_config=upstreams.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=core.Http2ProtocolOptions()
        ),
    )
    # Otherwise there is one worker, and nothing to choose.
    has_hash_policy = envoy_versions.can(config, "hash_policy")
    if has_hash_policy:
        by_header = route_v3.RouteActionHashPolicyHeader(header_name=AFFINITY)
        protocol.hash_policy = [route_v3.RouteActionHashPolicy(header=by_header)]
    rendered = {
        **fields(cluster),
        **_agent_discovery(config),
        "load_balancing_policy": _own_worker(),
        "typed_extension_protocol_options": _protocol(
            protocol, **({"retry_policy": _next_worker()} if has_hash_policy else {})
        ),
    }
    if tcp is not None and tcp.tls is not None:
        rendered["transport_socket"] = _agent_tls(tcp.tls)
    return rendered


def _own_worker() -> Json:
    """A stream of an attempt goes to the worker that holds its exchange, for as long as the worker is an endpoint: a
    failed health check or another worker that comes or goes changes nothing. The worker tells its address. Any worker
    can begin an exchange; the hash then decides, and also where the address is not the one that Envoy knows."""
    return {
        "policies": [
            _policy(
                "override_host",
                "OverrideHost",
                override_host_sources=[{"header": WORKER}],
                fallback_policy={"policies": [_policy("maglev", "Maglev")]},
            )
        ]
    }


def _policy(name: str, message: str, **options: Any) -> Json:
    kind = f"type.googleapis.com/envoy.extensions.load_balancing_policies.{name}.v3.{message}"
    config = {"name": f"envoy.load_balancing_policies.{name}", "typed_config": {"@type": kind, **options}}
    return {"typed_extension_config": config}


def _next_worker() -> Json:
    """Retries a stream on another worker if the first one has died or stops, and has answered nothing. Envoy sends an
    attempt only after an answer, so an exchange begins anew there and no provider is asked twice. A stream of an
    attempt gets the error that its exchange is lost. There are more retries than a machine has workers that stop
    together."""
    return {
        "retry_on": "connect-failure,refused-stream,reset,reset-before-request,unavailable",
        "num_retries": 5,
        "retry_back_off": {"base_interval": "0.005s", "max_interval": "0.02s"},
        "retry_host_predicate": [
            {
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {
                    "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
                },
            }
        ],
        "host_selection_retry_max_attempts": 20,
    }


def _worker_addresses(config: Config) -> list[core.Address]:
    tcp = config.agent.tcp
    if tcp is None:
        return [core.Address(pipe=core.Pipe(path=socket)) for socket in config.agent.worker_sockets()]
    return [tcp_address(host, tcp.port_of(worker)) for host in tcp.hosts for worker in range(config.agent.workers)]


def _agent_discovery(config: Config) -> Json:
    tcp = config.agent.tcp
    if tcp is None or all(map(_is_ip, tcp.hosts)):
        return {"type": "STATIC"}
    # Each address of the name is a separate agent (a headless Service of Kubernetes). DNS is queried often, so that a
    # removed one gets no new streams.
    resolve = dns.DnsCluster(
        dns_refresh_rate=_AGENT_DNS_REFRESH,
        dns_failure_refresh_rate=dns.DnsClusterRefreshRate(
            base_interval=timedelta(seconds=1), max_interval=_AGENT_DNS_REFRESH
        ),
        dns_lookup_family=common_dns.DnsLookupFamily.V4_PREFERRED,
    )
    return {"cluster_type": extension("envoy.cluster.dns", resolve)}


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _agent_tls(mutual_tls: MutualTlsConfig) -> Json:
    exact = tls.SubjectAltNameMatcher(
        san_type=tls.SubjectAltNameMatcherSanType.DNS, matcher=matcher.StringMatcher(exact=mutual_tls.server_name)
    )
    return extension(
        "envoy.transport_sockets.tls",
        tls.UpstreamTlsContext(
            sni=mutual_tls.server_name,
            common_tls_context=tls.CommonTlsContext(
                alpn_protocols=["h2"],
                tls_params=tls.TlsParameters(
                    tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2,
                ),
                tls_certificates=[
                    tls.TlsCertificate(
                        certificate_chain=file_source(mutual_tls.certificate),
                        private_key=file_source(mutual_tls.private_key),
                    )
                ],
                validation_context=tls.CertificateValidationContext(
                    trusted_ca=file_source(mutual_tls.ca), match_typed_subject_alt_names=[exact]
                ),
            ),
        ),
    )


# --- the providers, and MCP servers

Upstream: TypeAlias = ProviderConfig | McpServerConfig


def provider_cluster(config: Config, name: str, provider: ProviderConfig) -> Json:
    return _upstream_cluster(config, cluster_name(name), name, provider)


def mcp_cluster(config: Config, name: str, server: McpServerConfig) -> Json:
    return _upstream_cluster(config, mcp_cluster_name(name), name, server)


def _upstream_cluster(config: Config, own_name: str, name: str, provider: Upstream) -> Json:
    """`own_name`: of the cluster. `name`: of the provider or server."""
    endpoint, pool = provider.endpoint, provider.pool
    cluster = cluster_v3.Cluster(
        name=own_name,
        connect_timeout=config.timeouts.connect,
        circuit_breakers=_bounds(config, pool),
        upstream_connection_options=cluster_v3.UpstreamConnectionOptions(
            tcp_keepalive=_probes(max(1, int(pool.keepalive.total_seconds())))
        ),
        load_assignment=_provider_endpoint(own_name, endpoint),
    )
    rendered = {
        **fields(cluster),
        **_discovery(provider, endpoint),
        "outlier_detection": _outliers(),
        "typed_extension_protocol_options": _protocol(_provider_protocol(provider, endpoint)),
    }
    (locality,) = rendered["load_assignment"]["endpoints"]
    for each in locality["lb_endpoints"]:
        each["metadata"] = {"filter_metadata": {NAMESPACE: {"provider": name}}}
    if endpoint.tls:
        rendered["transport_socket"] = _provider_tls(provider, endpoint)
    return rendered


def socket_cluster(config: Config, name: str) -> Json:
    """The same provider for WebSockets: with HTTP/1.1, because few servers accept them over HTTP/2."""
    provider = config.providers[name]
    plain = provider.model_copy(update={"pool": provider.pool.model_copy(update={"http2": False})})
    cluster, own = provider_cluster(config, name, plain), socket_cluster_name(cluster_name(name))
    return {**cluster, "name": own, "load_assignment": {**cluster["load_assignment"], "cluster_name": own}}


def bridge_cluster(config: Config) -> Json:
    """The workers' own WebSocket servers. Each session is a connection."""
    most = (1 << 32) - 1
    cluster = cluster_v3.Cluster(
        name=BRIDGE,
        connect_timeout=config.timeouts.connect,
        circuit_breakers=cluster_v3.CircuitBreakers(
            thresholds=[
                cluster_v3.CircuitBreakersThresholds(max_connections=most, max_pending_requests=most, max_requests=most)
            ]
        ),
        load_assignment=endpoint_v3.ClusterLoadAssignment(
            cluster_name=BRIDGE,
            endpoints=[
                endpoint_v3.LocalityLbEndpoints(
                    lb_endpoints=[
                        endpoint_v3.LbEndpoint(
                            endpoint=endpoint_v3.Endpoint(address=core.Address(pipe=core.Pipe(path=path)))
                        )
                        for path in config.agent.bridge_sockets()
                    ]
                )
            ],
        ),
    )
    return {**fields(cluster), "type": "STATIC"}


def _bounds(config: Config, pool: PoolConfig) -> cluster_v3.CircuitBreakers:
    return cluster_v3.CircuitBreakers(
        thresholds=[
            cluster_v3.CircuitBreakersThresholds(
                max_connections=pool.max_connections,
                max_pending_requests=pool.max_pending,
                max_requests=pool.max_requests,
                retry_budget=cluster_v3.CircuitBreakersThresholdsRetryBudget(
                    budget_percent=type_v3.Percent(value=config.retries.budget.percent),
                    min_retry_concurrency=config.retries.budget.min_concurrency,
                ),
            )
        ]
    )


def hedged_pairs(config: Config) -> list[tuple[str, str]]:
    """Any two candidates of a hedged model, in both orders."""
    pairs: dict[tuple[str, str], None] = {}
    for model in config.models.values():
        lists = [model.candidates, *(rule.candidates for rule in model.rules if rule.candidates is not None)]
        for candidates in lists if model.hedge is not None else ():
            names = [candidate.provider for candidate in candidates]
            pairs.update(dict.fromkeys((a, b) for a in names for b in names if a != b))
    return list(pairs)


def composite_cluster(config: Config, name: str, providers: tuple[str, ...]) -> Json:
    """A composite cluster for hedging. The second attempt of a hedge does not use the next group of the order, but it
    does increase the attempt count, which selects the provider here."""
    clusters = [{"name": cluster_name(provider)} for provider in providers]
    return _cluster_of_clusters(config, name, providers, "composite", clusters)


def chain_clusters(config: Config) -> list[Json]:
    """The clusters for proxies that cannot get the order of providers with each request."""
    match envoy_versions.order_of(config):
        case "priority_group":
            return []
        case "composite":
            return [composite_cluster(config, _chain(chain), chain) for chain in envoy_versions.chains(config)]
        case "aggregate":
            return [
                _cluster_of_clusters(config, _chain(chain), chain, "aggregate", [cluster_name(p) for p in chain])
                for chain in envoy_versions.chains(config)
            ]


def _chain(providers: tuple[str, ...]) -> str:
    return chain_name(map(cluster_name, providers))


def has_several(config: Config) -> bool:
    """Whether the configuration has clusters of several providers."""
    return envoy_versions.order_of(config) != "priority_group" or bool(hedged_pairs(config))


def _cluster_of_clusters(config: Config, name: str, providers: tuple[str, ...], kind: str, clusters: list[Any]) -> Json:
    cluster = cluster_v3.Cluster(
        name=name,
        connect_timeout=config.timeouts.connect,
        lb_policy=cluster_v3.ClusterLbPolicy.CLUSTER_PROVIDED,
        # Retries count against this limit. Envoy's default permits only three at a time.
        circuit_breakers=_bounds(config, config.providers[providers[0]].pool),
    )
    return {
        **fields(cluster),
        "cluster_type": {
            "name": f"envoy.clusters.{kind}",
            "typed_config": {
                "@type": f"type.googleapis.com/envoy.extensions.clusters.{kind}.v3.ClusterConfig",
                "clusters": clusters,
            },
        },
    }


def _outliers() -> Json:
    """Failures are counted, but no endpoint is ejected. A provider is one endpoint here: without it there would be
    none, and Envoy's panic mode would use it anyway. The agent's plan decides which provider to leave out."""
    detection = cluster_v3.OutlierDetection(
        consecutive_gateway_failure=5,
        enforcing_consecutive_gateway_failure=0,
        enforcing_success_rate=0,
        max_ejection_percent=0,
    )
    # betterproto2 has an additional underscore in this name.
    return {**fields(detection), "enforcing_consecutive_5xx": 0}


def _provider_endpoint(cluster: str, endpoint: ProviderEndpointConfig) -> endpoint_v3.ClusterLoadAssignment:
    return endpoint_v3.ClusterLoadAssignment(
        cluster_name=cluster,
        endpoints=[
            endpoint_v3.LocalityLbEndpoints(
                lb_endpoints=[
                    endpoint_v3.LbEndpoint(
                        endpoint=endpoint_v3.Endpoint(
                            # The value that auto_host_rewrite writes to the Host header.
                            hostname=endpoint.authority,
                            address=tcp_address(endpoint.host, endpoint.port),
                        ),
                    )
                ]
            )
        ],
    )


def _discovery(provider: Upstream, endpoint: ProviderEndpointConfig) -> Json:
    if endpoint.ip is not None:
        return {"type": "STATIC"}
    resolve = dns.DnsCluster(
        dns_refresh_rate=provider.pool.dns_refresh,
        dns_failure_refresh_rate=dns.DnsClusterRefreshRate(
            base_interval=timedelta(seconds=1), max_interval=timedelta(seconds=10)
        ),
        respect_dns_ttl=True,
        dns_lookup_family=common_dns.DnsLookupFamily.V4_PREFERRED,
        # One endpoint regardless of the DNS answer: large hosts answer differently each time, and connections should
        # survive that. If one address refuses, the next one is tried.
        all_addresses_in_single_endpoint=True,
    )
    return {"cluster_type": extension("envoy.cluster.dns", resolve)}


def _provider_protocol(provider: Upstream, endpoint: ProviderEndpointConfig) -> upstreams.HttpProtocolOptions:
    common = core.HttpProtocolOptions(idle_timeout=provider.pool.idle)
    http1, http2 = core.Http1ProtocolOptions(), _http2()
    if provider.pool.http2 == "auto" and endpoint.tls:
        return upstreams.HttpProtocolOptions(
            common_http_protocol_options=common,
            auto_config=upstreams.HttpProtocolOptionsAutoHttpConfig(
                http_protocol_options=http1, http2_protocol_options=http2
            ),
        )
    explicit = upstreams.HttpProtocolOptionsExplicitHttpConfig
    return upstreams.HttpProtocolOptions(
        common_http_protocol_options=common,
        explicit_http_config=(
            explicit(http2_protocol_options=http2)
            if provider.pool.http2 is True
            else explicit(http_protocol_options=http1)
        ),
    )


# The ALPN protocols to offer, by `pool.http2`.
_ALPN: dict[bool | str, list[str]] = {"auto": ["h2", "http/1.1"], True: ["h2"], False: ["http/1.1"]}


def _provider_tls(provider: Upstream, endpoint: ProviderEndpointConfig) -> Json:
    ca = provider.tls.ca or certificate_files.system_trust_store()
    server_name = provider.tls.server_name
    context = tls.CertificateValidationContext(trusted_ca=file_source(ca))
    # SNI cannot contain an address. The certificate must have it as an address.
    by_address = endpoint.ip is not None and server_name is None
    if by_address:
        context.match_typed_subject_alt_names = [
            tls.SubjectAltNameMatcher(
                san_type=tls.SubjectAltNameMatcherSanType.IP_ADDRESS,
                matcher=matcher.StringMatcher(exact=str(endpoint.ip)),
            )
        ]
    upstream = tls.UpstreamTlsContext(
        common_tls_context=tls.CommonTlsContext(
            alpn_protocols=_ALPN[provider.pool.http2],
            tls_params=tls.TlsParameters(
                tls_minimum_protocol_version=tls.TlsParametersTlsProtocol.TLSv1_2,
            ),
            validation_context=context,
        ),
    )
    if not by_address:
        upstream.sni = server_name or endpoint.host
        upstream.auto_sni_san_validation = True
    return extension("envoy.transport_sockets.tls", upstream)


def _probes(idle_seconds: int) -> core.TcpKeepalive:
    return core.TcpKeepalive(
        keepalive_time=idle_seconds, keepalive_interval=_TCP_PROBE_INTERVAL, keepalive_probes=_TCP_PROBES
    )


def _http2() -> core.Http2ProtocolOptions:
    return core.Http2ProtocolOptions(
        connection_keepalive=core.KeepaliveSettings(interval=_HTTP2_PING, timeout=_HTTP2_PING_TIMEOUT)
    )


def _protocol(options: upstreams.HttpProtocolOptions, **newer: Any) -> Json:
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": typed(options, **newer)}

"""The bootstrap, as Envoy's operators would read it. Whether Envoy takes it is asked in tests/envoy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_extproc.config.load import parse
from edge_extproc.config.routing import ModelConfig
from edge_extproc.config.schema import Config
from edge_extproc.envoy_config import certificate
from edge_extproc.envoy_config.bootstrap import bootstrap, render
from edge_extproc.envoy_config.envoy_types import merged
from edge_extproc.errors import ConfigError
from edge_extproc.model.envoy_names import NAMESPACE, ROUTE_NAMESPACE

KEY = "edge-0123456789abcdef0123456789"
PEPPER = "pepper-pepper-pepper"
PROVIDERS = "providers: {p: {kind: openai, api_key: {env: KEY}}}\n"


def configuration(text: str = "", providers: str = PROVIDERS) -> Config:
    rest = """
auth: {pepper: "${PEPPER}"}
callers: [{tenant: dev, keys: [{id: dev, key: {env: KEY}}]}]
models: {}
"""
    return parse(f"{text}\n{providers}{rest}", "f", environ={"KEY": KEY, "PEPPER": PEPPER}, base=Path("/state"))


def rendered(text: str = "", providers: str = PROVIDERS) -> dict[str, Any]:
    if "agent:" not in text:
        text += "\nagent: {workers: 2, sockets: /run}"
    return bootstrap(configuration(text, providers))


def listener(found: dict[str, Any]) -> dict[str, Any]:
    (only,) = found["static_resources"]["listeners"]
    return only  # type: ignore[no-any-return]  # JSON


def manager(found: dict[str, Any]) -> dict[str, Any]:
    return listener(found)["filter_chains"][0]["filters"][0]["typed_config"]  # type: ignore[no-any-return]  # JSON


def route(found: dict[str, Any]) -> dict[str, Any]:
    """The one for what the agent says nothing more of."""
    return manager(found)["route_config"]["virtual_hosts"][0]["routes"][-1]  # type: ignore[no-any-return]  # JSON


def cluster(found: dict[str, Any], name: str) -> dict[str, Any]:
    (only,) = [c for c in found["static_resources"]["clusters"] if c["name"] == name]
    return only  # type: ignore[no-any-return]  # JSON


def protocol(found: dict[str, Any], name: str) -> dict[str, Any]:
    options = cluster(found, name)["typed_extension_protocol_options"]
    return options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"]  # type: ignore[no-any-return]  # JSON


def strings(value: Any) -> Iterator[str]:
    match value:
        case dict():
            for key, below in value.items():
                yield key
                yield from strings(below)
        case list():
            for below in value:
                yield from strings(below)
        case _:
            yield str(value)


def test_no_secret_is_in_it() -> None:
    found = rendered()

    assert not {KEY, PEPPER} & set(strings(found))
    assert json.loads(json.dumps(found)) == found


def test_the_door_is_where_the_configuration_says_and_holds_what_it_says() -> None:
    found = rendered('listen: {address: "::1", port: 1234}\nlimits: {request_body: 2MiB, response_body: 1MiB}')

    assert {"socket_address": {"address": "::1", "port_value": 1234}} == listener(found)["address"]
    assert 1 << 20 == listener(found)["per_connection_buffer_limit_bytes"]
    assert 32 << 20 == route(found)["request_body_buffer_limit"]
    assert "transport_socket" not in listener(found)["filter_chains"][0]


@pytest.mark.parametrize("limits", ["{request_body: 64MiB}", "{request_body: 1MiB, response_body: 64MiB}"])
def test_the_buffer_holds_the_larger_of_a_request_and_a_reply(limits: str) -> None:
    assert 64 << 20 == route(rendered(f"limits: {limits}"))["request_body_buffer_limit"]


@pytest.mark.parametrize("own", [True, False])
def test_tls_offers_both_versions_of_http(tmp_path: Path, own: bool) -> None:
    made = certificate.ensure(tmp_path)
    given = "generate: true" if own else f"certificate: {made.certificate}, private_key: {made.private_key}"
    found = rendered(f"listen: {{tls: {{{given}}}}}\nagent: {{workers: 1, state_dir: {tmp_path}, sockets: /run/e}}")

    context = listener(found)["filter_chains"][0]["transport_socket"]["typed_config"]["common_tls_context"]
    assert ["h2", "http/1.1"] == context["alpn_protocols"]
    assert "TLSv1_2" == context["tls_params"]["tls_minimum_protocol_version"]
    assert [
        {
            "certificate_chain": {"filename": str(made.certificate)},
            "private_key": {"filename": str(made.private_key)},
        }
    ] == context["tls_certificates"]


def test_callers_are_not_believed() -> None:
    found = manager(rendered())

    assert found["use_remote_address"]
    assert found["internal_address_config"]["cidr_ranges"]
    assert found["normalize_path"]
    assert "KEEP_UNCHANGED" == found["path_with_escaped_slashes_action"]
    (stripped,) = found["early_header_mutation_extensions"]
    *removals, kept, removal = stripped["typed_config"]["mutations"]
    ours, envoys = (m["remove_on_match"]["key_matcher"] for m in removals)
    # One's own id is put aside, and then there is none: Envoy makes one, which chooses the worker.
    assert {"key": "x-edge-request-id", "value": "%REQ(x-request-id):129%"} == kept["append"]["header"]
    assert {"remove": "x-request-id"} == removal
    assert "x-envoy-" == envoys["prefix"]
    removed = re.compile(ours["safe_regex"]["regex"])
    for name in ("x-edge-", "x-edge-role", "X-Edge-Role", "x-edge-cache", "x-edge-cache-ttl2", "x-edge-cachexttl"):
        assert removed.fullmatch(name), name
    for name in ("x-edge-cache-ttl", "x-edg", "authorization"):
        assert not removed.fullmatch(name), name


def test_the_one_route_retries_over_the_order_that_the_agent_gives() -> None:
    found = route(rendered("retries: {attempts: 4, on_status: [429]}\ntimeouts: {first_byte: 7s}"))

    assert {"prefix": "/"} == found["match"]
    action = found["route"]
    assert ("0s", "600s", True) == (action["timeout"], action["idle_timeout"], action["auto_host_rewrite"])
    policy = action["retry_policy"]
    assert (3, [429], "7s", True) == (
        policy["num_retries"],
        policy["retriable_status_codes"],
        policy["per_try_timeout"],
        policy["refresh_cluster_on_retry"],
    )
    plugin = action["inline_cluster_specifier_plugin"]["extension"]["typed_config"]
    assert ROUTE_NAMESPACE == plugin["override_metadata_namespace"]


def test_one_attempt_means_no_retry() -> None:
    assert 0 == route(rendered("retries: {attempts: 1}"))["route"]["retry_policy"]["num_retries"]


def test_a_request_is_tried_again_in_the_manner_that_the_agent_names() -> None:
    found = rendered("retries: {retry_after: 7s}")
    routes = manager(found)["route_config"]["virtual_hosts"][0]["routes"]
    policies = {
        tuple(h["string_match"]["exact"] for h in r["match"].get("headers", [])): r["route"]["retry_policy"]
        for r in routes
        if "retry_policy" in r.get("route", {})  # the others answer without a provider
    }

    assert [("once",), ("again",), ()] == list(policies)
    assert "connect-failure,refused-stream" == policies["once",]["retry_on"]
    assert not policies["once",].get("retriable_status_codes")
    waits = policies["again",]["rate_limited_retry_back_off"]
    assert ("7s", "retry-after") == (waits["max_interval"], waits["reset_headers"][0]["name"])
    assert "rate_limited_retry_back_off" not in policies[()]


def test_all_levels_ask_the_agent_and_fail_closed() -> None:
    *_, router_level, last = manager(rendered("limits: {message_timeout: 45s}"))["http_filters"]
    first, guard, mutation, codec = last["typed_config"]["upstream_http_filters"]
    upstream_level, guarding = (each["typed_config"]["extension_config"] for each in (first, guard))

    for found, role in ((router_level, "router"), (upstream_level, "upstream"), (guarding, "guard")):
        settings = found["typed_config"]
        assert "45s" == settings["message_timeout"]
        assert {"code": "ServiceUnavailable"} == settings["status_on_error"]
        assert not settings.get("failure_mode_allow", False)
        own_worker = {"x-edge-worker": "%DYNAMIC_METADATA(edge:worker)%"} if role != "router" else {}
        assert {"x-edge-role": role, "x-edge-affinity": "%REQ(x-request-id)%", **own_worker} == {
            pair["key"]: pair["value"] for pair in settings["grpc_service"]["initial_metadata"]
        }
        for direction in ("forwarding_namespaces", "receiving_namespaces"):
            assert [NAMESPACE, ROUTE_NAMESPACE] == settings["metadata_options"][direction]["untyped"]
    mode = router_level["typed_config"]["processing_mode"]
    assert ("SEND", "BUFFERED", "SEND") == (
        mode["request_header_mode"],
        mode["request_body_mode"],
        mode["response_header_mode"],
    )
    held = guarding["typed_config"]["processing_mode"]
    assert ("SEND", "FULL_DUPLEX_STREAMED", "SEND") == (
        held["response_header_mode"],
        held["response_body_mode"],
        held["response_trailer_mode"],
    )
    assert "45s" == router_level["typed_config"]["max_message_timeout"]
    (skipped,), (guarded,) = (f["typed_config"]["xds_matcher"]["matcher_list"]["matchers"] for f in (first, guard))
    first_try, unguarded = skipped["predicate"]["or_matcher"]["predicate"]
    assert {"exact": "1"} == first_try["single_predicate"]["value_match"]
    assert unguarded == guarded["predicate"]["not_matcher"]
    assert "envoy.filters.http.header_mutation" == mutation["name"]
    assert "envoy.filters.http.upstream_codec" == codec["name"]
    assert last["typed_config"]["suppress_envoy_headers"]


def test_any_two_providers_of_a_hedged_model_have_a_cluster_in_either_order() -> None:
    found = bootstrap(
        configuration("", "providers: {p: {kind: openai, api_key: x}, q: {kind: openai, api_key: x}}").model_copy(
            update={"models": hedged()}
        )
    )
    pairs = {
        c["name"]: [each["name"] for each in c["cluster_type"]["typed_config"]["clusters"]]
        for c in found["static_resources"]["clusters"]
        if c["name"].startswith("pair_")
    }

    assert {"pair_p~q": ["provider_p", "provider_q"], "pair_q~p": ["provider_q", "provider_p"]} == pairs
    assert {"edge": {"provider": "q"}} == (
        cluster(found, "provider_q")["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["metadata"][
            "filter_metadata"
        ]
    )


def hedged() -> dict[str, Any]:
    return {"m": ModelConfig.model_validate({"candidates": [{"provider": "p"}, {"provider": "q"}], "hedge": {}})}


def test_headers_that_callers_may_send_for_routings_sake_are_left_to_them() -> None:
    found = manager(rendered("routing: {strategy_header: x-edge-strategy}"))
    ours = found["early_header_mutation_extensions"][0]["typed_config"]["mutations"][0]
    removed = re.compile(ours["remove_on_match"]["key_matcher"]["safe_regex"]["regex"])

    assert [None, None] == [removed.fullmatch(name) for name in ("x-edge-strategy", "x-edge-no-retry")]
    assert all(removed.fullmatch(name) for name in ("x-edge-route", "x-edge-strategyx", "x-edge-no-retr"))


def test_a_worker_that_is_only_busy_is_not_taken_for_dead() -> None:
    (health,) = cluster(rendered(), "agent")["health_checks"]

    assert (configuration().limits.message_timeout, 3) == (
        timedelta(seconds=float(health["timeout"].rstrip("s"))),
        health["unhealthy_threshold"],
    )


def test_no_connection_to_a_busy_worker_is_closed() -> None:
    found = rendered("agent: {workers: 2, tcp: {hosts: [agents.example], allow_plaintext: true}}")

    for each in (rendered(), found):
        assert {} == protocol(each, "agent")["explicit_http_config"]["http2_protocol_options"]
    assert "upstream_connection_options" not in cluster(rendered(), "agent")
    assert 15 == cluster(found, "agent")["upstream_connection_options"]["tcp_keepalive"]["keepalive_time"]


def test_what_a_worker_has_not_answered_another_one_gets() -> None:
    found = protocol(rendered(), "agent")["retry_policy"]

    assert {"connect-failure", "refused-stream", "reset", "unavailable"} <= set(found["retry_on"].split(","))
    assert ["envoy.retry_host_predicates.previous_hosts"] == [each["name"] for each in found["retry_host_predicate"]]


def test_each_worker_is_an_endpoint_and_a_request_keeps_to_one() -> None:
    found = rendered()
    agent = cluster(found, "agent")

    (own,) = (each["typed_extension_config"] for each in agent["load_balancing_policy"]["policies"])
    assert "envoy.load_balancing_policies.override_host" == own["name"]
    assert [{"header": "x-edge-worker"}] == own["typed_config"]["override_host_sources"]
    (other,) = own["typed_config"]["fallback_policy"]["policies"]
    assert "envoy.load_balancing_policies.maglev" == other["typed_extension_config"]["name"]
    assert [{"header": {"header_name": "x-edge-affinity"}}] == protocol(found, "agent")["hash_policy"]
    endpoints = agent["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert ["/run/worker-0.sock", "/run/worker-1.sock"] == [e["endpoint"]["address"]["pipe"]["path"] for e in endpoints]
    (threshold,) = agent["circuit_breakers"]["thresholds"]
    assert threshold["max_requests"] >= 100_000


def test_a_provider_by_name_is_resolved_verified_and_never_ejected(tmp_path: Path) -> None:
    ca = certificate.ensure(tmp_path).ca
    found = rendered(
        providers=f"providers: {{p: {{kind: openai, api_key: {{env: KEY}}, base_url: 'https://llm.example:8443/v1', "
        f"tls: {{ca: {ca}}}, pool: {{max_requests: 9, idle: 3s, dns_refresh: 4s}}}}}}\n"
    )
    p = cluster(found, "provider_p")

    assert "4s" == p["cluster_type"]["typed_config"]["dns_refresh_rate"]
    (endpoint,) = p["load_assignment"]["endpoints"][0]["lb_endpoints"]
    assert "llm.example:8443" == endpoint["endpoint"]["hostname"]
    assert {"address": "llm.example", "port_value": 8443} == endpoint["endpoint"]["address"]["socket_address"]
    tls = p["transport_socket"]["typed_config"]
    assert ("llm.example", True) == (tls["sni"], tls["auto_sni_san_validation"])
    assert {"filename": str(ca)} == tls["common_tls_context"]["validation_context"]["trusted_ca"]
    assert "3s" == protocol(found, "provider_p")["common_http_protocol_options"]["idle_timeout"]
    assert "auto_config" in protocol(found, "provider_p")
    assert 9 == p["circuit_breakers"]["thresholds"][0]["max_requests"]
    assert 0 == p["outlier_detection"]["max_ejection_percent"]
    assert {0} == {value for key, value in p["outlier_detection"].items() if key.startswith("enforcing_")}


def test_a_provider_by_address_must_have_it_in_its_certificate(tmp_path: Path) -> None:
    ca = certificate.ensure(tmp_path).ca
    base = f"kind: openai, api_key: {{env: KEY}}, base_url: 'https://10.0.0.7/v1', tls: {{ca: {ca}"
    found = rendered(providers=f"providers: {{p: {{{base}}}}}, q: {{{base}, server_name: llm.internal}}}}}}\n")

    by_address = cluster(found, "provider_p")["transport_socket"]["typed_config"]
    (name,) = by_address["common_tls_context"]["validation_context"]["match_typed_subject_alt_names"]
    assert {"san_type": "IP_ADDRESS", "matcher": {"exact": "10.0.0.7"}} == name
    assert "sni" not in by_address
    by_name = cluster(found, "provider_q")["transport_socket"]["typed_config"]
    assert ("llm.internal", True) == (by_name["sni"], by_name["auto_sni_san_validation"])
    assert "STATIC" == cluster(found, "provider_p").get("type", "STATIC")


@pytest.mark.parametrize(
    ("http2", "scheme", "spoken", "offered"),
    [
        ("auto", "https", "auto", ["h2", "http/1.1"]),
        ("auto", "http", "http_protocol_options", None),
        ("true", "https", "http2_protocol_options", ["h2"]),
        ("true", "http", "http2_protocol_options", None),
        ("false", "https", "http_protocol_options", ["http/1.1"]),
    ],
)
def test_the_version_of_http_is_negotiated_or_chosen(
    http2: str, scheme: str, spoken: str, offered: list[str] | None
) -> None:
    found = rendered(
        providers=f"providers: {{p: {{kind: openai, base_url: '{scheme}://127.0.0.1/v1', pool: {{http2: {http2}}}}}}}\n"
    )
    options = protocol(found, "provider_p")

    assert spoken == ("auto" if "auto_config" in options else next(iter(options["explicit_http_config"])))
    context = cluster(found, "provider_p").get("transport_socket", {}).get("typed_config", {})
    assert offered == context.get("common_tls_context", {}).get("alpn_protocols")


def test_envoys_admin_is_on_a_socket_for_its_owner_or_on_a_port_of_this_machine() -> None:
    assert {"path": "/run/envoy-admin.sock", "mode": 0o600} == rendered()["admin"]["address"]["pipe"]
    assert "/run/a" == rendered("envoy: {admin: {socket: /run/a}}")["admin"]["address"]["pipe"]["path"]
    assert {"address": "127.0.0.1", "port_value": 9901} == rendered("envoy: {admin: {port: 9901}}")["admin"]["address"][
        "socket_address"
    ]


def test_the_access_log_goes_where_it_should_and_holds_no_query_and_no_credential() -> None:
    off = manager(rendered("envoy: {access_log: off}"))["access_log"]
    (stdout, *_) = manager(rendered())["access_log"]
    (file, *_) = manager(rendered("envoy: {access_log: /var/log/edge}"))["access_log"]
    assert {"envoy.access_loggers.http_grpc"} == {each["name"] for each in off}  # reports of ends, for the workers
    assert "envoy.access_loggers.stdout" == stdout["name"]
    assert "/var/log/edge" == file["typed_config"]["path"]
    logged = " ".join(stdout["typed_config"]["log_format"]["json_format"].values()).lower()
    for word in ("authorization", "api-key", "cookie", ":path"):
        assert word not in logged


def test_raw_fields_are_merged_by_key_and_by_name() -> None:
    found = rendered(
        "envoy: {raw: {node: {id: mine}, static_resources: {clusters: ["
        "{name: provider_p, max_requests_per_connection: 9}, {name: more, type: STATIC}]}}}"
    )

    assert {"id": "mine", "cluster": "edge"} == found["node"]
    assert ["agent", "provider_p", "more"] == [c["name"] for c in found["static_resources"]["clusters"]]
    assert 9 == cluster(found, "provider_p")["max_requests_per_connection"]
    assert "circuit_breakers" in cluster(found, "provider_p")


def test_lists_without_names_are_replaced() -> None:
    assert {"a": [3]} == merged({"a": [1, 2]}, {"a": [3]})
    assert {"a": []} == merged({"a": [{"name": "x"}]}, {"a": []})
    assert {"a": {"b": 1}} == merged({"a": 1}, {"a": {"b": 1}})
    assert {"a": [{"name": "x", "b": 1}]} == merged({"a": [{"name": "x"}]}, {"a": [{"name": "x", "b": 1}]})


def test_another_version_of_envoy_is_refused_with_those_that_we_can() -> None:
    config = configuration("agent: {workers: 2}")

    assert render(config) == render(config, "1.40") == bootstrap(config)
    with pytest.raises(ConfigError, match=r"envoy\.version: '1\.35' cannot be rendered for; have 1\.36, .*, 1\.40"):
        render(config, "1.35")


# --- an agent on another machine


def test_workers_behind_names_are_one_endpoint_a_port_and_each_address_of_a_name_is_an_agent() -> None:
    tcp = "{port: 9100, hosts: [agents.llm.svc.cluster.local, 10.0.0.7], allow_plaintext: true}"
    found = cluster(rendered(f"agent: {{workers: 2, tcp: {tcp}}}"), "agent")

    addresses = [
        (
            each["endpoint"]["address"]["socket_address"]["address"],
            each["endpoint"]["address"]["socket_address"]["port_value"],
        )
        for each in found["load_assignment"]["endpoints"][0]["lb_endpoints"]
    ]
    assert [
        ("agents.llm.svc.cluster.local", 9100),
        ("agents.llm.svc.cluster.local", 9101),
        ("10.0.0.7", 9100),
        ("10.0.0.7", 9101),
    ] == addresses
    assert "all_addresses_in_single_endpoint" not in found["cluster_type"]["typed_config"]
    assert "type" not in found
    assert "transport_socket" not in found


def test_workers_at_addresses_need_no_dns() -> None:
    found = cluster(rendered("agent: {workers: 1, tcp: {address: 127.0.0.1}}"), "agent")

    assert "STATIC" == found["type"]
    assert "cluster_type" not in found


def test_envoy_and_a_worker_over_a_network_show_each_other_certificates(tmp_path: Path) -> None:
    made = certificate.ensure(tmp_path)
    pems = f"ca: {made.ca}, certificate: {made.certificate}, private_key: {made.private_key}"
    tcp = f"{{hosts: [agents.example], tls: {{{pems}, server_name: agents.example}}}}"
    context = cluster(rendered(f"agent: {{workers: 1, tcp: {tcp}}}"), "agent")["transport_socket"]["typed_config"]

    assert "agents.example" == context["sni"]
    common = context["common_tls_context"]
    assert str(made.private_key) == common["tls_certificates"][0]["private_key"]["filename"]
    (name,) = common["validation_context"]["match_typed_subject_alt_names"]
    assert {"exact": "agents.example"} == name["matcher"]

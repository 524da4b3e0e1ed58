"""An endpoint picker of the Gateway API Inference Extension between our two filters of ext_proc."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest
from consumer_kit import HTTP2, bootstrap, cluster, cluster_of, listener, process, route
from picker_kit import NAMESPACE, PICKED, Picker, serving
from running_envoy import RunningEnvoy

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("consumers")]

DUPLEX = "FULL_DUPLEX_STREAMED"
# Our filters, before and after the picker.
OURS = ("BUFFERED", DUPLEX)
AFTER = "the picker last"
RECEIVED = {"metadata_options": {"receiving_namespaces": {"untyped": [NAMESPACE]}}}


@dataclass(frozen=True, slots=True)
class Pool:
    envoy: RunningEnvoy
    picker: Picker
    members: tuple[fault_player.FaultPlayer, fault_player.FaultPlayer]


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    picker = Picker()
    with contextlib.ExitStack() as stack:
        members = (
            stack.enter_context(fault_player.fault_player()),
            stack.enter_context(fault_player.fault_player()),
        )
        port = stack.enter_context(serving(picker))
        text = gateways.config(
            f"http://127.0.0.1:{members[0].port}",
            models='"own.*": [{provider: openai}]',
            more="limiter: {store: memory}",
        )
        consumer = f'consumer: {{routes: {{"{cluster_of("openai")}": openai}}, route_header: true}}'
        text = text.replace("agent: {workers: 1", f"agent: {{{consumer}, workers: 1")
        gateway = stack.enter_context(gateways.RunningGateway(text))
        worker = gateway.directory / ".edge" / "run" / "worker-0.sock"
        hosts = {"llm": [route("openai", x_edge_provider="openai"), route("unknown")]}
        listeners = [
            listener(
                mode,
                process(mode, "SKIP", attribute=""),
                process(DUPLEX, "SKIP", attribute="", server="picker", **RECEIVED),
                process(mode, DUPLEX if mode == DUPLEX else "STREAMED"),
                hosts=hosts,
            )
            for mode in OURS
        ]
        after = [process("BUFFERED", "STREAMED"), process(DUPLEX, "SKIP", attribute="", server="picker", **RECEIVED)]
        listeners.append(listener(AFTER, *after, hosts={"llm": [route("openai")]}))
        found = bootstrap(listeners, worker, {cluster_of("unknown"): members[0].port})
        address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
        found["static_resources"]["clusters"] += [
            cluster("picker", address, typed_extension_protocol_options=HTTP2),
            picked(cluster_of("openai"), [each.port for each in members]),
        ]
        envoy = RunningEnvoy(found, tmp_path_factory.mktemp("picker"))
        envoy.start()
        stack.callback(envoy.stop)
        yield Pool(envoy, picker, members)


def picked(name: str, ports: list[int]) -> dict[str, Any]:
    """A pool as an implementation of the extension renders it. The picker's metadata name the endpoint: our second
    filter removes the picker's header, which is none of the provider's."""
    types = "type.googleapis.com/envoy.extensions.load_balancing_policies"
    otherwise = {"@type": f"{types}.round_robin.v3.RoundRobin"}
    override = {
        "@type": f"{types}.override_host.v3.OverrideHost",
        "override_host_sources": [{"metadata": {"key": NAMESPACE, "path": [{"key": PICKED}]}}],
        "fallback_policy": {
            "policies": [
                {
                    "typed_extension_config": {
                        "name": "envoy.load_balancing_policies.round_robin",
                        "typed_config": otherwise,
                    }
                }
            ]
        },
    }
    policy = {"name": "envoy.load_balancing_policies.override_host", "typed_config": override}
    endpoints = [
        {"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}} for port in ports
    ]
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]},
        "load_balancing_policy": {"policies": [{"typed_extension_config": policy}]},
    }


@pytest.fixture(autouse=True)
def _nothing_seen(pool: Pool) -> None:
    for seen in (pool.picker.headers, pool.picker.bodies, *(each.server.seen for each in pool.members)):
        seen.clear()


def ask(pool: Pool, mode: str, *, stream: bool = False, key: str = gateways.KEY) -> httpx.Response:
    asked = {"model": "own.good", "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    headers = {"host": "llm", "authorization": f"Bearer {key}"}
    with httpx.Client(headers=headers, timeout=30) as http:
        return http.post(f"http://127.0.0.1:{pool.envoy.port(mode)}/v1/chat/completions", json=asked)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", OURS)
def test_a_picker_reads_the_request_and_sees_no_credential(pool: Pool, mode: str, stream: bool) -> None:
    first, second = pool.members
    # No order of a load balancer.
    for n, member in enumerate((first, first, first, second, second, second), 1):
        pool.picker.endpoint = member.port
        before = len(member.server.seen)
        came = ask(pool, mode, stream=stream)

        assert (200, True) == (came.status_code, "there" in came.text), came.text
        assert before + 1 == len(member.server.seen)
        assert n == len(pool.picker.headers) == len(pool.picker.bodies)
    assert all(b'"own.good"' in body for body in pool.picker.bodies)
    told = str(pool.picker.headers) + str(pool.picker.bodies)
    assert gateways.KEY not in told
    assert "sk-provider-openai" not in told
    assert not {"authorization", "x-api-key"} & {name for each in pool.picker.headers for name in each}
    # The endpoint that it picked gets the request, with the credential.
    seen = [each.server.seen for each in pool.members]
    assert {"Bearer sk-provider-openai"} == {one.header("authorization") for each in seen for one in each}
    assert not [name for each in seen for one in each for name, _ in one.headers if name.startswith("x-edge-")]


@pytest.mark.parametrize("mode", OURS)
def test_who_has_no_key_does_not_reach_the_picker(pool: Pool, mode: str) -> None:
    assert 401 == ask(pool, mode, key="edge-a-key-of-nobody").status_code
    assert ([], []) == (pool.picker.headers, pool.picker.bodies)
    assert [[], []] == [each.server.seen for each in pool.members]


def test_a_picker_behind_our_writing_filter_would_see_the_providers_credential(pool: Pool) -> None:
    """So the order is a rule (docs/consumers.md), and the tests above would notice a credential."""
    pool.picker.endpoint = pool.members[1].port

    assert 200 == ask(pool, AFTER).status_code
    assert "Bearer sk-provider-openai" == pool.picker.headers[0]["authorization"]

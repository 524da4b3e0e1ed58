"""Real Envoy asks real workers by ext_authz, before a service that has nothing to do with models."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import grpc
import httpx2 as httpx
import pytest
import running_envoy
from gateway import KEY

from edge_extproc.server.authz import METHOD

pytestmark = pytest.mark.envoy

TYPES = "type.googleapis.com/envoy.extensions.filters"


def guarded(socket: str) -> dict[str, object]:
    """A door with ext_authz; behind it, Envoy itself tells what a service would have been told."""
    authz = {
        "@type": f"{TYPES}.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "agent"}, "timeout": "10s"},
        "failure_mode_allow": False,
        "status_on_error": {"code": 503},
    }
    tells = {
        "status": 200,
        "body_format": {"json_format": {"tenant": "%REQ(x-edge-tenant)%", "key": "%REQ(x-edge-key)%"}},
    }
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "door",
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": authz},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"}},
        ],
        "route_config": {
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "direct_response": tells}]}
            ]
        },
    }
    h2 = {"@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"}
    h2["explicit_http_config"] = {"http2_protocol_options": {}}  # type: ignore[assignment]  # JSON
    endpoint = {"endpoint": {"address": {"pipe": {"path": socket}}}}
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "door",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [
                {
                    "name": "agent",
                    "load_assignment": {"cluster_name": "agent", "endpoints": [{"lb_endpoints": [endpoint]}]},
                    "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": h2},
                }
            ],
        }
    }


@pytest.fixture
async def door(running, tmp_path) -> AsyncIterator[httpx.AsyncClient]:
    socket = running.directory / ".edge" / "run" / "worker-0.sock"
    async with running_envoy.RunningEnvoy(guarded(str(socket)), tmp_path) as envoy:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{envoy.port('door')}") as client:
            yield client


async def test_who_has_a_key_passes_and_is_named_to_the_service_and_who_has_none_does_not(door):
    passed = await door.get("/any", headers={"authorization": f"Bearer {KEY}", "x-edge-tenant": "somebody-else"})
    assert (200, {"tenant": "acme", "key": "acme-1"}) == (passed.status_code, passed.json())

    for headers in ({}, {"x-api-key": "a-key-of-nobody-at-all"}):
        refused = await door.get("/any", headers=headers)
        assert 401 == refused.status_code
        assert "application/json" == refused.headers["content-type"]
        assert refused.json()["error"]["code"] in {"missing_api_key", "invalid_api_key"}

    twice = [("authorization", f"Bearer {KEY}"), ("authorization", f"Bearer {KEY}")]
    assert 401 == (await door.get("/any", headers=twice)).status_code
    anthropic = await door.post("/v1/messages", content=b"{}")
    assert "authentication_error" == json.loads(anthropic.content)["error"]["type"]


def test_what_is_no_question_is_told_nothing(running):
    socket = running.directory / ".edge" / "run" / "worker-0.sock"
    with grpc.insecure_channel(f"unix:{socket}") as channel, pytest.raises(grpc.RpcError) as refused:
        channel.unary_unary(METHOD)(b"\xff\xff", timeout=10)

    assert (grpc.StatusCode.INVALID_ARGUMENT, "protocol error") == (refused.value.code(), refused.value.details())

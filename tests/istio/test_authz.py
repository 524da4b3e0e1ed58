"""istio/authz through istiod's code: two services whose sidecars ask the agents by ext_authz, through the agents' own
sidecar. The services have nothing to do with models."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gateway as gateways
import istiod_kit
import pytest
import tokens
import yaml
from istio_kit import lacking
from istiod_kit import Manifest
from mesh_calls import serving
from mesh_cluster import (
    AGENTS,
    ISTIO,
    agents_pod,
    around_a_pod,
    at_ports,
    endpoints,
    shipped,
    sidecar,
    subdirectory,
)
from ports import free_port, free_ports
from replaying import Replaying
from running_envoy import RunningEnvoy
from running_valkey import RunningValkey

from edge_extproc.exchange.check import IDENTITY_HEADERS
from edge_extproc.server.authz import METHOD as CHECK

pytestmark = pytest.mark.istio

KEY, LIMITED, BUDGETED = (f"edge-test-key-of-{name}-in-the-mesh" for name in ("acme", "a-limit", "a-budget"))
CALLERS = f"""
callers:
  - tenant: acme
    keys:
      - {{id: acme-1, key: {KEY}}}
      - {{id: acme-2, key: {LIMITED}, limits: {{requests_per_minute: 3}}}}
      - {{id: acme-3, key: {BUDGETED}, limits: {{dollars_per_day: 0.05}}}}
roles: {{operator: {{models: ["*"]}}, reader: {{models: ["*"]}}}}
providers: {{none: {{kind: openai, api_key: x}}}}
models: {{m: [{{provider: none}}]}}
"""


@dataclass(frozen=True, slots=True)
class Service:
    """A service behind its sidecar."""

    app: str
    namespace: str
    ip: str


API, BILLING = Service("internal-api", "internal", "127.0.0.7"), Service("billing", "billing", "127.0.0.8")


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def code(self) -> str:
        return str(json.loads(self.text)["error"]["code"])


@dataclass(frozen=True, slots=True)
class Mesh:
    authority: istiod_kit.MeshAuthority
    servers: dict[str, Replaying]
    workers: int

    def get(self, service: Service, path: str, *credential: str, **headers: str) -> Reply:
        """For a caller in the mesh."""
        if credential:
            headers["authorization"] = f"Bearer {credential[0]}"
        return self.request(service.ip, self.servers[service.app].port, "GET", path, headers)

    def request(self, ip: str, port: int, method: str, path: str, headers: dict[str, str], account: str = "") -> Reply:
        context = ssl.create_default_context(cafile=str(self.authority.pem))
        # The identity of the server is a SPIFFE id.
        context.check_hostname = False
        context.load_cert_chain(self.authority.of_workload(account or "web", "default"))
        context.set_alpn_protocols(["istio-http/1.1", "http/1.1"])
        with contextlib.closing(http.client.HTTPSConnection(ip, port, context=context, timeout=30)) as connection:
            connection.request(method, path, headers=headers)
            came = connection.getresponse()
            return Reply(came.status, {n.lower(): v for n, v in came.getheaders()}, came.read().decode())

    def last_at(self, service: Service) -> dict[str, str]:
        return dict(self.servers[service.app].asked[-1].headers)


@pytest.fixture(scope="module")
def mesh() -> Iterator[Mesh]:
    with running() as found:
        yield found


@pytest.mark.parametrize("service", [API, BILLING], ids=lambda each: each.app)
def test_each_service_has_the_callers_of_the_agents(mesh: Mesh, service: Service) -> None:
    server = mesh.servers[service.app]
    before = len(server.asked)
    refused = [mesh.get(service, "/orders"), mesh.get(service, "/orders", "edge-a-key-of-nobody-at-all")]

    assert [(401, "missing_api_key"), (401, "invalid_api_key")] == [(each.status, each.code) for each in refused]
    assert before == len(server.asked)

    forged = dict.fromkeys(IDENTITY_HEADERS, "forged")
    assert 200 == mesh.get(service, "/orders", KEY, **forged).status
    seen = mesh.last_at(service)
    assert ("acme", "acme-1") == (seen["x-edge-tenant"], seen["x-edge-key"])
    assert "forged" not in seen.values()
    assert "authorization" not in seen


@pytest.mark.parametrize("path", ["/admin", "/admin/users", "//admin", "/./admin", "/%61dmin"])
def test_a_route_is_for_a_role_that_a_token_has(mesh: Mesh, path: str) -> None:
    operator, reader = (tokens.token(exp=time.time() + 600, roles=[role]) for role in ("operator", "reader"))

    assert (200, "ann") == (mesh.get(API, path, operator).status, mesh.last_at(API)["x-edge-user"])
    assert [403, 403] == [mesh.get(API, path, each).status for each in (reader, KEY)]
    # It is a setting of this service alone.
    assert 200 == mesh.get(BILLING, path, reader).status


def test_a_limit_of_requests_is_counted_on_the_routes_that_say_so(mesh: Mesh) -> None:
    assert [200] * 5 == [mesh.get(BILLING, "/orders", LIMITED).status for _ in range(5)]
    found = [mesh.get(API, "/orders", LIMITED) for _ in range(4)]

    assert [200, 200, 200, 429] == [each.status for each in found]
    assert int(found[3].headers["retry-after"]) >= 1
    assert "0" == found[2].headers["x-ratelimit-remaining-requests"]


def test_a_route_with_a_cost_is_taken_from_a_budget(mesh: Mesh) -> None:
    found = [mesh.get(API, f"/search?q={n}", BUDGETED) for n in range(3)]

    assert [200, 200, 429] == [each.status for each in found]
    assert "budget_exceeded" == found[2].code
    assert 200 == mesh.get(API, "/orders", BUDGETED).status


@pytest.mark.parametrize("service", [API, BILLING], ids=lambda each: each.app)
def test_identity_headers_are_removed_where_the_agents_are_not_asked(mesh: Mesh, service: Service) -> None:
    forged = dict.fromkeys(IDENTITY_HEADERS, "forged")

    assert 200 == mesh.get(service, "/healthz", **forged, other="kept").status
    seen = mesh.last_at(service)
    assert "kept" == seen["other"]
    assert not forged.keys() & seen.keys()


@pytest.mark.parametrize(
    ("namespace", "path", "is_denied"),
    [
        ("internal", CHECK, False),
        ("internal", "/envoy.service.ext_proc.v3.ExternalProcessor/Process", True),
        ("web", CHECK, True),
    ],
)
def test_a_service_may_ask_who_calls_and_nothing_else(mesh: Mesh, namespace: str, path: str, is_denied: bool) -> None:
    came = mesh.request(AGENTS, mesh.workers, "POST", path, {"content-type": "application/grpc"}, namespace)

    assert is_denied is ("RBAC: access denied" in came.text + came.headers.get("grpc-message", "")), came


@pytest.mark.parametrize(("provider", "status"), [(True, 503), (False, 403)])
def test_where_the_agents_cannot_be_asked_no_service_is_reached(provider: bool, status: int) -> None:
    """Without agents, and without the provider in the mesh configuration, which istiod turns into a refusal."""
    with running(agents=False, provider=provider) as mesh:
        assert status == mesh.get(API, "/orders", KEY).status
        assert [] == mesh.servers[API.app].asked


# --- the mesh of these tests


@contextlib.contextmanager
def running(*, agents: bool = True, provider: bool = True) -> Iterator[Mesh]:
    with tempfile.TemporaryDirectory(prefix="edge-") as short, contextlib.ExitStack() as stack:
        directory, admin, first = Path(short), free_port(), free_ports(2)
        servers = {each.app: Replaying() for each in (API, BILLING)}
        for server in servers.values():
            server.start()
            stack.callback(server.stop)
        if agents:
            stack.enter_context(serving_callers(directory, admin, first))
        if provider:
            text = (ISTIO / "authz" / "meshconfig.yaml").read_text().replace("9000", str(first))
            (directory / "mesh.yaml").write_text(text)
        authority = istiod_kit.MeshAuthority(directory)
        manifests = at_ports(shipped("gateway", "authz"), first, admin)
        for each in manifests:
            if each["metadata"]["name"] == "internal-api-routes":
                each["spec"] = yaml.safe_load(yaml.safe_dump(each["spec"]).replace("8080", str(servers[API.app].port)))
        manifests += [
            *around_a_pod("llm", "llm-edge-agent", first, admin),
            agents_pod(),
            endpoints("llm", "llm-edge-authz", AGENTS, [("grpc-authz", first, "GRPC")], pod="llm-edge-agent-1"),
            *(ports_of(each, servers[each.app].port, first) for each in (API, BILLING)),
        ]
        ports = stack.enter_context(istiod_kit.istiod(manifests, directory))
        if agents:
            stack.enter_context(sidecar(ports, directory, "llm", "llm-edge-agent", "llm-edge-agent"))
        for each in (API, BILLING):
            labels = {"app": each.app, "llm-edge-authz": "enabled"}
            bootstrap = istiod_kit.bootstrap(ports, "sidecar", each.namespace, "default", labels, ip=each.ip)
            envoy = RunningEnvoy(bootstrap, subdirectory(directory, each.app), log_level="warning", without=lacking())
            envoy.start()
            stack.callback(envoy.stop)
        yield Mesh(authority, servers, first)


@contextlib.contextmanager
def serving_callers(directory: Path, admin: int, first: int) -> Iterator[None]:
    issuer, store = Replaying(), RunningValkey()
    with contextlib.ExitStack() as stack:
        issuer.answers(tokens.key_set(tokens.RSA))
        issuer.start()
        stack.callback(issuer.stop)
        store.start()
        stack.callback(store.stop)
        trusted = {
            "issuer": tokens.ISSUER,
            "jwks_url": issuer.url,
            "audiences": [tokens.AUDIENCE],
            "algorithms": ["RS256"],
            "claims": {"tenant": "tenant", "user": "sub", "roles": "roles"},
        }
        found: dict[str, Any] = {
            **yaml.safe_load(CALLERS),
            "admin": {"port": admin},
            "agent": {
                "workers": 2,
                "tcp": {"address": "127.0.0.1", "port": first, "hosts": [AGENTS], "allow_plaintext": True},
                "shutdown_grace": "2s",
            },
            "envoy": {"istio": "1.30"},
            "limiter": {"url": store.url},
            "auth": {"pepper": gateways.PEPPER, "jwt": [trusted]},
        }
        path = directory / "edge.yaml"
        path.write_text(yaml.safe_dump(found))
        stack.enter_context(serving(path, admin))
        yield


def ports_of(service: Service, port: int, outgoing: int) -> Manifest:
    """In place of iptables: the sidecar listens at the pod's address. `outgoing` is the port of the agents; the sidecar
    knows the services of its outgoing listeners."""
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "Sidecar",
        "metadata": {"name": service.app, "namespace": service.namespace},
        "spec": {
            "workloadSelector": {"labels": {"app": service.app}},
            "ingress": [
                {
                    "port": {"number": port, "name": "http", "protocol": "HTTP"},
                    "bind": service.ip,
                    "captureMode": "NONE",
                    "defaultEndpoint": f"127.0.0.1:{port}",
                }
            ],
            "egress": [
                {
                    "port": {"number": outgoing, "name": "grpc-authz", "protocol": "GRPC"},
                    "bind": service.ip,
                    "captureMode": "NONE",
                    "hosts": ["llm/*"],
                }
            ],
        },
    }

"""ext_authz on real Envoy: before ext_proc, and alone in front of a plain web service."""

from __future__ import annotations

import http.server
import json
import re
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gateway as gateways
import pytest
from running_envoy import RunningEnvoy

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("ext_authz")]


LIMITED = "edge-test-key-that-is-limited"
BUDGETED = "edge-test-key-with-a-budget"


@pytest.fixture(scope="module")
def gateway(rehearsal_url: str) -> Iterator[gateways.RunningGateway]:
    text = gateways.config(rehearsal_url, models="chat: [{provider: openai, model: rehearsal}]")
    text = text.replace(
        f'auth: {{pepper: "{gateways.PEPPER}"}}', f'auth: {{pepper: "{gateways.PEPPER}", trust_ext_authz: true}}'
    )
    narrow = "limits: {requests_per_minute: 3}, policy: {operations: [embeddings]}"
    limited = f"{{id: acme-2, key: {LIMITED}, {narrow}}}"
    budgeted = f"{{id: acme-3, key: {BUDGETED}, limits: {{dollars_per_day: 1}}}}"
    text = text.replace("keys: [{id: acme-1", f"keys: [{limited}, {budgeted}, {{id: acme-1")
    with gateways.RunningGateway(text) as found:
        yield found


def call(url: str, *pairs: tuple[str, str], body: Any = None) -> tuple[int, dict[str, str], dict[str, Any]]:
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode(), dict(pairs))
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, dict(answer.headers), json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, dict(error.headers), json.load(error)


CHAT = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
JSON = ("content-type", "application/json")


def test_before_ext_proc_a_request_is_authenticated_once(gateway: gateways.RunningGateway) -> None:
    url = f"{gateway.url}/v1/chat/completions"
    before = checked(gateway)
    good = call(url, JSON, ("authorization", f"Bearer {gateways.KEY}"), ("x-edge-tenant", "umbrella"), body=CHAT)
    bad = call(url, JSON, ("authorization", "Bearer edge-wrong-key-of-nobody"), body=CHAT)
    none = call(f"{gateway.url}/v1/messages", JSON, body=CHAT)
    after = checked(gateway)

    assert (200, 401, 401) == (good[0], bad[0], none[0])
    assert "invalid_api_key" == bad[2]["error"]["code"]
    assert "authentication_error" == none[2]["error"]["type"]
    assert (1, 2) == (after["allowed"] - before["allowed"], after["denied"] - before["denied"])
    gateways.until(lambda: ("acme", "acme-1") in {(x["tenant"], x["key"]) for x in gateway.access_lines()})


def checked(gateway: gateways.RunningGateway) -> dict[str, float]:
    found = re.findall(r'^edge_authz_checks_total\{result="(\w+)"\} (\S+)$', gateway.metrics(), re.MULTILINE)
    return {result: float(count) for result, count in found}


class Echo(http.server.BaseHTTPRequestHandler):
    """A web service that knows nothing of us: it answers with the headers that it got."""

    def do_GET(self) -> None:
        body = json.dumps({name.lower(): value for name, value in self.headers.items()}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Says nothing."""


@pytest.fixture(scope="module")
def service() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def cluster(name: str, address: dict[str, Any], **more: Any) -> dict[str, Any]:
    endpoint = {"lb_endpoints": [{"endpoint": {"address": address}}]}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {"cluster_name": name, "endpoints": [endpoint]},
        **more,
    }


def bootstrap(agent: Path, service: int) -> dict[str, Any]:
    types = "type.googleapis.com/envoy.extensions"
    check = {
        "@type": f"{types}.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": "agent"}, "timeout": "5s"},
        "status_on_error": {"code": "ServiceUnavailable"},
    }

    def route(prefix: str, **settings: str) -> dict[str, Any]:
        found: dict[str, Any] = {"match": {"prefix": prefix}, "route": {"cluster": "service"}}
        if settings:
            found["typed_per_filter_config"] = {
                "envoy.filters.http.ext_authz": {
                    "@type": f"{types}.filters.http.ext_authz.v3.ExtAuthzPerRoute",
                    "check_settings": {"context_extensions": {f"edge.{n}": v for n, v in settings.items()}},
                }
            }
        return found

    routes = [
        route("/open", optional="true"),
        route("/umbrella", tenants="umbrella"),
        route("/typo", tenant="acme"),
        route("/counted", limit="requests"),
        route("/priced", cost="0.4"),
        route("/unpriced", cost="cheap"),
        route("/llama", model="llama-3"),
        route("/chats", operation="chat"),
        route("/"),
    ]
    manager = {
        "@type": f"{types}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "edge",
        "http_filters": [
            {"name": "envoy.filters.http.ext_authz", "typed_config": check},
            {"name": "router", "typed_config": {"@type": f"{types}.filters.http.router.v3.Router"}},
        ],
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
    }
    options = {
        f"{'envoy.extensions.upstreams.http.v3.HttpProtocolOptions'}": {
            "@type": f"{types}.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "web",
                    "address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}},
                    "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
                }
            ],
            "clusters": [
                cluster("agent", {"pipe": {"path": str(agent)}}, typed_extension_protocol_options=options),
                cluster("service", {"socket_address": {"address": "127.0.0.1", "port_value": service}}),
            ],
        }
    }


@pytest.fixture(scope="module")
def web(gateway: gateways.RunningGateway, service: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    socket = gateway.directory / ".edge" / "run" / "worker-0.sock"
    envoy = RunningEnvoy(bootstrap(socket, service), tmp_path_factory.mktemp("web"))
    envoy.start()
    yield f"http://127.0.0.1:{envoy.port('web')}"
    envoy.stop()


def test_a_plain_service_gets_the_identity_and_not_the_credential(web: str) -> None:
    key = ("authorization", f"Bearer {gateways.KEY}")
    status, _, seen = call(f"{web}/orders", key, ("x-edge-tenant", "forged"), ("x-edge-user", "forged"))

    assert (200, "acme", "acme-1") == (status, seen["x-edge-tenant"], seen["x-edge-key"])
    assert not {"authorization", "x-edge-user", "x-edge-team"} & seen.keys()


def test_a_refusal_is_json_with_its_status(web: str) -> None:
    missing, wrong = call(f"{web}/orders"), call(f"{web}/orders", ("x-api-key", "edge-wrong"))

    assert (401, "missing_api_key") == (missing[0], missing[2]["error"]["code"])
    assert (401, "invalid_api_key") == (wrong[0], wrong[2]["error"]["code"])
    assert "application/json" == missing[1]["content-type"]


def test_each_route_has_its_own_settings(web: str) -> None:
    acme, umbrella = ("x-api-key", gateways.KEY), ("x-api-key", gateways.OTHER_KEY)

    assert (200, False) == ((found := call(f"{web}/open"))[0], "x-edge-tenant" in found[2])
    assert (403, 200) == (call(f"{web}/umbrella", acme)[0], call(f"{web}/umbrella", umbrella)[0])
    assert 403 == call(f"{web}/typo", acme)[0]


def test_policies_and_limits_hold_where_a_route_says_so(web: str) -> None:
    limited, umbrella = ("x-api-key", LIMITED), ("x-api-key", gateways.OTHER_KEY)
    not_chat = call(f"{web}/chats", limited)
    counted = [call(f"{web}/counted", limited) for _ in range(4)]

    assert [200, 200, 200, 429] == [status for status, _, _ in counted]
    assert "0" == counted[2][1]["x-ratelimit-remaining-requests"]
    assert int(counted[3][1]["retry-after"]) >= 1
    assert "rate_limit_exceeded" == counted[3][2]["error"]["code"]
    assert (403, True) == (not_chat[0], "key acme-2 allows (embeddings)" in not_chat[2]["error"]["message"])
    # This caller may only use the model only-this.
    assert (403, 200) == (call(f"{web}/llama", umbrella)[0], call(f"{web}/chats", umbrella)[0])


def test_a_route_with_a_cost_is_taken_from_the_budget(web: str) -> None:
    found = [call(f"{web}/priced", ("x-api-key", BUDGETED)) for _ in range(3)]

    assert [200, 200, 429] == [status for status, _, _ in found]
    assert "budget_exceeded" == found[2][2]["error"]["code"]
    assert 200 == call(f"{web}/orders", ("x-api-key", BUDGETED))[0]
    assert (403, 403) == tuple(call(f"{web}/unpriced", ("x-api-key", k))[0] for k in (BUDGETED, LIMITED))


def test_each_verdict_has_a_line_and_counts(web: str, gateway: gateways.RunningGateway) -> None:
    wrong = "edge-wrong-key-that-nobody-has"
    call(f"{web}/lines?secret=yes", ("x-api-key", wrong))
    call(f"{web}/umbrella/lines", ("x-api-key", gateways.OTHER_KEY))

    def lines() -> dict[str, Any]:
        return {line["path"]: line for line in gateway.check_lines()}

    gateways.until(lambda: {"/lines", "/umbrella/lines"} <= lines().keys())
    refused, passed = lines()["/lines"], lines()["/umbrella/lines"]
    assert ("denied", 401, "invalid_api_key", None) == tuple(refused[k] for k in ("check", "status", "code", "key"))
    assert ("allowed", "umbrella", "umbrella-1", "GET") == tuple(
        passed[name] for name in ("check", "tenant", "key", "method")
    )
    assert not any(wrong in line or gateways.OTHER_KEY in line for line in gateway.lines)
    assert re.search(r'^edge_authz_refusals_total\{code="invalid_api_key"\} [1-9]', gateway.metrics(), re.MULTILINE)

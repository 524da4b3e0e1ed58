"""The manifests of deploy/consumers for Envoy Gateway through its own translator, and what that makes in a real Envoy.

The agents have the certificates of deploy/consumers/certificates.sh, and the settings of the values for their chart."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import egctl_kit
import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest
import thoroughness
import yaml
from picker_kit import PICKED, Picker, serving
from ports import free_ports
from running_envoy import RunningEnvoy

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("envoy-gateway")]

FOLDER = Path(__file__).parents[2] / "deploy" / "consumers"
AGENTS = "edge.llm.svc.cluster.local"
HOST = "llm.example.com"
SERVERS_KEY = "a-key-of-the-model-servers"
FILES = ("envoy-gateway.yaml", "endpoint-picker.yaml")
# More than Envoy Gateway's own limit of a connection's buffer.
LONG = "word " * 40_000


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    directory = tmp_path_factory.mktemp("certificates")
    done = subprocess.run([FOLDER / "certificates.sh", directory], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return directory


def manifests(name: str, certificates: Path) -> list[dict[str, Any]]:
    """With the Secrets and the Namespace that the guide has its reader create."""
    proxy = {"tls.crt": certificates / "proxy.crt", "tls.key": certificates / "proxy.key"}
    agents = {"tls.crt": certificates / "agents.crt", "tls.key": certificates / "agents.key"}
    given = [*yaml.safe_load_all((FOLDER / name).read_text())]
    for each in given:
        if each["kind"] == "Service":
            each["spec"]["clusterIP"] = "10.0.0.7"  # as a cluster would
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "llm"}},
        egctl_kit.secret("llm-tls", "llm", agents),
        egctl_kit.secret("edge-proxy-tls", "llm", {**proxy, "ca.crt": certificates / "ca.crt"}),
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {"name": "vllm-1", "namespace": "llm", "labels": {"kubernetes.io/service-name": "vllm"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.0.0.8"], "conditions": {"ready": True}}],
            "ports": [{"name": "http", "port": 8000, "protocol": "TCP"}],
        },
        *given,
    ]


def in_plain_http(documents: list[dict[str, Any]]) -> list[dict[str, Any]]:
    (gateway,) = [each for each in documents if each["kind"] == "Gateway"]
    gateway["spec"]["listeners"] = [{"name": "http", "protocol": "HTTP", "port": 8080, "hostname": HOST}]
    return documents


@pytest.mark.parametrize("name", FILES)
def test_envoy_gateway_accepts_each_document(name: str, certificates: Path, tmp_path: Path) -> None:
    documents = manifests(name, certificates)
    made = egctl_kit.translated(tmp_path, documents)
    statuses = list(made.conditions())

    assert [] == [each for each in statuses if each[3] != "True"]
    told = {each[:2] for each in statuses}
    own = yaml.safe_load_all((FOLDER / name).read_text())
    assert {(each["kind"], each["metadata"]["name"]) for each in own if each["kind"] != "Service"} == told
    # HTTPS: the certificate is that of the Secret.
    (listener,) = [each for each in made.listeners if "-ready-" not in each["name"]]
    assert "llm/llm-tls" in str(listener)


@thoroughness.long_only("it is a property of the translator")
def test_the_buffer_of_a_connection_is_that_of_the_policy(certificates: Path, tmp_path: Path) -> None:
    documents = manifests("envoy-gateway.yaml", certificates)
    limits = []
    for given in (documents, [each for each in documents if each["kind"] != "ClientTrafficPolicy"]):
        made = egctl_kit.translated(tmp_path, given)
        (listener,) = [each for each in made.listeners if "-ready-" not in each["name"]]
        limits.append(listener["perConnectionBufferLimitBytes"])

    assert [32 << 20, 32 << 10] == limits


def test_a_field_that_does_not_exist_is_refused(certificates: Path, tmp_path: Path) -> None:
    documents = manifests("envoy-gateway.yaml", certificates)
    (policy,) = [each for each in documents if each["kind"] == "EnvoyExtensionPolicy"]
    policy["spec"]["extProc"][0]["failClosed"] = True
    done = egctl_kit.egctl(tmp_path, documents)

    assert 0 != done.returncode
    assert "failClosed" in done.stdout + done.stderr


@dataclass(frozen=True, slots=True)
class Behind:
    envoy: RunningEnvoy
    player: fault_player.FaultPlayer


def agents(name: str, certificates: Path, port: int, provider: fault_player.FaultPlayer, models: str) -> str:
    """A configuration with the settings of the chart's values, for a worker at this port."""
    values = yaml.safe_load((FOLDER / "values" / name).read_text())
    text = gateways.config(f"http://127.0.0.1:{provider.port}", models=models, more="limiter: {store: memory}")
    config = yaml.safe_load(text)
    files = {"ca": "ca.crt", "certificate": "agents.crt", "private_key": "agents.key"}
    tls = {key: str(certificates / file) for key, file in files.items()}
    tls["server_name"] = values["central"]["tls"]["serverName"]
    config["agent"] |= {
        "tcp": {"address": "127.0.0.1", "port": port, "hosts": ["127.0.0.1"], "tls": tls},
        "consumer": values["config"]["agent"]["consumer"],
    }
    if "pool" in values["config"]["providers"]:
        config["providers"]["pool"] = {**config["providers"]["openai"], "api_key": SERVERS_KEY}
    return yaml.safe_dump(config)


@pytest.fixture(scope="module")
def behind(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    directory = tmp_path_factory.mktemp("envoy-gateway")
    made = egctl_kit.translated(directory, in_plain_http(manifests("envoy-gateway.yaml", certificates)))
    port = free_ports(2)
    with contextlib.ExitStack() as stack:
        player = stack.enter_context(fault_player.fault_player())
        models = '"one.*": [{provider: openai}]\n"other.*": [{provider: anthropic}]'
        text = agents("envoy-gateway.yaml", certificates, port, player, models)
        stack.enter_context(gateways.RunningGateway(text))
        hosts = {f"api.{one}.com:443": f"http://127.0.0.1:{player.port}" for one in ("openai", "anthropic")}
        bootstrap = egctl_kit.bootstrap(made, {**hosts, **workers(port)}, secrets(certificates))
        envoy = RunningEnvoy(bootstrap, directory)
        envoy.start()
        stack.callback(envoy.stop)
        yield Behind(envoy, player)


def workers(port: int) -> dict[str, str]:
    """The manifests name two workers of a pod. Here they are one."""
    return {f"{AGENTS}:{9000 + n}": f"127.0.0.1:{port}" for n in range(2)} | {
        "nowhere.invalid:443": "http://127.0.0.1:9"
    }


@dataclass(frozen=True, slots=True)
class Pool:
    envoy: RunningEnvoy
    picker: Picker
    members: tuple[fault_player.FaultPlayer, fault_player.FaultPlayer]


@pytest.fixture(scope="module")
def pool(certificates: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    directory = tmp_path_factory.mktemp("pool")
    made = egctl_kit.translated(directory, in_plain_http(manifests("endpoint-picker.yaml", certificates)))
    picker, port = Picker(), free_ports(2)
    with contextlib.ExitStack() as stack:
        members = (
            stack.enter_context(fault_player.fault_player()),
            stack.enter_context(fault_player.fault_player()),
        )
        picking = stack.enter_context(serving(picker))
        text = agents("endpoint-picker.yaml", certificates, port, members[0], '"own.*": [{provider: pool}]')
        stack.enter_context(gateways.RunningGateway(text))
        hosts = {"vllm-epp.llm.svc.cluster.local:9002": f"http://127.0.0.1:{picking}", **workers(port)}
        pools = {"httproute/llm/pool/rule/0": [each.port for each in members]}
        envoy = RunningEnvoy(egctl_kit.bootstrap(made, hosts, secrets(certificates), pools), directory)
        envoy.start()
        stack.callback(envoy.stop)
        yield Pool(envoy, picker, members)


def secrets(certificates: Path) -> list[dict[str, Any]]:
    """What Envoy Gateway serves by SDS, by its names."""

    def file(name: str) -> dict[str, str]:
        return {"filename": str(certificates / name)}

    proxy = {"certificate_chain": file("proxy.crt"), "private_key": file("proxy.key")}
    return [
        {"name": "llm/edge-proxy-tls", "tls_certificate": proxy},
        {"name": "agents/llm-ca", "validation_context": {"trusted_ca": file("ca.crt")}},
    ]


@pytest.fixture(autouse=True)
def _nothing_seen(request: pytest.FixtureRequest) -> None:
    if "behind" in request.fixturenames:
        request.getfixturevalue("behind").player.server.seen.clear()
    if "pool" in request.fixturenames:
        pool = request.getfixturevalue("pool")
        for seen in (pool.picker.headers, pool.picker.bodies, *(each.server.seen for each in pool.members)):
            seen.clear()


def ask(
    behind: Behind | Pool,
    model: str,
    *headers: tuple[str, str],
    key: str = gateways.KEY,
    stream: bool = False,
    text: str = "",
) -> httpx.Response:
    asked = {"model": model, "messages": [{"role": "user", "content": text or "Hello"}], "stream": stream}
    found = [("host", HOST), ("authorization", f"Bearer {key}"), *headers]
    with httpx.Client(headers=found, timeout=gateways.PATIENCE) as http:
        return http.post(f"http://127.0.0.1:{behind.envoy.port('llm/llm/http')}/v1/chat/completions", json=asked)


def credentials(behind: Behind) -> list[tuple[str | None, str | None]]:
    return [(one.header("authorization"), one.header("x-api-key")) for one in behind.player.server.seen]


OPENAI = ("Bearer sk-provider-openai", None)
ANTHROPIC = (None, "sk-ant-provider")


@pytest.mark.parametrize("stream", [False, True])
def test_each_model_goes_to_its_provider_with_its_credential(behind: Behind, stream: bool) -> None:
    came = [ask(behind, model, stream=stream) for model in ("one.good", "other.good")]

    assert [(200, True), (200, True)] == [(each.status_code, "there" in each.text) for each in came], came[0].text
    assert [OPENAI, ANTHROPIC] == credentials(behind)
    # The route writes the host of the provider.
    assert ["api.openai.com", "api.anthropic.com"] == [one.header("host") for one in behind.player.server.seen]


def test_errors_are_the_callers_and_reach_no_provider(behind: Behind) -> None:
    assert 401 == ask(behind, "one.good", key="x").status_code
    assert 404 == ask(behind, "claude-x", key=gateways.OTHER_KEY).status_code
    assert [] == behind.player.server.seen


def test_a_request_may_be_longer_than_a_connections_buffer_of_envoy_gateway(behind: Behind) -> None:
    assert 200 == ask(behind, "one.good", text=LONG).status_code
    assert LONG in behind.player.server.seen[0].body.decode()


def test_callers_choose_no_route_and_internal_headers_stay_inside(behind: Behind) -> None:
    forged = [("x-edge-provider", "anthropic"), ("x-edge-role", "upstream"), ("x-forwarded-host", "forged.example")]

    assert 200 == ask(behind, "one.good", *forged).status_code
    assert [OPENAI] == credentials(behind)
    inside = [pair for pair in behind.player.server.seen[0].headers if pair[0].startswith(("x-edge-", "x-envoy-"))]
    forwarded = [pair for pair in behind.player.server.seen[0].headers if pair[0].startswith("x-forwarded-")]
    assert [] == inside
    # Envoy Gateway adds it where a route writes the host, after all filters.
    assert [("x-forwarded-host", HOST)] == forwarded


@pytest.mark.parametrize("stream", [False, True])
def test_a_picker_names_the_endpoint_and_sees_no_credential(pool: Pool, stream: bool) -> None:
    first, second = pool.members
    # No order of a load balancer.
    for n, member in enumerate((first, first, first, second, second, second), 1):
        pool.picker.endpoint = member.port
        before = len(member.server.seen)
        came = ask(pool, "own.good", stream=stream)

        assert (200, True) == (came.status_code, "there" in came.text), came.text
        assert before + 1 == len(member.server.seen)
        assert n == len(pool.picker.bodies)
    seen = [one for each in pool.members for one in each.server.seen]
    assert {f"Bearer {SERVERS_KEY}"} == {one.header("authorization") for one in seen}
    told = str(pool.picker.headers) + str(pool.picker.bodies)
    assert not [secret for secret in (gateways.KEY, SERVERS_KEY, "sk-provider-openai") if secret in told]
    assert all(b'"own.good"' in body for body in pool.picker.bodies)


def test_who_has_no_key_does_not_reach_the_picker(pool: Pool) -> None:
    assert 401 == ask(pool, "own.good", key="x").status_code
    assert ([], []) == (pool.picker.headers, pool.picker.bodies)


def test_a_caller_names_no_endpoint(pool: Pool) -> None:
    one, other = (each.port for each in pool.members)
    pool.picker.endpoint = one

    for _ in range(3):
        assert 200 == ask(pool, "own.good", (PICKED, f"127.0.0.1:{other}")).status_code
    assert [3, 0] == [len(each.server.seen) for each in pool.members]

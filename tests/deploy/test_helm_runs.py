"""What the Helm chart renders, run on this machine: the commands, variables, configuration and probes of its pod, with
a real Envoy and a real agent. Callers and providers see what they see of any other gateway."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fault_player
import gateway as gateways
import pytest
import yaml
from helm_kit import documents, example, merged
from mesh_calls import KEY, LIMITED, MODELS, CallsThroughAMesh, Proxy, ask
from ports import free_port, free_ports
from running_envoy import RunningEnvoy
from running_pod import RunningPod
from running_valkey import running

pytestmark = pytest.mark.envoy

SECRET = {
    "EDGE_PEPPER": gateways.PEPPER,
    "EDGE_KEY": KEY,
    "EDGE_LIMITED_KEY": LIMITED,
    "KEY_OF_A": "sk-of-a",
    "KEY_OF_B": "sk-of-b",
    "KEY_OF_C": "sk-of-c",
}


def configuration(player: int, store: str) -> dict[str, Any]:
    """The value `config`. It replaces all of an example."""
    url = f"http://127.0.0.1:{player}/v1"
    return {
        "auth": {"pepper": {"env": "EDGE_PEPPER"}},
        "limiter": {"url": store},
        "callers": [
            {"tenant": "acme", "keys": [{"id": "acme-1", "key": {"env": "EDGE_KEY"}}]},
            {
                "tenant": "small",
                "limits": {"requests_per_minute": 1},
                "keys": [{"id": "small-1", "key": {"env": "EDGE_LIMITED_KEY"}}],
            },
        ],
        "retries": {"attempts": 3, "back_off": {"base": "5ms", "max": "10ms"}},
        "routing": {"breaker": {"failures": 1000}},
        "providers": {
            "a": {"kind": "openai", "base_url": url, "api_key": {"env": "KEY_OF_A"}},
            "b": {"kind": "anthropic", "base_url": url, "api_key": {"env": "KEY_OF_B"}},
            "c": {"kind": "openai", "base_url": url, "api_key": {"env": "KEY_OF_C"}},
            "lost": {
                "kind": "openai",
                "base_url": "http://no-such-host.invalid/v1",
                "api_key": "x",
                "allow_plaintext": True,
            },
        },
        "models": yaml.safe_load(MODELS),
    }


def rendered(mode: str, player: int, store: str, directory: Path) -> list[dict[str, Any]]:
    changes: dict[str, Any] = {
        "ports": {"http": free_port(), "admin": free_port()},
        "valkey": {"enabled": False},
        "shutdownGraceSeconds": 2,
    }
    if mode == "central":
        tls = {"existingSecret": "", "serverName": ""}
        changes["central"] = {"port": free_ports(2), "hosts": ["127.0.0.1"], "tls": tls, "allowPlaintext": True}
    values = merged(example(mode), changes)
    values["config"] = configuration(player, store)
    return documents(values, directory)


@pytest.fixture(scope="module", params=["frontdoor", "central"])
def mesh(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Mode central has no Envoy: one elsewhere has the bootstrap that the notes of the release name."""
    with (
        running() as store,
        fault_player.fault_player() as player,
        tempfile.TemporaryDirectory(prefix="pod-") as short,
    ):
        found = rendered(request.param, player.port, store.url, tmp_path_factory.mktemp("values"))
        with RunningPod(found, "gate-edge-extproc", Path(short), {"edge": SECRET}) as pod:
            (config,) = [each["data"]["edge.yaml"] for each in found if each["kind"] == "ConfigMap"]
            ports = yaml.safe_load(config)
            admin = ports["admin"]["port"]
            if request.param == "frontdoor":
                yield Proxy(f"http://127.0.0.1:{ports['listen']['port']}", admin, player)
                return
            bootstrap = pod.path("agent", "/run/edge/envoy.json")
            with RunningEnvoyOfOthers(bootstrap, tmp_path_factory.mktemp("envoy")) as envoy:
                gateways.until(
                    lambda: envoy.stats("cluster.agent.membership_healthy") == {"cluster.agent.membership_healthy": 2}
                )
                yield Proxy(f"http://127.0.0.1:{ports['listen']['port']}", admin, player)


class RunningEnvoyOfOthers(RunningEnvoy):
    """With a bootstrap from a file."""

    def __init__(self, bootstrap: Path, directory: Path) -> None:
        super().__init__(yaml.safe_load(bootstrap.read_text()), directory, log_level="warning")

    def __enter__(self) -> RunningEnvoyOfOthers:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class TestThePodOfTheChart(CallsThroughAMesh):
    """By the values of its examples."""

    def test_a_provider_without_an_address_is_passed_over_and_its_key_with_it(self, mesh: Proxy) -> None:
        """Envoy 1.40 answers the first call itself, and the circuit opens (docs/faults.md)."""
        assert (503, "no_provider") == ((first := ask(mesh, "nowhere.good")).status_code, first.json()["error"]["code"])
        assert [] == mesh.player.server.seen

        super().test_a_provider_without_an_address_is_passed_over_and_its_key_with_it(mesh)

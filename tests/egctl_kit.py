"""Envoy Gateway's own translator: `egctl` makes xDS of manifests, without a cluster.

It checks them against the schemas and rules of the custom resources first. `make helm` builds it from its Go module."""

from __future__ import annotations

import base64
import copy
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from helm_kit import CACHE, CHART

Document = dict[str, Any]
_VERSION = re.search(r"^egctl=(\S+)$", (CHART.parent / "install.sh").read_text(), re.MULTILINE)
assert _VERSION is not None
VERSION = _VERSION[1]
_SDS = ("tlsCertificateSdsSecretConfigs", "validationContextSdsSecretConfig")


def egctl_binary() -> str:
    """EGCTL_BINARY, or that of the cache; skips the test if there is none."""
    if given := os.environ.get("EGCTL_BINARY"):
        return given
    path = CACHE / f"egctl-{VERSION}" / "egctl"
    if not path.is_file():
        pytest.skip(f"egctl is not built (deploy/helm/install.sh, which needs Go): {path}")
    return str(path)


@dataclass(frozen=True)
class Translated:
    resources: Document
    """The given documents, with the status that Envoy Gateway writes."""
    listeners: list[Document]
    routes: list[Document]
    clusters: list[Document]

    def conditions(self) -> Iterator[tuple[str, str, str, str]]:
        """Kind and name of each resource; type and status of each of its conditions."""
        found = [self.resources["gatewayClass"]] if "gatewayClass" in self.resources else []
        found += [each for many in self.resources.values() if isinstance(many, list) for each in many]
        for each in found:
            for condition in _conditions(each.get("status", {})):
                yield each["kind"], each["metadata"]["name"], condition["type"], condition["status"]


def _conditions(status: Any) -> Iterator[Document]:
    if isinstance(status, dict):
        yield from status.get("conditions", ())
        status = [value for key, value in status.items() if key != "conditions"]
    if isinstance(status, list):
        for each in status:
            yield from _conditions(each)


def egctl(directory: Path, documents: list[Document]) -> subprocess.CompletedProcess[str]:
    path = directory / "manifests.yaml"
    path.write_text(yaml.safe_dump_all(documents))
    words = ["x", "translate", "--from", "gateway-api", "--to", "gateway-api,xds", "--output", "yaml"]
    return subprocess.run(
        [egctl_binary(), *words, "--file", str(path)], capture_output=True, text=True, check=False, timeout=120
    )


def translated(directory: Path, documents: list[Document]) -> Translated:
    done = egctl(directory, documents)
    assert 0 == done.returncode, done.stderr
    found = yaml.safe_load(done.stdout)
    (gateway,) = found.pop("xds").values()
    parts = {each["@type"].rpartition(".")[2]: each for each in gateway["configs"]}
    return Translated(
        found,
        [each["activeState"]["listener"] for each in parts["ListenersConfigDump"]["dynamicListeners"]],
        [each["routeConfig"] for each in parts["RoutesConfigDump"]["dynamicRouteConfigs"]],
        [each["cluster"] for each in parts["ClustersConfigDump"]["dynamicActiveClusters"]],
    )


def secret(name: str, namespace: str, files: Mapping[str, Path]) -> Document:
    data = {key: base64.b64encode(path.read_bytes()).decode() for key, path in files.items()}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace},
        "type": "kubernetes.io/tls",
        "data": data,
    }


def bootstrap(
    made: Translated, hosts: Mapping[str, str], secrets: list[Document], pools: Mapping[str, list[int]] | None = None
) -> Document:
    """A configuration of an Envoy without a control plane: its routes and secrets are static, its listener has a free
    port of 127.0.0.1, and `hosts` says where each name and port is in place of DNS ("name:443": "127.0.0.1:9", with
    http:// for a server without TLS). `pools`: the ports of each cluster whose endpoints the control plane serves."""
    routes = {each["name"]: {k: v for k, v in each.items() if k != "@type"} for each in made.routes}
    listeners = [_listener(each, routes) for each in made.listeners if "-ready-" not in each["name"]]
    return {
        "static_resources": {
            "listeners": listeners,
            "clusters": [_cluster(each, hosts, pools or {}) for each in made.clusters],
            "secrets": secrets,
        }
    }


def _listener(given: Document, routes: Mapping[str, Document]) -> Document:
    listener = copy.deepcopy(given)
    del listener["@type"]
    listener["address"] = {"socketAddress": {"address": "127.0.0.1", "portValue": 0}}
    chains = [*listener.get("filterChains", ()), listener.get("defaultFilterChain")]
    for chain in chains:
        for each in (chain or {}).get("filters", ()):
            manager = each["typedConfig"]
            manager["routeConfig"] = routes[manager.pop("rds")["routeConfigName"]]
    return listener


def _cluster(given: Document, hosts: Mapping[str, str], pools: Mapping[str, list[int]]) -> Document:
    cluster = copy.deepcopy(given)
    del cluster["@type"]
    cluster.pop("clusterType", None)
    cluster["type"] = "STATIC"
    if cluster.pop("edsClusterConfig", None):
        addresses = [{"socketAddress": {"address": "127.0.0.1", "portValue": port}} for port in pools[cluster["name"]]]
        endpoints = [{"endpoint": {"address": address}} for address in addresses]
        cluster["loadAssignment"] = {"clusterName": cluster["name"], "endpoints": [{"lbEndpoints": endpoints}]}
        return cluster
    plain = False
    for locality in cluster["loadAssignment"]["endpoints"]:
        for each in locality["lbEndpoints"]:
            address = each["endpoint"]["address"]["socketAddress"]
            host, _, port = hosts[f"{address['address']}:{address['portValue']}"].rpartition(":")
            address["address"], address["portValue"] = host.removeprefix("http://"), int(port)
            plain = plain or host.startswith("http://")
    if plain:
        cluster.pop("transportSocket", None)
        cluster.pop("transportSocketMatches", None)
        if "autoConfig" in str(cluster.get("typedExtensionProtocolOptions")):
            # Its choice of the protocol needs ALPN.
            del cluster["typedExtensionProtocolOptions"]
    _without_a_source(cluster)
    return cluster


def _without_a_source(value: Any) -> None:
    """Secrets without a source are static ones."""
    if isinstance(value, dict):
        for key in _SDS:
            found = value.get(key, [])
            for each in found if isinstance(found, list) else [found]:
                each.pop("sdsConfig", None)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _without_a_source(each)

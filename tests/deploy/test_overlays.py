"""deploy/kustomize: written from the chart, built by kustomize, accepted by Kubernetes' schemas and the gateway."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import helm_kit
import kubernetes_validate
import pytest
import yaml
from helm_kit import KUBERNETES, Document, kustomize

from deploy import overlays
from edge_extproc.config import load

APPLICATION: Document = {
    "apiVersion": "apps/v1",
    "kind": "Deployment",
    "metadata": {"name": "shop", "labels": {overlays.LABEL: "true"}},
    "spec": {
        "selector": {"matchLabels": {"app": "shop"}},
        "template": {
            "metadata": {"labels": {"app": "shop"}},
            "spec": {"containers": [{"name": "shop", "image": "shop:1"}]},
        },
    },
}


def helm(chart: Path, values: Path) -> str:
    done = helm_kit.run_helm(
        "template",
        overlays.NAME,
        chart,
        *("--namespace", overlays.NAMESPACE),
        *("--kube-version", overlays.KUBERNETES),
        *("--values", values),
    )
    assert 0 == done.returncode, done.stderr
    return done.stdout


def overlay(directory: Path, kustomization: Document, **files: Any) -> list[Document]:
    """Builds a kustomization of a user beside a copy of ours."""
    shutil.copytree(overlays.TARGET, directory / "edge")
    for name, content in files.items():
        (directory / f"{name}.yaml").write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    (directory / "kustomization.yaml").write_text(yaml.safe_dump(kustomization))
    return kustomize(directory)


def built(mode: str, directory: Path) -> list[Document]:
    if mode != "sidecar":
        return kustomize(overlays.TARGET / mode)
    other = {**APPLICATION, "metadata": {"name": "other"}}
    wanted = {"namespace": "shop", "resources": ["app.yaml", "other.yaml"], "components": ["edge/sidecar"]}
    return overlay(directory, wanted, app=APPLICATION, other=other)


def test_they_are_what_the_chart_renders() -> None:
    written = {
        path.relative_to(overlays.TARGET): path.read_text() for path in overlays.TARGET.rglob("*") if path.is_file()
    }

    assert overlays.files(helm) == written


@pytest.mark.parametrize("mode", overlays.MODES)
def test_kustomize_builds_what_kubernetes_and_the_gateway_accept(mode: str, tmp_path: Path) -> None:
    found = built(mode, tmp_path)
    for document in found:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)
    (config,) = [each for each in found if each["kind"] == "ConfigMap"]
    text = config["data"]["edge.yaml"]
    without_files = re.sub(r"    tls:\n(      .*\n)+", "    allow_plaintext: true\n", text)
    environ = dict.fromkeys(re.findall(r"env: (\w+)", text), "a-secret-of-the-tests-alone")
    parsed = load.parse(without_files, "edge.yaml", environ={**environ, "REDIS_URL": "redis://redis:6379/0"})

    assert "auto" == parsed.limiter.replicas
    assert (mode == "central") == (parsed.agent.tcp is not None)
    # A changed configuration has another name, which replaces the pods.
    name = "shop" if mode == "sidecar" else "edge"
    pod = helm_kit.one(found, "Deployment", name)["spec"]["template"]["spec"]
    assert re.fullmatch("edge-[a-z0-9]{10}", config["metadata"]["name"])
    assert [config["metadata"]["name"]] == [v["configMap"]["name"] for v in pod["volumes"] if "configMap" in v]
    containers = [each["name"] for each in pod["containers"]]
    assert {"frontdoor": ["agent", "envoy"], "central": ["agent"], "sidecar": ["agent", "envoy", "shop"]}[mode] == (
        sorted(containers)
    )
    if parsed.agent.tcp is not None:
        service, admin = helm_kit.one(found, "Service", "edge"), helm_kit.one(found, "Service", "edge-admin")
        assert (f"edge.{service['metadata']['namespace']}.svc.cluster.local",) == parsed.agent.tcp.hosts
        assert [parsed.admin.port] == [port["port"] for port in admin["spec"]["ports"]]
    others = [each for each in found if each["kind"] == "Deployment" and each["metadata"]["name"] == "other"]
    assert all(["shop"] == [c["name"] for c in each["spec"]["template"]["spec"]["containers"]] for each in others)
    assert (mode == "sidecar") == bool(others)


def test_a_user_changes_the_configuration_the_image_and_the_replicas(tmp_path: Path) -> None:
    mine = (overlays.TARGET / "frontdoor" / "edge.yaml").read_text() + "idempotency: {}\n"
    found = overlay(
        tmp_path,
        {
            "resources": ["edge/frontdoor"],
            "configMapGenerator": [{"name": "edge", "behavior": "replace", "files": ["edge.yaml"]}],
            "images": [{"name": "edge-extproc", "newName": "registry.example.com/edge-extproc", "newTag": "7"}],
            "replicas": [{"name": "edge", "count": 5}],
        },
        edge=mine,
    )
    deployment = helm_kit.one(found, "Deployment", "edge")["spec"]
    (config,) = [each for each in found if each["kind"] == "ConfigMap"]

    assert mine == config["data"]["edge.yaml"]
    assert 5 == deployment["replicas"]
    pod = deployment["template"]["spec"]
    assert {"registry.example.com/edge-extproc:7"} == {
        each["image"] for each in (*pod["initContainers"], *pod["containers"]) if each["name"] != "envoy"
    }

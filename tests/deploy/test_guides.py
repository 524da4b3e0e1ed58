"""The commands of the guides for helm and kustomize, with the real programs."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import helm_kit
import kubernetes_validate
import pytest
import yaml
from helm_kit import KUBERNETES, kustomize
from page_kit import ROOT, blocks, commands

GUIDES = sorted(path.stem for path in (ROOT / "docs" / "guides").glob("*.md"))
CHART = "deploy/helm/edge-extproc"
OWN = [
    pytest.param(name, words, id=name)
    for name in GUIDES
    for words in commands(f"docs/guides/{name}.md", "helm")
    if CHART in words
]


@pytest.mark.parametrize(("name", "words"), OWN)
def test_the_chart_makes_what_the_guide_waits_for(
    name: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    # The reader's own file begins as a copy of this one.
    words = [f"{CHART}/ci/frontdoor.yaml" if word == "values.yaml" else word for word in words]
    assert ["upgrade", "--install"] == words[:2]
    done = helm_kit.run_helm("template", *words[2:], "--kube-version", KUBERNETES)
    assert 0 == done.returncode, done.stderr
    found = [each for each in yaml.safe_load_all(done.stdout) if each]
    for document in found:
        kubernetes_validate.validate(document, KUBERNETES, strict=True)

    shell = "\n".join(blocks(f"docs/guides/{name}.md", "sh"))
    named = set(re.findall(r"-n llm \S+(?: \S+)? (deployment|service)/([\w-]+)", shell))
    made = {(each["kind"].lower(), each["metadata"]["name"]) for each in found}
    assert named
    assert named <= made
    images = [
        container["image"]
        for each in found
        if each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
        if container["name"] == "agent"
    ]
    assert ["registry.example.com/edge-extproc:1"] == images


def test_there_are_commands_for_the_chart() -> None:
    assert {"helm", "envoy-gateway", "kgateway", "agentgateway", "endpoint-picker"} == {each.id for each in OWN}


def test_kustomize_builds_what_the_guide_writes(tmp_path: Path) -> None:
    base, sidecar = (yaml.safe_load(text) for text in blocks("docs/guides/kustomize.md", "yaml"))
    shutil.copytree(ROOT / "deploy" / "kustomize", tmp_path / "edge")
    shutil.copy(tmp_path / "edge" / "frontdoor" / "edge.yaml", tmp_path / "edge.yaml")
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(base))
    found = kustomize(tmp_path)
    (deployment,) = [each for each in found if each["kind"] == "Deployment" and each["metadata"]["name"] == "edge"]

    assert 3 == deployment["spec"]["replicas"]
    assert "registry.example.com/edge-extproc:1" in str(deployment)

    metadata = {"name": "shop", "labels": {"edge-extproc.io/sidecar": "true"}}
    containers = {"containers": [{"name": "shop", "image": "shop:1"}]}
    template = {"metadata": {"labels": {"app": "shop"}}, "spec": containers}
    app = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata}
    app["spec"] = {"selector": {"matchLabels": {"app": "shop"}}, "template": template}
    (tmp_path / "app.yaml").write_text(yaml.safe_dump(app))
    (tmp_path / "kustomization.yaml").write_text(yaml.safe_dump(sidecar))
    (changed,) = [each for each in kustomize(tmp_path) if each["kind"] == "Deployment"]
    assert {"shop", "agent", "envoy"} == {each["name"] for each in changed["spec"]["template"]["spec"]["containers"]}

"""python -m deploy.overlays: writes deploy/kustomize from the Helm chart and its examples. It needs helm (`make helm`).

A base for each mode of the chart: what helm renders of the example, without what only helm uses. The configuration is
a file of its own, from which kustomize makes the ConfigMap. In mode sidecar, it is a component that adds the containers
to the Deployments of an application."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeAlias

import yaml

HERE = Path(__file__).parent
CHART = HERE / "helm" / "edge-extproc"
TARGET = HERE / "kustomize"
NAME, NAMESPACE, KUBERNETES = "edge", "llm", "1.30.0"
IMAGE = "edge-extproc"
LABEL = "edge-extproc.io/sidecar"
MODES = ("frontdoor", "central", "sidecar")

Document: TypeAlias = dict[str, Any]
Render: TypeAlias = Callable[[Path, Path], str]
"""Renders a chart with a file of values: the text that `helm template` prints."""

_NOTE = "# Written by `python -m deploy.overlays` from deploy/helm/edge-extproc.\n"
_HELM_ONLY = ("helm.sh/chart", "app.kubernetes.io/managed-by", "checksum/config")
# Seconds: as the chart's notes add them up.
_GRACE = '{{ with index .Values "edge-extproc" }}{{ add (int .drainSeconds) (int .shutdownGraceSeconds) 15 }}{{ end }}'
_APPLICATION = f"""apiVersion: apps/v1
kind: Deployment
metadata: {{name: any}}
spec:
  template:
    spec:
      terminationGracePeriodSeconds: {_GRACE}
"""


def files(render: Render) -> dict[Path, str]:
    """What each file is to hold, by its path below deploy/kustomize."""
    found: dict[Path, str] = {}
    for mode in MODES:
        with tempfile.TemporaryDirectory() as directory:
            made = _sidecar(render, Path(directory)) if mode == "sidecar" else _base(mode, render, Path(directory))
        found |= {Path(mode) / name: _NOTE + text for name, text in made.items()}
    return found


def _values(mode: str) -> Document:
    values: Document = yaml.safe_load((CHART / "ci" / f"{mode}.yaml").read_text())
    # kustomize replaces the image by its name.
    return {**values, "fullnameOverride": NAME, "image": {"repository": IMAGE, "tag": "", "digest": ""}}


def _documents(text: str) -> list[Document]:
    return [each for each in yaml.safe_load_all(text) if each]


def _rendered(render: Render, chart: Path, values: Document, directory: Path) -> list[Document]:
    path = directory / "values.yaml"
    path.write_text(yaml.safe_dump(values))
    found = _documents(render(chart, path))
    for document in found:
        _remove(document, _HELM_ONLY)
    return found


def _remove(value: Any, keys: Iterable[str]) -> None:
    if isinstance(value, dict):
        for key in keys:
            value.pop(key, None)
        for each in value.values():
            _remove(each, keys)
    elif isinstance(value, list):
        for each in value:
            _remove(each, keys)


def _split(found: list[Document]) -> tuple[str, list[Document]]:
    """The configuration, and the other documents."""
    (config,) = [each for each in found if "edge.yaml" in each.get("data", {})]
    return config["data"]["edge.yaml"], [each for each in found if each is not config]


def _base(mode: str, render: Render, directory: Path) -> dict[str, str]:
    config, others = _split(_rendered(render, CHART, _values(mode), directory))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "namespace": NAMESPACE,
        "resources": ["resources.yaml"],
        "configMapGenerator": [{"name": NAME, "files": ["edge.yaml"]}],
        "images": _images(),
    }
    return {"kustomization.yaml": _dump([kustomization]), "resources.yaml": _dump(others), "edge.yaml": config}


def _sidecar(render: Render, directory: Path) -> dict[str, str]:
    """The chart's notes show how the chart of an application includes the containers: this renders such a chart."""
    application = directory / "application"
    (application / "templates").mkdir(parents=True)
    (application / "charts").mkdir()
    (application / "charts" / CHART.name).symlink_to(CHART)
    (application / "Chart.yaml").write_text("apiVersion: v2\nname: application\nversion: 1.0.0\n")
    notes = (CHART / "templates" / "NOTES.txt").read_text()
    included = re.findall(r"^      (\w+):\n        .*? include \"(edge-extproc\.\w+(?:\.\w+)?)\"", notes, re.MULTILINE)
    template = _APPLICATION + "".join(
        f'      {key}:\n        {{{{- include "{name}" (index .Subcharts "{CHART.name}") | nindent 8 }}}}\n'
        if name != "edge-extproc.podSecurityContext"
        else f'      {key}:\n        {{{{- include "{name}" . | nindent 8 }}}}\n'
        for key, name in included
    )
    (application / "templates" / "deployment.yaml").write_text(template)
    config, others = _split(_rendered(render, application, {CHART.name: _values("sidecar")}, directory))
    (patch,) = [each for each in others if each["kind"] == "Deployment"]
    component = {
        "apiVersion": "kustomize.config.k8s.io/v1alpha1",
        "kind": "Component",
        "configMapGenerator": [{"name": NAME, "files": ["edge.yaml"]}],
        "patches": [{"path": "patch.yaml", "target": {"kind": "Deployment", "labelSelector": f"{LABEL}=true"}}],
        "images": _images(),
    }
    return {"kustomization.yaml": _dump([component]), "patch.yaml": _dump([patch]), "edge.yaml": config}


def _images() -> list[Document]:
    """The gateway's image, as the chart names it."""
    image = yaml.safe_load((CHART / "values.yaml").read_text())["image"]
    if image["digest"]:
        return [{"name": IMAGE, "newName": image["repository"], "digest": image["digest"]}]
    tag = image["tag"] or yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    return [{"name": IMAGE, "newName": image["repository"], "newTag": tag}]


class _Dumper(yaml.SafeDumper):
    """Without anchors, which nobody expects in a manifest."""

    def ignore_aliases(self, _: Any) -> bool:
        return True


def _dump(found: list[Document]) -> str:
    return yaml.dump_all(found, Dumper=_Dumper, sort_keys=False, width=120)


def _helm(chart: Path, values: Path) -> str:
    (version,) = re.findall(r"^version=(\S+)$", (CHART.parent / "install.sh").read_text(), re.MULTILINE)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-extproc"
    binary = os.environ.get("HELM_BINARY") or str(cache / f"helm-{version}" / "helm")
    argv = [binary, "template", NAME, chart, "--namespace", NAMESPACE, "--kube-version", KUBERNETES, "--values", values]
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own chart


def main() -> None:
    for path, text in files(_helm).items():
        (TARGET / path).parent.mkdir(parents=True, exist_ok=True)
        (TARGET / path).write_text(text)


if __name__ == "__main__":
    main()

"""Helm, as `make test` builds it from its Go module, and the documents that it makes of our chart."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "edge-extproc"
VERSION = re.search(r"^version=(\S+)$", (CHART.parent / "install.sh").read_text(), re.MULTILINE)[1]  # type: ignore[index]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "edge-extproc"
# What helm is told of the cluster, and what the documents are checked against.
KUBERNETES = "1.30"

Document = dict[str, Any]


def kustomize(directory: Path) -> list[Document]:
    """What `kubectl kustomize`, or kustomize of the cache, makes of a directory; skips the test if there is neither."""
    version = re.search(r"^kustomize=(\S+)$", (CHART.parent / "install.sh").read_text(), re.MULTILINE)
    assert version is not None
    built = CACHE / f"kustomize-{version[1]}" / "kustomize"
    if shutil.which("kubectl"):
        argv = ["kubectl", "kustomize"]
    elif built.is_file():
        argv = [str(built), "build"]
    else:
        pytest.skip(f"kubectl is not installed, and kustomize is not built (deploy/helm/install.sh): {built}")
    done = subprocess.run([*argv, str(directory)], capture_output=True, text=True, check=False)
    assert 0 == done.returncode, done.stderr
    return [each for each in yaml.load_all(done.stdout, Loader=_Strict) if each]


def helm_binary() -> str:
    """HELM_BINARY, or that of the cache; skips the test if there is none."""
    if given := os.environ.get("HELM_BINARY"):
        return given
    path = CACHE / f"helm-{VERSION}" / "helm"
    if not path.is_file():
        pytest.skip(f"helm is not built (deploy/helm/install.sh, which needs Go): {path}")
    return str(path)


def run_helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([helm_binary(), *map(str, arguments)], capture_output=True, text=True, check=False)


def example(mode: str) -> Document:
    """The values of an example in the chart's ci directory."""
    return cast(Document, yaml.safe_load((CHART / "ci" / f"{mode}.yaml").read_text()))


def merged(values: Mapping[str, Any], changes: Mapping[str, Any]) -> Document:
    """As Helm merges values: maps key by key, everything else as a whole."""
    result = dict(values)
    for key, value in changes.items():
        both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
        result[key] = merged(result[key], value) if both else value
    return result


def template(values: Mapping[str, Any], directory: Path, chart: Path = CHART) -> subprocess.CompletedProcess[str]:
    """`helm template` of a release `gate` in the namespace `llm`."""
    path = directory / "values.yaml"
    path.write_text(yaml.safe_dump(dict(values)))
    return run_helm(
        "template", "gate", chart, "--namespace", "llm", "--kube-version", f"{KUBERNETES}.0", "--values", path
    )


def documents(values: Mapping[str, Any], directory: Path, chart: Path = CHART) -> list[Document]:
    """The documents of a chart with these values. Duplicate keys of a mapping are an error."""
    done = template(values, directory, chart)
    assert 0 == done.returncode, done.stderr
    return [each for each in yaml.load_all(done.stdout, Loader=_Strict) if each]


class _Strict(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc] # libyaml's, which PyYAML may lack
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key twice: {keys}"
        return super().construct_mapping(node, deep)


def one(found: list[Document], kind: str, name: str = "gate-edge-extproc") -> Document:
    (document,) = [each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return document

"""Helm, as `make test` builds it from its Go module, and the documents that it makes of our chart."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CHART = ROOT / "deploy" / "helm" / "edge-extproc"
VERSION = re.search(r"^version=(\S+)$", (CHART.parent / "install.sh").read_text(), re.MULTILINE)[1]  # type: ignore[index]
# What helm is told of the cluster, and what the documents are checked against.
KUBERNETES = "1.30"

Document = dict[str, Any]


def helm_binary() -> str:
    """HELM_BINARY, or that of the cache; skips the test if there is none."""
    if given := os.environ.get("HELM_BINARY"):
        return given
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    path = cache / "edge-extproc" / f"helm-{VERSION}" / "helm"
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


class _Strict(yaml.SafeLoader):
    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        assert len(set(keys)) == len(keys), f"a key twice: {keys}"
        return super().construct_mapping(node, deep)


def one(found: list[Document], kind: str, name: str = "gate-edge-extproc") -> Document:
    (document,) = [each for each in found if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return document

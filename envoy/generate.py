"""Renders the examples of envoy/ and istio/ anew: python envoy/generate.py

Each is made by the code that `edge-extproc render` runs. What a configuration names under /etc/edge need not be on this
machine: it is read from a directory with certificates made for the occasion, whose name is taken out again.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_extproc.config import certificate, load, render_envoy, render_istio

ROOT = Path(__file__).parent.parent
EXAMPLES = ("laptop", "own-certificate", "central-service")
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
ETC = "/etc/edge"
SECRETS = {
    **dict.fromkeys(
        ("EDGE_PEPPER", "EDGE_CALLER_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"), "not-a-secret-but-long-enough"
    ),
    "REDIS_URL": "redis://not-a-secret.example:6379/0",
}
MESHES: dict[str, tuple[render_istio.Target, render_istio.Mesh]] = {
    "gateway": (
        "istio-gateway",
        render_istio.Mesh(
            "istio-ingress",
            {"istio": "ingress"},
            8443,
            agent_identity="spiffe://cluster.local/ns/llm/sa/llm-edge-agent",
        ),
    ),
    "sidecar": ("istio-sidecar", render_istio.Mesh("search", {"app": "search"}, 10000)),
}
AGENTS_IN = {"gateway": "llm", "sidecar": "search"}


@dataclass(frozen=True, slots=True)
class Example:
    path: Path
    """Where it is kept."""
    bootstrap: dict[str, Any]
    """As it can be tried here."""
    text: str
    """As it is kept."""


@contextlib.contextmanager
def examples() -> Iterator[list[Example]]:
    """Valid as long as the context is open: their files are there."""
    with tempfile.TemporaryDirectory(prefix="edge-examples-") as directory:
        etc = Path(directory)
        trusted = etc / "trusted.pem"
        trusted.write_bytes(certificate.ensure(etc).ca.read_bytes())
        with _trusting(trusted):
            yield [_example(name, etc, trusted) for name in EXAMPLES]


def mesh_files() -> dict[Path, str]:
    """What is kept in istio/ and made from a configuration there."""
    found = {}
    with tempfile.TemporaryDirectory(prefix="edge-examples-") as directory:
        trusted = Path(directory) / "trusted.pem"
        trusted.touch()
        for name, (target, mesh) in MESHES.items():
            source = ROOT / "istio" / name / "edge.yaml"
            with _trusting(trusted):
                text = render_istio.render(load.parse(source.read_text(), str(source), environ=SECRETS), target, mesh)
            found[source.with_name("envoyfilter.yaml")] = text.replace(str(trusted), TRUSTED)
            found[source.with_name("configmap.yaml")] = _config_map(name, source.read_text())
    return found


def _config_map(name: str, text: str) -> str:
    body = "".join(f"    {line}" if line.strip() else line for line in text.splitlines(keepends=True))
    head = f"apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: llm-edge, namespace: {AGENTS_IN[name]}}}\ndata:\n"
    return f"# Made of edge.yaml beside it by `make examples`.\n{head}  edge.yaml: |\n{body}"


@contextlib.contextmanager
def _trusting(file: Path) -> Iterator[None]:
    """As if these were the authorities that this system trusts: every system keeps them elsewhere."""
    before = os.environ.get("SSL_CERT_FILE")
    os.environ["SSL_CERT_FILE"] = str(file)
    try:
        yield
    finally:
        if before is None:
            del os.environ["SSL_CERT_FILE"]
        else:
            os.environ["SSL_CERT_FILE"] = before


def _example(name: str, etc: Path, trusted: Path) -> Example:
    source = ROOT / "envoy" / "examples" / name / "edge.yaml"
    config = load.parse(source.read_text().replace(ETC, str(etc)), str(source), environ=SECRETS)
    bootstrap = render_envoy.render(config)
    text = json.dumps(bootstrap, indent=2).replace(str(trusted), TRUSTED).replace(str(etc), ETC) + "\n"
    return Example(source.with_name("envoy.json"), bootstrap, text)


def main() -> None:
    with examples() as found:
        texts = {example.path: example.text for example in found}
    for path, text in (texts | mesh_files()).items():
        path.write_text(text)
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()

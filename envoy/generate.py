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

from edge_extproc.config import certificate, load, render_envoy

ROOT = Path(__file__).parent.parent
EXAMPLES = ("laptop", "own-certificate", "central-service")
TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
ETC = "/etc/edge"
SECRETS = dict.fromkeys(
    ("EDGE_PEPPER", "EDGE_CALLER_KEY", "OPENAI_API_KEY", "ANTHROPIC_API_KEY"), "not-a-secret-but-long-enough"
)


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
        for example in found:
            example.path.write_text(example.text)
            sys.stdout.write(f"{example.path.relative_to(ROOT)}\n")


if __name__ == "__main__":
    main()

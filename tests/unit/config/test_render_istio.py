"""The EnvoyFilter as text. Its content is compared in tests/envoy and tests/istio."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from config_kit import ENVIRON, SECTIONS

from edge_extproc.config import load
from edge_extproc.config.schema import Config
from edge_extproc.envoy_config import istio

TCP = "agent: {workers: 2, state_dir: s, tcp: {address: 0.0.0.0, hosts: [agents.llm.svc], allow_plaintext: true}}\n"
MESH = istio.MeshResources("llm", {"app": "ingress"}, 8443, agent_identity="spiffe://cluster.local/ns/llm/sa/agent")
HOSTS = "".join(
    f"  host-{n}: {{kind: openai_compatible, base_url: 'https://host-{n}.example/v1', api_key: k}}\n" for n in range(20)
)


class DumperInPython(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


def configured(tmp_path: Path) -> Config:
    providers = f"providers:\n  p: {{kind: openai, api_key: {{env: KEY}}}}\n{HOSTS}"
    sections = {**SECTIONS, "providers": providers, "agent": TCP, "envoy": 'envoy: {istio: "1.32"}\n'}
    return load.parse("".join(sections.values()), "edge.yaml", environ=ENVIRON, base=tmp_path)


@pytest.mark.parametrize("target", istio.TARGETS)
def test_the_text_is_that_of_the_dumper_in_python(tmp_path: Path, target: istio.Target) -> None:
    config = configured(tmp_path)
    text = istio.render(config, target, MESH).partition("\n")[2]
    content = istio.envoy_filter(config, target, MESH)

    assert yaml.dump(content, Dumper=DumperInPython, sort_keys=False, width=120) == text
    assert 21 <= text.count("applyTo: CLUSTER")
    assert "&id" not in text


def test_providers_share_the_sections_that_they_leave_out(tmp_path: Path) -> None:
    providers = configured(tmp_path).providers

    assert providers["host-1"].profile is providers["host-2"].profile

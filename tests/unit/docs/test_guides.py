"""What a guide has its reader run is good: files exist, renderings are those of the repository, Secrets have the
variables that are named, configurations load."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from page_kit import ROOT, blocks, commands

from edge_extproc.cli import app
from edge_extproc.config import load
from edge_extproc.envoy_config import bootstrap as render_envoy

FOLDER = ROOT / "docs" / "guides"
GUIDES = sorted(path.stem for path in FOLDER.glob("*.md") if path.name != "README.md")
SECTIONS = ["What you need", "Steps", "What was run here", "What was not", "Where to read on"]
RENDERED = [
    pytest.param(words, id=f"{name}-{n}")
    for name in GUIDES
    for n, words in enumerate(commands(f"docs/guides/{name}.md"))
    if words[0] == "render" and words[words.index("--output") + 1].startswith("istio/")
]


def page(name: str) -> str:
    return f"docs/guides/{name}.md"


@pytest.mark.parametrize("name", GUIDES)
def test_it_says_what_was_run_and_what_was_not(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text("utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    found = re.findall(r"^## (.*)$", prose, re.MULTILINE)

    assert SECTIONS == [each for each in found if each in SECTIONS]
    steps = [int(n) for n in re.findall(r"^### (\d+)\. ", prose, re.MULTILINE)]
    assert list(range(1, len(steps) + 1)) == steps


def test_the_list_has_each_guide() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")

    assert [] == [name for name in GUIDES if f"({name}.md)" not in text]


@pytest.mark.parametrize("name", GUIDES)
def test_its_files_exist(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text("utf-8")
    shell = "\n".join(blocks(page(name), "sh"))
    # Istio's own charts are istio/gateway and istio/base; ours have a file below.
    files = set(re.findall(r"(?<![\w/.])(?:deploy|istio|envoy)/[\w./-]+", shell)) - {"istio/gateway"}
    files |= set(re.findall(r"`((?:deploy|istio|envoy)/[\w./-]+)`", text))

    assert [] == sorted(file for file in files if not (ROOT / file).exists())


@pytest.mark.parametrize("words", RENDERED)
def test_a_rendering_is_that_of_the_repository(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the reader gets without a change of the configuration."""
    monkeypatch.chdir(ROOT)
    for name in variables(Path(words[words.index("--config") + 1]).read_text()):
        value = "redis://127.0.0.1:6379/0" if name.endswith("_URL") else "a-secret-of-the-tests-alone"
        monkeypatch.setenv(name, value)
    place = words.index("--output") + 1
    output = tmp_path / "rendered.yaml"
    assert not app([*words[:place], str(output), *words[place + 1 :]], result_action="return_value")

    assert yaml.safe_load(Path(words[place]).read_text()) == yaml.safe_load(output.read_text())


def variables(text: str) -> set[str]:
    return set(re.findall(r"env: (\w+)", text))


def configuration(name: str) -> str:
    """The configuration that the agents of a guide read."""
    text = "\n".join(blocks(page(name), "sh"))
    for pattern in (
        r"--from-file=(istio/\w+/edge\.yaml)",
        r"-f (deploy/consumers/values/[\w-]+\.yaml)",
        r"cp (\S+)/edge\.yaml",
    ):
        if found := re.search(pattern, text):
            file = found[1].replace("llm/edge/", "deploy/kustomize/")
            return (ROOT / (file if file.endswith(".yaml") else f"{file}/edge.yaml")).read_text()
    return (ROOT / "deploy" / "helm" / "edge-extproc" / "ci" / "frontdoor.yaml").read_text()


@pytest.mark.parametrize("name", [name for name in GUIDES if name != "envoy"])
def test_its_secret_has_each_variable_that_the_agents_read(name: str) -> None:
    shell = "\n".join(blocks(page(name), "sh")).replace("\\\n", " ")
    (command,) = re.findall(r"create secret generic (?:llm-)?edge (.*)", shell)
    given = set(re.findall(r"--from-literal=(\w+)=", command))

    assert variables(configuration(name)) == given
    assert given <= set(re.findall(r"\b(\w+)=", " ".join(re.findall(r"^export (.*)$", shell, re.MULTILINE))))


def test_the_configuration_for_an_envoy_of_yours_is_good(tmp_path: Path) -> None:
    (text,) = blocks(page("envoy"), "yaml")
    environ = dict.fromkeys(variables(text), "a-secret-of-the-tests-alone")
    config = load.parse(text, "edge.yaml", environ=environ, base=tmp_path)

    assert "provider_openai" in str(render_envoy.render(config))
    # `serve` starts no store of limits for several workers.
    assert 1 == config.agent.workers


def test_a_pool_as_a_provider_is_a_configuration(tmp_path: Path) -> None:
    (part,) = blocks(page("endpoint-picker"), "yaml")
    keys = "keys: [{id: a, key: edge-a-key-of-the-tests}]"
    text = f"auth: {{pepper: a-pepper-of-the-tests-alone}}\ncallers: [{{tenant: a, {keys}}}]\n{part}"
    environ = dict.fromkeys(variables(text), "a-secret-of-the-tests-alone")
    config = load.parse(text, "edge.yaml", environ=environ, base=tmp_path)

    assert ["pool", "openai"] == [each.provider for each in config.models["assistant"].candidates]


@pytest.mark.parametrize("name", ["envoy-gateway", "kgateway", "agentgateway", "endpoint-picker"])
def test_a_guide_for_another_proxy_creates_each_secret_of_its_manifest(name: str) -> None:
    shell = "\n".join(blocks(page(name), "sh")).replace("\\\n", " ")
    manifest = (ROOT / "deploy" / "consumers" / f"{name}.yaml").read_text()
    values = (ROOT / "deploy" / "consumers" / "values" / f"{name}.yaml").read_text()
    created = dict(re.findall(r"create (?:secret (?:generic|tls)|configmap) ([\w-]+) (.*)", shell))

    named = set(re.findall(r"(?:edge-proxy-tls|edge-ca|llm-tls)(?=\})", manifest))
    named |= set(re.findall(r"existingSecret: ([\w-]+)", values))
    assert named == set(created)
    for secret in ("edge-tls", "edge-proxy-tls"):
        assert {"tls.crt", "tls.key", "ca.crt"} == set(re.findall(r"--from-file=([\w.]+)=", created[secret]))
    assert f"kubectl apply -f deploy/consumers/{name}.yaml" in shell

"""What a tutorial has its reader paste is good: configurations load, commands parse, programs compile, files exist.

A `yaml` block with `callers` is a whole configuration. A block without is a change of the one before it: its keys take
the place of those.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml
from cyclopts import CycloptsError
from page_kit import blocks, commands

from edge_extproc.cli import app
from edge_extproc.config import load
from edge_extproc.config.schema import Config
from edge_extproc.envoy_config import bootstrap as render_envoy
from edge_extproc.proxy.capabilities import releases

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "tutorials"
TUTORIALS = sorted(path.stem for path in FOLDER.glob("*.md") if path.name != "README.md")
SECTIONS = ["What you will have", "What you need", "Steps", "When it does not work", "Where to read on"]
PAGES_WITH_COMMANDS = [
    *(f"docs/tutorials/{name}.md" for name in ("README", *TUTORIALS)),
    *("README.md", "envoy/README.md", "istio/README.md", "docs/installation.md", "docs/usage.md"),
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs" / "guides").glob("*.md")),
]


def configurations(page: str) -> list[str]:
    found: list[dict[str, Any]] = []
    for block in blocks(page, "yaml"):
        read = yaml.safe_load(block)
        found.append(read if "callers" in read else {**found[-1], **read})
    return [yaml.safe_dump(each, sort_keys=False) for each in found]


CONFIGURATIONS = [
    pytest.param(text, id=f"{name}-{n}")
    for name in TUTORIALS
    for n, text in enumerate(configurations(f"docs/tutorials/{name}.md"))
]


def loaded(text: str, base: Path) -> Config:
    names = re.findall(r"env: (\w+)", text)
    values = {
        name: "redis://127.0.0.1:6379" if name.endswith("_URL") else f"a-secret-of-the-tests-{name}" for name in names
    }
    for file in re.findall(r"file: (\S+)", text):
        (base / file).parent.mkdir(exist_ok=True)
        (base / file).write_text("a-secret-of-the-tests-in-a-file")
    return load.parse(text, "edge.yaml", environ=values, base=base)


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_configuration_is_good(text: str, tmp_path: Path) -> None:
    config = loaded(text, tmp_path)
    clusters = {each["name"] for each in render_envoy.render(config)["static_resources"]["clusters"]}

    assert {f"provider_{name}" for name in config.providers} <= clusters


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS)
def test_its_commands_are_those_of_the_command_line(page: str) -> None:
    for words in commands(page):
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as error:
            pytest.fail(f"edge-extproc {shlex.join(words)}: {error}")


def test_a_command_with_an_unknown_option_is_seen() -> None:
    with pytest.raises(CycloptsError):
        app.parse_args(["up", "--no-such-option"], exit_on_error=False, print_error=False)


def test_the_tutorials_have_commands_and_configurations() -> None:
    assert all(commands(f"docs/tutorials/{name}.md") for name in TUTORIALS)
    assert len(CONFIGURATIONS) >= 9


@pytest.mark.parametrize("name", TUTORIALS)
def test_it_has_its_sections_in_order(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text("utf-8")
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)

    assert SECTIONS == re.findall(r"^## (.*)$", prose, re.MULTILINE)
    steps = [int(n) for n in re.findall(r"^### (\d+)\. ", prose, re.MULTILINE)]
    assert list(range(1, len(steps) + 1)) == steps


@pytest.mark.parametrize("name", TUTORIALS)
def test_its_programs_compile_and_its_files_exist(name: str) -> None:
    page = f"docs/tutorials/{name}.md"
    for program in blocks(page, "python"):
        compile(program, page, "exec")
    text = "\n".join(blocks(page, "sh"))
    files = set(re.findall(r"(?:deploy|istio)/[\w./-]+", text))

    assert [] == sorted(file for file in files if not (ROOT / file).exists())
    assert all(re.fullmatch(r"up", target) for target in re.findall(r"\bmake ([a-z-]+)", text))


@pytest.mark.parametrize("name", TUTORIALS)
def test_each_file_that_a_command_reads_is_saved_before(name: str) -> None:
    text = (FOLDER / f"{name}.md").read_text("utf-8")
    read = {word for words in commands(f"docs/tutorials/{name}.md") for word in words if word.endswith(".yaml")}
    missing = [
        file
        for file in sorted(read)
        if not os.path.dirname(file) and f"Save this as `{file}`" not in " ".join(text.split())
    ]

    assert [] == missing


def test_the_istio_tutorial_shows_the_file_that_it_applies() -> None:
    (shown,) = blocks("docs/tutorials/istio.md", "yaml")

    assert yaml.safe_load((ROOT / "istio" / "gateway" / "edge.yaml").read_text()) == yaml.safe_load(shown)


def test_the_istio_tutorial_knows_each_release() -> None:
    text = (FOLDER / "istio.md").read_text("utf-8")
    rows = re.findall(r"^\| (1\.\d+) \| (1\.\d+) \| ([a-z ]+) \| refused \|$", text, re.MULTILINE)

    assert sorted(releases("istio")) == sorted(release for release, _, _ in rows)
    assert {"aggregate clusters"} == {order for _, _, order in rows}

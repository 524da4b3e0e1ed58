"""The README says what is true: its configuration is good, its commands and files are there, its snippets compile."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edge_extproc import registry
from edge_extproc.providers.openai_compatible import HOSTS

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text()
PAGES = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "envoy/README.md", "istio/README.md", "docs/performance.md")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README, re.MULTILINE | re.DOTALL)


def test_its_configuration_is_good(tmp_path: Path) -> None:
    (text,) = blocks("yaml")
    path = tmp_path / "edge.yaml"
    path.write_text(text)
    names = re.findall(r"env: (\w+)", text)
    environ = {**os.environ, **dict.fromkeys(names, "a-secret-of-the-tests")}
    done = subprocess.run(
        [sys.executable, "-m", "edge_extproc", "check", str(path)],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )

    assert 0 == done.returncode, done.stderr
    assert "edge.yaml: valid" in done.stdout


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_its_make_targets_exist(page: str) -> None:
    asked = set(re.findall(r"\bmake ([a-z-]+)", (ROOT / page).read_text()))
    targets = set(re.findall(r"^([a-z][a-z -]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    assert asked
    assert asked <= {name for line in targets for name in line.split()}


def test_the_commands_that_contributors_see_as_those_of_ci_are() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text()
    marked = set(re.findall(r"^make ([a-z-]+) +# \(CI\b", text, re.MULTILINE))
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()

    assert set(re.findall(r"\brun: make ([a-z-]+)", workflow)) == marked


def test_its_verbs_exist() -> None:
    told = re.search(r"the command is `edge-extproc`: (.*?)\.\n", README, re.DOTALL)
    assert told is not None
    verbs = re.findall(r"`([a-z]+)`", told.group(1))

    assert {
        *(
            "up",
            "serve",
            "init",
            "check",
            "doctor",
            "render",
            "usage",
            "replay",
            "migrate",
            "top",
            "key",
            "schema",
            "completion",
        ),
    } == set(verbs)
    help_text = subprocess.run(
        [sys.executable, "-m", "edge_extproc", "--help"], capture_output=True, text=True, check=True
    ).stdout
    assert all(re.search(rf"\b{verb}\b", help_text) for verb in verbs)


def test_its_kinds_of_provider_are_all_that_there_are() -> None:
    (table,) = re.findall(r"^\| callers speak .*?\n\n", README, re.MULTILINE | re.DOTALL)
    kinds = {name for row in table.splitlines()[2:] if row for name in re.findall(r"`(\w+)`", row.split("|")[2])}

    assert set(registry.names("providers")) == kinds
    assert f"{len(HOSTS)} hosts by name" in table


def test_its_snippet_is_python_of_the_official_sdk() -> None:
    (snippet,) = blocks("python")

    compile(snippet, "README.md", "exec")
    assert "chat.completions.create(" in snippet


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    path = ROOT / page
    links = re.findall(r"\]\(([^)#]+)\)", path.read_text())

    for link in links:
        assert link.startswith("https://") or (path.parent / link).exists(), link

"""A dialect, kinds of provider and credential, a strategy, a detector and a service of another distribution, found by
their entry points.

The distribution is tests/data/plugin. It is found on PYTHONPATH by a process of its own, as an installed one is, and no
file of the package names it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import plugin_kit
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONFIG = plugin_kit.SOURCE / "edge.yaml"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    return plugin_kit.install(tmp_path / "site")


def run(environment: dict[str, str], *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def test_check_takes_a_configuration_that_names_all_of_them(outside: Path) -> None:
    done = run(plugin_kit.environment(outside), "edge_extproc", "check", str(CONFIG))

    assert (0, "") == (done.returncode, done.stderr)
    assert "valid" in done.stdout


def test_without_the_distribution_its_kind_is_unknown() -> None:
    done = run({}, "edge_extproc", "check", str(CONFIG))

    assert 1 == done.returncode
    assert "there is no such kind of provider" in done.stderr


def test_exchanges_use_all_of_them(outside: Path) -> None:
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-p", "no:xdist")
    done = run(plugin_kit.environment(outside), "pytest", *options, str(plugin_kit.SOURCE / "checks.py"))

    assert 0 == done.returncode, done.stdout + done.stderr
    assert " passed" in done.stdout


RULES = """
guardrails:
  rules:
    - {name: signs, detect: {example_marks: {sign: "##"}}, action: mask}
    - {name: words, service: {example_judge: {word: dragon}}, action: block}
"""


def test_rules_use_its_detector_and_its_service(outside: Path, tmp_path: Path) -> None:
    config, text = tmp_path / "edge.yaml", tmp_path / "text"
    config.write_text(CONFIG.read_text("utf-8") + RULES)
    text.write_text("a ## and a dragon")
    done = run(plugin_kit.environment(outside), "edge_extproc", "guard", "test", "--config", str(config), str(text))

    assert (3, "") == (done.returncode, done.stderr)
    assert "mask signs: mark at the text: a [mark] and a dragon" in done.stdout
    assert "block words: word (service)" in done.stdout


def test_no_file_of_the_package_names_them() -> None:
    names = ("example_talk", "last_first", "edge_example", "example_ticket", "example_marks", "example_judge")
    naming = [
        str(path.relative_to(ROOT))
        for path in (ROOT / "edge_extproc").rglob("*.py")
        if any(name in path.read_text("utf-8") for name in names)
    ]

    assert [] == naming

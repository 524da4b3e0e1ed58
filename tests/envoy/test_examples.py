"""What an operator takes from envoy/: made by this code, and taken by the real Envoy."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from edge_extproc.envoy_config.validate import envoy_path, validate

ROOT = Path(__file__).parents[2]
NAMES = ("laptop", "own-certificate", "central-service")


@pytest.fixture(scope="module")
def examples():
    # By its path: a package called envoy is that of the wheel.
    generate = runpy.run_path(str(ROOT / "envoy" / "generate.py"))
    assert set(NAMES) == set(generate["EXAMPLES"])
    with generate["examples"]() as found:
        yield {example.path.parent.name: example for example in found}


@pytest.mark.parametrize("name", NAMES)
def test_an_example_is_what_the_code_renders(examples, name):
    assert examples[name].text == examples[name].path.read_text(), "say `make examples`"


@pytest.mark.envoy
@pytest.mark.parametrize("name", NAMES)
def test_envoy_takes_an_example(examples, name):
    validate(examples[name].bootstrap, envoy_path())


def test_no_example_holds_a_secret():
    generate = runpy.run_path(str(ROOT / "envoy" / "generate.py"))
    for path in (ROOT / "envoy" / "examples").rglob("*.*"):
        assert not any(secret in path.read_text() for secret in generate["SECRETS"].values())


def test_the_directory_is_no_python_package():
    assert not (ROOT / "envoy" / "__init__.py").exists()

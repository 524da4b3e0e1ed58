"""The supervisor compares the file with what is in force, and tries a text in a process of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_extproc.config.schema import Config
from edge_extproc.gateway.config_source import ConfigSource
from edge_extproc.gateway.config_trials import ConfigTrials
from edge_extproc.gateway.reload import ConfigReloader

TEXT = """
auth: {pepper: a pepper for tests alone}
callers: [{tenant: acme, keys: [{id: acme-1, key: edge-test-key-of-tenant-acme}]}]
providers: {openai: {kind: openai, api_key: sk-in-force}}
models: {small: [{provider: openai, model: gpt-4o-mini}]}
"""


async def _never(old: Config, new: Config) -> bool:
    raise AssertionError("nothing is applied")


def _write(path: Path, text: str) -> None:
    path.write_text(text)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "edge.yaml"
    path.write_text(TEXT)
    return path


@pytest.fixture
def trials(file: Path) -> ConfigTrials:
    origin = ConfigSource(file, file.parent)
    return ConfigTrials(ConfigReloader(origin, origin.parse(TEXT), TEXT, _never, with_envoy=True), with_envoy=True)


async def test_values_of_the_file_that_are_not_in_force_are_shown_without_secrets(
    trials: ConfigTrials, file: Path
) -> None:
    assert ([], []) == await trials.differences()
    changed = TEXT.replace("sk-in-force", "sk-in-the-file") + "listen: {port: 12345}\nadmin: {hosts: [a.example]}\n"
    _write(file, changed)
    found, errors = await trials.differences()
    shown = {each.key: (each.in_force, each.in_file) for each in found}

    assert [] == errors
    assert ("10000", "12345") == shown["listen.port"]
    assert ("()", "('a.example',)") == shown["admin.hosts"]
    assert "providers.openai.api_key" in shown
    assert "sk-" not in repr(found)


async def test_a_file_with_mistakes_says_which(trials: ConfigTrials, file: Path) -> None:
    _write(file, TEXT + "nothing: 1\n")
    found, (error,) = await trials.differences()

    assert ([], True) == (found, "nothing" in error)


async def test_a_text_is_tried_in_a_process_of_its_own(trials: ConfigTrials) -> None:
    wrong = await trials.run(TEXT + "nothing: 1\n", None)
    assert not trials.is_busy

    assert wrong is not None
    assert [True] == ["nothing" in line for line in wrong.errors]

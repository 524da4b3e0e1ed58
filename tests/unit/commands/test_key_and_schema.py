"""The commands that need no gateway: key, schema, completion."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from edge_extproc.auth.api_key import digest
from edge_extproc.cli import app
from edge_extproc.config import load
from edge_extproc.errors import exit_code


def run(*arguments: str) -> int:
    return exit_code(lambda: app(arguments, result_action="return_value"))


def key_and_hash(text: str) -> tuple[str, str]:
    key = re.search(r"edge-[\w-]{40,}", text)
    stored = re.search(r"hmac-sha256:([0-9a-f]{64})", text)
    assert key is not None
    assert stored is not None
    return key[0], stored[1]


def test_a_key_needs_only_the_pepper_of_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rest of the file may need variables that are set on another machine, or be unfinished."""
    path = tmp_path / "edge.yaml"
    (tmp_path / "pepper").write_text("a pepper of the tests\n")
    path.write_text(
        "auth: {pepper: {file: pepper}}\nproviders: {a: {api_key: {env: NOT_SET}, base_url: '${NOT_SET}'}}\n"
    )

    assert 0 == run("key", str(path))
    key, stored = key_and_hash(capsys.readouterr().out)
    assert stored == digest(b"a pepper of the tests", key)


def test_a_key_without_a_configuration_is_for_the_state_directory(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    state = tmp_path / "state"

    assert 0 == run("key", "--state-dir", str(state))
    first = key_and_hash(capsys.readouterr().out)
    assert 0 == run("key", "--state-dir", str(state))
    second = key_and_hash(capsys.readouterr().out)

    pepper = (state / "pepper").read_text().strip().encode()
    assert first != second
    assert [first[1], second[1]] == [digest(pepper, first[0]), digest(pepper, second[0])]
    assert (0o700, 0o600) == (stat.S_IMODE(state.stat().st_mode), stat.S_IMODE((state / "pepper").stat().st_mode))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("auth: {pepper: {env: NOT_SET}}", "edge.yaml:1:16: auth.pepper: environment variable NOT_SET is not set"),
        ("auth: {pepper: '${NOT_SET}'}", "edge.yaml:1:16: auth.pepper: the secret is empty"),
        ("auth: {pepper: short}", "edge.yaml:1:16: auth.pepper: this pepper is too short"),
        ("auth: [1]", "auth.pepper: this is not a secret"),
        ("providers: {}", "pepper cannot be read"),
        ("a: [", "this is not YAML"),
    ],
)
def test_a_pepper_that_cannot_be_read_is_one_line(
    text: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "edge.yaml"
    path.write_text(text)

    assert 1 == run("key", str(path))
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert "short" not in line.partition("this pepper is")[0]


def test_a_state_directory_beside_a_configuration_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 1 == run("key", "edge.yaml", "--state-dir", str(tmp_path))
    assert "cannot be used with a configuration" in capsys.readouterr().err


def test_the_schema_is_printed_or_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert 0 == run("schema")
    printed = json.loads(capsys.readouterr().out)
    assert 0 == run("schema", "--output", str(tmp_path / "edge.schema.json"))

    assert load.schema() == printed == json.loads((tmp_path / "edge.schema.json").read_text())
    assert 1 == run("schema", "--output", str(tmp_path / "none" / "edge.schema.json"))


@pytest.mark.parametrize(("shell", "command"), [("bash", ["bash", "-n"]), ("zsh", None), ("fish", None)])
def test_a_shell_completes_commands_and_options(
    shell: str, command: list[str] | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert 0 == run("completion", shell)
    script = capsys.readouterr().out

    assert {"up", "serve", "check", "render", "key", "schema"} <= set(re.findall(r"[a-z]+", script))
    assert "admin-port" in script
    assert "versioned-clusters" not in script
    if command is not None:
        subprocess.run(command, input=script, text=True, check=True)

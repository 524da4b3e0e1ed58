"""A child of the fork server is like a new process of the program: arguments, directory, environment, output, end."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import fork_server
import pytest
from gateway import config, until

from edge_extproc import __version__


def run(*arguments: str, directory: Path, **environment: str) -> tuple[int, str]:
    child = fork_server.start(arguments, directory, {**os.environ, **environment})
    assert child.stdout is not None
    with child.stdout:
        output = child.stdout.read()
    return child.wait(60), output


def test_a_command_runs_and_its_exit_code_is_known(tmp_path: Path) -> None:
    assert (0, f"{__version__}\n") == run("--version", directory=tmp_path)


def test_it_has_its_own_directory_and_environment(tmp_path: Path) -> None:
    text = config("http://127.0.0.1:9").replace("sk-provider-openai", "{env: A_KEY_OF_THIS_TEST}")
    (tmp_path / "edge.yaml").write_text(text)

    code, output = run("check", "edge.yaml", directory=tmp_path)
    assert 1 == code, output
    assert "A_KEY_OF_THIS_TEST" in output
    code, output = run("check", "edge.yaml", directory=tmp_path, A_KEY_OF_THIS_TEST="sk-key-of-a-test")
    assert 0 == code, output


def test_a_mistake_is_on_the_common_output_with_its_exit_code(tmp_path: Path) -> None:
    code, output = run("check", "nowhere.yaml", directory=tmp_path)

    assert 1 == code
    assert "nowhere.yaml" in output


def test_a_signal_ends_it_and_what_waits_learns_of_it(tmp_path: Path) -> None:
    """Others run on."""
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "edge.yaml").write_text(config("http://127.0.0.1:9"))
    arguments = ("serve", "--config", "edge.yaml")
    log = tmp_path / "log"
    first, second = (fork_server.start(arguments, tmp_path / name, os.environ, log) for name in ("first", "second"))
    with pytest.raises(subprocess.TimeoutExpired):
        first.wait(0)
    assert first.poll() is None

    first.kill()
    assert -signal.SIGKILL == first.wait(60)
    assert -signal.SIGKILL == first.poll()
    assert second.poll() is None
    first.kill()  # of nothing, now

    second.terminate()
    until(lambda: second.poll() is not None)

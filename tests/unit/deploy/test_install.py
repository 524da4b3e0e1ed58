"""How a checkout installs (requirements/install.py): uv does it with the settings of pip, and pip where uv cannot."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

_SPEC = importlib.util.spec_from_file_location("install", Path(__file__).parents[3] / "requirements" / "install.py")
assert _SPEC is not None
assert _SPEC.loader is not None
install = importlib.util.module_from_spec(_SPEC)
sys.modules[_SPEC.name] = install
_SPEC.loader.exec_module(install)

LOCK = "requirements/up.lock"
NO_SETTINGS = install.UvSettings()


class Program:
    """An executable that writes the arguments and one variable of each start to a file, and ends with an exit code."""

    def __init__(self, directory: Path, name: str, *, status: int = 0, makes: str = "") -> None:
        self._log = directory / f"{name}.log"
        self.path = directory / name
        made = f'mkdir -p "$(dirname {makes})"; touch {makes}\n' if makes else ""
        self.path.write_text(f'#!/bin/sh\necho "$UV_DEFAULT_INDEX" "$@" >> {self._log}\n{made}exit {status}\n')
        self.path.chmod(0o700)

    @property
    def starts(self) -> list[str]:
        return [line.strip() for line in self._log.read_text().splitlines()] if self._log.exists() else []


@pytest.mark.parametrize(
    ("listed", "expected"),
    [
        ("", NO_SETTINGS),
        ("global.index-url='https://a/simple'", {"environment": {"UV_DEFAULT_INDEX": "https://a/simple"}}),
        (
            "global.index-url='https://a'\n:env:.index-url='https://c'\ninstall.index-url='https://b'",
            {"environment": {"UV_DEFAULT_INDEX": "https://c"}},
        ),
        ("global.extra-index-url='\\nhttps://a\\nhttps://b'", {"environment": {"UV_INDEX": "https://a https://b"}}),
        (":env:.find-links='/a /b'", {"arguments": ["--find-links=/a", "--find-links=/b"]}),
        ("install.no-index='true'", {"arguments": ["--no-index"]}),
        (":env:.cert='/ca.pem'", {"environment": {"SSL_CERT_FILE": "/ca.pem"}}),
        (":env:.default-timeout='180'", {"environment": {"UV_HTTP_TIMEOUT": "180"}}),
        (":env:.disable-pip-version-check='1'\ndownload.proxy='http://p'", NO_SETTINGS),
        ("global.proxy='http://p'", None),
        ("install.trusted-host='a'", None),
        ("global.no-index='0'", None),
    ],
)
def test_uv_has_the_settings_of_pip_or_is_not_used(listed: str, expected: Any) -> None:
    expected = install.UvSettings(**expected) if isinstance(expected, dict) else expected

    assert expected == install.uv_settings(listed)


def test_uv_installs_the_lock_with_hashes_and_then_the_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UV_DEFAULT_INDEX", raising=False)
    uv, pip = Program(tmp_path, "uv"), Program(tmp_path, "pip")
    settings = install.UvSettings(["--no-index"], {"UV_DEFAULT_INDEX": "https://a"})

    assert 0 == install.install(LOCK, uv.path, settings, [str(pip.path)])
    start = f"https://a pip install --quiet --python {sys.executable} --no-index"
    assert [
        f"{start} --require-hashes --requirement {LOCK}",
        f"{start} --no-deps --no-build-isolation --editable .",
    ] == uv.starts
    assert [] == pip.starts


def test_without_a_lock_the_newest_versions_are_installed(tmp_path: Path) -> None:
    uv = Program(tmp_path, "uv")

    assert 0 == install.install(".[envoy]", uv.path, NO_SETTINGS, ["false"])
    assert [f"pip install --quiet --python {sys.executable} --editable .[envoy]"] == uv.starts


@pytest.mark.parametrize("case", ["uv fails", "no uv", "a setting of pip alone"])
def test_pip_installs_with_hashes_where_uv_does_not(case: str, tmp_path: Path) -> None:
    uv, pip = Program(tmp_path, "uv", status=2), Program(tmp_path, "pip")
    settings = None if case == "a setting of pip alone" else NO_SETTINGS

    assert 0 == install.install(LOCK, None if case == "no uv" else uv.path, settings, [str(pip.path)])
    assert (1 if case == "uv fails" else 0) == len(uv.starts)
    assert [
        f"install --quiet --disable-pip-version-check --require-hashes --requirement {LOCK}",
        "install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .",
    ] == pip.starts


def test_what_neither_can_install_is_an_error_and_the_project_is_not_installed(tmp_path: Path) -> None:
    uv, pip = Program(tmp_path, "uv", status=2), Program(tmp_path, "pip", status=1)

    assert 1 == install.install(LOCK, uv.path, NO_SETTINGS, [str(pip.path)])
    assert 1 == len(pip.starts)


def test_uv_is_installed_once_with_hashes_beside_the_environments_packages(tmp_path: Path) -> None:
    lock = tmp_path / "uv.lock"
    lock.write_text("uv==0.1.2 \\\n    --hash=sha256:00\n")
    pip = Program(tmp_path, "pip", makes=str(tmp_path / "uv" / "0.1.2" / "bin" / "uv"))

    found = [install.installed_uv(lock, [str(pip.path)], tmp_path) for _ in range(2)]

    assert [tmp_path / "uv" / "0.1.2" / "bin" / "uv"] * 2 == found
    (start,) = pip.starts
    assert (
        f"--target {tmp_path}/uv/0.1.2 --no-compile --only-binary :all: --require-hashes --requirement {lock}" in start
    )


def test_a_machine_without_a_wheel_of_uv_has_pip(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Above this line stands the error of pip about uv, which looks like the end."""
    pip = Program(tmp_path, "pip", status=1)

    assert install.installed_uv(install.UV_LOCK, [str(pip.path)], tmp_path) is None
    assert "uv cannot be installed here. pip installs all of it, which takes longer.\n" == capsys.readouterr().err

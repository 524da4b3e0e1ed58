"""What `.ci/run` does before the tests, with programs that play Debian's."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """All that is on the PATH: Debian's programs are added by each test."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name in ("sh", "id", "env", "mktemp", "rm", "tail"):
        found = shutil.which(name)
        assert found is not None
        (directory / name).symlink_to(found)
    play(directory, "id", "echo 0")
    play(directory, "dpkg-query", 'case "$3" in there) printf installed ;; *) exit 1 ;; esac')
    return directory


def play(directory: Path, name: str, body: str) -> None:
    path = directory / name
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o700)


def install(programs: Path, *packages: str) -> list[str]:
    done = subprocess.run(
        ["/bin/sh", ROOT / "deploy" / "system-packages.sh", *packages],
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "" == done.stderr
    return done.stdout.splitlines()


def test_what_is_there_is_not_installed_again(programs: Path) -> None:
    play(programs, "apt-get", "exit 9")

    assert [] == install(programs, "there")


def test_a_machine_without_apt_says_what_it_lacks(programs: Path) -> None:
    assert ["Not installed, since there is no apt: one two."] == install(programs, "there", "one", "two")


def test_a_user_who_may_not_install_is_told(programs: Path) -> None:
    play(programs, "apt-get", "exit 9")
    play(programs, "id", "echo 1000")

    assert ["Not installed, since only root may: one."] == install(programs, "one")


def test_a_package_that_does_not_exist_keeps_no_other_away(programs: Path, tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    play(
        programs,
        "apt-get",
        f'echo "$*" >> {asked}\ncase "$*" in *" one") echo "E: no package one" >&2; exit 100 ;; esac',
    )

    said = install(programs, "one", "there", "two")

    assert ["Installing with apt: one two.", "one could not be installed: E: no package one"] == said
    assert ["update --quiet", "one", "two"] == [
        line.removeprefix("install --yes --quiet --no-install-recommends ") for line in asked.read_text().splitlines()
    ]


def test_ci_runs_it_first() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    installing = [number for number, line in enumerate(lines) if "system-packages" in line.split()]

    assert 2 == len(installing)
    assert max(installing) < lines.index('exec make test REPEAT=3 "$@"')

"""The state of a gateway belongs to its user alone, whoever made it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from edge_extproc.gateway.state_access import tighten


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """As an earlier version with a usual umask has left it."""
    made = tmp_path / "state"
    for folder in (made, made / "journal", made / "tls", made / "run"):
        folder.mkdir()
        folder.chmod(0o755)
    for name in ("edge.db", "edge.db-wal", "pepper", "dev-key", "journal/1.jsonl", "tls/key.pem"):
        (made / name).write_text("secret")
        (made / name).chmod(0o644)
    return made


def test_the_state_of_an_earlier_version_is_made_private(state: Path) -> None:
    tighten(state, state / "run", shares_sockets=False)

    assert {0o700} == {mode(each) for each in (state, state / "journal", state / "tls", state / "run")}
    names = ("edge.db", "edge.db-wal", "pepper", "dev-key", "journal/1.jsonl", "tls/key.pem")
    assert {0o600} == {mode(state / name) for name in names}


def test_what_is_not_the_gateways_stays(state: Path, tmp_path: Path) -> None:
    (state / "notes.txt").write_text("of a person")
    (state / "notes.txt").chmod(0o644)
    target = tmp_path / "elsewhere"
    target.write_text("x")
    target.chmod(0o644)
    (state / "other-key").symlink_to(target)

    tighten(state, state / "run", shares_sockets=False)

    assert (0o644, 0o644) == (mode(state / "notes.txt"), mode(target))


def test_the_group_may_still_reach_shared_sockets(state: Path) -> None:
    tighten(state, state / "run", shares_sockets=True)

    assert (0o750, 0o750, 0o700, 0o600) == tuple(
        mode(each) for each in (state, state / "run", state / "tls", state / "pepper")
    )


def test_a_working_directory_keeps_its_mode(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(state)

    tighten(Path(), Path("run"), shares_sockets=False)

    assert (0o755, 0o700, 0o600) == (mode(state), mode(state / "run"), mode(state / "pepper"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_belongs_to_another_user_is_logged_and_stays(state: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.chown(state / "pepper", 12345, 12345)

    tighten(state, state / "run", shares_sockets=False)

    assert 0o644 == mode(state / "pepper")
    assert "state_not_private" in capsys.readouterr().out

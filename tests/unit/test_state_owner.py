from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from edge_extproc.errors import StartError
from edge_extproc.gateway.state_owner import LOCK, StateOwner, owned, owner

FIRST = StateOwner(4242, "here", 1_800_000_000_000, "up --config /etc/edge.yaml", "127.0.0.1:10000")
SECOND = StateOwner(4243, "here", 1_800_000_001_000, "serve", "127.0.0.1:10001")


def test_who_comes_second_is_told_who_was_first(tmp_path: Path) -> None:
    with owned([tmp_path / "state", tmp_path / "state"], FIRST):
        with pytest.raises(StartError) as refused, owned([tmp_path / "state"], SECOND):
            pass
        # What the first has written is still there for the third.
        with pytest.raises(StartError, match="process 4242, "), owned([tmp_path / "state"], SECOND):
            pass

    assert (
        f"{tmp_path / 'state'} is in use by another gateway: process 4242, started 2027-01-15 08:00:00 UTC as "
        "`up --config /etc/edge.yaml`, listening on 127.0.0.1:10000; stop it, or choose another directory with "
        "--state-dir, or with agent.state_dir (and agent.sockets) in the configuration" == str(refused.value)
    )
    with owned([tmp_path / "state"], SECOND):
        assert 0o600 == (tmp_path / "state" / LOCK).stat().st_mode & 0o777


def test_a_directory_that_is_held_by_another_machine_or_container_names_it(tmp_path: Path) -> None:
    elsewhere = StateOwner(1, "pod-7", 1_800_000_000_000, "up", "0.0.0.0:10000")
    with (
        owned([tmp_path], elsewhere),
        pytest.raises(StartError, match="process 1 on pod-7, "),
        owned([tmp_path], FIRST),
    ):
        pass


def test_all_directories_are_held_or_none(tmp_path: Path) -> None:
    with owned([tmp_path / "b"], FIRST):
        with pytest.raises(StartError, match="/b is in use"), owned([tmp_path / "a", tmp_path / "b"], SECOND):
            pass
        with owned([tmp_path / "a"], SECOND):
            pass


def test_an_owner_that_has_not_written_its_name_yet_is_one_all_the_same(tmp_path: Path) -> None:
    with (tmp_path / LOCK).open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(StartError, match="is in use by another gateway; stop it"), owned([tmp_path], FIRST):
            pass


def test_a_path_that_is_no_directory_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with (
        pytest.raises(StartError, match=r"cannot store state in .*/file: File exists"),
        owned([tmp_path / "file"], FIRST),
    ):
        pass


_HOLDER = textwrap.dedent(
    """
    import subprocess, sys, time
    from pathlib import Path
    from edge_extproc.gateway.state_owner import owned, owner

    with owned([Path(sys.argv[1])], owner("up", "127.0.0.1:1", time.time())):
        child = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL)
        print(child.pid, flush=True)
        child.wait()
    """
)


def test_a_killed_owner_holds_nothing_though_its_child_lives(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    child = int(holder.stdout.readline())
    try:
        with pytest.raises(StartError, match=f"process {holder.pid}, "), owned([tmp_path], owner("up", "", 0.0)):
            pass
        holder.kill()
        holder.wait()
        with owned([tmp_path], FIRST):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdout.close()

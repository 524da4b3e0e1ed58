"""The files that the gateway makes for itself."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import pytest

from edge_extproc.config.secrets import ensure_file, generate_key


def test_a_key_is_long_and_never_the_same() -> None:
    keys = {generate_key() for _ in range(100)}

    assert 100 == len(keys)
    assert all(re.fullmatch(r"edge-[A-Za-z0-9_-]{43}", key) for key in keys)


def test_a_file_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "key"

    assert "first" == ensure_file(path, lambda: "first")
    assert "first" == ensure_file(path, lambda: "second")
    assert "first\n" == path.read_text()
    assert 0o600 == path.stat().st_mode & 0o777
    assert 0o700 == path.parent.stat().st_mode & 0o777
    assert [path] == list(path.parent.iterdir())


def test_of_two_that_make_a_file_at_once_both_get_the_same(tmp_path: Path) -> None:
    path = tmp_path / "key"
    both = threading.Barrier(2)
    found: list[str] = []

    def make(name: str) -> str:
        both.wait(10)
        return name

    threads = [
        threading.Thread(target=lambda n=name: found.append(ensure_file(path, lambda: make(n)))) for name in ("a", "b")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 2 == len(found)
    assert 1 == len(set(found))
    assert [path] == list(tmp_path.iterdir())


def test_what_cannot_be_made_leaves_nothing_behind(tmp_path: Path) -> None:
    def fail() -> str:
        raise RuntimeError("no randomness")

    with pytest.raises(RuntimeError, match="no randomness"):
        ensure_file(tmp_path / "key", fail)
    assert [] == list(tmp_path.iterdir())

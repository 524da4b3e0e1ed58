"""Makes the files and folders of the gateway's state private when it starts.

The gateway creates them for its own user alone. Those of earlier versions, and folders that a person, an image or a
volume has made, may be readable by others. Only files and folders of the gateway's names are changed, because a state
directory may also have files of somebody else.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import structlog

_FILES = (
    *("owner.lock", "pepper", "*-key", "edge.db*", "records.db*", "quarantine.jsonl*", "managed.json*"),
    *("counted.json*", "prices*", ".gitignore"),
)
"""Of the state directory, by name."""
_FOLDERS = ("journal", "tls", "valkey")
"""With all that is in them."""
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def tighten(state_dir: Path, socket_dir: Path, *, shares_sockets: bool) -> None:
    """Takes away the rights of other users. `shares_sockets`: the group may use the sockets, so it may still enter the
    folders that lead to them. What belongs to another user is not changed, and is logged if others can read it."""
    shared = {socket_dir, *(each for each in socket_dir.parents if each == state_dir)} if shares_sockets else set()
    here = Path.cwd()
    for path in (state_dir, socket_dir, *_files_of(state_dir)):
        if here == path.absolute() or path.absolute() in here.parents:
            continue  # a working directory, which has more than our state
        _tighten(path, stat.S_IRWXO | stat.S_IWGRP if path in shared else _OTHERS)


def _files_of(state_dir: Path) -> Iterator[Path]:
    for pattern in _FILES:
        yield from state_dir.glob(pattern)
    for name in _FOLDERS:
        for folder, _, files in os.walk(state_dir / name):
            yield Path(folder)
            yield from (Path(folder, each) for each in files)


def _tighten(path: Path, refused: int) -> None:
    log = structlog.get_logger()
    try:
        # Without following a link: it may lead to somebody else's file.
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:  # it is gone, a socket or a link, or not readable: whoever needs it says so
        return
    try:
        status = os.fstat(file)
        mode = stat.S_IMODE(status.st_mode)
        if not mode & refused or not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            return
        if status.st_uid != os.geteuid():
            log.warning("state_not_private", path=str(path), mode=f"{mode:04o}", owner=status.st_uid)
            return
        os.fchmod(file, mode & ~refused)
        log.info("state_made_private", path=str(path), mode=f"{mode:04o}")
    except OSError as error:  # a read-only file system, or one without modes
        log.warning("state_not_private", path=str(path), reason=error.strerror)
    finally:
        os.close(file)

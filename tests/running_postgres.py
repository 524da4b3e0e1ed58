"""A real PostgreSQL for the tests, where this machine has one (Debian's package); started once a process."""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest


@functools.cache
def postgres_url() -> str:
    """Skips the test where there is no PostgreSQL or no driver for it."""
    pytest.importorskip("psycopg", reason="psycopg is not installed")
    binaries = _binaries()
    if binaries is None:
        pytest.skip("PostgreSQL is not installed (Debian: apt-get install postgresql)")
    directory = Path(tempfile.mkdtemp(prefix="edge-pg-"))
    user = None
    if os.getuid() == 0:  # PostgreSQL refuses to run as root
        user = _other_user()
        os.chown(directory, user, -1)
    data = directory / "data"
    _as(user, str(binaries / "initdb"), "-D", str(data), "-A", "trust", "-U", "edge", "--no-sync")
    options = f"-c listen_addresses='' -c unix_socket_directories={directory} -c fsync=off"
    _as(user, str(binaries / "pg_ctl"), "-D", str(data), "-w", "-o", options, "-l", str(directory / "log"), "start")

    def stop() -> None:
        _as(user, str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "stop")
        shutil.rmtree(directory, ignore_errors=True)

    atexit.register(stop)
    return f"postgresql://edge@/postgres?host={directory}"


def _other_user() -> int:
    try:
        return pwd.getpwnam("postgres").pw_uid
    except KeyError:
        return pwd.getpwnam("nobody").pw_uid


def _binaries() -> Path | None:
    on_path = shutil.which("initdb")
    if on_path is not None:
        return Path(on_path).parent
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return programs[-1].parent if programs else None


def _as(user: int | None, *argv: str) -> None:
    subprocess.run(argv, check=True, user=user, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

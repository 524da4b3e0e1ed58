"""Where a config comes from, so that every process of the gateway can read it for itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from ..config import load as config_load
from ..config.default_models import needs_rehearsal
from ..config.schema import Config
from ..config.secrets import ensure_file, generate_key
from ..errors import StartError
from .supervisor import free_port


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A file, or the embedded defaults and what they depend on. No secret: it goes over command lines."""

    path: Path | None
    state_dir: Path
    rehearsal_port: int = 0
    port: int = 10000
    admin_port: int = 10001
    in_force: Path | None = None
    """What the supervisor found good of the file; the file itself may have become a bad one since."""
    editions: bool = False
    """Envoy is ours and told of changes: its clusters are named as proxy/cluster_names.py says."""

    def read(self, environ: Mapping[str, str] = os.environ) -> Config:
        """Raises ConfigError."""
        if self.path is not None:
            return self.parse(config_load.read_text(self.in_force or self.path), environ)
        return config_load.default(
            environ,
            self.state_dir,
            rehearsal_port=self.rehearsal_port,
            port=self.port,
            admin_port=self.admin_port,
        )

    def parse(self, text: str, environ: Mapping[str, str] = os.environ) -> Config:
        """What `text` says as the file's content. Raises ConfigError."""
        path = self.path or Path()
        return config_load.parse(text, str(path), environ=environ, base=path.parent)

    def setting(self, option: str, key: str) -> str:
        """Where a user chooses something: the key of the file, or the option of the command line without one."""
        return option if self.path is None else f"{key} in {self.path}"

    def arguments(self) -> tuple[str, ...]:
        """For the command line of a worker."""
        editions = ("--editions",) if self.editions else ()
        if self.path is not None:
            in_force = ("--in-force", str(self.in_force)) if self.in_force is not None else ()
            return ("--config", str(self.path), *in_force, *editions)
        return (
            *editions,
            *("--state-dir", str(self.state_dir)),
            *("--rehearsal-port", str(self.rehearsal_port)),
            *("--port", str(self.port)),
            *("--admin-port", str(self.admin_port)),
        )


class ConfigFollower:
    """The config of one process, and whether another one has come into force since it was read."""

    def __init__(self, origin: ConfigSource) -> None:
        """Raises ConfigError."""
        self._origin = origin
        self._stamp = stamp(origin.in_force)
        self.config = origin.read()

    def newer(self) -> Config | None:
        """None where nothing else is in force. Raises ConfigError."""
        now = stamp(self._origin.in_force)
        if now == self._stamp:
            return None
        self.config = self._origin.read()
        self._stamp = now
        return self.config


Stamp: TypeAlias = tuple[int, int, int]


def stamp(path: Path | None) -> Stamp | None:
    """Another one whenever there is another file behind a path, through any symbolic links, or it was written to."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return (found.st_ino, found.st_mtime_ns, found.st_size) if found is not None else None


def keep(path: Path, text: str) -> None:
    """Writes for its owner alone: a reader sees the old text or the new one, whole. It may hold secrets."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    fresh.replace(path)


STATE_DIR, PORT, ADMIN_PORT = Path(".edge"), 10000, 10001
"""Where nothing else is said on the command line, and there is no configuration file."""


def prepare(
    path: Path | None,
    state_dir: Path | None = None,
    port: int | None = None,
    admin_port: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ConfigSource:
    """Makes what the embedded defaults need: a caller's key, a pepper, and a port for the rehearsal provider. None: not
    given on the command line. Raises StartError where one is given beside a file, which says it already."""
    if path is not None:
        beside = {
            "--state-dir": ("agent.state_dir", state_dir),
            "--port": ("listen.port", port),
            "--admin-port": ("admin.port", admin_port),
        }
        for option, (key, given) in beside.items():
            if given is not None:
                raise StartError(
                    f"{option} {given} is for a start without --config; leave it out, and set {key} in {path}"
                )
        return ConfigSource(path, STATE_DIR)
    state_dir = STATE_DIR if state_dir is None else state_dir
    port, admin_port = PORT if port is None else port, ADMIN_PORT if admin_port is None else admin_port
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        ensure_file(state_dir / "dev-key", generate_key)
        ensure_file(state_dir / "pepper", generate_key)
    except OSError as error:
        raise StartError(f"cannot keep state in {state_dir}: {error.strerror}; choose another --state-dir") from error
    rehearsal_port = free_port("127.0.0.1") if needs_rehearsal(environ) else 0
    return ConfigSource(None, state_dir.absolute(), rehearsal_port, port, admin_port)

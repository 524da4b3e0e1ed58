"""The source of the configuration: every process of the gateway reads it by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import msgspec
import structlog

from ..config import load as config_load
from ..config.default_models import LocalServer, has_key
from ..config.extras import ADMIN
from ..config.schema import Config
from ..config.secrets import ensure_file, generate_key
from ..errors import ConfigError, EdgeError, StartError
from ..model.managed import NO_ADDITIONS, Additions
from ..store import snapshot
from . import local_servers
from .supervisor import free_port


class AcceptedConfig(msgspec.Struct, frozen=True):
    """What is in force: the text of the file, and what the admin API has added."""

    text: str
    additions: Additions = NO_ADDITIONS


def read_accepted(path: Path) -> AcceptedConfig:
    """Raises ConfigError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=AcceptedConfig)
    except (OSError, msgspec.DecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}; restart the gateway, which writes it") from error


def write_accepted(path: Path, accepted: AcceptedConfig) -> None:
    """Raises OSError."""
    write_private(path, msgspec.json.encode(accepted).decode())


@dataclass(frozen=True, slots=True)
class ConfigSource:
    """A file, or the arguments of the built-in defaults. It holds no secret, because it is passed on command lines."""

    path: Path | None
    state_dir: Path
    rehearsal_port: int = 0
    port: int = 10000
    admin_port: int = 10001
    accepted: Path | None = None
    """The supervisor's copy of the last valid version of the file, an AcceptedConfig. Workers read it instead of the
    file."""
    local: tuple[LocalServer, ...] = ()
    """The model servers that were found on this machine, for the built-in defaults."""
    versioned_clusters: bool = False
    """The gateway runs Envoy and can change its clusters: their names hold a digest (proxy/cluster_names.py)."""

    def read(self, environ: Mapping[str, str] = os.environ) -> Config:
        """Raises ConfigError."""
        if self.accepted is not None:
            accepted = read_accepted(self.accepted)
            return self.parse(accepted.text, environ, accepted.additions)
        if self.path is not None:
            return self.parse(config_load.read_text(self.path), environ)
        return config_load.default(
            environ,
            self.state_dir,
            rehearsal_port=self.rehearsal_port,
            port=self.port,
            admin_port=self.admin_port,
            local=self.local,
            pages=ADMIN.is_installed(),
        )

    def parse(self, text: str, environ: Mapping[str, str] = os.environ, additions: Additions = NO_ADDITIONS) -> Config:
        """The configuration for `text` as the content of the file. Raises ConfigError."""
        path = self.path or Path()
        return config_load.parse(text, str(path), environ=environ, base=path.parent, additions=additions)

    def setting(self, option: str, key: str) -> str:
        """The name of a setting in messages: the key in the file or, without a file, the command-line option."""
        return option if self.path is None else f"{key} in {self.path}"

    def arguments(self) -> tuple[str, ...]:
        """For the command line of a worker."""
        versioned = ("--versioned-clusters",) if self.versioned_clusters else ()
        if self.path is not None:
            accepted = ("--accepted", str(self.accepted)) if self.accepted is not None else ()
            return ("--config", str(self.path), *accepted, *versioned)
        return (
            *versioned,
            *("--state-dir", str(self.state_dir)),
            *("--rehearsal-port", str(self.rehearsal_port)),
            *("--port", str(self.port)),
            *("--admin-port", str(self.admin_port)),
            *("--local", msgspec.json.encode(self.local).decode()),
        )


def read_for_start(origin: ConfigSource) -> tuple[Config, AcceptedConfig]:
    """The configuration, and what it was made from if there is a file: with the additions that were in force last.
    Raises ConfigError."""
    if origin.path is None:
        return origin.read(), AcceptedConfig("")
    text = config_load.read_text(origin.path)
    config = origin.parse(text)
    if config.admin.additions is None or not config.has_admin_api:
        return config, AcceptedConfig(text)
    try:
        additions = snapshot.read(config.managed_file).additions
        return origin.parse(text, additions=additions), AcceptedConfig(text, additions)
    except EdgeError as error:
        # The file alone is valid, so its callers are served. The database is read after the start.
        structlog.get_logger().error("additions_not_applied", outcome="rejected", error=error.message)
        return config, AcceptedConfig(text)


class ConfigFollower:
    """The configuration of one process, read again when the supervisor has accepted another one."""

    def __init__(self, origin: ConfigSource) -> None:
        """Raises ConfigError."""
        self._origin = origin
        self._stamp = stamp(origin.accepted)
        self.config = origin.read()

    def newer(self) -> Config | None:
        """The configuration that was accepted since the last call; None if there is none. Raises ConfigError."""
        now = stamp(self._origin.accepted)
        if now == self._stamp:
            return None
        self.config = self._origin.read()
        self._stamp = now
        return self.config


def read_local(text: str) -> tuple[LocalServer, ...]:
    """The servers of `ConfigSource.arguments`."""
    return msgspec.json.decode(text, type=tuple[LocalServer, ...])


Stamp: TypeAlias = tuple[int, int, int]


def stamp(path: Path | None) -> Stamp | None:
    """Changes when the file behind the path changes, also behind symbolic links. None if there is no file."""
    try:
        status = path.stat() if path is not None else None
    except OSError:
        return None
    return (status.st_ino, status.st_mtime_ns, status.st_size) if status is not None else None


def write_private(path: Path, text: str) -> None:
    """Replaces a file atomically, readable by its owner alone: it may hold secrets."""
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(file, "w", encoding="utf-8", newline="") as stream:
        stream.write(text)
    fresh.replace(path)


STATE_DIR, PORT, ADMIN_PORT = Path(".edge"), 10000, 10001
"""The defaults of the command line, without a configuration file."""


def prepare(
    path: Path | None,
    state_dir: Path | None = None,
    port: int | None = None,
    admin_port: int | None = None,
    environ: Mapping[str, str] = os.environ,
) -> ConfigSource:
    """Creates what the built-in defaults need: a caller's key, an admin's token, a pepper, and a port for the rehearsal
    provider. An argument is None if the command line does not give it. Raises StartError if one is given beside a file,
    which has a key for it."""
    if path is not None:
        beside = {
            "--state-dir": ("agent.state_dir", state_dir),
            "--port": ("listen.port", port),
            "--admin-port": ("admin.port", admin_port),
        }
        for option, (key, value) in beside.items():
            if value is not None:
                raise StartError(f"{option} {value} cannot be used with --config; set {key} in {path} instead")
        return ConfigSource(path, STATE_DIR)
    state_dir = STATE_DIR if state_dir is None else state_dir
    port, admin_port = PORT if port is None else port, ADMIN_PORT if admin_port is None else admin_port
    ensure_secret(state_dir / "dev-key")
    ensure_pepper(state_dir)
    if ADMIN.is_installed():
        ensure_secret(state_dir / "admin-token")
    local = local_servers.find(environ)
    rehearsal_port = free_port("127.0.0.1") if not has_key(environ) and not local else 0
    return ConfigSource(None, state_dir.absolute(), rehearsal_port, port, admin_port, local=local)


def ensure_pepper(state_dir: Path) -> str:
    """The pepper in a state directory. It is generated if there is none. Raises StartError."""
    return ensure_secret(state_dir / "pepper")


def ensure_secret(path: Path) -> str:
    """The content of a file in a state directory. If it does not exist, it gets a new random key. Raises StartError."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        return ensure_file(path, generate_key)
    except OSError as error:
        raise StartError(
            f"cannot store state in {path.parent}: {error.strerror}; choose another --state-dir"
        ) from error

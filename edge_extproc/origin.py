"""Where a config comes from, so that every process of the gateway can read it for itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .config import load as config_load
from .config.schema import Config
from .config.secrets import ensure_file, generate_key
from .errors import StartError
from .supervisor import free_port


@dataclass(frozen=True, slots=True)
class Origin:
    """A file, or the embedded defaults and what they depend on. No secret: it goes over command lines."""

    path: Path | None
    state_dir: Path
    rehearsal_port: int = 0
    port: int = 10000
    admin_port: int = 10001

    def read(self, environ: Mapping[str, str] = os.environ) -> Config:
        if self.path is not None:
            return config_load.load(self.path, environ)
        return config_load.default(
            environ,
            self.state_dir,
            rehearsal_port=self.rehearsal_port,
            port=self.port,
            admin_port=self.admin_port,
        )

    def arguments(self) -> tuple[str, ...]:
        """For the command line of a worker."""
        if self.path is not None:
            return ("--config", str(self.path))
        return (
            *("--state-dir", str(self.state_dir)),
            *("--rehearsal-port", str(self.rehearsal_port)),
            *("--port", str(self.port)),
            *("--admin-port", str(self.admin_port)),
        )


def prepare(state_dir: Path, path: Path | None, port: int, admin_port: int, environ: Mapping[str, str]) -> Origin:
    """Makes what the embedded defaults need: a caller's key, a pepper, and a port for the rehearsal provider."""
    if path is not None:
        return Origin(path, state_dir)
    try:
        state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        ensure_file(state_dir / "dev-key", generate_key)
        ensure_file(state_dir / "pepper", generate_key)
    except OSError as error:
        raise StartError(f"cannot keep state in {state_dir}: {error.strerror}; choose another --state-dir") from error
    rehearsal_port = free_port("127.0.0.1") if config_load.needs_rehearsal(environ) else 0
    return Origin(None, state_dir.absolute(), rehearsal_port, port, admin_port)

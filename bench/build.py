"""Compiles the two C programs: a load generator and a provider that answers at once."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Tools:
    loadgen: Path
    mock: Path


def tools(directory: Path = HERE / "bin") -> Tools:
    """Built where they are missing or older than their source. Raises SystemExit without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise SystemExit("bench: no C compiler (cc) was found; install one, gcc for instance")
    directory.mkdir(parents=True, exist_ok=True)
    return Tools(_built(compiler, "loadgen", directory), _built(compiler, "mock", directory))


def _built(compiler: str, name: str, directory: Path) -> Path:
    source, target = HERE / f"{name}.c", directory / name
    if not target.exists() or target.stat().st_mtime < source.stat().st_mtime:
        subprocess.run([compiler, "-O2", "-o", str(target), str(source), "-lm"], check=True)
    return target

"""A distribution of plugins, put together as an installer would leave it, and never installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

SOURCE = Path(__file__).parent / "data" / "plugin"


def install(directory: Path) -> Path:
    """Copies the example distribution into `directory`, with its metadata. Returns `directory`, for PYTHONPATH."""
    metadata = directory / "edge_example-1.0.dist-info"
    metadata.mkdir(parents=True)
    shutil.copytree(SOURCE / "edge_example", directory / "edge_example", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("METADATA", "entry_points.txt"):
        shutil.copy(SOURCE / name, metadata / name)
    return directory


def environment(directory: Path) -> dict[str, str]:
    """What a process needs to find the distribution in `directory`."""
    paths = (str(directory), os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": os.pathsep.join(path for path in paths if path)}

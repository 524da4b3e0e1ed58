"""The memory that the gateway's own Envoy may use, if the configuration does not say it."""

from __future__ import annotations

import os
from pathlib import Path

from ..config.schema import Config

# The rest is for the workers, the stores and the system.
_SHARE = 0.6
_CGROUPS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
# The largest value of a size in the configuration.
_LARGEST = (1 << 32) - 1


def with_memory(config: Config, machine: int | None = None) -> Config:
    """The configuration with `envoy.memory`: its own value, or a share of the memory of this machine or container.
    `machine`: its bytes; None to find them."""
    if config.envoy.memory is not None:
        return config
    memory = min(int((machine if machine is not None else available()) * _SHARE), _LARGEST)
    return config.model_copy(update={"envoy": config.envoy.model_copy(update={"memory": memory})})


def available(limits: tuple[Path, ...] = _CGROUPS) -> int:
    """The bytes of this machine, or of the container if it has fewer."""
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([physical, *filter(None, map(_limit, limits))])


def _limit(path: Path) -> int | None:
    try:
        text = path.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None  # "max": there is none

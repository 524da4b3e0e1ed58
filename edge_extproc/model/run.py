"""A run: the calls that an agent and its sub-agents make for one task. They share the caps of the run."""

from __future__ import annotations

from .frozen_dataclass import frozen_dataclass


@frozen_dataclass
class RunCaps:
    """The most that a run may use. None: no such cap."""

    micro_dollars: int | None = None
    tokens: int | None = None
    requests: int | None = None
    seconds: int | None = None
    """From its first call. Later calls are refused."""


NO_CAPS = RunCaps()


@frozen_dataclass
class Run:
    """The run of one call, as its caller or a token names it."""

    id: str
    parent: str | None = None
    """The run that this one is a part of: what this one uses counts for it too."""
    caps: RunCaps = NO_CAPS
    """Those that the call states. They can only narrow those that the run has."""
    bound: Run | None = None
    """The run of the caller's token, if this one is a part of it."""

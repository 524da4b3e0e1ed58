"""A change of the configuration that is tried, and what was found. The supervisor gives it to a process of its own."""

from __future__ import annotations

from typing import Any

import msgspec

from .managed import NO_ADDITIONS, Additions


class ConfigTrial(msgspec.Struct, frozen=True):
    """What is tried. It may contain secrets, so it is never on a command line."""

    text: str
    name: str
    """The file's name in messages."""
    base: str
    """The directory in which relative paths begin."""
    state_dir: str
    """Of the compiled prices."""
    current: str | None = None
    """The text of the configuration in force. None: it is none of a file."""
    with_envoy: bool = True
    since_ms: int | None = None
    """From when the ledger is replayed, in Unix milliseconds. None: the text is only checked."""
    database: str | None = None
    managed: str | None = None
    """The file of the managed state."""
    additions: Additions = NO_ADDITIONS
    """Those in force: they count for the text too."""


class ConfigTrialResult(msgspec.Struct, frozen=True):
    errors: list[str] = []
    warnings: list[str] = []
    rendering: str | None = None
    """How the rendered configuration of Envoy was checked."""
    differences: list[str] = []
    """The keys that differ from the configuration in force."""
    needs_restart: list[str] = []
    report: dict[str, Any] | None = None
    """The result of the replay."""

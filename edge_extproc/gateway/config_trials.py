"""Tries changes of the configuration that an admin has pasted, each in a process of its own, and compares the file with
what is in force.

The process has the code of `edge-extproc check` and `replay`, a lower priority, and a time. One runs at a time.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from ..config import changes
from ..config.document import dotted
from ..config.load import read_text
from ..config.schema import Config
from ..errors import EdgeError
from ..model.config_trial import ConfigTrial, ConfigTrialResult

if TYPE_CHECKING:
    from ..server.admin_config import ConfigDifference
    from .reload import ConfigReloader

_SECONDS = 120.0
# A value that is shown: a long one is a list.
_MOST_SHOWN = 300
_PROGRAM = ("-m", "edge_extproc.commands.config_trial")


class ConfigTrials:
    """The `ConfigControl` of the admin API."""

    def __init__(self, reloader: ConfigReloader, *, with_envoy: bool) -> None:
        self._reloader = reloader
        self._with_envoy = with_envoy
        self._running = asyncio.Lock()

    @property
    def is_busy(self) -> bool:
        return self._running.locked()

    async def differences(self) -> tuple[list[ConfigDifference], list[str]]:
        """The values of the file that are not in force, and the errors of the file. Nothing without a file."""
        return await asyncio.to_thread(self._differences)

    def _differences(self) -> tuple[list[ConfigDifference], list[str]]:
        from ..server.admin_config import ConfigDifference

        origin, current = self._reloader.origin, self._reloader.config
        if origin.path is None:
            return [], []
        try:
            file = origin.parse(read_text(origin.path), additions=self._reloader.additions)
        except EdgeError as error:
            return [], error.message.splitlines()
        return [
            ConfigDifference(key=dotted(path), in_force=_value(current, path), in_file=_value(file, path))
            for path in changes.differences(current, file)
        ], []

    async def run(self, text: str, since_ms: int | None) -> ConfigTrialResult | None:
        """None: it took too long. Without `since_ms` the text is only checked."""
        async with self._running:
            return await self._run(self._trial(text, since_ms))

    def _trial(self, text: str, since_ms: int | None) -> ConfigTrial:
        origin, current = self._reloader.origin, self._reloader.config
        return ConfigTrial(
            text,
            "the pasted text",
            str(origin.path.parent if origin.path is not None else Path()),
            str(current.agent.state_dir),
            self._reloader.text if origin.path is not None else None,
            self._with_envoy,
            since_ms,
            current.database_url() if since_ms is not None else None,
            str(current.managed_file),
            self._reloader.additions,
        )

    async def _run(self, trial: ConfigTrial) -> ConfigTrialResult | None:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *_PROGRAM,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # Ctrl-C reaches the supervisor alone.
            start_new_session=True,
        )
        try:
            async with asyncio.timeout(_SECONDS):
                answer, _ = await process.communicate(msgspec.json.encode(trial))
        except TimeoutError:
            return None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        return msgspec.json.decode(answer, type=ConfigTrialResult)


def _value(config: Config, path: tuple[str, ...]) -> str | None:
    """A value as text without secrets. None: there is none."""
    value: object = config
    for name in path:
        if isinstance(value, Mapping):
            if name not in value:
                return None
            value = value[name]
        else:
            value = getattr(value, name)
    text = repr(value)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}…"

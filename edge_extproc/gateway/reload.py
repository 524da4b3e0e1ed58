"""A configuration file that changes while the gateway runs: a part of the composition root, beside gateway/launch.py.

The file is looked at once a second and read on SIGHUP. What it says is checked whole, as `edge-extproc check` does;
what is good is written to a file of our own, from which every worker reads, also one that is started later. So a bad
file never comes into force, not even with a worker that dies while it lies there.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import structlog

from ..config import changes
from ..config.load import read_text
from ..config.schema import Config
from ..errors import ConfigError, EdgeError
from ..telemetry.supervisor_metrics import Outcome, Reloads
from .config_source import ConfigSource, Stamp, keep, stamp
from .own_envoy import OwnEnvoy
from .own_valkey import check_store

# How often the file is looked at. One that is being written is read when two looks have found the same.
EVERY = 1.0

Tell: TypeAlias = Callable[[Config, Config], Awaitable[bool]]
"""Brings another config than the one in force to all who work with it; whether all of them have it."""


class ConfigReloader:
    """`config` is what is in force."""

    def __init__(
        self,
        origin: ConfigSource,
        config: Config,
        text: str,
        tell: Tell,
        *,
        with_envoy: bool,
        envoy: Callable[[], OwnEnvoy | None] = lambda: None,
    ) -> None:
        """`text`: what `config` was read from, and `origin.in_force` holds. `with_envoy`: it is ours; `envoy` gives it,
        where it is told of changes."""
        self.config = config
        self.reloads = Reloads(time.time())
        self._origin = origin
        self._text = text
        self._tell = tell
        self._with_envoy = with_envoy
        self._envoy = envoy
        self._seen = stamp(origin.path)
        self._asked = asyncio.Event()
        self._last: Mapping[str, Any] = {}

    def ask(self) -> None:
        """Read the file now, whether it changed or not: a secret that lies in another file may have."""
        self._asked.set()

    def shown(self) -> Mapping[str, Any]:
        """What the admin port shows."""
        return {
            "version": self.config.fingerprint(),
            "file": str(self._origin.path) if self._origin.path is not None else None,
            "in_force_since": self.reloads.applied_at,
            "last_reload": self._last or None,
        }

    async def watch(self) -> None:
        """Until it is cancelled."""
        before = self._seen
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._asked.wait()
            if self._origin.path is None:
                self._asked.clear()
                continue
            now = await asyncio.to_thread(stamp, self._origin.path)
            if self._asked.is_set() or (now != self._seen and now == before):
                self._asked.clear()
                await self.reload(now)
            before = now

    async def reload(self, now: Stamp | None = None) -> Outcome:
        """Reads the file. `now` is what it looked like just before."""
        self._seen = now if now is not None else stamp(self._origin.path)
        outcome, error = await self._try()
        self.reloads.add(outcome, time.time())
        self._last = {"outcome": outcome, "at": time.time(), "error": error}
        log = structlog.get_logger()
        if error is None:
            log.info("config_reloaded", version=self.config.fingerprint())
        else:
            log.error(f"config_{outcome}", error=error, in_force=self.config.fingerprint())
        return outcome

    async def _try(self) -> tuple[Outcome, str | None]:
        path, in_force = self._origin.path, self._origin.in_force
        if path is None or in_force is None:
            return "rejected", "there is no configuration file; start with --config FILE"
        try:
            text = await asyncio.to_thread(read_text, path)
            config = await asyncio.to_thread(self._checked, text)
            held = await asyncio.to_thread(changes.needing_restart, self.config, config, self._comparable)
            if held:
                await asyncio.to_thread(_validate, config)
                return "restart_needed", f"a restart is needed for {', '.join(held)}; nothing of the file is in force"
            # Envoy first: a worker that begins anew may read what is in force at once.
            if (envoy := self._envoy()) is not None:
                await envoy.change(config)
        except EdgeError as error:
            return "rejected", error.message
        wrong = await self._brought(in_force, config, text)
        if wrong is not None:
            if envoy is not None:
                await envoy.undo()
            return "rejected", wrong
        self.config, self._text = config, text
        return "applied", None

    async def _brought(self, in_force: Path, config: Config, text: str) -> str | None:
        """Why not all workers have it, and none goes on with it; None where they have."""
        try:
            await asyncio.to_thread(keep, in_force, text)
        except OSError as error:
            return f"{in_force} cannot be written: {error.strerror}"
        wrong = await self._told(self.config, config)
        if wrong is not None:
            # Nobody works with what not all can work with.
            await asyncio.to_thread(keep, in_force, self._text)
            await self._told(config, self.config)
        return wrong

    async def _told(self, old: Config, new: Config) -> str | None:
        """Why not all have the new one; None where they have."""
        try:
            taken = await self._tell(old, new)
        except EdgeError as error:
            return error.message
        return None if taken else "not all could take it; the lines config_not_taken of workers say why"

    def _checked(self, text: str) -> Config:
        config = self._origin.parse(text)
        check_store(config, with_own=self._with_envoy)
        return config

    def _comparable(self, config: Config) -> Any:
        """What Envoy would be given, without what an Envoy of ours can be told while it runs."""
        if (envoy := self._envoy()) is not None:
            return envoy.rendered(config).bootstrap
        from ..envoy_config import bootstrap as render_envoy
        from ..envoy_config import (  # half a second and 50 MiB, once there is something to compare
            dynamic as render_dynamic,
        )

        return render_envoy.render(render_dynamic.at_sampling(config, 100) if self._with_envoy else config)


def _validate(config: Config) -> None:
    """Whoever restarts shall not find out then. Raises ConfigError."""
    from ..envoy_config import bootstrap as render_envoy
    from ..envoy_config import validate

    try:
        binary = validate.envoy_path()
    except ConfigError:
        return
    validate.validate(render_envoy.render(config), binary)

"""Reloads the configuration file while the gateway runs, and applies what admins add to it.

The supervisor checks the file's time once a second and reads the file after a change or on SIGHUP. It validates the
whole file, as `edge-extproc check` does, and writes a valid one to a copy. Every worker reads the copy, also a worker
that is restarted later. So an invalid file is never applied.
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
from ..config.extras import require_extras
from ..config.load import read_text
from ..config.schema import Config
from ..errors import ConfigError, EdgeError
from ..model.managed import NO_ADDITIONS, Additions
from ..telemetry.supervisor_metrics import Outcome, Reloads
from .config_source import AcceptedConfig, ConfigSource, Stamp, stamp, write_accepted
from .own_envoy import OwnEnvoy
from .own_valkey import check_store

# Seconds between two checks of the file. It is read only when two checks have the same result, so not while it is being
# written.
EVERY = 1.0

ApplyConfig: TypeAlias = Callable[[Config, Config], Awaitable[bool]]
"""Applies the second configuration in place of the first in all workers. Returns whether all have applied it."""


class ConfigReloader:
    """`config` is the applied configuration."""

    def __init__(
        self,
        origin: ConfigSource,
        config: Config,
        text: str,
        apply: ApplyConfig,
        *,
        with_envoy: bool,
        envoy: Callable[[], OwnEnvoy | None] = lambda: None,
        additions: Additions = NO_ADDITIONS,
    ) -> None:
        """`text` and `additions`: those of `config`, which are in `origin.accepted`. `with_envoy`: the gateway runs
        Envoy. `envoy` returns that Envoy if its resources can be changed."""
        self.config = config
        self.reloads = Reloads(time.time())
        self.origin = origin
        self.text = text
        """Of `config`."""
        self.additions = additions
        """Of `config`."""
        self._wanted = additions
        """Those of the last `add`, also if they could not be applied."""
        self._changing = asyncio.Lock()
        self._apply = apply
        self._with_envoy = with_envoy
        self._envoy = envoy
        self._stamp = stamp(origin.path)
        self._requested = asyncio.Event()
        self._last: Mapping[str, Any] = {}

    def request(self) -> None:
        """Reads the file now, even if it has not changed: a secret in another file may have."""
        self._requested.set()

    def shown(self) -> Mapping[str, Any]:
        """The state of the configuration for the admin port."""
        return {
            "version": self.config.fingerprint(),
            "file": str(self.origin.path) if self.origin.path is not None else None,
            "in_force_since": self.reloads.applied_at,
            "last_reload": self._last or None,
        }

    async def watch(self) -> None:
        """Checks the file until the task is cancelled."""
        before = self._stamp
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EVERY):
                    await self._requested.wait()
            if self.origin.path is None:
                self._requested.clear()
                continue
            now = await asyncio.to_thread(stamp, self.origin.path)
            if self._requested.is_set() or (now != self._stamp and now == before):
                self._requested.clear()
                await self.reload(now)
            before = now

    async def reload(self, now: Stamp | None = None) -> Outcome:
        """Reads and applies the file. `now` is its stamp just before."""
        self._stamp = now if now is not None else stamp(self.origin.path)
        async with self._changing:
            outcome, error = await self._try(None, self._wanted)
        self.reloads.add(outcome, time.time())
        self._last = {"outcome": outcome, "at": time.time(), "error": error}
        log = structlog.get_logger()
        if error is None:
            log.info("config_reloaded", version=self.config.fingerprint())
        else:
            log.error(f"config_{outcome}", error=error, in_force=self.config.fingerprint())
        return outcome

    async def add(self, additions: Additions, *, keep: bool = False) -> tuple[Outcome, str | None]:
        """Applies other additions to the text in force. Returns the error too. `keep`: they are in the
        database, so that the next reload of the file tries them again."""
        async with self._changing:
            if keep:
                self._wanted = additions
            if additions == self.additions:
                return "applied", None
            outcome, error = await self._try(self.text, additions)
            if outcome == "applied":
                self._wanted = additions
        log = structlog.get_logger()
        if error is None:
            log.info("additions_applied", version=self.config.fingerprint())
        else:
            log.error("additions_not_applied", outcome=outcome, error=error, in_force=self.config.fingerprint())
        return outcome, error

    async def _try(self, text: str | None, additions: Additions) -> tuple[Outcome, str | None]:
        """`text`: None for that of the file."""
        path, accepted = self.origin.path, self.origin.accepted
        if path is None or accepted is None:
            return "rejected", "there is no configuration file; start with --config FILE"
        try:
            text = await asyncio.to_thread(read_text, path) if text is None else text
            config = await asyncio.to_thread(self._checked, text, additions)
            paths = await asyncio.to_thread(changes.needing_restart, self.config, config, self._comparable)
            if paths:
                await asyncio.to_thread(_validate, config)
                return (
                    "restart_needed",
                    f"a restart is needed for {', '.join(paths)}; no change was applied",
                )
            # Envoy first: a worker that restarts now may read the new configuration at once.
            if (envoy := self._envoy()) is not None:
                await envoy.change(config)
        except EdgeError as error:
            return "rejected", error.message
        failure = await self._publish(accepted, config, AcceptedConfig(text, additions))
        if failure is not None:
            if envoy is not None:
                await envoy.undo()
            return "rejected", failure
        self.config, self.text, self.additions = config, text, additions
        return "applied", None

    async def _publish(self, accepted: Path, config: Config, new: AcceptedConfig) -> str | None:
        """Applies the configuration in all workers. On an error, all go back to the old one; returns the error."""
        try:
            await asyncio.to_thread(write_accepted, accepted, new)
        except OSError as error:
            return f"{accepted} cannot be written: {error.strerror}"
        wrong = await self._apply_to_workers(self.config, config)
        if wrong is not None:
            # All workers or none: those that have applied it go back.
            await asyncio.to_thread(write_accepted, accepted, AcceptedConfig(self.text, self.additions))
            await self._apply_to_workers(config, self.config)
        return wrong

    async def _apply_to_workers(self, old: Config, new: Config) -> str | None:
        """The error if not all workers have applied it; else None."""
        try:
            applied = await self._apply(old, new)
        except EdgeError as error:
            return error.message
        return None if applied else "not all workers could apply it; their log lines config_not_applied give the reason"

    def _checked(self, text: str, additions: Additions) -> Config:
        config = self.origin.parse(text, additions=additions)
        require_extras(config)
        check_store(config, with_own=self._with_envoy)
        return config

    def _comparable(self, config: Config) -> Any:
        """Envoy's configuration, without what the gateway's own Envoy can change while it runs."""
        if (envoy := self._envoy()) is not None:
            return envoy.rendered(config).bootstrap
        from ..envoy_config import bootstrap as render_envoy
        from ..envoy_config import dynamic as render_dynamic

        return render_envoy.render(render_dynamic.at_sampling(config, 100) if self._with_envoy else config)


def _validate(config: Config) -> None:
    """Validates with Envoy now, not at the restart. Raises ConfigError."""
    from ..envoy_config import bootstrap as render_envoy
    from ..envoy_config import validate

    try:
        binary = validate.envoy_path()
    except ConfigError:
        return
    validate.validate(render_envoy.render(config), binary)

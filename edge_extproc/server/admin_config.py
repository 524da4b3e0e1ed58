"""The routes of the admin API about the configuration: what differs from the file, and what a change would do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter
from pydantic import Field

from ..model.config_trial import ConfigTrialResult
from ..store.managed import ManagedStore
from .admin_access import AdminIdentity, Caller, in_thread
from .admin_errors import AdminRefused
from .admin_models import Body, ErrorBody

# Below the size of a body of the port, as JSON.
_MOST_TEXT = 200_000
_MOST_HOURS = 24 * 31


class ConfigDifference(Body):
    """A value of the file that is not in force. Secrets are not shown."""

    key: str
    in_force: str | None
    """None: it is only in the file."""
    in_file: str | None


class ShownDifferences(Body):
    differences: list[ConfigDifference]
    errors: list[str]
    """Why the file cannot be read."""


class PastedConfig(Body):
    text: Annotated[str, Field(min_length=1, max_length=_MOST_TEXT)]
    """A whole configuration file."""


class ReplayedConfig(PastedConfig):
    hours: Annotated[int, Field(ge=1, le=_MOST_HOURS)] = 24
    """How far back the ledger is replayed."""


class ShownReplayGroup(Body):
    """Requests that change in one way. Money is US dollars as text."""

    change: Literal["refused", "elsewhere", "unpriced"]
    tenant: str
    key: str | None
    model: str | None
    detail: str
    requests: int
    cost_before: str
    cost_after: str


class ShownReplay(Body):
    requests: int
    replayed: int
    unclear: int
    refused: int
    elsewhere: int
    unpriced: int
    cost_before: str
    cost_after: str
    saved_by_refusals: str
    cut: bool
    groups: list[ShownReplayGroup]
    hidden_groups: int
    unknown: list[str]


class ShownTrial(Body):
    errors: list[str]
    """The mistakes in the text, as `edge-extproc check` prints them. Empty: it is valid."""
    warnings: list[str]
    rendering: str | None
    differences: list[str]
    """The keys that differ from the configuration in force. Empty without a configuration file."""
    needs_restart: list[str]
    """The keys whose change needs a restart."""
    replay: ShownReplay | None = None


class ConfigControl(Protocol):
    """What the routes need of the running gateway."""

    @property
    def is_busy(self) -> bool: ...

    async def differences(self) -> tuple[list[ConfigDifference], list[str]]:
        """The values of the file that are not in force, and the errors of the file."""
        ...

    async def run(self, text: str, since_ms: int | None) -> ConfigTrialResult | None:
        """None: it took too long. Without `since_ms` the text is only checked."""
        ...


def add_config_routes(
    router: APIRouter, control: ConfigControl, store: ManagedStore, now_ms: Callable[[], int]
) -> None:
    more: dict[int | str, dict[str, Any]] = {429: {"model": ErrorBody}}

    @router.get("/config/differences")
    async def differences(admin: Caller) -> ShownDifferences:
        """What the file says and is not in force: it is not valid, or a restart is needed."""
        del admin
        found, errors = await control.differences()
        return ShownDifferences(differences=found, errors=errors)

    @router.post("/config/check", responses=more)
    async def check(body: PastedConfig, admin: Caller) -> ShownTrial:
        """Checks a configuration as `edge-extproc check` does. Nothing is applied."""
        return await tried(admin, "config.check", body.text, None)

    @router.post("/config/replay", responses=more)
    async def replay(body: ReplayedConfig, admin: Caller) -> ShownTrial:
        """Checks a configuration, and replays the last hours of the ledger against it: who would be refused or routed
        elsewhere, and what it would cost. Nothing is applied, and no provider is asked."""
        return await tried(admin, "config.replay", body.text, now_ms() - body.hours * 3_600_000)

    async def tried(admin: AdminIdentity, action: str, text: str, since_ms: int | None) -> ShownTrial:
        if control.is_busy:
            raise AdminRefused(429, "busy", "another configuration is being tried; wait until that has ended")
        await in_thread(store.note, admin.actor, action, None, "configuration", {"bytes": len(text.encode())})
        result = await control.run(text, since_ms)
        if result is None:
            raise AdminRefused(503, "too_slow", "the trial took too long; try fewer hours")
        return ShownTrial(
            errors=result.errors,
            warnings=result.warnings,
            rendering=result.rendering,
            differences=result.differences,
            needs_restart=result.needs_restart,
            replay=None if result.report is None else ShownReplay.model_validate(result.report),
        )

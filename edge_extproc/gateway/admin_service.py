"""The admin API of a running gateway, in the supervisor's process.

After a change it writes the managed state to a file and makes the workers read it. It polls the revision in the
database every second or so, to see the changes of other replicas.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import structlog
from pydantic import ValidationError

from ..auth.api_key import digest
from ..auth.base import AccessControl, Authenticator
from ..auth.merge import build_keys, merge_policies
from ..config.guardrails import GuardrailRuleConfig
from ..config.limits import AllowanceConfig
from ..config.pydantic_errors import in_one_line
from ..config.schema import Config
from ..config.secrets import generate_key
from ..errors import CallerError
from ..model.limit_use import LimitKey, LimitUse
from ..model.managed import EMPTY, Additions, ManagedBudget, ManagedState
from ..store import snapshot
from ..telemetry.background import BACKGROUND
from ..telemetry.traffic import Overview
from .config_additions import ConfigAdditions
from .config_trials import ConfigTrials
from .playground import Playground
from .provider_control import provider_control

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.types import ASGIApp

    from ..pages.oidc import OidcFlow
    from ..pages.sessions import OneTimeLink
    from ..server.admin_access import AdminIdentity
    from ..server.admin_api import Purge
    from ..store.managed import ManagedStore
    from .reload import ConfigReloader
    from .worker_client import WorkerClient


T = TypeVar("T")

_LINK_ID = "one-time link"
"""The name in the audit log of the admin who has signed in by the link. No token can have it: ids have no spaces."""


class ManagedStatePublisher:
    """Publishes the managed state to the workers. `reload` makes them read it, and returns whether all have applied
    it. `add` applies what was added to the configuration."""

    def __init__(
        self,
        config: Config,
        store: ManagedStore,
        reload: Callable[[], Awaitable[bool]],
        add: Callable[[Additions], Awaitable[object]],
        every: float,
    ) -> None:
        self._path = config.managed_file
        self._add = add
        self._store = store
        self._reload = reload
        self._every = every
        self._lock = asyncio.Lock()
        self._published = -1
        self.managed = EMPTY
        """The state that was published last."""
        self._prepare: Callable[[], None] | None = None

    async def begin(self, prepare: Callable[[], None] | None) -> None:
        """Before the workers start. `prepare`: the database is down, and this is to be called when it is back; until
        then the last published state is used. Raises StartError if its file cannot be read."""
        self._prepare = prepare
        if prepare is not None:
            self.managed = await asyncio.to_thread(snapshot.read, self._path)
            return
        self.managed = await asyncio.to_thread(self._store.snapshot)
        await asyncio.to_thread(snapshot.write, self._path, self.managed)

    async def publish(self) -> None:
        """Raises SQLAlchemyError if the database is down; then the published state stays."""
        async with self._lock:
            managed = await asyncio.to_thread(self._store.snapshot)
            await asyncio.to_thread(snapshot.write, self._path, managed)
            self.managed = managed
            await self._add(managed.additions)
            # A worker that has not applied it gets another reload at the next poll.
            self._published = managed.revision if await self._reload() else -1

    async def watch(self) -> None:
        """Polls the revision until the task is cancelled."""
        from sqlalchemy.exc import SQLAlchemyError

        is_down = self._prepare is not None  # logged at the start
        while True:
            await asyncio.sleep(self._every)
            try:
                if self._prepare is not None:
                    await asyncio.to_thread(self._prepare)
                    self._prepare = None
                if await asyncio.to_thread(self._store.revision) != self._published:
                    await self.publish()
            except (SQLAlchemyError, OSError) as error:
                if not is_down:
                    structlog.get_logger().warning("managed_store_down", exc_info=error)
                is_down = True
            else:
                if is_down:
                    structlog.get_logger().info("managed_store_back")
                is_down = False


class AdminService:
    """The admin API, and what the admin pages need of it. `build` makes the API at its first use: its imports take
    longer than the rest of a start, and the workers do not wait for them."""

    def __init__(self, build: Callable[[], FastAPI], link: OneTimeLink | None, current: Callable[[], Config]) -> None:
        """`link`: signs one user in as an admin."""
        self._build = build
        self._link = link
        self._current = current

    @cached_property
    def api(self) -> FastAPI:
        return self._build()

    def pages(self, config: Config, shown: Callable[[], Mapping[str, object]]) -> ASGIApp | None:
        """The application of the admin pages; None if there are none. `shown`: the state of the configuration."""
        if not config.admin.has_pages:
            return None
        from ..pages import app as pages

        return pages.build(
            pages.PagesSetup(
                self.api,
                config.admin.port,
                secure=not config.admin.is_local,
                link=self._link,
                configuration=shown,
                now=time.time,
                oidc=self._oidc(config),
                federated=self.api.state.federated,
            )
        )

    def _oidc(self, config: Config) -> OidcFlow | None:
        if config.admin.oidc is None:
            return None
        from ..auth.jwks import fetch
        from ..pages.oidc import OidcFlow, post

        def tenants() -> Mapping[str, object]:
            return {caller.tenant: caller for caller in self._current().callers}

        return OidcFlow(config.admin.oidc, tenants, time.time, fetch, post)


def sign_in_link(config: Config) -> OneTimeLink | None:
    """What `up` prints, so that nobody must look for a token on a laptop. None: there are no pages, or others than this
    machine reach them."""
    if not (config.admin.has_pages and config.admin.is_local):
        return None
    from ..pages.sessions import OneTimeLink

    return OneTimeLink(time.time)


@contextlib.asynccontextmanager
async def administered(
    reloader: ConfigReloader,
    reload: Callable[[], Awaitable[bool]],
    purge: Callable[[bytes], Awaitable[int]],
    limit_uses: Callable[[], Awaitable[Mapping[LimitKey, LimitUse]]],
    overview: Callable[[str | None], Overview],
    workers: Callable[[], Sequence[WorkerClient]],
    *,
    with_envoy: bool,
    link: OneTimeLink | None = None,
    wait: bool = False,
) -> AsyncIterator[AdminService | None]:
    """The admin API; None if the configuration has none. `reloader` has the current configuration; a reload never
    changes its admins, store and state directory. `link`: its credential is one of an admin. `wait`: the database is
    down, and the last published state is used. Raises ConfigError or StartError."""
    config = reloader.config
    url = config.database_url()
    if not config.has_admin_api or config.store is None or url is None:
        yield None
        return
    from ..store.database import migrate, open_database, reach
    from ..store.ledger import Ledger
    from ..store.managed import ManagedStore
    from ..store.quarantine import Quarantine

    engine = await asyncio.to_thread(reach if wait else open_database, url)
    store = ManagedStore(engine, _now_ms)
    publisher = ManagedStatePublisher(
        config, store, reload, partial(reloader.add, keep=True), config.store.every.total_seconds()
    )
    # Before any worker starts: each reads it then.
    await publisher.begin((lambda: migrate(engine)) if wait else None)

    def current() -> Config:
        return reloader.config

    def build() -> FastAPI:
        from ..server import admin_api
        from ..server.admin_access import FederatedAdmins

        pepper = config.auth.pepper.reveal().encode()
        return admin_api.build(
            admin_api.AdminApi(
                tokens=[
                    admin_api.AdminCredential(
                        token.id,
                        token.role,
                        token.tenant,
                        token.digest or digest(pepper, token.token.reveal() if token.token is not None else ""),
                    )
                    for token in config.admin.tokens
                ]
                + (
                    [admin_api.AdminCredential(_LINK_ID, "admin", None, digest(pepper, link.credential))]
                    if link is not None
                    else []
                ),
                digest=lambda key: digest(pepper, key),
                configured=_memoized(current, _configured),
                store=store,
                ledger=Ledger(engine),
                quarantine=Quarantine(config.quarantine_file),
                new_key=generate_key,
                new_id=lambda: f"key-{secrets.token_hex(6)}",
                read_allowance=read_allowance,
                publish=publisher.publish,
                purge=_purge_by(purge) if config.cache is not None else None,
                limit_uses=limit_uses,
                overview=overview,
                providers=provider_control(current, workers),
                playground=Playground(current, workers, with_envoy=with_envoy),
                configuration=ConfigTrials(reloader, with_envoy=with_envoy),
                additions=ConfigAdditions(reloader),
                federated=FederatedAdmins(time.time) if config.admin.oidc is not None else None,
                callers=AdminCallers(current, publisher),
                now_ms=_now_ms,
            )
        )

    watching = BACKGROUND.start("managed_keys", publisher.watch)
    try:
        yield AdminService(build, link, current)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        store.close()


class AdminCallers:
    """Authenticates callers of the gateway whose role gives rights on the admin API."""

    def __init__(self, current: Callable[[], Config], publisher: ManagedStatePublisher) -> None:
        self._current = current
        self._publisher = publisher
        self._known: tuple[Config, ManagedState, Authenticator, AccessControl | None] | None = None

    def __call__(self, headers: Sequence[tuple[str, str]]) -> AdminIdentity | None:
        from ..server.admin_access import AdminIdentity
        from ..server.admin_errors import highest

        config, managed = self._current(), self._publisher.managed
        if not any(role.admin for role in config.roles.values()):
            return None
        if self._known is None or self._known[0] is not config or self._known[1] is not managed:
            self._known = (config, managed, build_keys(config, managed), merge_policies(config, managed))
        _, _, authenticator, access = self._known
        try:
            principal = authenticator.authenticate(headers)
        except CallerError:
            return None
        rights = access.of(principal) if access is not None else None
        role = highest(rights.admin) if rights is not None else None
        if role is None:
            return None
        return AdminIdentity(principal.key_id, role, None if role == "admin" else principal.tenant)


def _purge_by(purge: Callable[[bytes], Awaitable[int]]) -> Callable[[Purge], Awaitable[int]]:
    async def purged(selection: Purge) -> int:
        """Encodes it for cache/purge.py."""
        fields = {
            "tenant": selection.tenant,
            "model": selection.model,
            "key": selection.key,
            "shared": selection.shared or None,
        }
        set_fields = {name: value for name, value in fields.items() if value is not None}
        return await purge(json.dumps(set_fields or {"all": True}).encode())

    return purged


def read_allowance(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The limits that are set, with the keys and values of the configuration. Raises ValueError with the mistake."""
    try:
        allowance = AllowanceConfig.model_validate(dict(fields))
    except ValidationError as error:
        raise ValueError(in_one_line(error.errors())) from None
    if allowance.is_empty:
        raise ValueError("the allowance has no limit; give requests_per_minute, dollars_per_day or another limit")
    limits: dict[str, Any] = allowance.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return limits


def _memoized(current: Callable[[], Config], make: Callable[[Config], T]) -> Callable[[], T]:
    """Calls `make` once for each configuration."""
    known: list[tuple[Config, T]] = []

    def latest() -> T:
        config = current()
        if not known or known[0][0] is not config:
            known[:] = [(config, make(config))]
        return known[0][1]

    return latest


def _configured(config: Config) -> Any:
    from ..server.admin_api import ConfiguredState

    return ConfiguredState(
        tenants={caller.tenant: caller.models for caller in config.callers},
        keys={key.id: caller.tenant for caller in config.callers for key in caller.keys},
        roles={name: frozenset(role.admin) for name, role in config.roles.items()},
        budgets=tuple(
            ManagedBudget(tenant, level, name, allowance.model_dump(mode="json", exclude_unset=True, exclude_none=True))
            for tenant, level, name, allowance in config.allowances()
            if not allowance.is_empty
        ),
        guardrails=tuple(_guardrail(holder, rule) for holder, rule in config.guardrail_rules()),
    )


def _guardrail(holder: tuple[str, str, str] | None, rule: GuardrailRuleConfig) -> Any:
    from ..server.admin_models import ShownGuardrailRule

    tenant, level, name = holder if holder is not None else (None, None, None)
    chosen = rule.detect or rule.service
    return ShownGuardrailRule(
        rule=rule.name,
        detector=chosen.name if chosen is not None else "",
        directions=list(rule.on),
        action=rule.action,
        mode=rule.mode,
        tenant=tenant,
        level=level,
        name=name,
    )


def _now_ms() -> int:
    return int(time.time() * 1000)

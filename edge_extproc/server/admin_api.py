"""The admin API: keys, budgets, usage and the audit log over HTTP, under /admin/v1 of the admin port.

Access is denied by default: `NEEDS` has the required role of every route, and the application does not start if a route
is missing there. A request needs an admin's token, or a credential of a caller whose role gives rights here. A viewer
reads. A tenant admin also manages keys and budgets of its own tenant. An admin does everything. A user who is bound to
a tenant sees and changes nothing of other tenants.

Nobody can widen a policy: keys and budgets of the API only narrow what the configuration gives a tenant, and no key
gets a role with more rights here than its creator has. Admins' tokens are only in the configuration, so no route can
create one.

Errors are {"error": {"code", "message"}}. The API runs in the supervisor's event loop; database calls run in a thread.
"""

from __future__ import annotations

import heapq
import hmac
import itertools
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, FastAPI, Path, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from fastapi.routing import APIRoute
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException

from ..model.limit_use import LimitKey, LimitUse
from ..model.managed import ManagedBudget
from ..store.ledger import Ledger
from ..store.managed import AuditLine, KeyExists, ManagedStore, StoredKey
from ..store.quarantine import Quarantine
from ..telemetry.traffic import Overview
from .admin_access import AdminIdentity, Caller, FederatedAdmins, in_thread
from .admin_additions import AdditionControl, add_addition_routes
from .admin_config import ConfigControl, add_config_routes
from .admin_conversations import add_conversation_routes
from .admin_errors import RANK, AdminRefused, Role, _role, answer_to, http_error, invalid, refused, store_down
from .admin_models import (
    LABEL,
    MOST,
    ErrorBody,
    MadeKey,
    NewKey,
    PurgeBody,
    Rotation,
    ShownAuditLine,
    ShownBudget,
    ShownGuardrailRule,
    ShownKey,
    ShownLimit,
)
from .admin_playground import KEY_PREFIX, PlaygroundControl, PlaygroundSetup, add_playground_routes
from .admin_providers import ProviderControl, add_provider_routes
from .admin_usage import add_usage_routes
from .budget_use import shown_limits

PREFIX = "/admin/v1"
DESCRIPTION = f"{PREFIX}/openapi.json"
NEEDS: dict[tuple[str, str], Role] = {
    ("GET", "/whoami"): "viewer",
    ("GET", "/tenants"): "viewer",
    ("GET", "/keys"): "viewer",
    ("POST", "/keys"): "tenant_admin",
    ("GET", "/keys/{key_id}"): "viewer",
    ("POST", "/keys/{key_id}/rotate"): "tenant_admin",
    ("DELETE", "/keys/{key_id}"): "tenant_admin",
    ("GET", "/budgets"): "viewer",
    ("PUT", "/budgets/{tenant}/{level}/{name}"): "tenant_admin",
    ("DELETE", "/budgets/{tenant}/{level}/{name}"): "tenant_admin",
    ("GET", "/usage"): "viewer",
    ("GET", "/usage/report"): "viewer",
    ("GET", "/usage/export"): "viewer",
    ("GET", "/usage/quarantine"): "viewer",
    ("GET", "/guardrails"): "viewer",
    ("GET", "/guardrails/history"): "viewer",
    ("GET", "/guardrails/rules"): "viewer",
    ("GET", "/requests"): "viewer",
    ("GET", "/requests/{exchange}"): "viewer",
    ("GET", "/conversations"): "viewer",
    ("GET", "/conversations/turns"): "viewer",
    ("GET", "/overview"): "viewer",
    ("GET", "/audit"): "viewer",
    ("POST", "/cache/purge"): "tenant_admin",
    ("GET", "/config/differences"): "admin",
    ("POST", "/config/check"): "admin",
    ("POST", "/config/replay"): "admin",
    ("GET", "/playground"): "viewer",
    ("POST", "/playground"): "tenant_admin",
    ("GET", "/providers"): "viewer",
    ("POST", "/providers/{provider}/probe"): "admin",
    ("PUT", "/providers/{provider}/taken-out"): "admin",
    ("DELETE", "/providers/{provider}/taken-out"): "admin",
    ("GET", "/additions"): "viewer",
    ("PUT", "/additions/providers/{provider}"): "admin",
    ("DELETE", "/additions/providers/{provider}"): "admin",
    ("PUT", "/additions/models/{model:path}"): "admin",
    ("DELETE", "/additions/models/{model:path}"): "admin",
}
"""The minimum role of each route."""


# --- dependencies, given by the composition root


@dataclass(frozen=True, slots=True)
class AdminCredential:
    """An admin's credential, from the configuration."""

    id: str
    role: Role
    tenant: str | None
    """The tenant that the admin is bound to; None: all tenants."""
    digest: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class ConfiguredState:
    """The parts of the configuration that the API needs."""

    tenants: Mapping[str, tuple[str, ...]]
    """The models of each tenant."""
    keys: Mapping[str, str]
    """The tenant of each key in the configuration, by the key's id."""
    roles: Mapping[str, frozenset[str]]
    """The rights on this API of each role."""
    budgets: tuple[ManagedBudget, ...]
    guardrails: tuple[ShownGuardrailRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Purge:
    tenant: str | None
    model: str | None
    key: str | None = None
    """The cache key of one reply, in hexadecimal."""
    shared: bool = False
    """Whether to include the replies that all tenants share, or only those without `tenant`."""


@dataclass(frozen=True, slots=True)
class AdminApi:
    tokens: Sequence[AdminCredential]
    callers: Callable[[Sequence[tuple[str, str]]], AdminIdentity | None]
    """Authenticates a caller whose role gives rights on this API."""
    digest: Callable[[str], str]
    """The digest of a credential, for the lookup: 64 hexadecimal digits."""
    configured: Callable[[], ConfiguredState]
    """The current configuration. It changes with the configuration file."""
    store: ManagedStore
    ledger: Ledger
    quarantine: Quarantine
    new_key: Callable[[], str]
    new_id: Callable[[], str]
    read_allowance: Callable[[Mapping[str, Any]], dict[str, Any]]
    """Validates an allowance and returns it in the configuration's notation, without unset keys. Raises ValueError."""
    publish: Callable[[], Awaitable[None]]
    """Publishes a change to the workers. Returns when all serving workers have it."""
    purge: Callable[[Purge], Awaitable[int]] | None
    """None without a cache."""
    now_ms: Callable[[], int]
    limit_uses: Callable[[], Awaitable[Mapping[LimitKey, LimitUse]]]
    """How much of each limit is used now, over all workers."""
    overview: Callable[[str | None], Overview]
    """The traffic of a tenant, or of all with the state of the gateway."""
    providers: ProviderControl
    playground: PlaygroundControl
    configuration: ConfigControl
    additions: AdditionControl
    federated: FederatedAdmins | None = None
    """Who has signed in with an identity provider. None: nobody can."""


class AdminGate:
    """Authorizes requests by bearer token, in constant time, and by the table of roles."""

    def __init__(self, administration: AdminApi) -> None:
        self._by_digest = {token.digest: token for token in administration.tokens}
        self._digest = administration.digest
        self._callers = administration.callers
        self._federated = administration.federated

    def admits(self, path: str, headers: Sequence[tuple[str, str]]) -> bool:
        """Whether the request has a credential for the API. `__call__` checks the role. Paths outside of the API are
        open."""
        if not path.startswith(f"{PREFIX}/") or path == DESCRIPTION:
            return True
        return self._authenticate([value for name, value in headers if name == "authorization"], headers) is not None

    def _authenticate(self, presented: Sequence[str], headers: Sequence[tuple[str, str]]) -> AdminIdentity | None:
        return self._token(presented) or self._signed_in(presented) or self._callers(headers)

    def __call__(self, request: Request) -> AdminIdentity:
        admin = self._authenticate(request.headers.getlist("authorization"), request.headers.items())
        if admin is None:
            raise AdminRefused(401, "unauthenticated", "send the header authorization: Bearer <admin token>, once")
        route = request.scope["route"]
        needed = NEEDS[request.method, route.path.removeprefix(PREFIX)]
        if RANK[admin.role] < RANK[needed]:
            raise AdminRefused(403, "role_needed", f"{request.method} {route.path} needs the role {needed}")
        return admin

    def _signed_in(self, values: Sequence[str]) -> AdminIdentity | None:
        scheme, _, credential = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        if self._federated is None or scheme.lower() != "bearer":
            return None
        return self._federated.find(credential.strip())

    def _token(self, values: Sequence[str]) -> AdminIdentity | None:
        scheme, _, credential = values[0].partition(" ") if len(values) == 1 else ("", "", "")
        presented = self._digest(credential.strip())
        token = self._by_digest.get(presented)
        same = hmac.compare_digest(presented, token.digest if token is not None else "0" * 64)
        if scheme.lower() != "bearer" or not credential or token is None or not same:
            return None
        return AdminIdentity(token.id, token.role, token.tenant)


# --- the routes


def build(administration: AdminApi) -> FastAPI:
    """The application, for the root of the admin port."""
    app = FastAPI(
        title="edge-extproc admin API",
        version="1",
        docs_url=None,
        redoc_url=None,
        openapi_url=DESCRIPTION,
        separate_input_output_schemas=False,
    )
    app.state.gate = AdminGate(administration)
    app.state.federated = administration.federated
    app.include_router(_routes(administration), prefix=PREFIX)
    answer_to(app, AdminRefused, refused)
    answer_to(app, RequestValidationError, invalid)
    answer_to(app, HTTPException, http_error)
    answer_to(app, SQLAlchemyError, store_down)
    return app


def _routes(administration: AdminApi) -> APIRouter:
    store, configured = administration.store, administration.configured
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody} for status in (400, 401, 403, 404, 405, 409, 503)
    }
    router = APIRouter(responses=errors)

    @router.get("/whoami")
    async def whoami(admin: Caller) -> dict[str, str | None]:
        return {"id": admin.id, "role": admin.role, "tenant": admin.tenant}

    @router.get("/tenants")
    async def tenants(admin: Caller) -> list[dict[str, Any]]:
        """All tenants. Tenants are created in the configuration only."""
        tenant_scope = admin.scope(None)
        return [
            {"tenant": name, "models": list(models)}
            for name, models in sorted(configured().tenants.items())
            if tenant_scope in (None, name)
        ]

    # --- keys

    @router.get("/keys")
    async def list_keys(
        admin: Caller,
        tenant: Annotated[str | None, Query(pattern=LABEL)] = None,
        after: Annotated[str, Query(max_length=64)] = "",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    ) -> list[ShownKey]:
        """Keys, ordered by id. `after` is the last id of the previous page. Keys themselves are never shown; only
        digests are stored."""
        tenant_scope = admin.scope(tenant)
        by_config = [(name, of) for name, of in configured().keys.items() if tenant_scope in (None, of)]

        def listed() -> list[ShownKey]:
            keys: list[tuple[str, StoredKey | str]] = [(key.id, key) for key in store.keys(tenant_scope)]
            keys += by_config
            revoked = store.revocations()
            return [
                _view(key) if isinstance(key, StoredKey) else _configured_key(name, key, revoked.get(name))
                for name, key in heapq.nsmallest(limit, (each for each in keys if each[0] > after), key=_first)
            ]

        return await in_thread(listed)

    @router.post("/keys", status_code=201)
    async def create_key(body: NewKey, admin: Caller) -> MadeKey:
        admin.must_manage(body.tenant)
        if body.tenant not in configured().tenants:
            raise AdminRefused(
                404, "unknown_tenant", f"there is no tenant {body.tenant!r}; tenants are made in the config"
            )
        unknown = sorted(set(body.roles) - configured().roles.keys())
        if unknown:
            have = ", ".join(sorted(configured().roles)) or "none"
            raise AdminRefused(400, "unknown_role", f"there is no role {unknown[0]!r}; have {have}")
        for name in body.roles:
            # Otherwise a user could create a key with more rights and continue with it.
            beyond = [right for right in configured().roles[name] if RANK[_role(right)] > RANK[admin.role]]
            if beyond:
                raise AdminRefused(
                    403, "beyond_own_rights", f"role {name!r} gives the right {beyond[0]}, which you lack"
                )
        expires = None if body.expires is None else int(body.expires.timestamp() * 1000)
        if expires is not None and expires <= administration.now_ms():
            raise AdminRefused(400, "expired", "expires is in the past")
        key_id = body.id or administration.new_id()
        if key_id.startswith(KEY_PREFIX):
            raise AdminRefused(400, "reserved", f"ids that begin with {KEY_PREFIX} are those of the playground")
        if key_id in configured().keys:
            raise AdminRefused(409, "taken", f"there is a key {key_id!r} already")
        secret = administration.new_key()
        key = StoredKey(
            key_id,
            body.tenant,
            body.team,
            body.user,
            body.note,
            tuple(body.models),
            tuple(body.roles),
            created_ms=0,
            expires_ms=expires,
            revoked_ms=None,
        )
        try:
            created = await in_thread(store.add_key, admin.actor, key, administration.digest(secret))
        except KeyExists:
            raise AdminRefused(409, "taken", f"there is a key {key_id!r} already") from None
        await administration.publish()
        return MadeKey(key=secret, **_view(created).model_dump())

    @router.get("/keys/{key_id}")
    async def show_key(key_id: Annotated[str, Path(pattern=LABEL)], admin: Caller) -> ShownKey:
        key = await _find(key_id, admin)
        if isinstance(key, StoredKey):
            return _view(key)
        revoked = await in_thread(store.revocations)
        return _configured_key(key_id, key, revoked.get(key_id))

    @router.post("/keys/{key_id}/rotate")
    async def rotate_key(
        key_id: Annotated[str, Path(pattern=LABEL)], admin: Caller, body: Rotation | None = None
    ) -> MadeKey:
        stored_key = await _find(key_id, admin)
        if not isinstance(stored_key, StoredKey):
            raise AdminRefused(409, "configured", f"key {key_id!r} is set in the configuration; change it there")
        if stored_key.revoked_ms is not None:
            raise AdminRefused(409, "revoked", f"key {key_id!r} is revoked; create another one")
        secret, overlap = administration.new_key(), body.overlap_seconds if body is not None else 0
        until = administration.now_ms() + overlap * 1000
        rotated = await in_thread(store.rotate_key, admin.actor, stored_key, administration.digest(secret), until)
        await administration.publish()
        return MadeKey(key=secret, **_view(rotated).model_dump())

    @router.delete("/keys/{key_id}")
    async def revoke_key(key_id: Annotated[str, Path(pattern=LABEL)], admin: Caller) -> ShownKey:
        """Revokes a key permanently. When this returns, no serving worker accepts the key."""
        key = await _find(key_id, admin)
        if isinstance(key, StoredKey):
            view = _view(await in_thread(store.revoke_key, admin.actor, key))
        else:
            await in_thread(store.revoke_configured, admin.actor, key_id, key)
            revoked = await in_thread(store.revocations)
            view = _configured_key(key_id, key, revoked.get(key_id))
        await administration.publish()
        return view

    async def _find(key_id: str, admin: AdminIdentity) -> StoredKey | str:
        """A key of the API, or the tenant of a key in the configuration. A key of another tenant does not exist for a
        user who is bound to a tenant."""
        key = await in_thread(store.key, key_id)
        tenant = key.tenant if key is not None else configured().keys.get(key_id)
        if tenant is None or admin.tenant not in (None, tenant):
            raise AdminRefused(404, "unknown_key", f"there is no key {key_id!r}")
        return key if key is not None else tenant

    # --- budgets

    @router.get("/budgets")
    async def list_budgets(
        admin: Caller,
        tenant: Annotated[str | None, Query(pattern=LABEL)] = None,
        level: Literal["tenant", "team", "user", "key"] | None = None,
        name: Annotated[str | None, Query(max_length=256)] = None,
        limit: Annotated[int | None, Query(ge=1, le=MOST)] = None,
    ) -> list[ShownBudget]:
        """Budgets of the API and of the configuration, with what is used, reserved and left of each limit, and until
        when. If both limit the same thing, the lower limit applies. Without `limit` these are all."""
        tenant_scope = admin.scope(tenant)
        by_config = [b for b in configured().budgets if tenant_scope in (None, b.tenant)]
        uses, now = await administration.limit_uses(), administration.now_ms() / 1000

        def listed() -> list[ShownBudget]:
            sources: list[tuple[Literal["api", "config"], ManagedBudget]] = [
                *(("api", budget) for budget in store.budgets(tenant_scope)),
                *(("config", budget) for budget in by_config),
            ]
            names = {(b.tenant, b.level, b.name) for _, b in sources}
            wanted = ((s, b) for s, b in sources if level in (None, b.level) and name in (None, b.name))
            return [_budget(b, s, shown_limits(b, uses, names, now)) for s, b in itertools.islice(wanted, limit)]

        return await in_thread(listed)

    @router.put("/budgets/{tenant}/{level}/{name}")
    async def set_budget(
        tenant: Annotated[str, Path(pattern=LABEL)],
        level: Literal["tenant", "team", "user", "key"],
        name: Annotated[str, Path(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._@-]{0,63})$")],
        body: dict[str, Any],
        admin: Caller,
    ) -> ShownBudget:
        """Replaces the API's budget. The body is an allowance as in the configuration. The name `*` stands for each
        team, user or key that has none of its own."""
        _must_budget(admin, tenant, level, name)
        try:
            allowance = administration.read_allowance(body)
        except ValueError as error:
            raise AdminRefused(400, "invalid_allowance", str(error)) from None
        budget = ManagedBudget(tenant, level, name, allowance)
        await in_thread(store.set_budget, admin.actor, budget)
        await administration.publish()
        return _budget(budget, "api")

    @router.delete("/budgets/{tenant}/{level}/{name}", status_code=204)
    async def delete_budget(
        tenant: Annotated[str, Path(pattern=LABEL)],
        level: Literal["tenant", "team", "user", "key"],
        name: Annotated[str, Path(pattern=r"^(\*|[A-Za-z0-9][A-Za-z0-9._@-]{0,63})$")],
        admin: Caller,
    ) -> Response:
        _must_budget(admin, tenant, level, name)
        if not await in_thread(store.delete_budget, admin.actor, tenant, level, name):
            raise AdminRefused(404, "unknown_budget", "the API has set no such budget")
        await administration.publish()
        return Response(status_code=204)

    def _must_budget(admin: AdminIdentity, tenant: str, level: str, name: str) -> None:
        admin.must_manage(tenant)
        if tenant not in configured().tenants:
            raise AdminRefused(404, "unknown_tenant", f"there is no tenant {tenant!r}")
        if level == "tenant" and admin.tenant is not None:
            raise AdminRefused(403, "own_budget", "the budget of a whole tenant is set by an admin of all tenants")
        if level == "tenant" and name != tenant:
            raise AdminRefused(400, "wrong_name", "the budget of a whole tenant has the tenant's name")

    add_usage_routes(router, administration.ledger, administration.quarantine)
    add_conversation_routes(router, administration.ledger)
    add_provider_routes(
        router,
        administration.providers,
        store,
        administration.ledger,
        administration.publish,
        administration.now_ms,
    )
    add_config_routes(router, administration.configuration, store, administration.now_ms)
    add_addition_routes(router, administration.additions, store, administration.publish)
    add_playground_routes(
        router,
        PlaygroundSetup(
            administration.playground,
            store,
            administration.ledger,
            lambda: configured().tenants,
            administration.new_key,
            administration.digest,
            administration.publish,
            administration.now_ms,
        ),
    )

    @router.get("/guardrails/rules")
    async def guardrail_rules(
        admin: Caller, tenant: Annotated[str | None, Query(pattern=LABEL)] = None
    ) -> list[ShownGuardrailRule]:
        """The rules of the configuration for all tenants, and those of a tenant."""
        scope = admin.scope(tenant)
        return [rule for rule in configured().guardrails if scope is None or rule.tenant in (None, scope)]

    @router.get("/overview")
    async def overview(admin: Caller) -> Overview:
        """The traffic of the last minutes and the state of the gateway. A user who is bound to a tenant sees the
        traffic of this tenant, and no state."""
        return administration.overview(admin.tenant)

    # --- the audit log

    @router.get("/audit")
    async def audit(
        admin: Caller,
        tenant: Annotated[str | None, Query(pattern=LABEL)] = None,
        before: Annotated[int | None, Query(ge=1, le=2**31)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    ) -> list[ShownAuditLine]:
        """All changes, newest first. `before` is the last number of the previous page."""
        lines = await in_thread(store.audit, admin.scope(tenant), before, limit)
        return [_audit_line(line) for line in lines]

    @router.post("/cache/purge")
    async def purge(body: PurgeBody, admin: Caller) -> dict[str, int]:
        """Purges the replies that match all given fields. Without any field, it purges all replies that the user may
        purge."""
        selection = Purge(admin.scope(body.tenant), body.model, body.key, body.shared)
        if body.shared and admin.tenant is not None:
            raise AdminRefused(403, "shared_by_all", f"{admin.id} may purge what is tenant {admin.tenant}'s alone")
        if administration.purge is None:
            raise AdminRefused(404, "no_cache", "the configuration has no cache")
        detail = {"model": body.model, **({"shared": True} if body.shared else {})}
        await in_thread(store.note, admin.actor, "cache.purge", selection.tenant, "cache", detail)
        return {"purged": await administration.purge(selection)}

    routes = [route for route in router.routes if isinstance(route, APIRoute)]
    declared = {(method, route.path) for route in routes for method in route.methods or ()}
    if declared != NEEDS.keys():
        raise RuntimeError(f"these routes and the table of roles differ: {declared ^ NEEDS.keys()}")
    return router


def _first(pair: tuple[str, object]) -> str:
    return pair[0]


def _view(key: StoredKey) -> ShownKey:
    return ShownKey(
        id=key.id,
        tenant=key.tenant,
        source="api",
        team=key.team,
        user=key.user,
        note=key.note,
        models=list(key.models),
        roles=list(key.roles),
        created=_moment(key.created_ms),
        expires=_moment(key.expires_ms),
        revoked=_moment(key.revoked_ms),
        old_key_until=_moment(key.old_until_ms),
    )


def _configured_key(key_id: str, tenant: str, revoked_ms: int | None) -> ShownKey:
    return ShownKey(id=key_id, tenant=tenant, source="config", revoked=_moment(revoked_ms))


def _budget(budget: ManagedBudget, source: Literal["api", "config"], limits: Sequence[ShownLimit] = ()) -> ShownBudget:
    return ShownBudget.model_validate(
        {
            "tenant": budget.tenant,
            "level": budget.level,
            "name": budget.name,
            "source": source,
            "allowance": budget.allowance,
            "limits": limits,
        }
    )


def _audit_line(line: AuditLine) -> ShownAuditLine:
    return ShownAuditLine(
        number=line.number,
        at=datetime.fromtimestamp(line.at_ms / 1000, UTC),
        actor=line.actor,
        role=line.role,
        action=line.action,
        tenant=line.tenant,
        target=line.target,
        detail=line.detail,
    )


def _moment(milliseconds: int | None) -> datetime | None:
    return None if milliseconds is None else datetime.fromtimestamp(milliseconds / 1000, UTC)

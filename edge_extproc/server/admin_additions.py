"""The routes of the admin API that add providers and models to the configuration while the gateway runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Protocol

from fastapi import APIRouter, Path
from fastapi import Body as FromBody
from fastapi.responses import Response
from sqlalchemy.exc import SQLAlchemyError

from ..model.managed import Additions
from ..store.managed import ManagedStore, Section, StoredAddition, additions_in
from .admin_access import AdminIdentity, Caller, in_thread
from .admin_errors import AdminRefused
from .admin_models import Body

MOST_ADDITIONS = 500
"""Of each section."""
_PROVIDER = Path(max_length=64, pattern=r"^[^\x00-\x1f/]+$")
_MODEL = Path(min_length=1, max_length=255, pattern=r"^[^\x00-\x1f]+$")
_ONE: dict[Section, str] = {"providers": "provider", "models": "model"}


class ShownAddition(Body):
    name: str
    value: Any
    """As in the configuration file."""
    state: Literal["in_force", "replaced_by_file", "not_applied"]
    """replaced_by_file: the file has the same name, and takes precedence. not_applied: this gateway has refused it; the
    log line additions_not_applied gives the reason."""
    created: datetime
    by: str


class ShownAdditions(Body):
    providers: list[ShownAddition]
    models: list[ShownAddition]


class AdditionControl(Protocol):
    """What the routes need of the running gateway."""

    @property
    def is_permitted(self) -> bool: ...

    def in_force(self) -> Additions:
        """Also those that the file replaces."""
        ...

    async def names_of_file(self, section: Section) -> frozenset[str]: ...

    async def apply(self, additions: Additions) -> str | None:
        """Returns why they cannot be applied; None if they are in force."""
        ...


def add_addition_routes(
    router: APIRouter, control: AdditionControl, store: ManagedStore, publish: Callable[[], Awaitable[None]]
) -> None:
    changing = asyncio.Lock()

    def must_manage(admin: AdminIdentity) -> None:
        if admin.tenant is not None:
            raise AdminRefused(403, "all_tenants", "providers and models serve all tenants; yours is one tenant")

    async def change(section: Section, name: str, value: Any) -> list[StoredAddition]:
        """Applies the stored additions with this one, or without it if `value` is None. Returns those before."""
        before = await in_thread(store.additions)
        others = [each for each in before if (each.section, each.name) != (section, name)]
        new = [] if value is None else [StoredAddition(section, name, value, 0, "")]
        if new and sum(each.section == section for each in others) >= MOST_ADDITIONS:
            raise AdminRefused(409, "too_many", f"there are {MOST_ADDITIONS} added {section}; move some to the file")
        error = await control.apply(additions_in([*others, *new]))
        if error is not None:
            raise AdminRefused(400, "not_applied", error)
        return before

    async def stored(write: Callable[[], Any], before: list[StoredAddition]) -> Any:
        try:
            return await in_thread(write)
        except SQLAlchemyError:
            await control.apply(additions_in(before))
            raise

    async def put(section: Section, name: str, value: Mapping[str, Any] | list[Any], admin: AdminIdentity) -> Any:
        must_manage(admin)
        if not control.is_permitted:
            raise AdminRefused(
                409, "not_permitted", "the configuration file permits no additions; give it the section admin.additions"
            )
        if name in await control.names_of_file(section):
            raise AdminRefused(
                409, "configured", f"{_ONE[section]} {name!r} is in the configuration file; change it there"
            )
        async with changing:
            before = await change(section, name, value)
            addition = await stored(lambda: store.add(admin.actor, section, name, value), before)
            await publish()
        return _shown(addition, "in_force")

    async def remove(section: Section, name: str, admin: AdminIdentity) -> Response:
        must_manage(admin)
        async with changing:
            if not any((each.section, each.name) == (section, name) for each in await in_thread(store.additions)):
                raise AdminRefused(404, "not_added", f"no {_ONE[section]} {name!r} was added")
            before = await change(section, name, None)
            await stored(lambda: store.remove_addition(admin.actor, section, name), before)
            await publish()
        return Response(status_code=204)

    @router.get("/additions")
    async def additions(admin: Caller) -> ShownAdditions:
        """The providers and models that were added, for users who are not bound to a tenant."""
        must_manage(admin)
        shown: dict[Section, list[ShownAddition]] = {"providers": [], "models": []}
        for each in await in_thread(store.additions):
            applied: Mapping[str, Any] = getattr(control.in_force(), each.section)
            state: Literal["in_force", "replaced_by_file", "not_applied"] = "in_force"
            if each.name in await control.names_of_file(each.section):
                state = "replaced_by_file"
            elif each.name not in applied or applied[each.name] != each.value:
                state = "not_applied"
            shown[each.section].append(_shown(each, state))
        return ShownAdditions(providers=shown["providers"], models=shown["models"])

    @router.put("/additions/providers/{provider}")
    async def put_provider(
        provider: Annotated[str, _PROVIDER], body: Annotated[dict[str, Any], FromBody()], admin: Caller
    ) -> ShownAddition:
        """Adds a provider, or replaces an added one. The body has the keys of a provider in the configuration file."""
        shown: ShownAddition = await put("providers", provider, body, admin)
        return shown

    @router.delete("/additions/providers/{provider}", status_code=204)
    async def remove_provider(provider: Annotated[str, _PROVIDER], admin: Caller) -> Response:
        """Removes an added provider. A provider that a model names cannot be removed."""
        return await remove("providers", provider, admin)

    @router.put("/additions/models/{model:path}")
    async def put_model(
        model: Annotated[str, _MODEL], body: Annotated[dict[str, Any] | list[Any], FromBody()], admin: Caller
    ) -> ShownAddition:
        """Adds a model, or replaces an added one. The body is the value of a model in the configuration file."""
        shown: ShownAddition = await put("models", model, body, admin)
        return shown

    @router.delete("/additions/models/{model:path}", status_code=204)
    async def remove_model(model: Annotated[str, _MODEL], admin: Caller) -> Response:
        """Removes an added model."""
        return await remove("models", model, admin)


def _shown(addition: StoredAddition, state: Literal["in_force", "replaced_by_file", "not_applied"]) -> ShownAddition:
    return ShownAddition(
        name=addition.name,
        value=addition.value,
        state=state,
        created=datetime.fromtimestamp(addition.created_ms / 1000, UTC),
        by=addition.actor,
    )

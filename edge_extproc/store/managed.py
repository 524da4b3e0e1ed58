"""The database tables of the admin API: keys, budgets, added providers and models, and an audit log of every change.

Each change, its audit line and an increment of the revision are one transaction. Other processes compare revisions to
see a change. Workers get a `ManagedState` (snapshot.py), which has digests of keys, never keys.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, TypeAlias

from sqlalchemy import Connection, Engine, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from ..model.managed import Additions, ManagedBudget, ManagedKey, ManagedState, TakenOutProvider
from . import tables


@dataclass(frozen=True, slots=True)
class Actor:
    """Who makes a change, for the audit log."""

    id: str
    role: str


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A key of the admin API, without the secret. Times are Unix milliseconds."""

    id: str
    tenant: str
    team: str | None
    user: str | None
    note: str
    models: tuple[str, ...]
    roles: tuple[str, ...]
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None
    old_until_ms: int | None = None
    """Until when the previous secret, from before a rotation, is valid."""


@dataclass(frozen=True, slots=True)
class AuditLine:
    number: int
    at_ms: int
    actor: str
    role: str
    action: str
    tenant: str | None
    target: str
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredTakenOut:
    """A provider that an admin has taken out. Times are Unix milliseconds."""

    provider: str
    since_ms: int
    until_ms: int | None
    """None: until an admin puts it back."""
    actor: str
    note: str


Section: TypeAlias = Literal["providers", "models"]
"""The section of the configuration that an addition belongs to."""


@dataclass(frozen=True, slots=True)
class StoredAddition:
    """A provider or model that an admin has added. `value` is as in the configuration file."""

    section: Section
    name: str
    value: Any
    created_ms: int
    actor: str


class KeyExists(Exception):
    """There is already a key with this id, or with this secret."""


class ManagedStore:
    """Reads and changes the tables. `now`: Unix milliseconds. All methods wait for the database."""

    def __init__(self, engine: Engine, now: Callable[[], int]) -> None:
        self._engine = engine
        self._now = now

    def close(self) -> None:
        self._engine.dispose()

    # --- keys

    def add_key(self, actor: Actor, key: StoredKey, digest: str) -> StoredKey:
        """Adds a key, and returns it with `created_ms`. `digest`: of its secret. Raises KeyExists."""
        key = replace(key, created_ms=self._now(), revoked_ms=None, old_until_ms=None)
        values = {**asdict(key), "models": json.dumps(key.models), "roles": json.dumps(key.roles), "digest": digest}
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(tables.keys).values(values))
                self._note(connection, actor, "key.create", key.tenant, key.id, _key_detail(key))
        except IntegrityError:
            raise KeyExists(key.id) from None
        return key

    def keys(self, tenant: str | None = None) -> list[StoredKey]:
        statement = select(tables.keys).order_by(tables.keys.c.tenant, tables.keys.c.id)
        if tenant is not None:
            statement = statement.where(tables.keys.c.tenant == tenant)
        with self._engine.connect() as connection:
            return [_key(row) for row in connection.execute(statement).mappings()]

    def key(self, key_id: str) -> StoredKey | None:
        with self._engine.connect() as connection:
            row = connection.execute(select(tables.keys).where(tables.keys.c.id == key_id)).mappings().first()
        return _key(row) if row is not None else None

    def rotate_key(self, actor: Actor, key: StoredKey, digest: str, old_until_ms: int) -> StoredKey:
        """Gives the key a new secret. The previous one is valid until `old_until_ms`."""
        ours = tables.keys.c.id == key.id
        with self._engine.begin() as connection:
            old = connection.execute(select(tables.keys.c.digest).where(ours)).scalar_one()
            values = {"digest": digest, "old_digest": old, "old_until_ms": old_until_ms}
            connection.execute(update(tables.keys).where(ours).values(values))
            self._note(connection, actor, "key.rotate", key.tenant, key.id, {"old_until_ms": old_until_ms})
        return replace(key, old_until_ms=old_until_ms)

    def revoke_key(self, actor: Actor, key: StoredKey) -> StoredKey:
        """Revokes a key for ever, with the previous secret of a rotation."""
        revoked = key.revoked_ms if key.revoked_ms is not None else self._now()
        with self._engine.begin() as connection:
            values = {"revoked_ms": revoked, "old_digest": None, "old_until_ms": None}
            connection.execute(update(tables.keys).where(tables.keys.c.id == key.id).values(values))
            self._note(connection, actor, "key.revoke", key.tenant, key.id, {})
        return replace(key, revoked_ms=revoked, old_until_ms=None)

    def revocations(self) -> dict[str, int]:
        """The revoked keys of the configuration: the time of revocation, by id."""
        with self._engine.connect() as connection:
            return {row.id: row.revoked_ms for row in connection.execute(select(tables.revocations))}

    def revoke_configured(self, actor: Actor, key_id: str, tenant: str) -> None:
        """Revokes a key of the configuration. Does nothing if it is already revoked."""
        if key_id in self.revocations():
            return
        with self._engine.begin() as connection:
            connection.execute(insert(tables.revocations).values(id=key_id, revoked_ms=self._now()))
            self._note(connection, actor, "key.revoke", tenant, key_id, {"source": "config"})

    # --- budgets

    def budgets(self, tenant: str | None = None) -> list[ManagedBudget]:
        columns = tables.budgets.c
        statement = select(tables.budgets).order_by(columns.tenant, columns.level, columns.name)
        if tenant is not None:
            statement = statement.where(columns.tenant == tenant)
        with self._engine.connect() as connection:
            return [
                ManagedBudget(row["tenant"], row["level"], row["name"], json.loads(row["allowance"]))
                for row in connection.execute(statement).mappings()
            ]

    def set_budget(self, actor: Actor, budget: ManagedBudget) -> None:
        """Sets a budget, and replaces an existing one."""
        with self._engine.begin() as connection:
            connection.execute(delete(tables.budgets).where(*_budget_is(budget.tenant, budget.level, budget.name)))
            values = {"tenant": budget.tenant, "level": budget.level, "name": budget.name}
            connection.execute(insert(tables.budgets).values(allowance=json.dumps(budget.allowance), **values))
            target = f"{budget.level}/{budget.name}"
            self._note(connection, actor, "budget.set", budget.tenant, target, budget.allowance)

    def delete_budget(self, actor: Actor, tenant: str, level: str, name: str) -> bool:
        """Returns whether there was one."""
        with self._engine.begin() as connection:
            found = connection.execute(delete(tables.budgets).where(*_budget_is(tenant, level, name))).rowcount > 0
            if found:
                self._note(connection, actor, "budget.delete", tenant, f"{level}/{name}", {})
        return found

    # --- providers that are taken out

    def taken_out(self) -> list[StoredTakenOut]:
        """Those whose time has not ended."""
        columns = tables.taken_out.c
        ongoing = or_(columns.until_ms.is_(None), columns.until_ms > self._now())
        statement = select(tables.taken_out).where(ongoing).order_by(columns.provider)
        with self._engine.connect() as connection:
            return [StoredTakenOut(**row) for row in connection.execute(statement).mappings()]

    def take_out(self, actor: Actor, provider: str, until_ms: int | None, note: str) -> StoredTakenOut:
        """Replaces an earlier end and note."""
        taken_out = StoredTakenOut(provider, self._now(), until_ms, actor.id, note)
        with self._engine.begin() as connection:
            connection.execute(delete(tables.taken_out).where(tables.taken_out.c.provider == provider))
            connection.execute(insert(tables.taken_out).values(asdict(taken_out)))
            detail = {"until_ms": until_ms, "note": note}
            self._note(connection, actor, "provider.take_out", None, provider, detail)
        return taken_out

    def put_back(self, actor: Actor, provider: str) -> bool:
        """Returns whether it was taken out."""
        with self._engine.begin() as connection:
            ours = tables.taken_out.c.provider == provider
            found = connection.execute(delete(tables.taken_out).where(ours)).rowcount > 0
            if found:
                self._note(connection, actor, "provider.put_back", None, provider, {})
        return found

    # --- providers and models that are added

    def additions(self) -> list[StoredAddition]:
        columns = tables.additions.c
        statement = select(tables.additions).order_by(columns.section, columns.name)
        with self._engine.connect() as connection:
            return [
                StoredAddition(**{**row, "value": json.loads(row["value"])})
                for row in connection.execute(statement).mappings()
            ]

    def add(self, actor: Actor, section: Section, name: str, value: Any) -> StoredAddition:
        """Replaces an existing addition of this name."""
        addition = StoredAddition(section, name, value, self._now(), actor.id)
        with self._engine.begin() as connection:
            connection.execute(delete(tables.additions).where(*_addition_is(section, name)))
            connection.execute(insert(tables.additions).values({**asdict(addition), "value": json.dumps(value)}))
            self._note(connection, actor, f"{section}.add", None, name, {"value": value})
        return addition

    def remove_addition(self, actor: Actor, section: Section, name: str) -> bool:
        """Returns whether there was one."""
        with self._engine.begin() as connection:
            found = connection.execute(delete(tables.additions).where(*_addition_is(section, name))).rowcount > 0
            if found:
                self._note(connection, actor, f"{section}.remove", None, name, {})
        return found

    # --- the audit log

    def note(self, actor: Actor, action: str, tenant: str | None, target: str, detail: Mapping[str, Any]) -> None:
        """Adds an audit line for a change that is not in these tables."""
        with self._engine.begin() as connection:
            self._write(connection, actor, action, tenant, target, detail)

    def audit(self, tenant: str | None, before: int | None, most: int) -> list[AuditLine]:
        """The newest `most` lines, newest first. `before`: only lines with a smaller number."""
        columns = tables.audit.c
        statement = select(tables.audit).order_by(columns.number.desc()).limit(most)
        if tenant is not None:
            statement = statement.where(columns.tenant == tenant)
        if before is not None:
            statement = statement.where(columns.number < before)
        with self._engine.connect() as connection:
            return [
                AuditLine(**{**row, "detail": json.loads(row["detail"])})
                for row in connection.execute(statement).mappings()
            ]

    # --- the state for workers

    def revision(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(select(tables.revision.c.number)).scalar_one())

    def snapshot(self) -> ManagedState:
        """The current state, without keys that are revoked."""
        columns = tables.keys.c
        with self._engine.connect() as connection:
            # The revision is read first, so that a change during the other reads is seen again as new.
            number = int(connection.execute(select(tables.revision.c.number)).scalar_one())
            rows = connection.execute(select(tables.keys).where(columns.revoked_ms.is_(None)).order_by(columns.id))
            keys = tuple(key for row in rows.mappings() for key in _managed(row))
        revoked = tuple(sorted(self.revocations()))
        taken_out = tuple(TakenOutProvider(each.provider, each.until_ms) for each in self.taken_out())
        return ManagedState(number, keys, revoked, tuple(self.budgets()), taken_out, additions_in(self.additions()))

    # --- within a transaction

    def _note(
        self,
        connection: Connection,
        actor: Actor,
        action: str,
        tenant: str | None,
        target: str,
        detail: Mapping[str, Any],
    ) -> None:
        number = tables.revision.c.number
        connection.execute(update(tables.revision).values(number=number + 1))
        self._write(connection, actor, action, tenant, target, detail)

    def _write(
        self,
        connection: Connection,
        actor: Actor,
        action: str,
        tenant: str | None,
        target: str,
        detail: Mapping[str, Any],
    ) -> None:
        values = {"actor": actor.id, "role": actor.role, "action": action, "tenant": tenant, "target": target}
        connection.execute(insert(tables.audit).values(at_ms=self._now(), detail=json.dumps(dict(detail)), **values))


def _budget_is(tenant: str, level: str, name: str) -> Sequence[Any]:
    columns = tables.budgets.c
    return (columns.tenant == tenant, columns.level == level, columns.name == name)


def _addition_is(section: Section, name: str) -> Sequence[Any]:
    columns = tables.additions.c
    return (columns.section == section, columns.name == name)


def additions_in(stored: Iterable[StoredAddition]) -> Additions:
    """As the configuration is merged with them."""
    sections: dict[Section, dict[str, Any]] = {"providers": {}, "models": {}}
    for each in stored:
        sections[each.section][each.name] = each.value
    return Additions(sections["providers"], sections["models"])


def _key(row: Mapping[Any, Any]) -> StoredKey:
    return StoredKey(
        row["id"],
        row["tenant"],
        row["team"],
        row["user"],
        row["note"],
        tuple(json.loads(row["models"])),
        tuple(json.loads(row["roles"])),
        row["created_ms"],
        row["expires_ms"],
        row["revoked_ms"],
        row["old_until_ms"],
    )


def _key_detail(key: StoredKey) -> dict[str, Any]:
    return {
        "team": key.team,
        "user": key.user,
        "models": list(key.models),
        "roles": list(key.roles),
        "expires_ms": key.expires_ms,
    }


def _managed(row: Mapping[Any, Any]) -> list[ManagedKey]:
    key = _key(row)
    new = ManagedKey(key.id, row["digest"], key.tenant, key.team, key.user, key.models, key.roles, key.expires_ms)
    if row["old_digest"] is None:
        return [new]
    until = row["old_until_ms"] if key.expires_ms is None else min(row["old_until_ms"], key.expires_ms)
    old = ManagedKey(key.id, row["old_digest"], key.tenant, key.team, key.user, key.models, key.roles, until)
    return [new, old]

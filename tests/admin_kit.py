"""An admin API in memory's reach: a real database, no workers, and a client for each role."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import httpx2

from edge_extproc.auth.api_key import digest
from edge_extproc.gateway.admin_service import read_allowance
from edge_extproc.model.limit_use import LimitKey, LimitUse
from edge_extproc.model.managed import ManagedBudget
from edge_extproc.server.admin_api import AdminApi, AdminCredential, ConfiguredState, Purge, build
from edge_extproc.store.database import open_database
from edge_extproc.store.ledger import Ledger
from edge_extproc.store.managed import ManagedStore
from edge_extproc.store.quarantine import Quarantine

PEPPER = b"a pepper for tests alone"
TOKENS = {
    "root": ("admin", None),
    "eye": ("viewer", None),
    "acme-admin": ("tenant_admin", "acme"),
    "acme-eye": ("viewer", "acme"),
    "umbrella-admin": ("tenant_admin", "umbrella"),
}
START_MS = 1_800_000_000_000


def secret_of(name: str) -> str:
    return f"token-of-{name}-for-tests"


class Api:
    def __init__(self, url: str) -> None:
        self.engine = open_database(url)
        self.now = START_MS
        self.store = ManagedStore(self.engine, lambda: self.now)
        self.ledger = Ledger(self.engine)
        self.quarantine = Quarantine(Path(tempfile.mkdtemp(prefix="edge-quarantine-")) / "quarantine.jsonl")
        atexit.register(shutil.rmtree, self.quarantine.path.parent, ignore_errors=True)
        self.published = 0
        self.uses: dict[LimitKey, LimitUse] = {}
        self.purged: list[Purge] = []
        numbers = itertools.count()
        self.app = build(
            AdminApi(
                tokens=[
                    AdminCredential(name, role, tenant, digest(PEPPER, secret_of(name)))  # type: ignore[arg-type]
                    for name, (role, tenant) in TOKENS.items()
                ],
                callers=lambda headers: None,
                digest=lambda key: digest(PEPPER, key),
                configured=lambda: ConfiguredState(
                    tenants={"acme": ("*",), "umbrella": ("only-this",)},
                    keys={"acme-file": "acme", "umbrella-file": "umbrella"},
                    roles={"reader": frozenset({"viewer"}), "owner": frozenset({"admin"})},
                    budgets=(ManagedBudget("acme", "tenant", "acme", {"dollars_per_day": "100"}),),
                ),
                store=self.store,
                ledger=self.ledger,
                quarantine=self.quarantine,
                new_key=lambda: f"edge-secret-{next(numbers):032}",
                new_id=lambda: f"key-{next(numbers)}",
                read_allowance=read_allowance,
                publish=self._publish,
                purge=self._purge,
                now_ms=lambda: self.now,
                limit_uses=self._limit_uses,
            )
        )

    async def _limit_uses(self) -> dict[LimitKey, LimitUse]:
        return self.uses

    async def _publish(self) -> None:
        self.published += 1

    async def _purge(self, wanted: Purge) -> int:
        self.purged.append(wanted)
        return 3

    async def ask(self, name: str | None, method: str, path: str, **options: Any) -> httpx2.Response:
        """`name` None: nobody."""
        headers = {"authorization": f"Bearer {secret_of(name)}"} if name is not None else {}
        transport = httpx2.ASGITransport(app=self.app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://admin") as client:
            return await client.request(method, f"/admin/v1{path}", headers=headers, **options)

    def begin_anew(self, file: Path) -> None:
        """As if nothing had been done yet. To make another one would take longer than most tests."""
        self.engine.dispose()
        for leftover in file.parent.glob(f"{file.name}*"):
            leftover.unlink()
        file.write_bytes(_migrated())
        self.now, self.published = START_MS, 0
        self.purged.clear()


@functools.cache
def _opened() -> tuple[Api, Path]:
    directory = tempfile.mkdtemp(prefix="edge-admin-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    file = Path(directory) / "edge.db"
    file.write_bytes(_migrated())
    return Api(f"sqlite:///{file}"), file


def open_api() -> Api:
    """One for all tests of a process, each of which finds it new."""
    api, file = _opened()
    api.begin_anew(file)
    return api


@functools.cache
def _migrated() -> bytes:
    """A database as the migrations leave it: they take most of a test's time."""
    with tempfile.TemporaryDirectory() as name:
        file = Path(name) / "edge.db"
        open_database(f"sqlite:///{file}").dispose()
        return file.read_bytes()


if __name__ == "__main__":
    # The description of the API for docs/admin-openapi.json.
    print(json.dumps(open_api().app.openapi(), indent=1, sort_keys=True))

"""An admin API in memory's reach: a real database, no workers, and a client for each role."""

from __future__ import annotations

import atexit
import functools
import itertools
import json
import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
from databases import migrated

from edge_extproc.auth.api_key import digest
from edge_extproc.gateway.admin_service import read_allowance
from edge_extproc.model.config_trial import ConfigTrialResult
from edge_extproc.model.limit_use import LimitKey, LimitUse
from edge_extproc.model.managed import NO_ADDITIONS, ManagedBudget
from edge_extproc.model.managed import Additions as ManagedAdditions
from edge_extproc.model.provider_probe import ProviderPrice, ProviderProbe
from edge_extproc.server.admin_access import FederatedAdmins
from edge_extproc.server.admin_api import AdminApi, AdminCredential, ConfiguredState, Purge, build
from edge_extproc.server.admin_config import ConfigDifference
from edge_extproc.server.admin_models import ShownGuardrailRule
from edge_extproc.server.admin_playground import PlaygroundCall, PlaygroundEvent
from edge_extproc.server.admin_providers import ProbeLog, ProviderControl, ProviderFacts
from edge_extproc.store.database import open_database
from edge_extproc.store.journal import LedgerRow
from edge_extproc.store.ledger import Ledger
from edge_extproc.store.managed import ManagedStore
from edge_extproc.store.quarantine import Quarantine
from edge_extproc.telemetry.traffic import Overview, TrafficHistory

PEPPER = b"a pepper for tests alone"
TOKENS = {
    "root": ("admin", None),
    "eye": ("viewer", None),
    "acme-admin": ("tenant_admin", "acme"),
    "acme-eye": ("viewer", "acme"),
    "umbrella-admin": ("tenant_admin", "umbrella"),
}
FACTS = {
    "openai": ProviderFacts("openai", "api.openai.example:443", "key"),
    "spare": ProviderFacts("anthropic", "spare.example:443", "key in a file"),
}
RULES = tuple(
    ShownGuardrailRule(
        rule=f"rule-of-{tenant or 'all'}",
        detector="words",
        directions=["request"],
        action="block",
        mode="shadow",
        tenant=tenant,
        level="tenant" if tenant else None,
        name=tenant,
    )
    for tenant in (None, "acme", "umbrella")
)
START_MS = 1_800_000_000_000


def secret_of(name: str) -> str:
    return f"token-of-{name}-for-tests"


class Playground:
    """Answers every call with the same events."""

    def __init__(self) -> None:
        self.address: str | None = "http://127.0.0.1:10000"
        self.sent: list[tuple[PlaygroundCall, str, str]] = []
        self.exchange = ""
        self.status = "200"

    def url(self) -> str | None:
        return self.address

    def models(self) -> list[str]:
        return ["gpt-4o-mini"]

    async def send(self, call: PlaygroundCall, key_id: str, key: str) -> AsyncIterator[PlaygroundEvent]:
        self.sent.append((call, key_id, key))
        yield "request", {"curl": f"curl {call.model}", "python": "import openai"}
        yield "head", {"status": self.status, "headers": "content-type: text/plain", "seconds": "0.010 s"}
        yield "data", {"text": "Hel"}
        yield "data", {"text": f"lo {call.prompt}"}
        yield "end", {"seconds": "0.020 s"}
        yield "capture", {"exchange": self.exchange, "sent": "to the provider", "received": "from the provider"}


class Configuration:
    """Finds the same of every change."""

    def __init__(self) -> None:
        self.is_busy = False
        self.tried: list[tuple[str, int | None]] = []
        self.result: ConfigTrialResult | None = ConfigTrialResult(rendering="valid")
        self.found: tuple[list[ConfigDifference], list[str]] = ([], [])

    async def differences(self) -> tuple[list[ConfigDifference], list[str]]:
        return self.found

    async def run(self, text: str, since_ms: int | None) -> ConfigTrialResult | None:
        self.tried.append((text, since_ms))
        return self.result


class Additions:
    """A gateway whose file has the provider `openai` and the model `gpt-4o`. It applies everything but `refused`."""

    def __init__(self) -> None:
        self.is_permitted = True
        self.refused: str | None = None
        self.applied = NO_ADDITIONS

    def in_force(self) -> ManagedAdditions:
        return self.applied

    async def names_of_file(self, section: str) -> frozenset[str]:
        return frozenset({"openai" if section == "providers" else "gpt-4o"})

    async def apply(self, additions: ManagedAdditions) -> str | None:
        if self.refused is None:
            self.applied = additions
        return self.refused


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
        self.traffic = self._new_traffic()
        self.purged: list[Purge] = []
        self.probed: list[str] = []
        self.facts = dict(FACTS)
        self.additions = Additions()
        self.probe_log = ProbeLog()
        self.playground = Playground()
        self.configuration = Configuration()
        self.federated = FederatedAdmins(lambda: self.now / 1000)
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
                    guardrails=RULES,
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
                overview=self._overview,
                providers=ProviderControl(lambda: self.facts, self._probe, self._prices, self.probe_log),
                playground=self.playground,
                configuration=self.configuration,
                additions=self.additions,
                federated=self.federated,
            )
        )

    async def _probe(self, provider: str) -> ProviderProbe | None:
        self.probed.append(provider)
        return ProviderProbe(provider, "ok", f"{provider} answers in 40 ms and accepts the key", 0.04, 200)

    async def _prices(self) -> list[ProviderPrice]:
        return [ProviderPrice("openai", "gpt-4o-mini", "0.15", "0.6"), ProviderPrice("openai", "new", None, None)]

    def _overview(self, tenant: str | None) -> Overview:
        return self.traffic.overview(tenant)

    def _new_traffic(self) -> TrafficHistory:
        return TrafficHistory(lambda: ["openai"], lambda: (1, 2), now=lambda: self.now / 1000)

    async def _limit_uses(self) -> dict[LimitKey, LimitUse]:
        return self.uses

    async def _publish(self) -> None:
        self.published += 1

    async def _purge(self, wanted: Purge) -> int:
        self.purged.append(wanted)
        return 3

    def settle(self, exchange: str, tenant: str = "acme", **fields: Any) -> None:
        """A request in the ledger; the last one is the newest."""
        self.now += 1000
        row = LedgerRow(exchange, self.now, 250, fields.pop("outcome", "ok"), tenant, **fields)
        assert 1 == self.ledger.add([row])

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
        file.write_bytes(migrated())
        self.traffic = self._new_traffic()
        self.now, self.published = START_MS, 0
        self.purged.clear()
        self.probed.clear()
        self.probe_log.last.clear()
        self.probe_log.tried_ms.clear()
        self.facts = dict(FACTS)
        self.additions.is_permitted, self.additions.refused, self.additions.applied = True, None, NO_ADDITIONS
        self.playground.address = "http://127.0.0.1:10000"
        self.playground.sent.clear()
        self.configuration.tried.clear()
        self.configuration.is_busy = False
        self.configuration.found = ([], [])
        self.configuration.result = ConfigTrialResult(rendering="valid")


@functools.cache
def _opened() -> tuple[Api, Path]:
    directory = tempfile.mkdtemp(prefix="edge-admin-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    file = Path(directory) / "edge.db"
    file.write_bytes(migrated())
    return Api(f"sqlite:///{file}"), file


def open_api() -> Api:
    """One for all tests of a process, each of which finds it new."""
    api, file = _opened()
    api.begin_anew(file)
    return api


if __name__ == "__main__":
    # The description of the API for docs/admin-openapi.json.
    print(json.dumps(open_api().app.openapi(), indent=1, sort_keys=True))

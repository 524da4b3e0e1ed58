"""The routes of the admin API about providers: their state, a probe, taking one out and putting it back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Path
from fastapi.responses import Response
from pydantic import Field

from ..model.provider_probe import ProviderPrice, ProviderProbe
from ..store.ledger import Ledger
from ..store.managed import ManagedStore, StoredTakenOut
from .admin_access import AdminIdentity, Caller, in_thread, read_in_thread
from .admin_errors import AdminRefused
from .admin_models import Body, ErrorBody

# A probe is a request to the provider and counts in its rate limits.
PROBE_SECONDS = 10.0
_LONGEST_OUT = 30 * 24 * 3600
_ERRORS_MS = 3600 * 1000
_NAME = Path(max_length=64, pattern=r"^[^\x00-\x1f/]+$")


@dataclass(frozen=True, slots=True)
class ProviderFacts:
    """What the configuration says of a provider."""

    kind: str
    host: str
    credential: str
    """Its kind; never a secret."""


@dataclass(frozen=True, slots=True)
class ProbeLog:
    """The probes since the gateway started, by provider."""

    last: dict[str, ShownProbe] = field(default_factory=dict)
    tried_ms: dict[str, int] = field(default_factory=dict)
    """When the last one was sent, Unix milliseconds."""


@dataclass(frozen=True, slots=True)
class ProviderControl:
    """What the routes need of the running gateway."""

    facts: Callable[[], Mapping[str, ProviderFacts]]
    """By the names of the providers in the configuration."""
    probe: Callable[[str], Awaitable[ProviderProbe | None]]
    """Sends one request that costs nothing. None: no worker answers."""
    prices: Callable[[], Awaitable[Sequence[ProviderPrice]]]
    log: ProbeLog = field(default_factory=ProbeLog)


class TakeOut(Body):
    seconds: Annotated[int, Field(ge=1, le=_LONGEST_OUT)] | None = None
    """After this time the provider is used again. None: until an admin puts it back."""
    note: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""


class ShownTakenOut(Body):
    since: datetime
    until: datetime | None
    """None: until an admin puts it back."""
    by: str
    note: str


class ShownProbe(Body):
    at: datetime
    by: str
    state: Literal["ok", "warn", "fail"]
    message: str
    seconds: float | None
    status: int | None


class ShownPrice(Body):
    """US dollars for a million tokens, as text. None: the price is unknown."""

    model: str
    input: str | None
    output: str | None


class ShownErrors(Body):
    """Failed requests whose last attempt was at this provider."""

    outcome: str
    status: int | None
    code: str | None
    requests: int


class ShownProvider(Body):
    provider: str
    kind: str
    host: str
    credential: str
    """The kind of the gateway's credential."""
    taken_out: ShownTakenOut | None
    """None: it is used."""
    last_probe: ShownProbe | None
    """Since the gateway started."""
    prices: list[ShownPrice]
    """Of the models that the configuration names."""
    errors: list[ShownErrors]
    """Of the last hour, the most frequent first."""


def add_provider_routes(
    router: APIRouter,
    control: ProviderControl,
    store: ManagedStore,
    ledger: Ledger,
    publish: Callable[[], Awaitable[None]],
    now_ms: Callable[[], int],
) -> None:
    probes, tried_ms = control.log.last, control.log.tried_ms

    def facts_of(admin: AdminIdentity, provider: str | None = None) -> Mapping[str, ProviderFacts]:
        if admin.tenant is not None:
            raise AdminRefused(403, "all_tenants", "providers serve all tenants; a user of one tenant may not see them")
        facts = control.facts()
        if provider is not None and provider not in facts:
            raise AdminRefused(404, "unknown_provider", f"the configuration has no provider {provider!r}")
        return facts

    @router.get("/providers")
    async def providers(admin: Caller) -> list[ShownProvider]:
        """The providers of the configuration, for users who are not bound to a tenant."""
        facts = facts_of(admin)
        prices = await control.prices()
        out = {each.provider: each for each in await in_thread(store.taken_out)}
        errors = await read_in_thread(ledger.provider_errors, now_ms() - _ERRORS_MS)
        return [
            ShownProvider(
                provider=name,
                kind=fact.kind,
                host=fact.host,
                credential=fact.credential,
                taken_out=_shown(out[name]) if name in out else None,
                last_probe=probes.get(name),
                prices=[
                    ShownPrice(model=each.model, input=each.input, output=each.output)
                    for each in prices
                    if each.provider == name
                ],
                errors=[
                    ShownErrors(outcome=each.outcome, status=each.status, code=each.code, requests=each.requests)
                    for each in errors
                    if each.provider == name
                ],
            )
            for name, fact in sorted(facts.items())
        ]

    @router.post("/providers/{provider}/probe", responses={429: {"model": ErrorBody}})
    async def probe(provider: Annotated[str, _NAME], admin: Caller) -> ShownProbe:
        """Sends one request that costs nothing: for the provider's list of models or, if its kind has none, for any
        answer. One in ten seconds for each provider."""
        facts_of(admin, provider)
        now = now_ms()
        wait = tried_ms.get(provider, 0) + PROBE_SECONDS * 1000 - now
        if wait > 0:
            raise AdminRefused(429, "too_soon", f"{provider} was probed just now; try again in {wait / 1000:.0f} s")
        tried_ms[provider] = now
        await in_thread(store.note, admin.actor, "provider.probe", None, provider, {})
        found = await control.probe(provider)
        if found is None:
            raise AdminRefused(503, "no_worker", "no worker answers; try again")
        shown = probes[provider] = ShownProbe(
            at=_moment(now),
            by=admin.id,
            state=found.state,
            message=found.message,
            seconds=found.seconds,
            status=found.status,
        )
        return shown

    @router.put("/providers/{provider}/taken-out")
    async def take_out(provider: Annotated[str, _NAME], body: TakeOut, admin: Caller) -> ShownTakenOut:
        """From now on, no new request goes to the provider. A request that has begun keeps its candidates."""
        facts_of(admin, provider)
        until = None if body.seconds is None else now_ms() + body.seconds * 1000
        taken_out = await in_thread(store.take_out, admin.actor, provider, until, body.note)
        await publish()
        return _shown(taken_out)

    @router.delete("/providers/{provider}/taken-out", status_code=204)
    async def put_back(provider: Annotated[str, _NAME], admin: Caller) -> Response:
        """A provider that the configuration no longer has can be put back too."""
        if admin.tenant is not None or not await in_thread(store.put_back, admin.actor, provider):
            raise AdminRefused(404, "not_taken_out", f"the provider {provider!r} is not taken out")
        await publish()
        return Response(status_code=204)


def _shown(taken_out: StoredTakenOut) -> ShownTakenOut:
    until = taken_out.until_ms
    return ShownTakenOut(
        since=_moment(taken_out.since_ms),
        until=None if until is None else _moment(until),
        by=taken_out.actor,
        note=taken_out.note,
    )


def _moment(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000, UTC)

"""The playground of the admin API: one request with the admin's own test key, through the gateway's listener."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Protocol, TypeAlias, get_args

from fastapi import APIRouter
from fastapi.responses import StreamingResponse
from pydantic import Field

from ..model.managed import ManagedBudget
from ..store.ledger import TOKENS, Ledger
from ..store.managed import KeyExists, ManagedStore, StoredKey
from .admin_access import AdminIdentity, Caller, in_thread
from .admin_errors import AdminRefused
from .admin_models import LABEL, Body, ErrorBody

KEY_PREFIX = "playground."
"""Of the ids of test keys. No other key of the API can have it."""
DOLLARS_PER_DAY = "1"
_MOST_AT_ONCE = 4
# A worker's journal is read every `store.every`, a second by default.
_POLLS, _POLL_SECONDS = 50, 0.2
CallFormat: TypeAlias = Literal["chat_completions", "responses", "messages", "generate_content"]
FORMATS: tuple[CallFormat, ...] = get_args(CallFormat)
PlaygroundEvent: TypeAlias = tuple[str, Mapping[str, str]]
"""The name of an event and its texts."""


class PlaygroundCall(Body):
    tenant: Annotated[str, Field(pattern=LABEL)]
    model: Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$")]
    format: CallFormat = "chat_completions"
    """The API that the call uses, which is the format of the caller."""
    prompt: Annotated[str, Field(max_length=100_000)] = ""
    max_tokens: Annotated[int, Field(ge=1, le=32_000)] = 256
    stream: bool = True
    body: dict[str, Any] | None = None
    """The whole body in place of `prompt`, `max_tokens` and, but for generate_content, `model` and `stream`."""


class ShownPlayground(Body):
    url: str | None
    """Where the gateway is called. None: the playground is off."""
    reason: str | None
    """Why it is off."""
    formats: list[str]
    models: list[str]
    """Names in the configuration, without patterns."""
    key: str
    """The id of the user's test key."""
    dollars_per_day: str
    """The budget that a new test key gets."""


class PlaygroundControl(Protocol):
    """What the routes need of the running gateway."""

    def url(self) -> str | None:
        """The address of the listener. None: the supervisor does not know it."""
        ...

    def models(self) -> list[str]: ...

    def send(self, call: PlaygroundCall, key_id: str, key: str) -> AsyncIterator[PlaygroundEvent]:
        """Sends the call. The last event, `capture`, has `exchange` if a provider was asked."""
        ...


@dataclass(frozen=True, slots=True)
class PlaygroundSetup:
    control: PlaygroundControl
    store: ManagedStore
    ledger: Ledger
    tenants: Callable[[], Mapping[str, tuple[str, ...]]]
    new_key: Callable[[], str]
    digest: Callable[[str], str]
    publish: Callable[[], Awaitable[None]]
    now_ms: Callable[[], int]


def add_playground_routes(router: APIRouter, setup: PlaygroundSetup) -> None:
    keys = _TestKeys(setup)
    sending = 0

    @router.get("/playground")
    async def playground(admin: Caller) -> ShownPlayground:
        """Whether the gateway can be called from here, and with what."""
        url = setup.control.url()
        return ShownPlayground(
            url=url,
            reason=None if url is not None else NO_LISTENER,
            formats=list(FORMATS),
            models=setup.control.models(),
            key=key_id_of(admin, admin.tenant),
            dollars_per_day=DOLLARS_PER_DAY,
        )

    @router.post(
        "/playground",
        response_class=StreamingResponse,
        responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}, 429: {"model": ErrorBody}},
    )
    async def send(body: PlaygroundCall, admin: Caller) -> StreamingResponse:
        """Sends one call through the gateway's listener, with a test key of the user that the gateway makes. It costs
        what any call costs. The events are: request, head, data, end, capture, cost, and error."""
        nonlocal sending
        admin.must_manage(body.tenant)
        if body.tenant not in setup.tenants():
            raise AdminRefused(404, "unknown_tenant", f"there is no tenant {body.tenant!r}")
        if setup.control.url() is None:
            raise AdminRefused(409, "no_listener", NO_LISTENER)
        if sending >= _MOST_AT_ONCE:
            raise AdminRefused(429, "too_many", f"{_MOST_AT_ONCE} calls are in progress; wait for one of them")
        key_id, key = await keys.of(admin, body.tenant)

        async def events() -> AsyncIterator[str]:
            nonlocal sending
            sending += 1
            try:
                exchange = ""
                async for name, texts in setup.control.send(body, key_id, key):
                    if name == "head" and texts["status"] == "401":
                        # Another replica has given the key another secret.
                        keys.forget(admin, body.tenant)
                    if name == "capture":
                        exchange = texts.get("exchange", "")
                    yield _encoded(name, texts)
                yield _encoded("cost", await _cost(setup.ledger, exchange, key_id))
            finally:
                sending -= 1

        return StreamingResponse(events(), media_type="text/event-stream")


NO_LISTENER = (
    "this process has no listener of its own: `serve` runs without Envoy. Give its address in admin.gateway_url"
)


class _TestKeys:
    """The test keys of admins. Their secrets are in memory; after a restart a key gets a new one."""

    def __init__(self, setup: PlaygroundSetup) -> None:
        self._setup = setup
        self._secrets: dict[str, str] = {}
        self._making = asyncio.Lock()

    async def of(self, admin: AdminIdentity, tenant: str) -> tuple[str, str]:
        """The id and the key."""
        key_id = key_id_of(admin, tenant)
        async with self._making:
            stored = await in_thread(self._setup.store.key, key_id)
            if stored is not None and stored.revoked_ms is not None:
                raise AdminRefused(409, "revoked", f"the test key {key_id} was revoked, so its user has none")
            if stored is not None and stored.tenant != tenant:
                raise AdminRefused(409, "taken", f"{key_id} is the test key of another user or tenant")
            known = self._secrets.get(key_id)
            if stored is not None and known is not None:
                return key_id, known
            secret = self._secrets[key_id] = self._setup.new_key()
            await self._make(admin, tenant, key_id, secret, stored)
            return key_id, secret

    def forget(self, admin: AdminIdentity, tenant: str) -> None:
        self._secrets.pop(key_id_of(admin, tenant), None)

    async def _make(
        self, admin: AdminIdentity, tenant: str, key_id: str, secret: str, stored: StoredKey | None
    ) -> None:
        setup = self._setup
        digest = setup.digest(secret)
        if stored is None:
            note = f"the test key of {admin.id} on the playground"
            new = StoredKey(key_id, tenant, None, None, note, ("*",), (), 0, None, None)
            try:
                await in_thread(setup.store.add_key, admin.actor, new, digest)
            except KeyExists:  # another replica was faster
                raise AdminRefused(409, "taken", f"the test key {key_id} was made just now; try again") from None
            budget = ManagedBudget(tenant, "key", key_id, {"dollars_per_day": DOLLARS_PER_DAY})
            await in_thread(setup.store.set_budget, admin.actor, budget)
        else:
            await in_thread(setup.store.rotate_key, admin.actor, stored, digest, setup.now_ms())
        await setup.publish()


def key_id_of(admin: AdminIdentity, tenant: str | None) -> str:
    """A label of at most 64 characters."""
    name = "".join(c if c.isascii() and (c.isalnum() or c in "._@-") else "-" for c in admin.id)
    ending = f".{tenant}" if tenant is not None else ""
    return f"{KEY_PREFIX}{name}{ending}"[:64]


async def _cost(ledger: Ledger, exchange: str, key_id: str) -> Mapping[str, str]:
    """What the ledger says of the call, once it has it."""
    if not exchange:
        return {"text": f"no provider was asked; the ledger has the call under the key {key_id}"}
    for _ in range(_POLLS):
        row = await in_thread(ledger.row, exchange)
        if row is not None:
            tokens = sum(row[name] or 0 for name in TOKENS)
            cost = "unknown price" if row["unpriced"] else f"${row['cost'] or 0}"
            provider = f"{row['provider']} ({row['upstream_model']})"
            return {
                "exchange": exchange,
                "text": f"{cost}, {tokens} tokens, {provider}, {row['attempts']} attempts, key {key_id}",
            }
        await asyncio.sleep(_POLL_SECONDS)
    return {"exchange": exchange, "text": "the ledger does not have the call yet"}


def _encoded(name: str, texts: Mapping[str, str]) -> str:
    return f"event: {name}\ndata: {json.dumps(dict(texts))}\n\n"

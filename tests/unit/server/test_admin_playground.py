"""The playground of the admin API: its test keys, its bounds and its events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from admin_kit import PEPPER, Api, open_api

from edge_extproc.auth.api_key import digest
from edge_extproc.model.managed import ManagedBudget
from edge_extproc.server.admin_playground import FORMATS

CALL = {"tenant": "acme", "model": "gpt-4o-mini", "prompt": "Hi"}


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    found.playground.status, found.playground.exchange = "200", ""
    yield found
    found.engine.dispose()


def events(text: str) -> list[tuple[str, dict[str, str]]]:
    blocks = [block.split("\n") for block in text.split("\n\n") if block]
    return [(name.removeprefix("event: "), json.loads(data.removeprefix("data: "))) for name, data in blocks]


async def send(api: Api, name: str = "acme-admin", **changes: Any) -> Any:
    return await api.ask(name, "POST", "/playground", json={**CALL, **changes})


async def test_the_first_call_makes_a_test_key_with_a_budget(api: Api) -> None:
    answer = await send(api)
    ((call, key_id, secret),) = api.playground.sent
    (managed,) = api.store.snapshot().keys

    assert ("text/event-stream", "playground.acme-admin.acme") == (
        answer.headers["content-type"].partition(";")[0],
        key_id,
    )
    assert (key_id, "acme", digest(PEPPER, secret)) == (managed.id, managed.tenant, managed.digest)
    assert ManagedBudget("acme", "key", key_id, {"dollars_per_day": "1"}) in api.store.budgets()
    assert (1, "Hi") == (api.published, call.prompt)
    assert ["budget.set", "key.create"] == [line.action for line in api.store.audit(None, None, 9)]
    assert secret not in answer.text


async def test_the_key_is_used_again_and_each_user_has_one_for_each_tenant(api: Api) -> None:
    for name, tenant in (("acme-admin", "acme"), ("acme-admin", "acme"), ("root", "acme"), ("root", "umbrella")):
        await send(api, name, tenant=tenant)
    ids = [key_id for _, key_id, _ in api.playground.sent]
    secrets = {secret for _, _, secret in api.playground.sent}

    assert ["playground.acme-admin.acme"] * 2 + ["playground.root.acme", "playground.root.umbrella"] == ids
    assert 3 == len(secrets)


async def test_a_key_that_the_gateway_refuses_gets_another_secret(api: Api) -> None:
    api.playground.status = "401"
    await send(api)
    await send(api)
    (_, key_id, first), (_, _, second) = api.playground.sent

    assert first != second
    assert [(key_id, digest(PEPPER, second))] == [
        (key.id, key.digest) for key in api.store.snapshot().keys if key.expires_ms is None
    ]


async def test_a_revoked_test_key_ends_the_playground_for_its_user(api: Api) -> None:
    await send(api)
    await api.ask("root", "DELETE", "/keys/playground.acme-admin.acme")
    answer = await send(api)

    assert (409, "revoked") == (answer.status_code, answer.json()["error"]["code"])
    assert 1 == len(api.playground.sent)


@pytest.mark.parametrize(
    ("name", "changes", "status"),
    [
        ("acme-eye", {}, 403),
        ("acme-admin", {"tenant": "umbrella"}, 403),
        ("root", {"tenant": "none"}, 404),
        ("root", {"format": "cobol"}, 400),
        ("root", {"model": ""}, 400),
    ],
)
async def test_who_may_not_call_sends_nothing(api: Api, name: str, changes: dict[str, str], status: int) -> None:
    assert status == (await send(api, name, **changes)).status_code
    assert ([], ()) == (api.playground.sent, api.store.snapshot().keys)


async def test_without_a_listener_it_is_off_and_says_why(api: Api) -> None:
    api.playground.address = None
    state = (await api.ask("eye", "GET", "/playground")).json()

    assert (None, True) == (state["url"], "admin.gateway_url" in state["reason"])
    assert 409 == (await send(api, "root")).status_code
    assert list(FORMATS) == state["formats"]


async def test_events_end_with_what_the_ledger_says(api: Api) -> None:
    api.settle("e1", provider="openai", upstream_model="gpt-4o-mini", cost=2 * 10**9, input=3, output=4, attempts=2)
    api.playground.exchange = "e1"
    found = events((await send(api)).text)

    assert ["request", "head", "data", "data", "end", "capture", "cost"] == [name for name, _ in found]
    assert "$0.002, 7 tokens, openai (gpt-4o-mini), 2 attempts, key playground.acme-admin.acme" == found[-1][1]["text"]


async def test_no_other_key_gets_an_id_of_the_playground(api: Api) -> None:
    answer = await api.ask("root", "POST", "/keys", json={"tenant": "acme", "id": "playground.root.acme"})

    assert (400, "reserved") == (answer.status_code, answer.json()["error"]["code"])

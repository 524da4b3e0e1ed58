"""Providers and models that are added by the admin API."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from admin_kit import Api, open_api

from edge_extproc.model.managed import NO_ADDITIONS, Additions
from edge_extproc.server import admin_additions
from edge_extproc.store.managed import ManagedStore

SPARE = {"kind": "openai_compatible", "base_url": "https://spare.example/v1"}
FAST = [{"provider": "spare", "model": "fast-1"}]


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


async def put(api: Api, path: str, body: Any, status: int = 200) -> Any:
    answer = await api.ask("root", "PUT", f"/additions/{path}", json=body)
    assert status == answer.status_code, answer.text
    return answer.json()


async def test_additions_are_applied_stored_published_and_audited(api: Api) -> None:
    provider = await put(api, "providers/spare", SPARE)
    model = await put(api, "models/team/fast", FAST)
    listed = (await api.ask("eye", "GET", "/additions")).json()

    assert ("spare", SPARE, "in_force", "root") == tuple(provider[key] for key in ("name", "value", "state", "by"))
    assert ("team/fast", FAST) == (model["name"], model["value"])
    assert {"providers": [provider], "models": [model]} == listed
    both = Additions({"spare": SPARE}, {"team/fast": FAST})
    assert (both, both, 2) == (api.additions.applied, api.store.snapshot().additions, api.published)
    lines = [(line.action, line.target, line.detail) for line in api.store.audit(None, None, 9)]
    assert [("models.add", "team/fast", {"value": FAST}), ("providers.add", "spare", {"value": SPARE})] == lines


async def test_an_addition_is_replaced_and_removed(api: Api) -> None:
    await put(api, "providers/spare", SPARE)
    other = {**SPARE, "base_url": "https://other.example/v1"}
    await put(api, "providers/spare", other)
    replaced = api.additions.applied
    removed = await api.ask("root", "DELETE", "/additions/providers/spare")

    assert Additions({"spare": other}) == replaced
    assert (204, NO_ADDITIONS, NO_ADDITIONS) == (
        removed.status_code,
        api.additions.applied,
        api.store.snapshot().additions,
    )
    assert 404 == (await api.ask("root", "DELETE", "/additions/providers/spare")).status_code


async def test_what_the_gateway_refuses_is_not_stored(api: Api) -> None:
    api.additions.refused = "added by the admin API: providers.spare.kind: there is no such kind"
    answer = await put(api, "providers/spare", {"kind": "nonsense"}, 400)

    assert ("not_applied", api.additions.refused) == (answer["error"]["code"], answer["error"]["message"])
    assert ([], 0) == (api.store.additions(), api.published)


async def test_what_cannot_be_stored_is_not_in_force(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def down(*_: object) -> None:
        raise OperationalError("insert", {}, Exception("the disk is full"))

    await put(api, "providers/spare", SPARE)
    monkeypatch.setattr(ManagedStore, "add", down)
    await put(api, "models/fast", FAST, 503)

    assert Additions({"spare": SPARE}) == api.additions.applied


async def test_the_file_takes_precedence(api: Api) -> None:
    answer = await put(api, "models/gpt-4o", FAST, 409)
    assert "in the configuration file" in answer["error"]["message"]
    api.store.add(_actor(), "models", "gpt-4o", FAST)
    (shown,) = (await api.ask("eye", "GET", "/additions")).json()["models"]

    assert "replaced_by_file" == shown["state"]


async def test_an_addition_that_this_gateway_has_not_applied_is_named(api: Api) -> None:
    api.store.add(_actor(), "models", "fast", FAST)
    (shown,) = (await api.ask("eye", "GET", "/additions")).json()["models"]

    assert "not_applied" == shown["state"]


async def test_additions_need_the_permission_of_the_file(api: Api) -> None:
    api.additions.is_permitted = False
    answer = await put(api, "models/fast", FAST, 409)

    assert "admin.additions" in answer["error"]["message"]


async def test_who_is_bound_to_a_tenant_sees_none(api: Api) -> None:
    assert 403 == (await api.ask("acme-eye", "GET", "/additions")).status_code
    assert 403 == (await api.ask("acme-admin", "PUT", "/additions/models/fast", json=FAST)).status_code


async def test_there_is_a_most(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_additions, "MOST_ADDITIONS", 1)
    await put(api, "models/fast", FAST)
    await put(api, "models/fast", FAST)
    answer = await put(api, "models/faster", FAST, 409)

    assert "too_many" == answer["error"]["code"]


def _actor() -> Any:
    from edge_extproc.store.managed import Actor

    return Actor("another replica", "admin")

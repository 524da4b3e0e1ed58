"""The admin API: who may do what, and that nobody can grant more than it holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from admin_kit import PEPPER, START_MS, TOKENS, Api, open_api, secret_of
from settlements import settlement
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from edge_extproc.auth.api_key import digest
from edge_extproc.model.limit_use import LimitUse
from edge_extproc.model.rule_hit import RuleHit
from edge_extproc.server import admin
from edge_extproc.server.admin_api import NEEDS
from edge_extproc.server.admin_errors import RANK
from edge_extproc.server.admin_usage import in_parts
from edge_extproc.store.journal import row_of
from edge_extproc.store.managed import Actor


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


BODIES: dict[str, Any] = {
    "POST /keys": {"tenant": "acme"},
    "POST /cache/purge": {},
    "POST /config/check": {"text": "version: 1"},
    "POST /config/replay": {"text": "version: 1"},
    "POST /playground": {"tenant": "acme", "model": "gpt-4o-mini"},
    "PUT /providers/{provider}/taken-out": {"seconds": 60},
    "PUT /additions/models/{model:path}": [{"provider": "spare"}],
}
NAMES = {
    "key_id": "acme-api",
    "tenant": "acme",
    "level": "team",
    "name": "search",
    "exchange": "of-acme",
    "provider": "spare",
    "model": "fast",
}


def _request(method: str, path: str) -> tuple[str, str, dict[str, Any]]:
    filled = path.replace(":path", "").format(**NAMES)
    body = BODIES.get(f"{method} {path}", {"requests_per_minute": 5} if method == "PUT" else None)
    return method, filled, {"json": body} if body is not None else {}


@pytest.mark.parametrize(("method", "path"), NEEDS)
async def test_every_route_refuses_those_below_its_role_and_whoever_is_nobody(api: Api, method: str, path: str) -> None:
    await api.ask("root", "POST", "/keys", json={"tenant": "acme", "id": "acme-api"})
    await api.ask("root", "PUT", "/budgets/acme/team/search", json={"concurrent": 1})
    api.settle("of-acme")
    before = len(api.store.audit(None, None, 100))
    verb, filled, options = _request(method, path)

    assert 401 == (await api.ask(None, verb, filled, **options)).status_code
    for name, (role, tenant) in TOKENS.items():
        answer = await api.ask(name, verb, filled, **options)
        if RANK[role] < RANK[NEEDS[method, path]]:
            assert (403, "role_needed") == (answer.status_code, answer.json()["error"]["code"]), name
        elif tenant == "umbrella":
            # It must not change what is acme's, nor learn whether it is there.
            assert answer.status_code in (403, 404) or b"acme" not in answer.content, name
    if method == "GET":
        assert before == len(api.store.audit(None, None, 100))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([("authorization", f"Bearer {secret_of('root')}")], 200),
        ([("authorization", f"bearer {secret_of('root')}")], 200),
        ([("authorization", f"Basic {secret_of('root')}")], 401),
        ([("authorization", secret_of("root"))], 401),
        ([("authorization", "Bearer ")], 401),
        ([("authorization", f"Bearer {secret_of('root')}x")], 401),
        ([("x-api-key", secret_of("root"))], 401),
        ([("authorization", f"Bearer {secret_of('root')}"), ("authorization", "Bearer x")], 401),
    ],
)
async def test_a_token_comes_in_one_header_and_in_one_form(
    api: Api, headers: list[tuple[str, str]], status: int
) -> None:
    import httpx2

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=api.app), base_url="http://admin") as client:
        answer = await client.get("/admin/v1/whoami", headers=headers)

    assert status == answer.status_code


async def test_a_key_is_told_once_and_kept_as_a_digest(api: Api) -> None:
    made = await api.ask("acme-admin", "POST", "/keys", json={"tenant": "acme", "id": "ci", "team": "search"})
    key = made.json()["key"]
    shown = await api.ask("acme-eye", "GET", "/keys/ci")

    assert (201, 200) == (made.status_code, shown.status_code)
    assert key not in shown.text
    (managed,) = api.store.snapshot().keys
    assert (digest(PEPPER, key), "acme", "search") == (managed.digest, managed.tenant, managed.team)
    assert 1 == api.published
    with api.engine.connect() as connection:
        for table in ("keys", "audit"):
            assert key not in str(connection.execute(text(f"SELECT * FROM {table}")).all())  # noqa: S608 - our own names


async def test_rotation_keeps_the_old_key_for_a_while_and_revocation_ends_both(api: Api) -> None:
    old = (await api.ask("root", "POST", "/keys", json={"tenant": "acme", "id": "ci"})).json()["key"]
    new = (await api.ask("acme-admin", "POST", "/keys/ci/rotate", json={"overlap_seconds": 60})).json()["key"]

    assert {digest(PEPPER, new): None, digest(PEPPER, old): START_MS + 60_000} == {
        key.digest: key.expires_ms for key in api.store.snapshot().keys
    }
    await api.ask("acme-admin", "DELETE", "/keys/ci")
    assert () == api.store.snapshot().keys
    assert 409 == (await api.ask("root", "POST", "/keys/ci/rotate")).status_code


async def test_a_key_of_the_configuration_can_be_revoked_but_not_rotated(api: Api) -> None:
    assert 409 == (await api.ask("root", "POST", "/keys/acme-file/rotate")).status_code
    assert 404 == (await api.ask("umbrella-admin", "DELETE", "/keys/acme-file")).status_code
    revoked = await api.ask("acme-admin", "DELETE", "/keys/acme-file")
    again = await api.ask("acme-admin", "DELETE", "/keys/acme-file")

    assert ("config", revoked.json()) == (revoked.json()["source"], again.json())
    assert ("acme-file",) == api.store.snapshot().revoked


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"tenant": "nobody"}, 404, "unknown_tenant"),
        ({"tenant": "acme", "id": "acme-file"}, 409, "taken"),
        ({"tenant": "acme", "roles": ["root"]}, 400, "unknown_role"),
        ({"tenant": "acme", "expires": "2001-01-01T00:00:00Z"}, 400, "expired"),
        ({"tenant": "acme", "expires": "2101-01-01T00:00:00"}, 400, "invalid_request"),
        ({"tenant": "acme", "models": []}, 400, "invalid_request"),
        ({"tenant": "acme", "admin": True}, 400, "invalid_request"),
        ({}, 400, "invalid_request"),
    ],
)
async def test_a_key_that_cannot_be_is_refused_with_its_reason(
    api: Api, body: dict[str, Any], status: int, code: str
) -> None:
    answer = await api.ask("root", "POST", "/keys", json=body)

    assert (status, code) == (answer.status_code, answer.json()["error"]["code"])
    assert (0, []) == (api.published, api.store.audit(None, None, 10))


async def test_nobody_makes_a_key_that_may_more_than_its_maker(api: Api) -> None:
    wanted = {"tenant": "acme", "roles": ["owner"]}
    refused = await api.ask("acme-admin", "POST", "/keys", json=wanted)
    made = await api.ask("root", "POST", "/keys", json=wanted)
    own = await api.ask("acme-admin", "POST", "/keys", json={"tenant": "acme", "roles": ["reader"]})

    assert (403, "beyond_own_rights") == (refused.status_code, refused.json()["error"]["code"])
    assert (201, 201) == (made.status_code, own.status_code)


async def test_the_same_id_twice_is_refused(api: Api) -> None:
    await api.ask("root", "POST", "/keys", json={"tenant": "acme", "id": "ci"})

    assert (
        409 == (await api.ask("umbrella-admin", "POST", "/keys", json={"tenant": "umbrella", "id": "ci"})).status_code
    )


async def test_a_tenant_admin_sets_budgets_below_its_tenant_alone(api: Api) -> None:
    own = await api.ask("acme-admin", "PUT", "/budgets/acme/team/search", json={"dollars_per_day": 5})
    whole = await api.ask("acme-admin", "PUT", "/budgets/acme/tenant/acme", json={"dollars_per_day": 5000})
    other = await api.ask("acme-admin", "PUT", "/budgets/umbrella/team/x", json={"dollars_per_day": 5})
    by_root = await api.ask("root", "PUT", "/budgets/acme/tenant/acme", json={"dollars_per_day": 50})

    assert [200, 403, 403, 200] == [a.status_code for a in (own, whole, other, by_root)]
    shown = (await api.ask("acme-eye", "GET", "/budgets")).json()
    assert [("api", "team"), ("api", "tenant"), ("config", "tenant")] == [(b["source"], b["level"]) for b in shown]
    assert 400 == (await api.ask("root", "PUT", "/budgets/acme/tenant/other", json={"concurrent": 1})).status_code


@pytest.mark.parametrize(
    "body", [{}, {"dollars_per_day": -1}, {"dollars": 5}, {"concurrent": 0}, {"warn_at": 50}, {"time_zone": "Mars/X"}]
)
async def test_an_allowance_that_is_none_is_refused(api: Api, body: dict[str, Any]) -> None:
    answer = await api.ask("root", "PUT", "/budgets/acme/team/search", json=body)

    assert (400, "invalid_allowance") == (answer.status_code, answer.json()["error"]["code"])


async def test_every_change_is_in_the_audit_log_with_who_made_it(api: Api) -> None:
    await api.ask("acme-admin", "POST", "/keys", json={"tenant": "acme", "id": "ci"})
    await api.ask("root", "PUT", "/budgets/umbrella/key/x", json={"concurrent": 3})
    await api.ask("root", "DELETE", "/budgets/umbrella/key/x")
    await api.ask("acme-admin", "DELETE", "/keys/ci")
    await api.ask("acme-admin", "POST", "/cache/purge", json={"model": "gpt*"})

    lines = (await api.ask("root", "GET", "/audit")).json()
    assert [
        ("acme-admin", "cache.purge", "cache"),
        ("acme-admin", "key.revoke", "ci"),
        ("root", "budget.delete", "key/x"),
        ("root", "budget.set", "key/x"),
        ("acme-admin", "key.create", "ci"),
    ] == [(line["actor"], line["action"], line["target"]) for line in lines]
    own = (await api.ask("acme-eye", "GET", "/audit", params={"limit": 1})).json()
    assert ["cache.purge"] == [line["action"] for line in own]
    assert 403 == (await api.ask("acme-eye", "GET", "/audit", params={"tenant": "umbrella"})).status_code
    assert [("acme", "gpt*")] == [(p.tenant, p.model) for p in api.purged]


async def test_what_all_tenants_share_is_purged_by_who_manages_all(api: Api) -> None:
    refused = await api.ask("acme-admin", "POST", "/cache/purge", json={"shared": True})
    done = await api.ask("root", "POST", "/cache/purge", json={"shared": True, "model": "faq"})

    assert (403, "shared_by_all") == (refused.status_code, refused.json()["error"]["code"])
    assert 200 == done.status_code
    assert [(None, "faq", True)] == [(p.tenant, p.model, p.shared) for p in api.purged]


@pytest.mark.parametrize("statement", ["UPDATE audit SET actor = 'nobody'", "DELETE FROM audit"])
def test_the_audit_log_only_grows(api: Api, statement: str) -> None:
    api.store.note(Actor("root", "admin"), "key.create", "acme", "ci", {})

    with pytest.raises(SQLAlchemyError, match="only grows"), api.engine.begin() as connection:
        connection.execute(text(statement))
    assert "root" == api.store.audit(None, None, 1)[0].actor


async def test_a_database_that_is_gone_is_a_503_that_says_so(api: Api) -> None:
    with api.engine.begin() as connection:
        connection.execute(text("DROP TABLE keys"))

    answer = await api.ask("root", "GET", "/keys")
    assert (503, "store_down") == (answer.status_code, answer.json()["error"]["code"])
    assert 401 == (await api.ask(None, "GET", "/keys")).status_code


async def test_errors_repeat_nothing_of_what_was_sent(api: Api) -> None:
    answer = await api.ask("root", "POST", "/keys", json={"tenant": {"secret": "hunter2"}})

    assert 400 == answer.status_code
    assert "hunter2" not in answer.text


async def test_paths_and_methods_that_are_none_are_told_as_errors_too(api: Api) -> None:
    nowhere, wrong = await api.ask("root", "GET", "/nothing"), await api.ask("root", "PATCH", "/keys")

    assert [(404, "not_found"), (405, "method_not_allowed")] == [
        (a.status_code, a.json()["error"]["code"]) for a in (nowhere, wrong)
    ]
    assert admin.NO_SUCH_PATH == nowhere.json()["error"]["message"]


async def test_keys_come_in_pages(api: Api) -> None:
    for n in range(5):
        await api.ask("root", "POST", "/keys", json={"tenant": "umbrella", "id": f"u-{n}"})

    first = (await api.ask("umbrella-admin", "GET", "/keys", params={"limit": 3})).json()
    rest = (await api.ask("umbrella-admin", "GET", "/keys", params={"after": first[-1]["id"]})).json()
    assert ["u-0", "u-1", "u-2", "u-3", "u-4", "umbrella-file"] == [key["id"] for key in (*first, *rest)]


def test_the_published_description_is_that_of_the_code(api: Api) -> None:
    """To write it anew: python tests/admin_kit.py > docs/admin-openapi.json"""
    published = Path(__file__).parents[3] / "docs" / "admin-openapi.json"

    assert json.loads(published.read_text()) == api.app.openapi()


async def test_quarantined_rows_are_shown_to_those_whose_they_are(api: Api) -> None:
    api.quarantine.put(b'{"exchange":"q1"}', "DataError: out of range", "acme")
    api.quarantine.put(b"no row", "it is not a row: Truncated")

    async def shown(name: str, query: str = "") -> list[tuple[str, str | None]]:
        answer = await api.ask(name, "GET", f"/usage/quarantine{query}")
        assert 200 == answer.status_code
        return [(each["line"], each["tenant"]) for each in answer.json()]

    assert [("no row", None), ('{"exchange":"q1"}', "acme")] == await shown("eye")
    assert [('{"exchange":"q1"}', "acme")] == await shown("acme-eye") == await shown("root", "?tenant=acme")
    assert [] == await shown("umbrella-admin")
    assert [("no row", None)] == await shown("root", "?limit=1")


async def test_a_budget_shows_what_is_used_reserved_and_left_and_until_when(api: Api) -> None:
    await api.ask("root", "PUT", "/budgets/acme/user/*", json={"requests_per_minute": 10, "dollars_per_run": 3})
    await api.ask("root", "PUT", "/budgets/acme/user/bob", json={"requests_per_minute": 99})
    until = 1_800_057_600
    uses = [
        LimitUse(("acme", "tenant", "acme", "dollars", "day"), 100_000_000, 40_500_000, 500_000, until),
        LimitUse(("acme", "user", "ann", "requests", "minute"), 10, 3, 0, until),
        LimitUse(("acme", "user", "eve", "requests", "minute"), 10, 12, 1, until),
        LimitUse(("acme", "user", "bob", "requests", "minute"), 99, 98, 0, until),
        LimitUse(("umbrella", "user", "ann", "requests", "minute"), 10, 10, 0, until),
    ]
    api.uses = {use.limit: use for use in uses}
    shown = {(b["level"], b["name"]): b["limits"] for b in (await api.ask("acme-eye", "GET", "/budgets")).json()}
    at = {"until": "2027-01-16T00:00:00Z"}

    assert {
        ("tenant", "acme"): [
            {
                "limit": "dollars_per_day",
                "maximum": "100",
                "used": "40",
                "reserved": "0.5",
                "left": "59.5",
                **at,
                "forecast": "120",
            }
        ],
        ("user", "*"): [
            {
                "limit": "requests_per_minute",
                "maximum": 10,
                "used": 11,
                "reserved": 1,
                "left": 0,
                **at,
                "forecast": None,
            }
        ],
        ("user", "bob"): [
            {
                "limit": "requests_per_minute",
                "maximum": 99,
                "used": 98,
                "reserved": 0,
                "left": 1,
                **at,
                "forecast": None,
            }
        ],
    } == shown


@pytest.mark.parametrize(
    ("limit", "window", "zone", "before_end", "used", "forecast"),
    [
        ("dollars_per_hour", "hour", "UTC", 1800, 2, "4"),
        ("dollars_per_day", "day", "UTC", 21_600, 3, "4"),
        # The hour of Kathmandu begins at a quarter of that of UTC.
        ("dollars_per_hour", "hour", "Asia/Kathmandu", 900, 3, "4"),
        # October there has an hour more than in UTC: this is the last tenth of 31 days and an hour.
        ("dollars_per_month", "month", "Europe/Berlin", 268_200, 9, "10"),
        # Too early in the window.
        ("dollars_per_hour", "hour", "UTC", 3500, 2, None),
        ("requests_per_minute", "minute", "UTC", 30, 2, None),
    ],
)
async def test_a_forecast_is_of_the_average_since_the_windows_beginning(
    api: Api, limit: str, window: str, zone: str, before_end: int, used: int, forecast: str | None
) -> None:
    # The end of an hour of each zone, and of October 2026 in Berlin.
    until = {"Asia/Kathmandu": 1_800_000_900, "Europe/Berlin": 1_793_487_600}.get(zone, 1_800_057_600)
    api.now = (until - before_end) * 1000
    await api.ask("root", "PUT", "/budgets/acme/team/search", json={limit: 50, "time_zone": zone})
    measure = "requests" if window == "minute" else "dollars"
    unit = 1 if measure == "requests" else 1_000_000
    use = LimitUse(("acme", "team", "search", measure, window), 50 * unit, used * unit, 0, until)
    api.uses = {use.limit: use}
    (shown,) = (await api.ask("acme-eye", "GET", "/budgets?level=team")).json()[0]["limits"]

    assert forecast == shown["forecast"]


async def test_a_limit_that_no_worker_could_read_is_shown_as_unknown(api: Api) -> None:
    api.uses = {}
    (limit,) = (await api.ask("acme-eye", "GET", "/budgets")).json()[-1]["limits"]

    assert ("dollars_per_day", "100", None, None, None, None, None) == tuple(limit.values())


async def test_the_counts_of_guardrails_are_shown_to_those_whose_they_are(api: Api) -> None:
    for number, tenant in enumerate(("acme", "acme", "umbrella")):
        hits = (RuleHit("pii", "email", "mask", "enforce", "request", 2),)
        row = row_of(settlement(exchange_id=f"g{number}", tenant=tenant, guardrails=hits))
        assert row is not None
        api.ledger.add([row])

    async def shown(name: str) -> list[tuple[str, str, int, int]]:
        answer = await api.ask(name, "GET", "/guardrails")
        assert 200 == answer.status_code
        return [(each["rule"], each["label"], each["calls"], each["findings"]) for each in answer.json()]

    assert [("pii", "email", 3, 6)] == await shown("eye")
    assert [("pii", "email", 2, 4)] == await shown("acme-eye")
    assert [("pii", "email", 1, 2)] == await shown("umbrella-admin")


def test_a_file_is_made_in_parts() -> None:
    lines = [f"{n}\n" for n in range(250)]
    parts = list(in_parts(iter(lines)))

    assert [100, 100, 50] == [part.count("\n") for part in parts]
    assert "".join(lines) == "".join(parts)
    assert [] == list(in_parts(iter(())))


async def test_budgets_are_selected_and_limited(api: Api) -> None:
    for n in range(5):
        await api.ask("root", "PUT", f"/budgets/umbrella/user/u{n}", json={"requests_per_minute": n + 1})
    await api.ask("root", "PUT", "/budgets/acme/team/u1", json={"requests_per_minute": 9})

    async def names(name: str, query: str) -> list[tuple[str, str, str]]:
        answer = await api.ask(name, "GET", f"/budgets?{query}")
        return [(b["tenant"], b["level"], b["name"]) for b in answer.json()]

    assert [("umbrella", "user", "u1")] == await names("root", "level=user&name=u1")
    assert [("acme", "team", "u1"), ("umbrella", "user", "u0")] == await names("root", "limit=2")
    assert [("acme", "team", "u1")] == await names("acme-admin", "name=u1")
    assert [400, 400] == [
        (await api.ask("root", "GET", f"/budgets?{query}")).status_code for query in ("level=x", "limit=0")
    ]

"""What holds of every page and button: rights as in the API, no forged form, text as text, no inline code, no other
host."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

import pytest
from admin_kit import TOKENS, Api, open_api, secret_of
from pages_kit import AdminPort, Browser, Page
from settlements import settlement

from edge_extproc.model.managed import ManagedBudget
from edge_extproc.model.rule_hit import RuleHit
from edge_extproc.pages.app import PAGES
from edge_extproc.server.admin_api import NEEDS
from edge_extproc.server.admin_config import ConfigDifference
from edge_extproc.server.admin_errors import RANK
from edge_extproc.store.journal import LedgerRow, row_of
from edge_extproc.store.ledger import UsageFilter
from edge_extproc.store.managed import Actor, StoredKey
from edge_extproc.telemetry.traffic import TrafficHistory

READ = [path for method, path in PAGES if method == "GET"]
# For each form of the pages: the route of the API, its path for a thing of acme, and the same request as a form and to
# the API.
BUTTONS: dict[str, tuple[tuple[str, str], str, dict[str, str], Any]] = {
    "/keys": (("POST", "/keys"), "/keys", {"tenant": "acme"}, {"tenant": "acme"}),
    "/keys/{key_id}/rotate": (
        ("POST", "/keys/{key_id}/rotate"),
        "/keys/of-acme/rotate",
        {"overlap_seconds": "0"},
        {"overlap_seconds": 0},
    ),
    "/keys/{key_id}/revoke": (("DELETE", "/keys/{key_id}"), "/keys/of-acme", {}, None),
    "/budgets/set": (
        ("PUT", "/budgets/{tenant}/{level}/{name}"),
        "/budgets/acme/team/search",
        {"tenant": "acme", "level": "team", "name": "search", "limit": "dollars_per_day", "maximum": "1.50"},
        {"dollars_per_day": "1.50"},
    ),
    "/cache/purge": (("POST", "/cache/purge"), "/cache/purge", {"tenant": "acme"}, {"tenant": "acme"}),
    "/providers/probe": (
        ("POST", "/providers/{provider}/probe"),
        "/providers/spare/probe",
        {"provider": "spare"},
        None,
    ),
    "/providers/take-out": (
        ("PUT", "/providers/{provider}/taken-out"),
        "/providers/spare/taken-out",
        {"provider": "spare", "seconds": "60"},
        {"seconds": 60},
    ),
    "/providers/put-back": (
        ("DELETE", "/providers/{provider}/taken-out"),
        "/providers/openai/taken-out",
        {"provider": "openai"},
        None,
    ),
    "/playground": (
        ("POST", "/playground"),
        "/playground",
        {"tenant": "acme", "model": "gpt-4o-mini", "format": "chat_completions", "prompt": "Hello"},
        {"tenant": "acme", "model": "gpt-4o-mini"},
    ),
    "/config/check": (("POST", "/config/check"), "/config/check", {"text": "a: 1"}, {"text": "a: 1"}),
    "/config/replay": (("POST", "/config/replay"), "/config/replay", {"text": "a: 1"}, {"text": "a: 1"}),
    "/config/add": (
        ("PUT", "/additions/models/{model:path}"),
        "/additions/models/fast",
        {"section": "models", "name": "fast", "value": '[{"provider": "openai"}]'},
        [{"provider": "openai"}],
    ),
    "/config/remove": (
        ("DELETE", "/additions/models/{model:path}"),
        "/additions/models/fast",
        {"section": "models", "name": "fast"},
        None,
    ),
    "/budgets/delete": (
        ("DELETE", "/budgets/{tenant}/{level}/{name}"),
        "/budgets/acme/team/search",
        {"tenant": "acme", "level": "team", "name": "search"},
        None,
    ),
}
FILTERED_BY_TENANT = {
    *("/guards", "/requests", "/requests.csv", "/conversations", "/money", "/money.csv", "/keys", "/audit"),
}
MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{7*7}}"
ROOT = Actor("root", "admin")
LARGEST = 150 * 1024
REQUESTS_OF_A_PAGE = 50


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    for tenant in ("acme", "umbrella"):
        found.settle(
            f"request-of-{tenant}", tenant, user=f"user-of-{tenant}", provider="openai", cost=1_500_000_000_000
        )
        add_key(found, f"of-{tenant}", tenant)
        found.store.set_budget(ROOT, ManagedBudget(tenant, "team", "search", {"requests_per_minute": 5}))
    found.store.take_out(ROOT, "openai", None, "it is slow")
    found.store.add(ROOT, "models", "fast", [{"provider": "openai"}])
    yield found
    found.engine.dispose()


def add_key(api: Api, name: str, tenant: str, note: str = "") -> None:
    key = StoredKey(name, tenant, None, None, note, ("*",), (), 0, None, None)
    api.store.add_key(ROOT, key, f"digest of {name}".ljust(64)[:64])


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


def address(path: str, tenant: str = "acme") -> str:
    return path.format(exchange=f"request-of-{tenant}", key_id=f"of-{tenant}")


def forms_of(page: Page) -> set[str]:
    """The forms that change something, by their paths in PAGES."""
    actions = {form.action.removeprefix("/ui") for form in page.forms if form.method == "post"}
    # A button may send its form to another path.
    actions |= {given["formaction"].removeprefix("/ui") for _, given in page.elements if "formaction" in given}
    return {re.sub(r"(?<=^/keys/)[^/]+", "{key_id}", action) for action in actions} - {"/sign-out"}


def test_every_button_is_in_the_walk() -> None:
    assert {path for method, path in PAGES if method == "POST"} == BUTTONS.keys()
    assert {route for route, *_ in BUTTONS.values()} <= NEEDS.keys()


@pytest.mark.parametrize("name", TOKENS)
async def test_a_page_shows_a_role_the_buttons_that_the_api_accepts_from_it(port: AdminPort, name: str) -> None:
    role, tenant = TOKENS[name]
    browser = await port.signed_in(name)
    shown: set[str] = set()
    for path in READ:
        if not path.endswith(".csv"):
            shown |= forms_of(await browser.page(address(path, tenant or "acme")))

    allowed = {path for path, (route, *_) in BUTTONS.items() if RANK[role] >= RANK[NEEDS[route]]}
    assert allowed == shown


@pytest.mark.parametrize("path", BUTTONS)
@pytest.mark.parametrize("name", TOKENS)
async def test_a_button_does_for_a_role_what_the_api_does(api: Api, port: AdminPort, name: str, path: str) -> None:
    (method, _), target, fields, body = BUTTONS[path]
    browser = await port.signed_in(name)
    page = await browser.post(address(path), **fields)
    lines = api.store.audit(None, None, 1)
    changed = lines[0].number
    # What the page has changed is there no more.
    again = {"/budgets/delete": 404, "/providers/put-back": 404, "/providers/probe": 429, "/config/remove": 404}
    answer = await api.ask(name, method, target, **({"json": body} if body is not None else {}))

    if page.status_code >= 400:
        assert answer.status_code == page.status_code
        assert answer.json()["error"]["message"] in Page(page.text).text
        assert "root" == lines[0].actor
    else:
        assert answer.status_code in (200, 201, 204, again.get(path, 200), 409)
        assert (name, changed) == (lines[0].actor, changed)


@pytest.mark.parametrize("name", ["acme-admin", "acme-eye"])
async def test_who_is_bound_to_a_tenant_sees_nothing_of_others(port: AdminPort, name: str) -> None:
    browser = await port.signed_in(name)

    for path in READ:
        answer = await browser.get(address(path))
        assert (200, False) == (answer.status_code, "umbrella" in answer.text), path
        if "{" in path:
            others = await browser.get(address(path, "umbrella"))
            assert (404, False) == (others.status_code, "user-of" in others.text), path
        else:
            filtered = await browser.get(f"{path}?tenant=umbrella")
            # Pages without this filter show what they show without it.
            assert (403 if path in FILTERED_BY_TENANT else 200) == filtered.status_code, path
            assert filtered.status_code == 403 or "umbrella" not in filtered.text, path


@pytest.mark.parametrize("path", READ)
async def test_every_page_needs_a_session(port: AdminPort, path: str) -> None:
    answer = await port.browser().get(address(path))

    assert (303, True) == (answer.status_code, answer.headers["location"].startswith("/ui/sign-in"))


@pytest.mark.parametrize("path", [*BUTTONS, "/sign-out"])
@pytest.mark.parametrize("token", ["", "0" * 64, "of another session"])
async def test_a_forged_form_does_nothing(api: Api, port: AdminPort, path: str, token: str) -> None:
    browser = await port.signed_in("root")
    if token.startswith("of"):
        token = await (await port.signed_in("root")).csrf()
    before = api.store.revision()
    fields = BUTTONS[path][2] if path in BUTTONS else {}
    answer = await browser.client.post(f"/ui{address(path)}", data={**fields, "csrf": token})

    assert 403 == answer.status_code
    assert before == api.store.revision()
    await browser.csrf()  # it is still signed in


async def test_a_form_of_another_site_is_refused_before_it_is_read(port: AdminPort) -> None:
    browser = await port.signed_in("root")
    csrf = await browser.csrf()
    headers = {"origin": "https://evil.example"}
    answer = await browser.client.post("/ui/keys", data={"csrf": csrf, "tenant": "acme"}, headers=headers)

    assert (403, "foreign_origin") == (answer.status_code, answer.json()["error"]["code"])


@pytest.mark.parametrize("path", [*READ, "/sign-in", "/static/live.js", "/static/style.css", "/nothing", "/keys/none"])
async def test_every_response_has_the_headers_that_keep_foreign_code_out(port: AdminPort, path: str) -> None:
    answer = await (await port.signed_in("root")).get(address(path))
    policy = dict(part.partition(" ")[::2] for part in answer.headers["content-security-policy"].split("; "))

    assert ("'none'", "'self'", "'self'") == (policy["default-src"], policy["script-src"], policy["style-src"])
    assert ("'none'", "'none'", "'self'") == (policy["base-uri"], policy["frame-ancestors"], policy["form-action"])
    assert ("nosniff", "same-origin") == (
        answer.headers["x-content-type-options"],
        answer.headers["referrer-policy"],
    )
    assert path.startswith("/static/") or "no-store" == answer.headers["cache-control"]


@pytest.mark.parametrize("path", [path for path in READ if not path.endswith(".csv")])
async def test_a_page_is_small_well_formed_and_has_no_inline_code_nor_another_host(
    api: Api, port: AdminPort, path: str
) -> None:
    api.ledger.add(
        [
            LedgerRow(f"request-{n}", api.now, 9, "ok", "acme", user=f"{n:3}" * 80, model="m" * 200, key="k" * 200)
            for n in range(210)
        ]
    )
    for n in range(110):
        add_key(api, f"key-{n:03}", "acme", "n" * 400)
        api.store.set_budget(ROOT, ManagedBudget("acme", "user", f"{n:3}" * 20, {"requests_per_minute": 5}))
    browser = await port.signed_in("root")
    answer = await browser.get(f"{address(path)}?by=user" if path == "/money" else address(path))
    page = Page(answer.text)

    assert len(answer.content) <= LARGEST
    for tag, given in page.elements:
        assert "style" not in given
        assert [] == [name for name in given if name.startswith("on")]
        assert tag not in ("style", "iframe", "object", "embed")
        assert all(
            given.get(name, "/").startswith(("/ui/", "/", "#")) for name in ("href", "src", "action", "formaction")
        )
        assert not given.get("href", "").startswith("//")
    ids = [given["id"] for _, given in page.elements if "id" in given]
    assert len(ids) == len(set(ids))
    labels = {given["for"] for tag, given in page.elements if tag == "label"}
    controls = {
        given.get("id", "")
        for tag, given in page.elements
        if tag in ("input", "select", "textarea") and given.get("type") != "hidden"
    }
    assert controls == labels
    assert 1 == len([tag for tag, _ in page.elements if tag == "h1"])


async def test_what_callers_send_is_text(api: Api, port: AdminPort) -> None:
    names = dict.fromkeys(("team", "user", "key", "model", "provider", "upstream_model", "response_model"), MARKUP)
    api.settle("marked", code=MARKUP, operation=MARKUP, dialect=MARKUP, run=MARKUP, run_parent=MARKUP, **names)
    api.settle("plain", trace_id=MARKUP, outcome="rejected", cache="hit", cost=1)
    add_key(api, "marked", "acme", MARKUP)
    budget = ManagedBudget("acme", "user", MARKUP, {"dollars_per_day": "1"})
    api.store.set_budget(ROOT, budget)
    hits = (RuleHit(MARKUP, MARKUP, "block", "shadow", "request", 1),)
    row = row_of(settlement(exchange_id="hit", tenant="acme", started_at=time.time(), guardrails=hits))
    assert row is not None
    api.ledger.add([row])
    api.settle("failed", provider="openai", outcome="upstream_error", status=502, code=MARKUP)
    api.store.take_out(ROOT, "openai", None, MARKUP)
    api.configuration.found = ([ConfigDifference(key=MARKUP, in_force=MARKUP, in_file=None)], [])
    browser = await port.signed_in("root")
    dimensions = ("team", "user", "key", "model", "provider", "run", "response_model", "operation")
    pages = ["/requests", "/requests/marked", "/requests/plain", "/keys", "/keys/marked", "/money"]
    pages += [f"/money?by={name}" for name in dimensions]
    pages += ["/cache", "/audit", "/config", "/providers", "/guards"]
    port.state["last_reload"] = {"outcome": "rejected", "at": 0.0, "error": MARKUP}
    api.traffic = TrafficHistory(lambda: [MARKUP], now=lambda: api.now / 1000)
    for path in pages:
        page = await browser.page(path)
        assert {"type": "module"}.items() <= next(given for tag, given in page.elements if tag == "script").items()
        assert 1 == len([tag for tag, _ in page.elements if tag == "script"]), path
        assert "img" not in [tag for tag, _ in page.elements], path
        # The title of a chart, or the text of the page.
        assert "<script>alert(1)</script>" in page.text, path
        assert "{{7*7}}" in page.text, path
    for query in ("user", "model", "run", "provider"):
        page = Page((await browser.get("/requests", params={query: MARKUP})).text)
        assert MARKUP in page.form("/ui/requests", "get").fields[query]
    for path in ("/sign-in", "/keys", "/nothing"):
        answer = await browser.get(path, params={"next": MARKUP, "notice": MARKUP, "tenant": "x"})
        assert "<script>alert" not in answer.text


async def test_an_error_of_the_api_is_a_page_with_its_message(port: AdminPort) -> None:
    browser = await port.signed_in("root")
    unknown = await browser.get("/keys/none")
    wrong = await browser.get("/requests?before=yesterday")
    nowhere = await browser.get("/nothing")
    refused = await browser.client.get("/ui/budgets/set")

    assert (404, 400, 404, 405) == tuple(each.status_code for each in (unknown, wrong, nowhere, refused))
    assert "there is no key 'none'" in Page(unknown.text).text


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_form_that_is_none_of_ours_does_nothing(api: Api, port: AdminPort, size: int) -> None:
    browser = await port.signed_in("root")
    before = api.store.revision()
    many = "&".join(f"a{n}=1" for n in range(size // 8)) + f"&csrf={await browser.csrf()}&tenant=acme"
    kinds = {"text/plain": many, "application/x-www-form-urlencoded": many.replace("csrf", "cross")}
    for kind, body in kinds.items():
        answer = await browser.client.post("/ui/keys", content=body, headers={"content-type": kind})
        assert answer.status_code in (403, 413)

    assert before == api.store.revision()


async def test_requests_are_paged_by_time_without_a_gap_or_a_double(api: Api, port: AdminPort) -> None:
    for n in range(2 * REQUESTS_OF_A_PAGE + 20):
        api.settle(f"paged-{n:03}", model="paged")
        # Several requests in one millisecond.
        api.now -= 1000 if n % 7 else 0
    browser: Browser = await port.signed_in("root")
    seen: list[str] = []
    path = "/requests?model=paged"
    while path:
        page = await browser.page(path)
        log = [link for link in page.links if re.match(r"/ui/requests/paged", link)]
        assert len(log) <= REQUESTS_OF_A_PAGE
        seen += [link.rpartition("/")[2] for link in log]
        api.settle(f"newer-{len(seen)}", model="paged")
        path = next((link.removeprefix("/ui") for link in page.links if "before=" in link), "")

    assert sorted(seen) == [f"paged-{n:03}" for n in range(2 * REQUESTS_OF_A_PAGE + 20)]
    rows = [row["exchange"] for row in api.ledger.rows(UsageFilter(model="paged"))]
    assert [name for name in reversed(rows) if name.startswith("paged")] == seen


FILTERED = {
    "tenant": "umbrella",
    "team": "odd",
    "user": "odd",
    "key": "odd",
    "model": "odd",
    "response_model": "odd",
    "provider": "odd",
    "outcome": "rejected",
    "status": 418,
    "cache": "hit",
    "run": "odd",
}


@pytest.mark.parametrize("name", FILTERED)
async def test_each_filter_selects(api: Api, port: AdminPort, name: str) -> None:
    api.settle("odd", **{"tenant": "acme", name: FILTERED[name]})
    browser = await port.signed_in("root")
    page = await browser.page(f"/requests?{name}={FILTERED[name]}")
    found = {link.rpartition("/")[2] for link in page.links if link.startswith("/ui/requests/")}

    assert "odd" in found
    assert "request-of-acme" not in found
    csv = (await browser.get(f"/requests.csv?{name}={FILTERED[name]}")).text
    assert ("odd" in csv, "request-of-acme" in csv) == (True, False)


def test_nobody_signs_in_with_the_digest(api: Api) -> None:
    assert secret_of("root") not in str(api.app.state.gate._by_digest)

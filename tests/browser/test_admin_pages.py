"""The admin pages as a person uses them: in a real browser, with real calls through a real Envoy."""

from __future__ import annotations

import re
from typing import Any

import httpx2 as httpx
import openai
import pytest
import thoroughness
from axe_playwright_python.sync_playwright import Axe
from gateway import KEY, RunningGateway, until
from playwright.sync_api import Locator, expect

from .conftest import TOKENS, Tab, token_of

pytestmark = [pytest.mark.envoy, pytest.mark.browser, pytest.mark.xdist_group("browser")]

PAGES = (
    "/",
    "/requests",
    "/conversations",
    "/conversations?run=over-run",
    "/money?by=model",
    "/keys",
    "/keys/acme-1",
    "/providers",
    "/cache",
    "/guards",
    "/playground",
    "/config",
    "/audit",
)
MARKUP = "<img src=x onerror=alert(1)><script>alert(2)</script>"
# A busy machine is not a failure: each wait ends when its condition is true.
PATIENCE = 30_000
expect.set_options(timeout=PATIENCE)


def call(
    gateway: RunningGateway, key: str = KEY, model: str = "gpt-4o-mini", text: str = MARKUP, **headers: str
) -> int:
    body = {"model": model, "messages": [{"role": "user", "content": text}], "user": MARKUP}
    headers = {"authorization": f"Bearer {key}", **headers}
    return httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=60).status_code


def ask(gateway: RunningGateway, method: str, path: str, body: Any = None, name: str = "root") -> Any:
    headers = {"authorization": f"Bearer {token_of(name)}"}
    answer = httpx.request(method, f"{gateway.admin}/admin/v1{path}", headers=headers, json=body)
    assert answer.status_code < 300, answer.text
    return answer.json() if answer.content else None


def rows_of(tab: Tab, region: str) -> list[list[str]]:
    """The cells of the table in a region, without its head."""
    rows = tab.page.get_by_role("region", name=region).locator("tbody tr").all()
    return [row.locator("th, td").all_inner_texts() for row in rows]


# --- signing in and out


def test_the_printed_link_signs_in_once(tab: Tab, gateway: RunningGateway) -> None:
    (line,) = [line for line in gateway.lines if line.startswith("Pages ")]
    link = line.split()[1]
    tab.page.goto(link)
    expect(tab.page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(tab.page.get_by_text("one-time link")).to_be_visible()
    tab.page.get_by_role("button", name="Sign out").click()
    expect(tab.page.get_by_role("button", name="Sign in")).to_be_visible()
    tab.page.goto(link)

    expect(tab.page.get_by_role("alert")).to_contain_text("has been used")
    tab.go("/keys")
    expect(tab.page.get_by_role("button", name="Sign in")).to_be_visible()


def test_a_token_signs_in_by_the_keyboard_and_leads_to_the_page_that_was_asked_for(tab: Tab) -> None:
    tab.go("/keys?tenant=acme")
    tab.page.get_by_label("Admin token").fill("a wrong token of nobody")
    tab.page.keyboard.press("Enter")
    expect(tab.page.get_by_role("alert")).to_contain_text("not an admin token")
    tab.go("/keys?tenant=acme")
    tab.page.get_by_label("Admin token").fill(token_of("eye"))
    tab.page.keyboard.press("Enter")

    expect(tab.page.get_by_role("heading", name="Keys", level=1)).to_be_visible()
    assert tab.page.url.endswith("/ui/keys?tenant=acme")
    tab.page.keyboard.press("Tab")
    expect(tab.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    tab.page.keyboard.press("Enter")
    expect(tab.page.locator("main")).to_be_focused()
    assert [] == [cookie for cookie in tab.page.context.cookies() if not cookie["httpOnly"]]
    assert "" == tab.page.evaluate("document.cookie")


def test_a_form_without_its_token_is_refused(tab: Tab, gateway: RunningGateway) -> None:
    tab.sign_in("root")
    tab.go("/keys")
    tab.page.evaluate("document.querySelectorAll('[name=csrf]').forEach(field => field.value = 'x')")
    tab.page.get_by_label("Id", exact=False).first.fill("forged")
    tab.page.get_by_role("button", name="Create").click()

    expect(tab.page.get_by_role("alert")).to_contain_text("not from a page of this session")
    assert "forged" not in [key["id"] for key in ask(gateway, "GET", "/keys")]


# --- live


def test_the_overview_counts_a_request_without_a_reload(tab: Tab, gateway: RunningGateway) -> None:
    def requests() -> str:
        return tab.page.locator("dt", has_text=re.compile("^Requests$")).locator("+ dd").inner_text()

    tab.sign_in("eye")
    before = requests()
    assert 200 == call(gateway)
    until(lambda: (tab.page.wait_for_timeout(50), requests() != before)[1])

    expect(tab.page.locator("#figures")).to_contain_text("1 of 1")
    expect(tab.page.locator("#state")).to_contain_text("openai")


def test_the_log_shows_a_request_without_a_reload_and_its_page_explains_it(tab: Tab, gateway: RunningGateway) -> None:
    tab.sign_in("root")
    tab.go("/requests?response_model=gpt-4o-live")
    expect(tab.page.get_by_text("The ledger has no such requests.")).to_be_visible()
    assert 200 == call(gateway, model="gpt-4o-live", **{"x-edge-run": "nightly"})
    row = tab.page.get_by_role("row").filter(has_text="gpt-4o-live")
    expect(row).to_contain_text("ok 200 acme acme-1")
    row.get_by_role("link").click()

    main = tab.page.locator("main")
    expect(main).to_contain_text("ok with status 200 after")
    for text in ("acme-1", "nightly", "openai_chat", "gpt-4o-live", "openai"):
        expect(main).to_contain_text(text)
    tab.page.get_by_role("link", name="nightly").first.click()
    expect(tab.page.get_by_label("Run")).to_have_value("nightly")
    expect(tab.page.get_by_role("row").filter(has_text="gpt-4o-live")).to_be_visible()


def test_the_page_of_a_request_that_failed_over_explains_it(tab: Tab, gateway: RunningGateway) -> None:
    headers = {"x-edge-run": "over-run", "x-edge-cache-ttl": "60"}
    assert 200 == call(gateway, model="over", **headers)
    rows: list[Any] = []
    until(lambda: rows.extend(ask(gateway, "GET", "/requests?run=over-run")["requests"]) or rows)
    tab.sign_in("acme-eye")
    tab.go(f"/requests/{rows[0]['exchange']}")
    main = tab.page.locator("main")

    expect(main).to_contain_text("It took 2 attempts; the last provider was openai.")
    expect(main).to_contain_text("an API key")
    expect(main).to_contain_text("failover, the strategy of the model: the configured order.")
    assert [
        ["1", "away", "claude-haiku-4-5", "1", "–", ""],
        ["2", "openai", "gpt-4o-mini", "1", "–", ""],
    ] == [cells[:6] for cells in rows_of(tab, "Candidates")]
    failed, answered = rows_of(tab, "Attempts")
    assert ["1", "away", "claude-haiku-4-5", "failed", "–"] == failed[:5]
    assert "it failed, and Envoy tried the next one" == failed[5]
    assert ["2", "openai", "gpt-4o-mini", "ok", "200", "–"] == answered[:6]
    expect(main).to_contain_text("not come from the cache: the cache had no reply to an equal call")
    expect(main).to_contain_text("so the body was passed on")
    expect(main).to_contain_text("Nothing was reserved")
    explain = ask(gateway, "GET", f"/requests/{rows[0]['exchange']}", name="acme-eye")["explain"]
    first, second = explain["attempts"]
    assert first["began"] <= first["ended"] == second["began"] <= second["first_byte"] <= second["ended"]
    assert MARKUP not in str(explain)


def test_a_run_shows_its_cost_and_why_the_prompt_cache_of_the_provider_missed(
    tab: Tab, gateway: RunningGateway
) -> None:
    def turn(system: str) -> str:
        body = {
            "model": "gpt-4o-mini",
            "messages": [{"role": "system", "content": system * 2_000}, {"role": "user", "content": MARKUP}],
        }
        headers = {"authorization": f"Bearer {KEY}", "x-edge-run": "agent", "x-edge-explain": "prompt-cache"}
        answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=body, headers=headers, timeout=60)
        return answer.headers["x-edge-prompt-cache"].partition(";")[0]

    assert "first" == turn("One. ")
    until(lambda: "unchanged" == turn("One. "))
    assert "changed" == turn("Two. ")
    tab.sign_in("acme-eye")
    tab.go("/conversations")
    # A request is in the ledger soon after its end.
    until(lambda: "agent" in (tab.go("/conversations"), tab.page.content())[1])
    tab.page.get_by_role("link", name="agent", exact=True).click()
    until(lambda: (tab.page.reload(), "had changed" in tab.page.content())[1])
    newest, *_ = rows_of(tab, "Requests")

    expect(tab.page.get_by_role("heading", name="Run agent")).to_be_visible()
    assert ["ok 200", "gpt-4o-mini", "openai"] == newest[1:4]
    assert "messages[0] had changed, after 0 unchanged segments" == newest[7]
    assert newest[6] != "–"
    expect(tab.page.get_by_role("img", name="The cost up to each request")).to_be_visible()
    assert MARKUP not in tab.page.locator("main").inner_text()


# --- keys and budgets


def test_a_key_that_a_page_has_made_works_with_an_sdk_until_a_page_revokes_it(
    tab: Tab, gateway: RunningGateway
) -> None:
    tab.sign_in("acme-admin")
    tab.go("/keys")
    tab.page.locator("#n-id").fill("from-the-page")
    tab.page.get_by_role("button", name="Create").click()
    secret = tab.page.get_by_label("Key of acme").input_value()

    with openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=secret, max_retries=0) as client:
        messages: Any = [{"role": "user", "content": "Hello"}]
        assert client.chat.completions.create(model="gpt-4o-mini", messages=messages).choices
        tab.page.get_by_role("link", name="About this key").click()
        assert secret not in tab.page.content()
        tab.page.get_by_role("button", name="Revoke").click()
        # The box must be checked first.
        assert tab.page.url.endswith("/keys/from-the-page")
        tab.page.get_by_label("Revoke this key forever").check()
        tab.page.get_by_role("button", name="Revoke").click()
        expect(tab.page.get_by_role("status")).to_contain_text("No worker accepts it")
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model="gpt-4o-mini", messages=messages)


def test_a_budget_that_a_page_has_set_is_hit_and_shown_as_used(tab: Tab, gateway: RunningGateway) -> None:
    key = ask(gateway, "POST", "/keys", {"tenant": "acme", "id": "poor"})["key"]
    tab.sign_in("root")
    tab.go("/money")
    tab.page.locator("#b-tenant").select_option("acme")
    tab.page.locator("#b-level").select_option("key")
    tab.page.locator("#b-name").fill("poor")
    tab.page.locator("#b-limit").select_option("requests_per_minute")
    tab.page.locator("#b-maximum").fill("1")
    tab.page.get_by_role("button", name="Set").click()
    expect(tab.page.get_by_role("status")).to_contain_text("in force")
    assert {200, 429} == {call(gateway, key) for _ in range(3)}
    tab.go("/money?tenant=acme")
    row = tab.page.get_by_role("row").filter(has_text="key poor")
    expect(row).to_contain_text("requests per minute 1")
    row.get_by_role("button", name="Delete the budget of key poor").click()
    expect(tab.page.get_by_role("status")).to_contain_text("deleted")

    assert {200} == {call(gateway, key) for _ in range(3)}


# --- providers


@thoroughness.long_only("test_admin_api_of_a_run.py has the API")
def test_a_provider_is_probed_taken_out_and_put_back(tab: Tab, gateway: RunningGateway) -> None:
    tab.sign_in("root")
    tab.go("/providers")
    tab.page.get_by_role("button", name="Probe openai now").click()
    expect(tab.page.locator("main")).to_contain_text("openai answers in")
    tab.page.get_by_role("button", name="Probe openai now").click()
    expect(tab.page.get_by_role("alert")).to_contain_text("was probed just now")
    section = tab.page.locator("section").filter(has=tab.page.get_by_role("heading", name="openai"))
    section.get_by_label("Time").select_option("3600")
    section.get_by_label("Reason").fill(MARKUP)
    section.get_by_role("button", name="Take openai out").click()
    expect(tab.page.get_by_role("status")).to_contain_text("taken out")
    expect(section).to_contain_text(MARKUP)
    assert 503 == call(gateway)
    section.get_by_role("button", name="Put openai back").click()
    expect(tab.page.get_by_role("status")).to_contain_text("used again")

    assert 200 == call(gateway)


def test_what_a_rule_in_shadow_mode_found_is_on_the_page_of_guards(tab: Tab, gateway: RunningGateway) -> None:
    assert 200 == call(gateway, model="falcon-free")
    assert 200 == call(gateway, text="the falcon flies")
    until(lambda: ask(gateway, "GET", "/guardrails"))
    tab.sign_in("acme-eye")
    tab.go("/guards")

    expect(tab.page.get_by_role("row", name="secret-words")).to_have_count(2)
    expect(tab.page.get_by_role("row", name="secret-words").first).to_contain_text("shadow: nothing was done")


# --- the playground


@pytest.mark.parametrize(
    "form",
    [
        "chat completions",
        *(
            pytest.param(form, marks=thoroughness.long_only("one format shows it"))
            for form in ("messages", "generate content", "responses")
        ),
    ],
)
def test_the_playground_shows_the_stream_and_the_bytes_to_the_provider_and_back(
    tab: Tab, gateway: RunningGateway, form: str
) -> None:
    def out(name: str) -> Locator:
        return tab.page.locator(f"[data-out='{name}']")

    tab.sign_in("acme-admin")
    tab.go("/playground")
    tab.page.get_by_label("Model", exact=True).fill("claude-haiku-4-5")
    tab.page.get_by_label("Format").select_option(label=form)
    tab.page.get_by_label("Prompt").fill(MARKUP)
    tab.page.get_by_role("button", name="Send").click()
    expect(out("cost.text")).to_contain_text("anthropic (claude-haiku-4-5), 1 attempts, key playground.acme-admin.acme")

    expect(out("head.status")).to_have_text("200")
    expect(out("data.text")).to_contain_text("data: ")
    # The provider has another format, whatever the caller's is, and the key is the provider's.
    expect(out("capture.sent")).to_contain_text("/v1/messages")
    expect(out("capture.sent")).to_contain_text("x-api-key: (removed)")
    expect(out("capture.sent")).to_contain_text(MARKUP[:10])
    expect(out("capture.received")).to_contain_text("event: message_start")
    expect(out("request.curl")).to_contain_text(f"{gateway.url}/v1")
    assert "sk-ant-provider" not in tab.page.content()
    out("cost.exchange").click()
    expect(tab.page.locator("main")).to_contain_text("playground.acme-admin.acme")
    tab.go("/money")
    expect(tab.page.get_by_role("row", name="key playground.acme-admin.acme").first).to_contain_text("dollars per day")


# --- the configuration


@thoroughness.long_only("tests/unit/pages has the page")
def test_a_pasted_change_is_checked_and_replayed(tab: Tab, gateway: RunningGateway) -> None:
    assert 200 == call(gateway, model="gpt-4o-replayed")
    until(lambda: ask(gateway, "GET", "/requests?response_model=gpt-4o-replayed")["requests"])
    tab.sign_in("root")
    tab.go("/config")
    expect(tab.page.get_by_role("region", name="What differs from the file")).to_contain_text("Nothing.")
    text = gateway.path.read_text()
    tab.page.get_by_label("Configuration (YAML)").fill(f"{text}\nnothing: {MARKUP!r}\n")
    tab.page.get_by_role("button", name="Check", exact=True).click()
    expect(tab.page.get_by_role("region", name="Errors")).to_contain_text("nothing: there is no such key")
    tab.page.get_by_label("Configuration (YAML)").fill(text.replace("id: acme-1", "id: acme-other"))
    tab.page.get_by_role("button", name="Check and replay").click()

    expect(tab.page.get_by_role("row", name="refused acme acme-1").first).to_contain_text("there is no key acme-1")
    expect(tab.page.locator("main")).to_contain_text("What a replay cannot know")
    # Nothing is applied.
    assert 200 == call(gateway)


# --- of every page


@thoroughness.long_only("tests/unit/pages walks all roles")
@pytest.mark.parametrize("name", ["eye", "acme-admin"])
def test_a_role_has_the_buttons_of_its_rights(tab: Tab, name: str) -> None:
    tab.sign_in(name)
    buttons: set[str] = set()
    for path in PAGES:
        tab.go(path)
        buttons |= set(tab.page.get_by_role("button").all_inner_texts())

    changing = {"Create", "Purge", "Revoke", "Send", "Set"} if TOKENS[name][0] != "viewer" else set()
    assert {"Sign out", "Filter", "Show"} | changing == buttons - {"Delete"}


@thoroughness.long_only("tests/unit/pages has the page")
def test_a_change_on_a_page_is_in_the_audit_log(tab: Tab, gateway: RunningGateway) -> None:
    tab.sign_in("acme-admin")
    tab.go("/cache")
    tab.page.get_by_role("textbox", name="Model").fill("no-such-model")
    tab.page.get_by_role("button", name="Purge").click()
    expect(tab.page.get_by_text("0 replies were removed.")).to_be_visible()
    tab.go("/audit")

    name = "acme-admin tenant admin cache.purge acme cache model: no-such-model"
    expect(tab.page.get_by_role("row", name=name)).to_be_visible()


def test_what_callers_send_is_shown_as_text(tab: Tab, gateway: RunningGateway) -> None:
    assert 200 == call(gateway, model=MARKUP, **{"user-agent": MARKUP, "x-request-id": MARKUP})
    call(gateway, model=MARKUP, **{"x-edge-run": MARKUP})
    made = {"tenant": "acme", "id": "marked", "note": MARKUP, "models": [MARKUP]}
    ask(gateway, "POST", "/keys", made)
    until(lambda: any(MARKUP == row["upstream_model"] for row in ask(gateway, "GET", "/usage?by=upstream_model")))
    tab.sign_in("root")
    for path in ("/requests", "/money?by=upstream_model", "/keys", "/keys/marked"):
        tab.go(path)
        expect(tab.page.locator("main")).to_contain_text(MARKUP)
    tab.go("/requests")
    tab.page.get_by_role("row").filter(has_text=MARKUP).first.get_by_role("link").click()

    expect(tab.page.locator("main")).to_contain_text(MARKUP)
    assert 0 == tab.page.locator("main img, main script").count()


@pytest.mark.parametrize(
    "scheme", ["light", pytest.param("dark", marks=thoroughness.long_only("its colors alone differ"))]
)
def test_axe_finds_no_fault(tab: Tab, gateway: RunningGateway, scheme: Any) -> None:
    call(gateway)
    # The schemes differ in their colors alone.
    options = {"resultTypes": ["violations"], **({"runOnly": ["color-contrast"]} if scheme == "dark" else {})}
    tab.page.emulate_media(color_scheme=scheme)
    tab.go("/sign-in")
    found = {"/sign-in": Axe().run(tab.page, options=options).response["violations"]}
    tab.sign_in("root")
    log = ask(gateway, "GET", "/requests")["requests"]
    for path in (*PAGES, f"/requests/{log[0]['exchange']}", "/nothing"):
        tab.go(path)
        found[path] = Axe().run(tab.page, options=options).response["violations"]

    told = {
        path: [(each["id"], [node["html"] for node in each["nodes"]]) for each in faults]
        for path, faults in found.items()
        if faults
    }
    assert {} == told


@thoroughness.long_only("it is the layout alone")
def test_a_narrow_screen_scrolls_tables_and_not_the_page(tab: Tab) -> None:
    tab.page.set_viewport_size({"width": 360, "height": 700})
    tab.sign_in("root")
    for path in PAGES:
        tab.go(path)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= 360, path

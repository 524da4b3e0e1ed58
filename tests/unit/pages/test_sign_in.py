"""Signing in and out: what a session is begun with, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from admin_kit import Api, open_api, secret_of
from pages_kit import AdminPort, Browser, Page

from edge_extproc.pages.sessions import FAILURE_SECONDS, LIFETIME, LINK_SECONDS, MOST_FAILURES, MOST_SESSIONS, Sessions
from edge_extproc.server.admin_access import AdminIdentity


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


async def is_signed_in(browser: Browser) -> bool:
    return 200 == (await browser.get("/")).status_code


async def test_the_root_of_the_port_leads_to_the_pages_and_these_to_the_sign_in(port: AdminPort) -> None:
    browser = port.browser()
    root = await browser.client.get("/")
    page = await browser.get("/keys?tenant=acme")

    assert (303, "/ui/") == (root.status_code, root.headers["location"])
    assert (303, "/ui/sign-in?next=%2Fui%2Fkeys%3Ftenant%3Dacme") == (page.status_code, page.headers["location"])
    assert 401 == (await browser.client.get("/admin/v1/keys")).status_code


async def test_a_token_begins_a_session_and_leads_to_the_page_that_was_asked_for(port: AdminPort) -> None:
    browser = port.browser()
    form = (await browser.page("/sign-in?next=%2Fui%2Fkeys%3Ftenant%3Dacme")).form("/ui/sign-in")
    answer = await browser.send(form, token=secret_of("eye"))

    assert (303, "/ui/keys?tenant=acme") == (answer.status_code, answer.headers["location"])
    assert "eye viewer" in (await browser.page("/keys?tenant=acme")).text


@pytest.mark.parametrize("secure", [False, True])
async def test_the_cookie_is_of_this_port_and_not_for_scripts_or_other_sites(api: Api, secure: bool) -> None:
    port = AdminPort(api, secure=secure)
    browser = port.browser(scheme="https" if secure else "http")
    answer = await browser.sign_in(secret_of("root"))
    cookie = next(line for line in answer.headers.get_list("set-cookie") if "session" in line)
    name, _, rest = cookie.partition("=")
    value, *attributes = rest.split("; ")

    assert ("__Host-" if secure else "") + "edge-session-10001" == name
    assert {"HttpOnly", "SameSite=strict", "Path=/", f"Max-Age={LIFETIME}"} <= set(attributes)
    assert secure == ("Secure" in attributes)
    assert secret_of("root") not in value


@pytest.mark.parametrize("token", ["", "wrong", "ü", "a\nb", "x" * 600, secret_of("root") + "x"])
async def test_what_is_no_token_begins_no_session(port: AdminPort, token: str) -> None:
    browser = port.browser()
    answer = await browser.sign_in(token)

    assert 403 == answer.status_code
    assert "not an admin token" in Page(answer.text).text
    assert not await is_signed_in(browser)


@pytest.mark.parametrize(
    "target", ["https://evil.example/", "//evil.example", "/ui\\..\\x", "/metrics", "/ui/\n", "javascript:x"]
)
async def test_the_next_page_is_one_of_ours(port: AdminPort, target: str) -> None:
    browser = port.browser()
    form = (await browser.page("/sign-in")).form("/ui/sign-in")
    answer = await browser.send(form, token=secret_of("root"), next=target)

    assert "/ui/" == answer.headers["location"]


async def test_the_form_is_from_our_page_and_of_this_browser(port: AdminPort) -> None:
    browser, other = port.browser(), port.browser()
    form = (await browser.page("/sign-in")).form("/ui/sign-in")

    assert 403 == (await browser.send(form, token=secret_of("root"), csrf="")).status_code
    assert 403 == (await other.send(form, token=secret_of("root"))).status_code
    assert not await is_signed_in(browser)


async def test_wrong_tokens_are_limited_by_address(port: AdminPort) -> None:
    browser = port.browser()
    for _ in range(MOST_FAILURES):
        assert 403 == (await browser.sign_in("wrong-token-of-nobody")).status_code
    refused = await browser.sign_in(secret_of("root"))

    assert (429, str(int(FAILURE_SECONDS))) == (refused.status_code, refused.headers["retry-after"])
    assert 429 == (await browser.get(f"/sign-in/{port.link.token}")).status_code
    assert 303 == (await port.browser("10.0.0.7").sign_in(secret_of("root"))).status_code
    port.api.now += int(FAILURE_SECONDS * 1000)
    assert 303 == (await browser.sign_in(secret_of("root"))).status_code


async def test_a_network_of_ipv6_counts_as_one_address(port: AdminPort) -> None:
    for n in range(MOST_FAILURES):
        assert 403 == (await port.browser(f"2001:db8::{n}").sign_in("wrong-token-of-nobody")).status_code

    assert 429 == (await port.browser("2001:db8::ffff").sign_in(secret_of("root"))).status_code
    assert 303 == (await port.browser("2001:db8:0:1::1").sign_in(secret_of("root"))).status_code


async def test_the_link_signs_in_once(port: AdminPort) -> None:
    first, second = port.browser(), port.browser()
    assert 200 == (await first.client.head(f"/ui/sign-in/{port.link.token}")).status_code
    assert 303 == (await first.get(f"/sign-in/{port.link.token}")).status_code
    assert 403 == (await second.get(f"/sign-in/{port.link.token}")).status_code


async def test_the_link_leads_who_is_signed_in_to_the_pages_again(port: AdminPort) -> None:
    browser = port.browser()
    for _ in range(MOST_FAILURES + 1):
        answer = await browser.get(f"/sign-in/{port.link.token}")
        assert (303, "/ui/") == (answer.status_code, answer.headers["location"])

    assert await is_signed_in(browser)


@pytest.mark.parametrize(("seconds", "status"), [(LINK_SECONDS - 1, 303), (LINK_SECONDS, 403)])
async def test_the_link_ends_after_its_time(port: AdminPort, seconds: int, status: int) -> None:
    port.api.now += seconds * 1000

    assert status == (await port.browser().get(f"/sign-in/{port.link.token}")).status_code


async def test_a_wrong_token_leaves_the_page_that_was_asked_for(port: AdminPort) -> None:
    browser = port.browser()
    form = (await browser.page("/sign-in?next=%2Fui%2Fkeys")).form("/ui/sign-in")
    again = Page((await browser.send(form, token="wrong-token-of-nobody")).text).form("/ui/sign-in")
    answer = await browser.send(again, token=secret_of("eye"))

    assert "/ui/keys" == answer.headers["location"]


async def test_a_new_session_ends_the_one_before_in_this_browser(port: AdminPort) -> None:
    browser, other = await port.signed_in("eye"), await port.signed_in("eye")
    copy = port.browser()
    for name, value in browser.client.cookies.items():
        copy.client.cookies.set(name, value)
    await browser.sign_in(secret_of("root"))

    assert not await is_signed_in(copy)
    assert await is_signed_in(browser)
    assert await is_signed_in(other)


async def test_a_wrong_link_signs_nobody_in_and_leaves_the_right_one(port: AdminPort) -> None:
    assert 403 == (await port.browser().get(f"/sign-in/{port.link.token}x")).status_code
    assert 303 == (await port.browser().get(f"/sign-in/{port.link.token}")).status_code


async def test_signing_out_ends_the_session_for_every_copy_of_its_cookie(port: AdminPort) -> None:
    browser = await port.signed_in("root")
    thief = port.browser()
    for name, value in browser.client.cookies.items():
        thief.client.cookies.set(name, value)
    assert await is_signed_in(thief)
    answer = await browser.send((await browser.page("/")).form("/ui/sign-out"))

    assert (303, "/ui/sign-in") == (answer.status_code, answer.headers["location"])
    assert not await is_signed_in(browser)
    assert not await is_signed_in(thief)


async def test_a_session_ends_after_its_time(port: AdminPort) -> None:
    browser = await port.signed_in("root")
    port.api.now += LIFETIME * 1000 - 1000
    assert await is_signed_in(browser)
    port.api.now += 1000

    assert not await is_signed_in(browser)


async def test_a_session_ends_when_the_api_no_longer_accepts_its_credential(api: Api) -> None:
    rights = {"caller-key-of-a-tests-watcher": AdminIdentity("watcher", "viewer", "acme")}
    gate = api.app.state.gate
    before, gate._callers = gate._callers, lambda headers: rights.get(dict(headers)["authorization"][7:])
    try:
        browser = AdminPort(api).browser()
        assert 303 == (await browser.sign_in("caller-key-of-a-tests-watcher")).status_code
        assert "watcher viewer of acme" in (await browser.page("/")).text
        rights.clear()

        assert not await is_signed_in(browser)
    finally:
        gate._callers = before


@pytest.mark.parametrize("part", range(3))
def test_a_changed_cookie_is_no_session(part: int) -> None:
    sessions = Sessions(1, secure=False, now=lambda: 1000.0)
    _, value = sessions.begin("credential")
    parts = value.split(".")
    parts[part] = "9" + parts[part][1:] if not parts[part].startswith("9") else "8" + parts[part][1:]

    assert sessions.find(value) is not None
    assert sessions.find(".".join(parts)) is None
    assert sessions.find("") is None
    assert sessions.find("\udcff.1.2") is None


def test_a_cookie_of_another_process_is_no_session() -> None:
    ours, others = (Sessions(1, secure=False, now=lambda: 1000.0) for _ in range(2))

    assert ours.find(others.begin("credential")[1]) is None


def test_the_oldest_session_ends_for_one_too_many() -> None:
    sessions = Sessions(1, secure=False, now=lambda: 1000.0)
    first, *_, last = [sessions.begin(str(n))[1] for n in range(MOST_SESSIONS + 1)]

    assert sessions.find(first) is None
    assert sessions.find(last) is not None

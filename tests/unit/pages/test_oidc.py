"""Signing in with an identity provider, over HTTP, with a provider that lies in each way that matters."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import tokens
from admin_kit import Api, open_api, secret_of
from config_kit import read
from oidc_provider import CLIENT, SECRET, OidcServer
from pages_kit import PORT, AdminPort, Browser, Page

from edge_extproc.auth.jwks import fetch
from edge_extproc.config.oidc import OidcConfig
from edge_extproc.errors import ConfigError
from edge_extproc.pages.oidc import STATE_SECONDS, OidcFlow, post
from edge_extproc.pages.sessions import LIFETIME

URL = f"http://127.0.0.1:{PORT}"
ROLES: Any = (
    {"value": "admins", "role": "admin"},
    {"value": "acme-leads", "role": "tenant_admin", "tenant": "acme"},
    {"value": "leads", "role": "tenant_admin"},
    {"value": "auditors", "role": "viewer"},
)
NAVIGATION = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}


@pytest.fixture(scope="module")
def server() -> Iterator[OidcServer]:
    with OidcServer() as running:
        yield running


@pytest.fixture
def provider(server: OidcServer) -> OidcServer:
    server.reset()
    return server


@pytest.fixture
def api() -> Iterator[Api]:
    import time

    found = open_api()
    found.now = int(time.time() * 1000)
    yield found
    found.engine.dispose()


def settings(provider: OidcServer, **changes: Any) -> OidcConfig:
    plain = {
        "issuer": provider.issuer,
        "client_id": CLIENT,
        "client_secret": SECRET,
        "url": URL,
        "claims": {"user": "email", "tenant": "tenant"},
        "roles": ROLES,
    }
    found = read(f"admin: {json.dumps({'oidc': {**plain, **changes}})}").admin.oidc
    assert found is not None
    return found


@pytest.fixture
def port(api: Api, provider: OidcServer) -> AdminPort:
    return port_of(api, provider)


def port_of(api: Api, provider: OidcServer, **changes: Any) -> AdminPort:
    tenants = {"acme": None, "umbrella": None}
    flow = OidcFlow(settings(provider, **changes), lambda: tenants, lambda: api.now / 1000, fetch, post)
    return AdminPort(api, oidc=flow)


async def to_provider(browser: Browser, next_page: str = "") -> str:
    """The address to which the browser is sent."""
    answer = await browser.get("/oidc/start", params={"next": next_page})
    assert 303 == answer.status_code, answer.text
    return answer.headers["location"]


async def back(browser: Browser, address: str, **changes: str) -> httpx2.Response:
    """The provider sends the browser back."""
    async with httpx2.AsyncClient() as client:
        location = (await client.get(address)).headers["location"]
    query = {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}
    return await browser.get("/oidc/callback", params={**query, **changes}, headers=NAVIGATION)


async def sign_in(port: AdminPort, next_page: str = "") -> tuple[Browser, httpx2.Response]:
    browser = port.browser()
    return browser, await back(browser, await to_provider(browser, next_page))


async def test_a_user_signs_in_and_is_known_by_name_and_role(port: AdminPort, provider: OidcServer) -> None:
    browser, answer = await sign_in(port, "/ui/keys?tenant=acme")
    page = Page(answer.text)

    assert (200, ["/ui/keys?tenant=acme"]) == (answer.status_code, page.links)
    assert "oidc:ann@example.com admin" in (await browser.page("/keys")).text
    await browser.post("/keys", tenant="acme", id="made")
    assert "oidc:ann@example.com" == port.api.store.audit(None, None, 1)[0].actor
    cookies = answer.headers.get_list("set-cookie")
    (session,) = [line for line in cookies if "edge-session" in line]
    assert {"HttpOnly", "SameSite=strict"} <= set(session.split("; "))
    assert "eyJ" not in str(cookies)


async def test_the_request_has_state_nonce_and_a_challenge_and_the_code_its_verifier(
    port: AdminPort, provider: OidcServer
) -> None:
    await sign_in(port)
    (_, asked), (_, exchanged) = provider.asked

    assert ("code", CLIENT, f"{URL}/ui/oidc/callback", "S256", "openid email groups") == tuple(
        asked[name] for name in ("response_type", "client_id", "redirect_uri", "code_challenge_method", "scope")
    )
    assert min(len(asked[name]) for name in ("state", "nonce", "code_challenge")) >= 43
    assert 3 == len({asked["state"], asked["nonce"], exchanged["code_verifier"]})
    assert (True, False) == (exchanged["authorization"].startswith("Basic "), "client_secret" in exchanged)


async def test_a_client_secret_is_sent_in_the_form_if_the_provider_wants_it(
    port: AdminPort, provider: OidcServer
) -> None:
    provider.described = {"token_endpoint_auth_methods_supported": ["client_secret_post"]}
    _, answer = await sign_in(port)

    assert 200 == answer.status_code
    assert SECRET == provider.asked[-1][1]["client_secret"]


@pytest.mark.parametrize(
    ("claims", "shown"),
    [
        ({"groups": ["others", "admins"]}, "admin"),
        ({"groups": "acme-leads auditors"}, "tenant admin of acme"),
        ({"groups": ["leads"], "tenant": "umbrella"}, "tenant admin of umbrella"),
        ({"groups": ["auditors"], "tenant": "acme"}, "viewer of acme"),
    ],
)
async def test_claims_give_role_and_tenant(
    port: AdminPort, provider: OidcServer, claims: dict[str, Any], shown: str
) -> None:
    provider.claims = claims
    browser, _ = await sign_in(port)

    assert f"oidc:ann@example.com {shown} Sign out" in (await browser.page("/")).text


HOSTILE: dict[str, dict[str, Any]] = {
    "wrong issuer": {"iss": "https://evil.example"},
    "wrong audience": {"aud": "another"},
    "several audiences": {"aud": [CLIENT, "another"]},
    "another party": {"azp": "another"},
    "wrong nonce": {"nonce": "x" * 43},
    "no nonce": {"nonce": None},
    "a nonce that is none": {"nonce": 7},
    "expired": {"exp": 1_000_000},
    "no end": {"exp": None},
    "not yet": {"nbf": 9_999_999_999},
    "no user": {"email": None},
    "no subject": {"sub": None},
    "a user with control characters": {"email": "ann\nroot"},
    "no role": {"groups": ["others"]},
    "no roles": {"groups": None},
    "roles that are none": {"groups": {"admins": True}},
    "no tenant": {"groups": ["auditors"]},
    "a tenant of nobody": {"groups": ["leads"], "tenant": "none"},
}


@pytest.mark.parametrize("lie", HOSTILE)
async def test_an_id_token_that_is_not_right_signs_nobody_in(port: AdminPort, provider: OidcServer, lie: str) -> None:
    provider.claims = {"groups": ["admins"], **HOSTILE[lie]}
    browser, answer = await sign_in(port)

    assert 403 == answer.status_code
    assert 303 == (await browser.get("/")).status_code
    assert "evil.example" not in answer.text


@pytest.mark.parametrize("lie", ["none", "public key as a secret", "another key", "no token", "crit"])
async def test_a_forged_signature_signs_nobody_in(port: AdminPort, provider: OidcServer, lie: str) -> None:
    def forged(claims: dict[str, Any]) -> str:
        match lie:
            case "none":
                return tokens.by_hand({"alg": "none"}, claims, b"")
            case "public key as a secret":
                return tokens.signed_with_the_public_key_as_a_secret()
            case "another key":
                return provider.signed(claims, tokens.OTHER)
            case "crit":
                return tokens.by_hand({"alg": "RS256", "kid": "rsa", "crit": ["b64"]}, claims)
            case _:
                return "not a token"

    provider.sign = forged
    browser, answer = await sign_in(port)

    assert (403, 303) == (answer.status_code, (await browser.get("/")).status_code)


async def test_a_new_key_of_the_provider_is_fetched(port: AdminPort, provider: OidcServer) -> None:
    await sign_in(port)
    provider.key = tokens.OTHER
    _, answer = await sign_in(port)

    assert 200 == answer.status_code


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        (400, b'{"error": "invalid_grant"}'),
        (200, b"{}"),
        (200, b"[]"),
        (200, b'{"id_token": 5}'),
        (200, b"<script>alert(1)</script>"),
        (302, b""),
        (200, b" " * (2 << 20)),
    ],
)
async def test_an_odd_answer_for_a_code_signs_nobody_in(
    port: AdminPort, provider: OidcServer, status: int, answer: bytes
) -> None:
    provider.status, provider.answer = status, answer
    browser, page = await sign_in(port)

    assert (403, 303, False) == (page.status_code, (await browser.get("/")).status_code, "<script>alert" in page.text)


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": "https://evil.example"},
        {"authorization_endpoint": "javascript:alert(1)"},
        {"authorization_endpoint": "http://evil.example/authorize"},
        {"token_endpoint": "http://evil.example/token"},
        {"jwks_uri": None},
        {"end_session_endpoint": "http://evil.example/logout"},
    ],
)
async def test_a_provider_that_describes_itself_wrongly_gets_nobody(
    port: AdminPort, provider: OidcServer, described: dict[str, Any]
) -> None:
    provider.described = described
    answer = await port.browser().get("/oidc/start")

    assert (502, True) == (answer.status_code, "cannot be reached" in Page(answer.text).text)


async def test_a_callback_is_of_one_browser_one_time_and_soon(api: Api, port: AdminPort, provider: OidcServer) -> None:
    browser = port.browser()
    address = await to_provider(browser)
    of_another = await back(port.browser(), address)
    again = await back(browser, address)  # the state is used up
    late = port.browser()
    address = await to_provider(late)
    api.now += int(STATE_SECONDS * 1000)
    too_late = await back(late, address)

    assert {403} == {each.status_code for each in (of_another, again, too_late)}
    assert [] == [name for name, _ in provider.asked if name == "token"]


@pytest.mark.parametrize(
    "changes",
    [
        {"state": "forged"},
        {"iss": "https://evil.example"},
        {"error": "access_denied"},
        {"error": "<script>alert(1)</script>"},
        {"code": ""},
        {"code": "c" * 5000},
    ],
)
async def test_an_odd_callback_signs_nobody_in(port: AdminPort, changes: dict[str, str]) -> None:
    browser = port.browser()
    answer = await back(browser, await to_provider(browser), **changes)

    assert (403, 303) == (answer.status_code, (await browser.get("/")).status_code)
    assert "<script>alert" not in answer.text


@pytest.mark.parametrize("target", ["https://evil.example/", "//evil.example", "/ui/\\evil", "javascript:alert(1)", ""])
async def test_no_link_leads_elsewhere(port: AdminPort, target: str) -> None:
    _, answer = await sign_in(port, target)

    assert ["/ui/"] == Page(answer.text).links
    assert "evil" not in answer.text


async def test_signing_out_ends_the_session_here_and_leads_to_the_provider(
    port: AdminPort, provider: OidcServer
) -> None:
    before = len(port.api.federated._by_digest)
    browser, _ = await sign_in(port)
    copied = dict(browser.client.cookies)
    answer = await browser.post("/sign-out")
    (target,) = Page(answer.text).links
    query = {name: values[0] for name, values in parse_qs(urlsplit(target).query).items()}

    assert target.startswith(f"{provider.issuer}/logout?")
    assert (f"{URL}/ui/sign-in", CLIENT) == (query["post_logout_redirect_uri"], query["client_id"])
    assert query["id_token_hint"].startswith("eyJ")
    browser.client.cookies.update(copied)
    assert 303 == (await browser.get("/")).status_code
    assert before == len(port.api.federated._by_digest)


async def test_a_session_ends_after_its_time(api: Api, port: AdminPort) -> None:
    browser, _ = await sign_in(port)
    api.now += LIFETIME * 1000

    assert 303 == (await browser.get("/")).status_code


async def test_many_wrong_callbacks_are_limited(port: AdminPort) -> None:
    browser = port.browser()
    statuses = [(await browser.get("/oidc/callback?state=x&code=y")).status_code for _ in range(7)]

    assert [403] * 5 + [429] * 2 == statuses


async def test_another_site_leads_only_to_the_callback_and_only_as_a_navigation(port: AdminPort) -> None:
    client = port.browser().client
    callback = await client.get("/ui/oidc/callback", headers=NAVIGATION)
    embedded = await client.get("/ui/oidc/callback", headers={**NAVIGATION, "sec-fetch-mode": "no-cors"})
    posted = await client.post("/ui/oidc/callback", headers=NAVIGATION)
    start = await client.get("/ui/oidc/start", headers=NAVIGATION)

    assert (403, "oidc" in callback.url.path) == (callback.status_code, True)
    assert "text/html" in callback.headers["content-type"]
    for refused in (embedded, posted, start):
        assert (403, "foreign_origin") == (refused.status_code, json.loads(refused.text)["error"]["code"])


async def test_without_a_provider_there_is_none(api: Api) -> None:
    port = AdminPort(api)
    browser = port.browser()

    assert (404, 404) == (
        (await browser.get("/oidc/start")).status_code,
        (await browser.get("/oidc/callback")).status_code,
    )
    assert "organisation" not in (await browser.page("/sign-in")).text
    assert 303 == (await browser.sign_in(secret_of("eye"))).status_code


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"issuer": "http://login.example"}, "unencrypted"),
        ({"url": "https://admin.example/path"}, "address of the admin port"),
        ({"url": "http://admin.example"}, "unencrypted"),
        ({"scopes": ["email"]}, "openid"),
        ({"roles": []}, "empty"),
        ({"roles": [{"value": "x", "role": "admin", "tenant": "acme"}]}, "all tenants"),
        ({"claims": {}, "roles": [{"value": "x", "role": "tenant_admin"}]}, "needs a tenant"),
        ({"algorithms": ["HS256"]}, "RS256"),
    ],
)
def test_settings_that_are_unsafe_are_refused(provider: OidcServer, changes: dict[str, Any], wrong: str) -> None:
    with pytest.raises(ConfigError, match=wrong):
        settings(provider, **changes)

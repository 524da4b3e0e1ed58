"""Signing in and out with an identity provider, in a real browser and with a real admin port."""

from __future__ import annotations

import json
from collections.abc import Iterator

import providers
import pytest
import thoroughness
from gateway import RunningGateway, config
from oidc_provider import CLIENT, SECRET, OidcServer
from playwright.sync_api import Browser, expect

pytestmark = [pytest.mark.envoy, pytest.mark.browser, pytest.mark.xdist_group("browser")]

PATIENCE = 30_000


@pytest.fixture(scope="module")
def provider() -> Iterator[OidcServer]:
    with OidcServer() as running:
        yield running


@pytest.fixture(scope="module")
def federated(chromium: Browser, provider: OidcServer) -> Iterator[RunningGateway]:
    with providers.rehearsal_process() as url:
        text = config(url, more="store: {every: 100ms}\n")
        line = next(each for each in text.splitlines() if each.startswith("admin:"))
        port = line.rpartition("port: ")[2].rstrip("}")
        oidc = {
            "issuer": provider.issuer,
            "client_id": CLIENT,
            "client_secret": SECRET,
            "url": f"http://127.0.0.1:{port}",
            "claims": {"user": "email"},
            "roles": [{"value": "leads", "role": "tenant_admin", "tenant": "acme"}],
        }
        with RunningGateway(text.replace(line, f"{line[:-1]}, oidc: {json.dumps(oidc)}}}")) as running:
            yield running


def test_a_user_signs_in_acts_and_signs_out(chromium: Browser, federated: RunningGateway, provider: OidcServer) -> None:
    provider.claims = {"groups": ["leads"]}
    with chromium.new_context() as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(f"{federated.admin}/ui/keys")
        page.get_by_role("link", name="Sign in with your organisation").click()
        expect(page.get_by_role("heading", name="Keys", level=1)).to_be_visible(timeout=PATIENCE)
        expect(page.get_by_text("oidc:ann@example.com")).to_be_visible()
        page.locator("#n-id").fill("by-oidc")
        page.get_by_role("button", name="Create").click()
        expect(page.get_by_label("Key of acme")).to_be_visible(timeout=PATIENCE)
        page.goto(f"{federated.admin}/ui/audit")
        expect(page.get_by_role("row", name="oidc:ann@example.com tenant admin key.create")).to_be_visible()
        page.get_by_role("button", name="Sign out").click()
        expect(page.get_by_role("button", name="Sign in")).to_be_visible(timeout=PATIENCE)

        assert "logout" == provider.asked[-1][0]
        page.goto(f"{federated.admin}/ui/keys")
        expect(page.get_by_role("button", name="Sign in")).to_be_visible()


@thoroughness.long_only("tests/unit/pages/test_oidc.py has refusals")
def test_a_user_without_a_role_is_refused(chromium: Browser, federated: RunningGateway, provider: OidcServer) -> None:
    provider.claims = {"groups": ["others"]}
    with chromium.new_context() as context:
        page = context.new_page()
        page.goto(f"{federated.admin}/ui/sign-in")
        page.get_by_role("link", name="Sign in with your organisation").click()

        expect(page.get_by_role("alert")).to_contain_text("No role of this gateway", timeout=PATIENCE)

"""Keys, tokens and certificates side by side: what they say must agree, and nothing is ranked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokens import AUDIENCE, ISSUER, NOW, key_set, token

from edge_extproc.auth.api_key import ApiKeys, KeyRecord, digest
from edge_extproc.auth.composite import REASONS, CompositeAuthenticator
from edge_extproc.auth.jwks import IssuerKeys
from edge_extproc.auth.jwt import IssuerSettings, JwtVerifier
from edge_extproc.auth.mtls import CertificateIdentity, Certificates, read
from edge_extproc.errors import BadRequest, Unauthenticated
from edge_extproc.model.principal import Principal

PEPPER = b"a pepper of thirty-two bytes ..."
KEY, OTHER = "edge-key-of-acme", "edge-key-of-umbrella"
TENANTS = {"acme": ("*",), "umbrella": ("*",)}
XFCC = "x-forwarded-client-cert"
CHAT = 'Hash=00;Subject="CN=chat,O=acme";URI=spiffe://mesh/ns/chat/sa/web'


async def _keys(url: str) -> bytes:
    return key_set()


def composite(*, keys: bool = True, tokens: bool = True, certificates: bool = True) -> CompositeAuthenticator:
    records = [
        KeyRecord(digest(PEPPER, KEY), "acme-1", Principal("acme", "acme-1")),
        KeyRecord(digest(PEPPER, OTHER), "umbrella-1", Principal("umbrella", "umbrella-1")),
    ]
    source = IssuerKeys("u", _keys)
    asyncio.run(source.fetch_now())
    verifier = JwtVerifier([(IssuerSettings(ISSUER, (AUDIENCE,)), source)], TENANTS, lambda: NOW)
    rows = [
        CertificateIdentity("acme", uri="spiffe://mesh/ns/chat/*", team="chat", roles=("r",)),
        CertificateIdentity("umbrella", subject="CN=batch*", user="batch"),
    ]
    return CompositeAuthenticator(
        ApiKeys(records, PEPPER) if keys else None,
        verifier if tokens else None,
        Certificates(rows, TENANTS) if certificates else None,
    )


ALL = composite()
BEARER = ("authorization", f"Bearer {KEY}")


def refusal(*headers: tuple[str, str], by: CompositeAuthenticator = ALL) -> str | None:
    with pytest.raises(Unauthenticated) as found:
        by.authenticate(headers)
    assert found.value.code in REASONS
    return found.value.code


def test_each_kind_is_taken_in_any_credential_header() -> None:
    made = token()

    assert "acme-1" == ALL.authenticate([("x-api-key", KEY)]).key_id
    assert {"jwt:ann"} == {
        ALL.authenticate([pair]).key_id for pair in (("authorization", f"Bearer {made}"), ("x-api-key", made))
    }
    assert Principal(
        "acme", "mtls:spiffe://mesh/ns/chat/sa/web", ("*",), "chat", "spiffe://mesh/ns/chat/sa/web", ("r",)
    ) == (ALL.authenticate([(XFCC, CHAT)]))
    assert "batch" == ALL.authenticate([(XFCC, 'Subject="CN=batch,O=x"')]).user


def test_a_kind_that_is_off_is_not_taken() -> None:
    assert "malformed_api_key" == refusal(("x-api-key", token(filler="x" * 600)), by=composite(tokens=False))
    assert "malformed_token" == refusal(BEARER, by=composite(keys=False))
    assert "missing_api_key" == refusal((XFCC, CHAT), by=composite(certificates=False))
    assert "missing_api_key" == refusal(BEARER, by=composite(keys=False, tokens=False))


def test_a_key_beside_a_certificate_of_the_same_tenant_is_the_more_exact_one() -> None:
    assert "acme-1" == ALL.authenticate([BEARER, (XFCC, CHAT)]).key_id


def test_credentials_of_two_tenants_are_refused() -> None:
    assert "conflicting_credentials" == refusal(("x-api-key", OTHER), (XFCC, CHAT))
    assert "conflicting_credentials" == refusal(("x-api-key", token(tenant="umbrella")), (XFCC, CHAT))
    assert "conflicting_api_keys" == refusal(BEARER, ("x-api-key", token()))


def test_a_certificate_that_stands_for_nobody_leaves_it_to_a_key() -> None:
    stranger = (XFCC, 'Subject="CN=stranger"')

    assert "acme-1" == ALL.authenticate([BEARER, stranger]).key_id
    assert "unknown_certificate" == refusal(stranger)


def test_a_wrong_key_is_not_saved_by_a_good_certificate() -> None:
    assert "invalid_api_key" == refusal(("x-api-key", "edge-wrong"), (XFCC, CHAT))


@pytest.mark.parametrize(
    "value",
    [
        "",
        "URI",
        "URI=spiffe://mesh/ns/chat/sa/web,URI=spiffe://mesh/ns/chat/sa/other",
        f"{CHAT},{CHAT}",
        'Subject="CN=chat',
        "URI=spiffe://mesh/ns/chat/sa/web;",
        ";".join(["Hash=" + "0" * 100] * 200),
    ],
)
def test_what_no_proxy_writes_for_one_certificate_is_refused(value: str) -> None:
    assert "malformed_certificate" == refusal((XFCC, value))
    assert "malformed_certificate" == refusal((XFCC, value), BEARER)


def test_the_header_twice_is_refused() -> None:
    assert "malformed_certificate" == refusal((XFCC, CHAT), (XFCC, CHAT))


def test_quotes_and_their_escapes_are_read() -> None:
    assert [("subject", 'CN="a;b,c"'), ("uri", ""), ("dns", "x=y")] == read('Subject="CN=\\"a;b,c\\"";URI=;DNS=x=y')


_NAMES = ["authorization", "x-api-key", "x-goog-api-key", "api-key", XFCC, "cookie", ":path"]
_VALUES = st.one_of(
    st.text(max_size=40),
    st.sampled_from(
        [f"Bearer {KEY}"[:-1], CHAT[:-1] + ",", "Bearer ", "Basic eDp5", "\udcff", "eyJ.eyJ.x", "URI=spiffe://x"]
    ),
)


@given(st.lists(st.tuples(st.sampled_from(_NAMES), _VALUES), max_size=6))
def test_no_headers_without_a_good_credential_let_anybody_in(headers: list[tuple[str, str]]) -> None:
    with pytest.raises((Unauthenticated, BadRequest)):
        ALL.authenticate(headers)


@given(
    st.lists(st.tuples(st.sampled_from(_NAMES), _VALUES), max_size=4),
    st.sampled_from([BEARER, ("x-api-key", OTHER), (XFCC, CHAT)]),
    st.data(),
)
def test_a_good_credential_among_others_is_itself_or_nobody(
    headers: list[tuple[str, str]], good: tuple[str, str], data: Any
) -> None:
    at = data.draw(st.integers(0, len(headers)))
    alone = ALL.authenticate([good])
    try:
        found = ALL.authenticate([*headers[:at], good, *headers[at:]])
    except Unauthenticated:
        return
    assert alone == found

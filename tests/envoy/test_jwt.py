"""Tokens through the whole gateway: an issuer on this machine, whose keys change while it runs."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import gateway as gateways
import pytest
import tokens

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("jwt")]


@dataclass
class Issuer:
    """Where the keys of tokens are told, and how often somebody asked."""

    told: bytes = field(default_factory=lambda: tokens.key_set(tokens.RSA, tokens.EC))
    asked: int = 0
    url: str = ""


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    found = Issuer()

    class Site(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found.asked += 1
            self.send_response(200)
            self.send_header("content-length", str(len(found.told)))
            self.end_headers()
            self.wfile.write(found.told)

        def log_message(self, *_: Any) -> None:
            """Says nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_address[1]}/keys"
    yield found
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def gateway(rehearsal_url: str, issuer: Issuer) -> Iterator[gateways.RunningGateway]:
    text = gateways.config(rehearsal_url, models="chat: [{provider: openai, model: rehearsal}]")
    trusted = json.dumps(
        {
            "issuer": tokens.ISSUER,
            "jwks_url": issuer.url,
            "audiences": [tokens.AUDIENCE],
            "algorithms": ["RS256", "ES256"],
            "claims": {"tenant": "tenant", "user": "sub", "team": "org.team", "roles": "roles"},
            "default_roles": ["reader"],
            "refresh_at_most": "200ms",
        }
    )
    roles = "roles: {reader: {models: [chat]}, other: {models: [nothing]}}\n"
    text = text.replace(
        f'auth: {{pepper: "{gateways.PEPPER}"}}', f'auth: {{pepper: "{gateways.PEPPER}", jwt: [{trusted}]}}'
    )
    with gateways.RunningGateway(roles + text) as found:
        yield found


def token(*arguments: Any, **more: Any) -> str:
    return tokens.token(*arguments, **{"exp": time.time() + 60, **more})


def ask(gateway: gateways.RunningGateway, bearer: str) -> tuple[int, Any]:
    asked = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        f"{gateway.url}/v1/chat/completions",
        json.dumps(asked).encode(),
        {"authorization": f"Bearer {bearer}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, None
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)["error"]["code"]


def test_a_token_says_who_its_bearer_is_and_what_it_may_do(gateway: gateways.RunningGateway) -> None:
    good = ask(gateway, token(sub="ann", org={"team": "research"}))
    curve = ask(gateway, token(tokens.EC, "ES256", sub="eva"))
    forbidden = ask(gateway, token(sub="bob", roles=["other"]))

    assert ((200, None), (200, None), (403, "permission_denied")) == (good, curve, forbidden)
    gateways.until(lambda: {"jwt:ann", "jwt:eva", "jwt:bob"} <= {line["key"] for line in gateway.access_lines()})
    assert {"acme"} == {line["tenant"] for line in gateway.access_lines() if line["key"] == "jwt:ann"}


@pytest.mark.parametrize(
    ("bearer", "code"),
    [
        (lambda: token(aud="somebody-else"), "wrong_audience"),
        (lambda: token(exp=time.time() - 3600), "expired_token"),
        (lambda: token(nbf=time.time() + 3600), "token_not_yet_valid"),
        (lambda: token(exp=None), "missing_claim"),
        (lambda: token(iss="https://other.example"), "unknown_issuer"),
        (lambda: token(tenant="nobody"), "unknown_tenant"),
        (lambda: tokens.by_hand({"alg": "none", "kid": "rsa"}, tokens.claims(), b"x"), "unsupported_algorithm"),
        (lambda: tokens.by_hand({"alg": "RS256", "kid": "rsa"}, tokens.claims(), b"x" * 256), "invalid_signature"),
        (tokens.signed_with_the_public_key_as_a_secret, "unsupported_algorithm"),
        (lambda: token(tokens.EC, "ES256", {"kid": "rsa"}), "invalid_signature"),
        (lambda: tokens.by_hand({"alg": "RS256", "kid": "rsa", "crit": ["x"]}, tokens.claims()), "malformed_token"),
        (lambda: tokens.by_hand({"alg": "none"}, tokens.claims(), b"").rstrip("."), "invalid_api_key"),
    ],
    ids=[
        *("another audience", "expired", "not yet", "without an end", "another issuer", "an unknown tenant"),
        *("alg none", "a made-up signature", "a public key as a secret", "another key", "crit", "no signature"),
    ],
)
def test_no_other_token_passes_and_none_is_written_down(
    gateway: gateways.RunningGateway, bearer: Any, code: str
) -> None:
    presented = bearer()

    # At a signature that does not fit, the keys are fetched once: until then the answer is 503.
    answers = [ask(gateway, presented)]
    gateways.until(lambda: answers[-1][0] != 503 or answers.append(ask(gateway, presented)))
    assert (401, code) == answers[-1]
    gateways.until(lambda: any(line["code"] == code for line in gateway.access_lines()))
    assert not any(presented.rpartition(".")[2] in line for line in gateway.lines if len(presented) > 300)


def test_a_key_of_ours_goes_on_working_beside_tokens(gateway: gateways.RunningGateway) -> None:
    assert (200, None) == ask(gateway, gateways.KEY)


def test_when_an_issuers_keys_change_new_ones_are_good_and_old_ones_are_not(
    gateway: gateways.RunningGateway, issuer: Issuer
) -> None:
    old, new = token(sub="ann"), token(tokens.OTHER, sub="ann")
    assert (200, None) == ask(gateway, old)
    before, issuer.told = issuer.told, tokens.key_set(tokens.OTHER)
    try:
        # A key that is not known is fetched: until then nobody can say that it is wrong.
        answers = {ask(gateway, new)}
        gateways.until(lambda: answers.add(ask(gateway, new)) or (200, None) in answers)
        assert answers <= {(503, "policy_unavailable"), (401, "unknown_key"), (200, None)}
        # What was verified by a key that is gone is not remembered.
        gateways.until(lambda: ask(gateway, old)[0] == 401)
        many = issuer.asked
        answers = {ask(gateway, token(header={"kid": f"made-up-{n}"})) for n in range(20)}
    finally:
        issuer.told = before
    # However many unknown keys are named, the issuer is not asked for each.
    assert issuer.asked - many <= 10
    assert {status for status, _ in answers} <= {401, 503}
    gateways.until(lambda: ask(gateway, token(sub="ann")) == (200, None))

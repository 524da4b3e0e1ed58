"""Tokens: only what an issuer signed, for us, for now, by an algorithm that config names."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc.jwk import RSAKey
from tokens import AUDIENCE, EC, ED, ISSUER, NOW, OTHER, RSA, by_hand, claims, key_set, token
from tokens import signed_with_the_public_key_as_a_secret as confused

from edge_extproc.auth.jwks import InvalidKeySet, IssuerKeys, read
from edge_extproc.auth.jwt import REASONS, IssuerSettings, JwtVerifier
from edge_extproc.errors import PolicyUnavailable, Unauthenticated
from edge_extproc.model.principal import Principal

TENANTS = {"acme": ("gpt-*",), "umbrella": ("*",)}


class Clock:
    def __init__(self, at: float) -> None:
        self.at = at

    def __call__(self) -> float:
        return self.at


class Site:
    """Where an issuer's keys are, and how often they were asked for."""

    def __init__(self, body: bytes | None = None) -> None:
        self.body, self.asked = body if body is not None else key_set(), 0
        self.down = False

    async def fetch(self, url: str) -> bytes:
        self.asked += 1
        if self.down:
            raise OSError("no way there")
        return self.body


class Stand:
    def __init__(self, site: Site | None = None, **more: Any) -> None:
        self.site = site or Site()
        self.time, self.ticks, self.errors = Clock(NOW), Clock(0.0), list[BaseException]()
        self.keys = IssuerKeys(
            "https://issuer.example/keys", self.site.fetch, clock=self.ticks, on_error=self.errors.append
        )
        algorithms = more.pop("algorithms", ("RS256", "ES256", "Ed25519"))
        settings = IssuerSettings(ISSUER, (AUDIENCE,), algorithms, **more)
        self.verifier = JwtVerifier([(settings, self.keys)], TENANTS, self.time)

    def fetch(self) -> Stand:
        asyncio.run(self.keys.fetch_now())
        return self

    def refusal(self, presented: str) -> str | None:
        with pytest.raises(Unauthenticated) as found:
            self.verifier.principal_of(presented)
        # Nothing of the token is told.
        assert not any(part and part in found.value.message for part in presented.split("."))
        assert found.value.code in REASONS
        return found.value.code


@pytest.fixture(scope="module")
def stand() -> Stand:
    return Stand(team_claim="org.team", roles_claim="roles").fetch()


@pytest.mark.parametrize(("key", "algorithm"), [(RSA, "RS256"), (EC, "ES256"), (ED, "Ed25519")])
def test_a_token_says_who_its_bearer_is(stand: Stand, key: Any, algorithm: str) -> None:
    made = token(key, algorithm, org={"team": "research"}, roles=["a", "b", "a", 3])
    principal = Principal("acme", "jwt:ann", ("gpt-*",), "research", "ann", ("a", "b"))

    assert principal == stand.verifier.principal_of(made) == stand.verifier.principal_of(made)


@pytest.mark.parametrize(
    ("presented", "code"),
    [
        (lambda: "edge-key", "malformed_token"),
        (lambda: "eyJ.e30.", "malformed_token"),
        (lambda: "eyJhbGciOiJSUzI1NiJ9.W10.eA", "malformed_token"),
        (lambda: token() + "\n", "malformed_token"),
        (lambda: token(sub="x" * 20_000), "malformed_token"),
        (lambda: by_hand({"alg": "RS256", "kid": 3}, claims()), "malformed_token"),
        (lambda: by_hand({"alg": "RS256", "kid": "rsa", "crit": ["exp"]}, claims()), "malformed_token"),
        (lambda: token(iss="https://issuer.example/"), "unknown_issuer"),
        (lambda: token(iss=None), "unknown_issuer"),
        (lambda: by_hand({"alg": "none", "kid": "rsa"}, claims(), b""), "malformed_token"),
        (lambda: by_hand({"alg": "none", "kid": "rsa"}, claims()), "unsupported_algorithm"),
        (lambda: by_hand({"alg": "NONE"}, claims()), "unsupported_algorithm"),
        (lambda: by_hand({"alg": ["RS256"]}, claims()), "unsupported_algorithm"),
        (confused, "unsupported_algorithm"),
        (lambda: token(OTHER, "RS512"), "unsupported_algorithm"),
        (lambda: by_hand({"alg": "ES256", "kid": "rsa"}, claims()), "invalid_signature"),
        (lambda: by_hand({"alg": "RS256", "kid": "ec"}, claims()), "invalid_signature"),
        (lambda: by_hand({"alg": "RS256", "kid": "rsa"}, claims()), "invalid_signature"),
        (lambda: token(OTHER, header={"kid": "rsa"}), "invalid_signature"),
        (lambda: token(OTHER), "unknown_key"),
        (lambda: token(header={"kid": None}), "unknown_key"),
        (lambda: token(exp=NOW - 31), "expired_token"),
        (lambda: token(exp=None), "missing_claim"),
        (lambda: token(exp="tomorrow"), "malformed_token"),
        (lambda: token(exp=True), "malformed_token"),
        (lambda: token(nbf=NOW + 31), "token_not_yet_valid"),
        (lambda: token(aud="another"), "wrong_audience"),
        (lambda: token(aud=None), "wrong_audience"),
        (lambda: token(aud=["another", {"edge": 1}]), "wrong_audience"),
        (lambda: token(tenant=None), "missing_claim"),
        (lambda: token(tenant="nowhere"), "unknown_tenant"),
        (lambda: token(sub=None), "missing_claim"),
        (lambda: token(sub="a\nb"), "missing_claim"),
        (lambda: token(sub=["ann"]), "missing_claim"),
    ],
)
def test_anything_else_is_refused(stand: Stand, presented: Callable[[], str], code: str) -> None:
    stand.ticks.at = 1.0

    assert code == stand.refusal(presented())


@pytest.mark.parametrize("more", [{"exp": NOW - 29}, {"nbf": NOW + 29}, {"aud": ["x", AUDIENCE]}])
def test_clocks_may_differ_and_audiences_may_be_many(stand: Stand, more: dict[str, Any]) -> None:
    principal = stand.verifier.principal_of(token(**more))

    assert ("ann", (AUDIENCE,)) == (principal.user, principal.audiences)


def test_a_verified_token_is_good_no_longer_than_it_is_valid() -> None:
    stand = Stand().fetch()
    made = token(exp=NOW + 60)
    stand.verifier.principal_of(made)
    stand.time.at = NOW + 89
    stand.verifier.principal_of(made)
    stand.time.at = NOW + 91

    assert "expired_token" == stand.refusal(made)


def test_one_letter_more_is_another_token(stand: Stand) -> None:
    """A cache by a part of a token would take one for the other."""
    made = token()
    stand.verifier.principal_of(made)
    head, body, signature = made.split(".")

    assert "invalid_signature" == stand.refusal(f"{head}.{body}.{'A' if signature[0] != 'A' else 'B'}{signature[1:]}")


def test_roles_are_those_of_the_token_or_the_default_or_none() -> None:
    made, bare = token(scope="a b"), token()

    assert ("a", "b") == Stand(roles_claim="scope").fetch().verifier.principal_of(made).roles
    assert () == Stand(roles_claim="scope").fetch().verifier.principal_of(bare).roles
    assert ("c",) == Stand(roles_claim="scope", default_roles=("c",)).fetch().verifier.principal_of(bare).roles
    assert Stand().fetch().verifier.principal_of(made).roles is None


def test_a_token_may_bind_its_bearer_to_a_run() -> None:
    stand = Stand(run_claim="run.id", run_parent_claim="run.parent").fetch()
    bound = stand.verifier.principal_of(token(run={"id": "task-1", "parent": "job-1"}))
    free = stand.verifier.principal_of(token(run={"parent": "job-1"}))

    assert [("task-1", "job-1"), (None, None)] == [(bound.run, bound.run_parent), (free.run, free.run_parent)]
    for other in (5, "", "a b", ["task-1"], "a" * 129):
        assert "malformed_token" == stand.refusal(token(run={"id": other}))


def test_an_issuer_may_stand_for_one_tenant_whatever_its_tokens_say() -> None:
    assert "umbrella" == Stand(tenant="umbrella").fetch().verifier.principal_of(token()).tenant


# --- the issuer's keys


def test_before_the_keys_are_there_nobody_can_say_whether_a_token_is_good() -> None:
    stand = Stand()
    with pytest.raises(PolicyUnavailable) as found:
        stand.verifier.principal_of(token())

    assert (503, 1.0) == (found.value.status, found.value.retry_after)
    assert "ann" == stand.fetch().verifier.principal_of(token()).user


def test_known_keys_go_on_working_while_the_issuer_is_away() -> None:
    stand = Stand().fetch()
    stand.site.down = True
    stand.fetch()
    stand.ticks.at = 10_000.0

    assert "ann" == stand.verifier.principal_of(token()).user
    assert 1 == len(stand.errors)
    with pytest.raises(PolicyUnavailable):
        stand.verifier.principal_of(token(OTHER))


async def test_a_new_key_is_fetched_once_however_many_ask_and_an_old_one_is_forgotten() -> None:
    stand = Stand()
    stand.keys.start()
    await until(lambda: stand.site.asked == 1 and stand.keys.find("rsa") is not None)
    old = token()
    stand.verifier.principal_of(old)
    stand.site.body = key_set(OTHER)
    stand.ticks.at = 31.0
    for _ in range(50):
        with pytest.raises(PolicyUnavailable):
            stand.verifier.principal_of(token(OTHER))
    await until(lambda: stand.keys.find("other") is not None)

    assert "ann" == stand.verifier.principal_of(token(OTHER)).user
    assert "unknown_key" == stand.refusal(old)
    assert 2 == stand.site.asked
    await stand.keys.close()


async def test_a_key_that_was_replaced_under_its_id_is_fetched_once_at_the_first_bad_signature() -> None:
    stand = Stand()
    stand.keys.start()
    await until(lambda: stand.site.asked == 1 and stand.keys.find("rsa") is not None)
    replaced = RSAKey.import_key({**OTHER.as_dict(private=True), "kid": "rsa"})
    stand.site.body = key_set(replaced)
    assert "invalid_signature" == stand.refusal(token(replaced))
    stand.ticks.at = 31.0
    for _ in range(50):
        with pytest.raises(PolicyUnavailable):
            stand.verifier.principal_of(token(replaced))
    await until(lambda: stand.site.asked == 2 and not stand.keys.may_be_replaced())

    assert "ann" == stand.verifier.principal_of(token(replaced)).user
    for _ in range(50):
        assert "invalid_signature" == stand.refusal(token())
    assert 2 == stand.site.asked
    await stand.keys.close()


async def test_bad_signatures_fetch_no_more_often_while_the_issuer_is_away() -> None:
    stand = Stand()
    stand.keys.start()
    await until(lambda: stand.site.asked == 1 and stand.keys.find("rsa") is not None)
    stand.site.down, stand.ticks.at = True, 31.0
    forged = token(OTHER, header={"kid": "rsa"})
    with pytest.raises(PolicyUnavailable):
        stand.verifier.principal_of(forged)
    await until(lambda: len(stand.errors) == 1)
    for _ in range(50):
        assert "invalid_signature" == stand.refusal(forged)

    assert (2, "ann") == (stand.site.asked, stand.verifier.principal_of(token()).user)
    await stand.keys.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        came_true = condition()
        while not came_true:
            await asyncio.sleep(0.005)
            came_true = condition()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b'{"keys": {}}',
        b'{"keys": []}',
        b'{"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "a"}]}',
        b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "short"}]}',
        json.dumps({"keys": [{**RSA.as_dict(private=False), "use": "enc"}]}).encode(),
        b"x" * (1 << 21),
        b"[" * 100_000,
        b'{"\xffkeys": []}',
        b'{"keys": [{"kty": "OKP", "crv": "P-256", "x": "AAAA", "kid": "mixed"}]}',
    ],
)
def test_what_is_no_set_of_keys_changes_nothing(body: bytes) -> None:
    with pytest.raises(InvalidKeySet):
        read(body)
    stand = Stand().fetch()
    stand.site.body = body
    stand.fetch()

    assert "ann" == stand.verifier.principal_of(token()).user


def test_private_parts_of_a_key_are_left_alone() -> None:
    found = read(json.dumps({"keys": [RSA.as_dict(private=True)]}).encode())

    assert not found["rsa"].is_private


# --- whatever comes

_HEADERS = st.dictionaries(
    st.sampled_from(["alg", "kid", "typ", "crit", "jku", "jwk", "b64", "zip"]),
    st.sampled_from(["RS256", "ES256", "none", "HS256", "rsa", "ec", "", None, 1, [], {}]),
)
_CLAIMS = st.dictionaries(
    st.sampled_from(["iss", "aud", "sub", "tenant", "exp", "nbf"]),
    st.sampled_from([ISSUER, AUDIENCE, "acme", NOW + 5, -1, None, [], {}, True, 1e400, "\ud800"]),
)


@given(st.one_of(st.text(), st.builds(by_hand, _HEADERS, _CLAIMS, st.binary(min_size=1, max_size=80))))
def test_no_text_is_a_token_unless_it_was_signed(stand: Stand, presented: str) -> None:
    with pytest.raises((Unauthenticated, PolicyUnavailable)):
        stand.verifier.principal_of(presented)

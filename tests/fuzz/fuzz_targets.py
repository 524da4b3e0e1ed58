"""What is fuzzed, and what must hold whatever bytes come: `TARGETS` by name, each with seeds to begin from.

Nothing but a declared error is raised, nobody passes without a credential that is good, and no verdict is a fault of
ours. A target may be called with any bytes.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import tokens
from limits_kit import Now, RecordingListener, rule
from player import KEY, Stage

from edge_extproc.auth.api_key import ApiKeys, KeyRecord, digest
from edge_extproc.auth.composite import CompositeAuthenticator
from edge_extproc.auth.identity_seal import IdentitySeal
from edge_extproc.auth.jwks import InvalidKeySet, IssuerKeys, read
from edge_extproc.auth.jwt import IssuerSettings, JwtVerifier
from edge_extproc.auth.mtls import CertificateIdentity as Row
from edge_extproc.auth.mtls import Certificates
from edge_extproc.auth.policy import AccessPolicies, AccessPolicy
from edge_extproc.errors import EdgeError, PeerError, PolicyUnavailable, Unauthenticated
from edge_extproc.exchange.check import AuthzChecker, CheckAllowed, CheckDenied
from edge_extproc.exchange.commands import ImmediateResponse
from edge_extproc.exchange.events import RequestBody, RequestHeaders
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.principal import Principal
from edge_extproc.pb.auth_pb2 import CheckRequest
from edge_extproc.pb.ext_proc_pb2 import ProcessingRequest
from edge_extproc.server import authz_wire, wire

PEPPER = b"a pepper of the tests"
URI = "spiffe://cluster.local/ns/chat/sa/web"


@dataclass(frozen=True)
class Target:
    run: Callable[[bytes], None]
    seeds: tuple[bytes, ...]


# --- what is asked


@functools.cache
def verifier() -> JwtVerifier:
    async def never(_: str) -> bytes:
        raise OSError("no way there")

    keys = IssuerKeys("https://issuer.example/keys", never, clock=lambda: 0.0)
    keys._keys, keys._heard_at = read(tokens.key_set()), 0.0
    settings = IssuerSettings(tokens.ISSUER, (tokens.AUDIENCE,), ("RS256", "ES256"))
    return JwtVerifier([(settings, keys)], {"acme": ("*",)}, lambda: tokens.NOW)


@functools.cache
def good_tokens() -> tuple[str, ...]:
    return (tokens.token(), tokens.token(tokens.EC, "ES256"))


@functools.cache
def authenticator() -> CompositeAuthenticator:
    record = KeyRecord(digest(PEPPER, KEY), "acme-1", Principal("acme", "acme-1", roles=("reader",)))
    rows = [Row("acme", uri="spiffe://cluster.local/ns/chat/sa/*")]
    return CompositeAuthenticator(ApiKeys([record], PEPPER), verifier(), Certificates(rows, {"acme": ("*",)}))


def is_good(headers: Any) -> bool:
    """Whether these hold a credential that anybody gave out; of a token, its signature may be spelled in several
    ways."""
    good = (KEY, "spiffe://cluster.local/ns/chat/sa/", *(token.rpartition(".")[0] for token in good_tokens()))
    return any(each in value for _, value in headers for each in good)


@functools.cache
def stage() -> Stage:
    policies = AccessPolicies([("acme", "tenant", "acme", AccessPolicy(models=("*",)))], {"reader": AccessPolicy()}, {})
    limiter = PolicyLimiter(RuleTable([rule("requests", 10**12)]), None, RecordingListener(), clock=Now())
    return Stage().having(authenticator=authenticator(), access=policies, limiter=limiter)


def ask(question: Coroutine[Any, Any, Any]) -> Any:
    """Nothing here waits for anything, so no event loop is needed."""
    try:
        question.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits for something")


def tells_nothing_of(credential: str, error: EdgeError) -> None:
    assert len(credential) < 16 or credential not in error.message


# --- targets


def fuzz_headers(given: bytes) -> None:
    """Lines of `name: value`, however they are spelled."""
    lines = given.decode("utf-8", "surrogateescape").split("\n")
    headers = [(name.lower(), value) for name, _, value in (line.partition(": ") for line in lines[:20])]
    try:
        principal = authenticator().authenticate(headers)
    except (Unauthenticated, PolicyUnavailable) as error:
        tells_nothing_of(KEY, error)
        return
    assert principal.tenant == "acme"
    assert is_good(headers), headers


def fuzz_token(given: bytes) -> None:
    presented = given.decode("utf-8", "surrogateescape")
    try:
        principal = verifier().principal_of(presented)
    except (Unauthenticated, PolicyUnavailable) as error:
        tells_nothing_of(presented, error)
        return
    assert ("acme", "ann") == (principal.tenant, principal.user)
    assert presented.rpartition(".")[0] in {token.rpartition(".")[0] for token in good_tokens()}, presented


def fuzz_key_set(given: bytes) -> None:
    """What an issuer may answer."""
    try:
        found = read(given)
    except InvalidKeySet:
        return
    assert found


def fuzz_check(given: bytes) -> None:
    found = stage()
    try:
        asked = authz_wire.to_request(given)
    except PeerError:
        return
    verdict = ask(AuthzChecker(lambda: found.gateway, IdentitySeal(PEPPER)).check(asked))
    authz_wire.to_answer(verdict)
    assert not found.bugs, found.bugs
    match verdict:
        case CheckAllowed(set_headers=()):
            assert asked.settings.get("edge.optional") == "true"
        case CheckAllowed():
            assert is_good(asked.headers), asked.headers
        case CheckDenied():
            # An issuer whose keys cannot be had is none of the caller's faults.
            assert verdict.status in (401, 403, 404, 429, 503), verdict.status


def fuzz_ext_proc(given: bytes) -> None:
    """Any first message, and where it is a good one's headers, the rest as its body."""
    found = stage()
    try:
        event = wire.to_event(given)
    except PeerError:
        return
    exchange = found.exchange()
    try:
        command = ask(exchange.handle(event))
        wire.to_answers(event, command)
        if isinstance(event, RequestHeaders) and not isinstance(command, ImmediateResponse):
            assert is_good(event.headers), event.headers
            if not event.end:
                body = RequestBody(given, True)
                wire.to_answers(body, ask(exchange.handle(body)))
    except PeerError:
        pass
    finally:
        exchange.closed("done")
        found.settled.clear()
    assert not found.bugs, found.bugs


# --- seeds


def _check(*pairs: tuple[str, str], **settings: str) -> bytes:
    request = CheckRequest()
    http = request.attributes.request.http
    http.method, http.path = "POST", "/v1/chat/completions?x=1"
    for name, value in pairs:
        http.headers[name] = value
    for name, value in settings.items():
        request.attributes.context_extensions[f"edge.{name}"] = value
    return request.SerializeToString()


def _raw_check(*pairs: tuple[str, bytes]) -> bytes:
    request = CheckRequest()
    request.attributes.request.http.path = "/orders"
    for name, value in pairs:
        header = request.attributes.request.http.header_map.headers.add()
        header.key, header.raw_value = name, value
    return request.SerializeToString()


def _process(*pairs: tuple[str, str], end: bool = False) -> bytes:
    request = ProcessingRequest()
    found = request.request_headers
    found.end_of_stream = end
    for name, value in ((":method", "POST"), (":path", "/v1/chat/completions"), *pairs):
        header = found.headers.headers.add()
        header.key, header.raw_value = name, value.encode()
    return request.SerializeToString()


def _body() -> bytes:
    request = ProcessingRequest()
    request.request_body.body = json.dumps({"model": "gpt", "messages": []}).encode()
    request.request_body.end_of_stream = True
    return request.SerializeToString()


BEARER = ("authorization", f"Bearer {KEY}")
TARGETS: dict[str, Target] = {
    "headers": Target(
        fuzz_headers,
        (
            f"authorization: Bearer {KEY}".encode(),
            f"x-api-key: {KEY}\nx-goog-api-key: {KEY}".encode(),
            f"authorization: Bearer {good_tokens()[0]}".encode(),
            f'x-forwarded-client-cert: Hash=00;URI={URI};Subject="CN=a\\"b"'.encode(),
            b"authorization: Basic dXNlcjpwYXNz\napi-key: x",
        ),
    ),
    "token": Target(
        fuzz_token,
        (
            *(token.encode() for token in good_tokens()),
            tokens.by_hand({"alg": "none"}, tokens.claims()).encode(),
            tokens.signed_with_the_public_key_as_a_secret().encode(),
        ),
    ),
    "key_set": Target(fuzz_key_set, (tokens.key_set(), b'{"keys":[{"kty":"oct","k":"AA"}]}')),
    "check": Target(
        fuzz_check,
        (
            _check(BEARER),
            _check(optional="true"),
            _check(BEARER, tenants="acme", limit="requests", operation="chat", model="gpt"),
            _raw_check(("x-api-key", KEY.encode()), ("x-api-key", b"\xff")),
            _check(("x-forwarded-client-cert", f"URI={URI}")),
        ),
    ),
    "ext_proc": Target(
        fuzz_ext_proc,
        (_process(BEARER), _process(BEARER, end=True), _process(("x-api-key", "wrong")), _process(), _body()),
    ),
}

"""ext_authz, by headers alone: the same callers and rules, for any route."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits_kit import Now, RecordingListener, rule
from player import KEY, Stage, body, headers, talk

from edge_extproc.auth.identity_seal import NAMESPACE, IdentitySeal
from edge_extproc.auth.policy import AccessPolicies, AccessPolicy
from edge_extproc.errors import PolicyUnavailable
from edge_extproc.exchange.check import AuthzChecker, AuthzRequest, CheckAllowed, CheckDenied, Verdict, plain_path
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.events import RequestHeaders
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.checked import AuthzDecision
from edge_extproc.model.principal import Principal

SEAL = IdentitySeal(b"a pepper of the tests")
BEARER = ("authorization", f"Bearer {KEY}")
ID = ("x-request-id", "request-1")


def check(
    stage: Stage, *pairs: tuple[str, str], path: str = "/orders?id=1", method: str = "POST", **settings: str
) -> Verdict:
    asked = AuthzRequest(method, path, pairs, {f"edge.{name}": value for name, value in settings.items()})
    return asyncio.run(AuthzChecker(lambda: stage.gateway, SEAL).check(asked))


def allowed(*arguments: Any, **more: Any) -> CheckAllowed:
    verdict = check(*arguments, **more)
    assert isinstance(verdict, CheckAllowed), verdict
    return verdict


def denied(*arguments: Any, **more: Any) -> CheckDenied:
    verdict = check(*arguments, **more)
    assert isinstance(verdict, CheckDenied), verdict
    return verdict


def test_a_known_caller_passes_without_its_credential_and_with_its_identity() -> None:
    verdict = allowed(Stage(), BEARER, ("x-edge-team", "forged"), ID)

    assert (("x-edge-tenant", "acme"), ("x-edge-key", "acme-1")) == verdict.set_headers
    assert ("authorization", "x-edge-team", "x-edge-user") == verdict.remove_headers
    assert Principal("acme", "acme-1") == SEAL.principal(verdict.metadata, "request-1")


def test_the_credential_of_a_models_request_goes_on_to_ext_proc_unless_that_believes_us() -> None:
    asking = allowed(Stage(), BEARER, path="/v1/chat/completions")
    believing = allowed(Stage().having(identity_seal=SEAL), BEARER, path="/v1/chat/completions")

    assert "authorization" not in asking.remove_headers
    assert "authorization" in believing.remove_headers


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ((), "missing_api_key"),
        ((("x-api-key", "edge-wrong"),), "invalid_api_key"),
        ((BEARER, BEARER), "duplicate_api_key"),
        ((BEARER, ("x-api-key", "another")), "conflicting_api_keys"),
    ],
)
def test_nobody_else_does(pairs: tuple[tuple[str, str], ...], code: str) -> None:
    verdict = denied(Stage(), *pairs)
    told = json.loads(verdict.body)

    assert (401, code, code) == (verdict.status, verdict.code, told["error"]["code"])
    assert "application/json" == dict(verdict.headers)["content-type"]


def test_a_refusal_is_told_in_the_words_of_its_path() -> None:
    assert "authentication_error" == json.loads(denied(Stage(), path="/v1/messages").body)["error"]["type"]


def test_a_route_may_be_for_some_tenants_or_roles() -> None:
    assert 403 == denied(Stage(), BEARER, tenants="umbrella, other").status
    assert (
        "this route is for the roles admin"
        in json.loads(denied(Stage(), BEARER, roles="admin").body)["error"]["message"]
    )
    allowed(Stage(), BEARER, tenants="other,acme")


def test_a_route_may_be_open_to_nobody_in_particular_but_not_to_a_wrong_key() -> None:
    verdict = allowed(Stage(), ("x-edge-tenant", "forged"), optional="true")

    assert ((), ("x-edge-tenant",), {}) == (verdict.set_headers, verdict.remove_headers, verdict.metadata)
    assert 401 == denied(Stage(), ("x-api-key", "edge-wrong"), optional="true").status
    assert 401 == denied(Stage(), optional="yes").status
    assert 401 == denied(Stage(), ("x-forwarded-client-cert", "URI=spiffe://x"), optional="true").status


@pytest.mark.parametrize("settings", [{"tenant": "acme"}, {"operation": "dance"}])
def test_a_setting_that_there_is_not_lets_nobody_pass(settings: dict[str, str]) -> None:
    assert 403 == denied(Stage(), BEARER, **settings).status


def test_policies_hold_for_what_the_path_or_the_route_says() -> None:
    policies = AccessPolicies([("acme", "tenant", "acme", AccessPolicy(operations=frozenset({"embeddings"})))], {}, {})
    stage = Stage().having(access=policies)

    assert 403 == denied(stage, BEARER, path="/v1/chat/completions").status
    assert 403 == denied(stage, BEARER, operation="chat").status
    allowed(stage, BEARER, operation="embeddings")
    allowed(stage, BEARER)


def test_a_route_may_serve_a_model_that_not_all_may_use() -> None:
    policies = AccessPolicies([("acme", "tenant", "acme", AccessPolicy(models=("llama-*",)))], {}, {})
    stage = Stage().having(access=policies)

    allowed(stage, BEARER, model="llama-3")
    refusal = denied(stage, BEARER, model="gpt-4o")
    assert (403, True) == (refusal.status, b"gpt-4o" in refusal.body)


def told(stage: Stage, *pairs: tuple[str, str], **settings: str) -> AuthzDecision:
    heard: list[AuthzDecision] = []
    extensions = {f"edge.{name}": value for name, value in settings.items()}
    asked = AuthzRequest("GET", "/v1/models?key=hidden", pairs, extensions, "orders.example")
    asyncio.run(AuthzChecker(lambda: stage.gateway, SEAL, heard.append).check(asked))
    (found,) = heard
    return found


def test_each_verdict_is_told_once_with_who_asked_what_and_why_not() -> None:
    passed, wrong = told(Stage(), BEARER, ID), told(Stage(), ("x-api-key", "edge-wrong"))
    not_here = told(Stage(), BEARER, tenants="umbrella")

    assert ("allowed", None, None, "acme", "acme-1") == (
        passed.result, passed.status, passed.code, passed.tenant, passed.key_id,
    )  # fmt: skip
    assert ("GET", "orders.example", "/v1/models", "models", "request-1") == (
        passed.method, passed.host, passed.path, passed.operation, passed.request_id,
    )  # fmt: skip
    assert ("denied", 401, "invalid_api_key", None) == (wrong.result, wrong.status, wrong.code, wrong.tenant)
    assert ("denied", 403, "acme") == (not_here.result, not_here.status, not_here.tenant)
    assert "the tenant acme may not use this route" == not_here.reason


def test_what_nobody_could_decide_is_told_apart() -> None:
    class Broken:
        def authenticate(self, _: Any) -> Principal:
            raise PolicyUnavailable("keys cannot be had")

    found = told(Stage().having(authenticator=Broken()), BEARER)

    assert ("unavailable", 503, "policy_unavailable") == (found.result, found.status, found.code)


def test_a_route_may_count_requests() -> None:
    limiter = PolicyLimiter(
        RuleTable([rule("requests", 2), rule("concurrent", 1)]), None, RecordingListener(), clock=Now()
    )
    stage = Stage().having(limiter=limiter)
    first = allowed(stage, BEARER, limit="requests")
    allowed(stage, BEARER)
    allowed(stage, BEARER, limit="requests")
    over = denied(stage, BEARER, limit="requests")

    assert ("x-ratelimit-remaining-requests", "1") in first.response_headers
    assert (429, True) == (over.status, "retry-after" in dict(over.headers))
    # Who must wait is known now, wherever it goes.
    assert 429 == denied(stage, BEARER).status


def test_a_bug_of_ours_is_a_refusal_that_tells_nothing() -> None:
    class Broken:
        def authenticate(self, _: object) -> Principal:
            raise RuntimeError("secret text")

    stage = Stage().having(authenticator=Broken())
    verdict = denied(stage, BEARER)

    assert (500, False) == (verdict.status, b"secret text" in verdict.body)
    assert ["secret text"] == [str(bug) for bug in stage.bugs]


# --- what ext_proc makes of it


def vouched(metadata: Any, *, key: str | None = None, request_id: str = "request-1") -> RequestHeaders:
    event = headers(key=key)
    pairs = tuple((n, request_id if n == "x-request-id" else v) for n, v in event.headers)
    return RequestHeaders(pairs, False, metadata={NAMESPACE: metadata})


def start(stage: Stage, event: RequestHeaders) -> Any:
    return talk(stage.exchange(), event)[0]


def test_who_was_vouched_for_is_not_asked_again() -> None:
    stage = Stage().having(identity_seal=SEAL)
    exchange = stage.exchange()
    seal = SEAL.seal(Principal("umbrella", "token-1", ("claude",), "team", "ann", ("r",)), "request-1")
    asked = body({"model": "claude", "messages": [{"role": "user", "content": "x"}]})
    commands = talk(exchange, vouched(seal), asked)
    exchange.closed("done")

    assert isinstance(commands[1], Continue)
    assert ("umbrella", "token-1") == (stage.settled[0].tenant, stage.settled[0].key_id)


@pytest.mark.parametrize(
    "change",
    [
        {"seal": "0" * 64},
        {"seal": None},
        {"seal": "\ud800"},
        {"identity": None},
        {"identity": '{"tenant":"acme","key":"k","models":["*"]}'},
        {"identity": 5},
    ],
)
def test_what_is_not_sealed_by_us_is_refused(change: dict[str, object]) -> None:
    stage = Stage().having(identity_seal=SEAL)
    found = {**SEAL.seal(Principal("umbrella", "k"), "request-1"), **change}
    reply = start(stage, vouched({name: value for name, value in found.items() if value is not None}, key=KEY))

    assert isinstance(reply, ImmediateResponse)
    assert (401, "unverified_identity") == (reply.status, json.loads(reply.body)["error"]["code"])


def test_a_seal_is_for_one_request() -> None:
    stage = Stage().having(identity_seal=SEAL)
    seal = SEAL.seal(Principal("umbrella", "k"), "request-1")

    assert isinstance(start(stage, vouched(seal, request_id="request-2")), ImmediateResponse)


def test_nobody_vouched_for_and_nobody_trusted_means_the_credential_counts() -> None:
    seal = SEAL.seal(Principal("umbrella", "k"), "request-1")
    untrusting, trusting = Stage(), Stage().having(identity_seal=SEAL)

    assert isinstance(start(untrusting, vouched(seal)), ImmediateResponse)
    assert isinstance(start(trusting, vouched({})), ImmediateResponse)
    assert isinstance(start(trusting, vouched({}, key=KEY)), Continue)


# --- whatever comes

_TEXT = st.text(max_size=30)
_PAIRS = st.lists(
    st.tuples(st.sampled_from(["authorization", "x-api-key", "cookie", "x-edge-tenant", "x-request-id"]), _TEXT),
    max_size=5,
)
STAGE = Stage()


@given(_PAIRS, _TEXT, _TEXT, st.dictionaries(st.sampled_from(["edge.tenants", "edge.roles", "edge.x", "other"]), _TEXT))
def test_no_request_without_a_key_passes_and_none_is_a_failure_of_ours(
    pairs: list[tuple[str, str]], method: str, path: str, settings: dict[str, str]
) -> None:
    verdict = asyncio.run(
        AuthzChecker(lambda: STAGE.gateway, SEAL).check(AuthzRequest(method, path, tuple(pairs), settings))
    )

    assert isinstance(verdict, CheckDenied)
    assert 400 <= verdict.status < 500
    assert not STAGE.bugs


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings",
        "/v1/embeddings?x",
        "//v1/embeddings",
        "/v1//embeddings",
        "/v1/%65mbeddings",
        "/v1/%2565mbeddings",
        "/v1/embeddings/",
        "/v1/./embeddings",
        "/v1/x/../embeddings",
        "/v1/x/..%2fembeddings",
        "\\v1\\embeddings",
        "/V1/Embeddings",
        "/v1/embeddings;a",
        "/v1;b/embeddings",
        "/v1/embeddings%3f",
        "/v1/embeddings#a",
        "//v1beta/models/m:embedContent",
    ],
)
def test_another_spelling_of_a_path_has_the_operation_of_the_path(path: str) -> None:
    policies = AccessPolicies([("acme", "tenant", "acme", AccessPolicy(operations=frozenset({"chat"})))], {}, {})
    stage = Stage().having(access=policies)

    assert 403 == denied(stage, BEARER, path=path).status
    allowed(stage, BEARER, path="//v1/chat/completions/")
    allowed(stage, BEARER, path="/orders/v1/embeddings")


@pytest.mark.parametrize("method", ["POST", "post", "GET", "HEAD", "PUT", "X"])
@pytest.mark.parametrize("path", ["/v1/embeddings", "//v1/%65mbeddings"])
def test_a_path_has_its_operation_with_any_method(path: str, method: str) -> None:
    """A service may read the method from the header x-http-method-override, or from the body."""
    policies = AccessPolicies([("acme", "tenant", "acme", AccessPolicy(operations=frozenset({"chat"})))], {}, {})
    stage = Stage().having(access=policies)

    assert 403 == denied(stage, BEARER, path=path, method=method).status
    allowed(stage, BEARER, path="/v1/chat/completions", method=method)
    allowed(stage, BEARER, path="/orders", method=method)


@given(st.text())
def test_every_path_has_a_plain_spelling(path: str) -> None:
    plain = plain_path(path)

    assert plain.startswith("/")
    assert "//" not in plain
    assert ";" not in plain


@pytest.mark.parametrize(
    "path",
    [
        "/v1/embeddings%00",
        "/v1/embeddings%20",
        "/v1/embeddings.",
        "/v1./embeddings",
        "/v1/\uff45mbeddings",
        "/v1/%EF%BD%85mbeddings",
        "/v1/%c1%a5mbeddings",
        "/v1/%25252565mbeddings",
        "/v1/embeddings\t",
        '/v1/"embeddings"',
    ],
)
def test_where_operations_are_restricted_a_path_of_unknown_spelling_is_refused(path: str) -> None:
    chat_only = AccessPolicy(operations=frozenset({"chat"}))
    restricted = Stage().having(access=AccessPolicies([("acme", "tenant", "acme", chat_only)], {}, {}))
    open_to_all = AccessPolicy(models=("gpt-*",))
    unrestricted = Stage().having(access=AccessPolicies([("acme", "tenant", "acme", open_to_all)], {}, {}))

    assert 403 == denied(restricted, BEARER, path=path).status
    allowed(unrestricted, BEARER, path=path)
    allowed(restricted, BEARER, path=path, operation="chat")


@pytest.mark.parametrize("path", ["/", "/orders", "/orders/", "/orders//a.b/v1.2?x=%00", "/a+b/~c/(d),e=f:g@h", "/%61"])
def test_where_operations_are_restricted_usual_paths_of_other_services_pass(path: str) -> None:
    chat_only = AccessPolicy(operations=frozenset({"chat"}))
    stage = Stage().having(access=AccessPolicies([("acme", "tenant", "acme", chat_only)], {}, {}))

    allowed(stage, BEARER, path=path)


@pytest.mark.parametrize("roles", [{}, {"chats": AccessPolicy(operations=frozenset({"chat"}))}])
def test_a_caller_without_a_role_for_other_operations_is_restricted(roles: dict[str, AccessPolicy]) -> None:
    rights = AccessPolicies([], roles, {}).of(Principal("acme", "acme-1", roles=("chats",)))

    assert rights is not None
    assert rights.restricts_operations


@given(
    st.sampled_from(["x-edge-tenant", "x-edge-team", "x-edge-user", "x-edge-key"]),
    st.lists(st.sampled_from("-_.!~^"), min_size=2, max_size=2),
)
def test_no_spelling_of_an_identity_header_reaches_the_service(name: str, separators: list[str]) -> None:
    first, second, third = name.split("-")
    spelled = f"{first}{separators[0]}{second}{separators[1]}{third}"
    verdict = allowed(Stage(), BEARER, (spelled, "forged"))
    anonymous = allowed(Stage(), (spelled, "forged"), optional="true")
    replaced = {name for name, _ in verdict.set_headers}

    assert spelled in {*verdict.remove_headers, *replaced}
    assert (spelled,) == anonymous.remove_headers
    assert not replaced & set(verdict.remove_headers)


def test_a_run_of_a_token_is_sealed_too() -> None:
    bound = Principal("acme", "jwt:ann", run="task", run_parent="job")

    assert bound == SEAL.principal(SEAL.seal(bound, "request-1"), "request-1")

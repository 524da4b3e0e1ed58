"""Roles allow, policies narrow: never does a lower level, or one role more, take a bound away."""

from __future__ import annotations

import json
from typing import Any

import pytest
from every_dialect import EVERY_NAME
from hypothesis import given
from hypothesis import strategies as st

from edge_extproc.auth.policy import AccessPolicies, AccessPolicy
from edge_extproc.errors import Forbidden
from edge_extproc.model.call import Call
from edge_extproc.model.plan import Candidate
from edge_extproc.model.principal import Principal

OPENAI, MISTRAL, LOCAL = (Candidate(name, "m") for name in ("openai", "mistral", "local"))
ALL = (OPENAI, MISTRAL, LOCAL)
REGIONS = {"openai": "us", "mistral": "eu-west", "local": None}


def call(model: str = "gpt-4o", body: Any = None, **more: Any) -> Call:
    raw = json.dumps(body or {"messages": []}).encode()
    return Call("openai_chat", more.pop("operation", "chat"), model, False, raw, **more)


def rights(*levels: tuple[Any, str, AccessPolicy], roles: dict[str, AccessPolicy] | None = None) -> Any:
    policies = AccessPolicies(
        [("acme", level, name, policy) for level, name, policy in levels], roles or {}, REGIONS, EVERY_NAME
    )
    who = Principal("acme", "k", team="research", user="ann", roles=tuple(roles) if roles is not None else None)
    return policies.of(who)


def refusal(found: Any, of: Call) -> str:
    with pytest.raises(Forbidden) as error:
        found.narrow(of, ALL)
    assert (403, "permission_denied") == (error.value.status, error.value.code)
    return error.value.message


def test_without_a_policy_nothing_is_asked() -> None:
    assert rights() is None
    assert rights(("tenant", "acme", AccessPolicy())) is None


@pytest.mark.parametrize(
    ("policy", "of", "told"),
    [
        (AccessPolicy(models=("claude-*",)), call(), "the model 'gpt-4o' is not among those that tenant acme allows"),
        (AccessPolicy(models=()), call(), "the model 'gpt-4o' is not among those that tenant acme allows"),
        (
            AccessPolicy(operations=frozenset({"count_tokens"})),
            call(),
            "chat is not among the operations that tenant acme allows (count_tokens)",
        ),
        (
            AccessPolicy(max_tokens=10),
            call(max_output_tokens=11),
            "max_tokens is 11, and tenant acme allows replies of up to 10 tokens",
        ),
        (AccessPolicy(max_tokens=10), call(), "tenant acme allows replies of up to 10 tokens; set max_tokens"),
        (
            AccessPolicy(features=frozenset({"images"})),
            call(body={"tools": [{"type": "mcp"}]}),
            "mcp, tools: not among the features that tenant acme allows (images)",
        ),
        (
            AccessPolicy(providers=("azure",)),
            call(),
            "the model 'gpt-4o' is served by no provider or region that tenant acme allows",
        ),
        (
            AccessPolicy(regions=("ap-*",)),
            call(),
            "the model 'gpt-4o' is served by no provider or region that tenant acme allows",
        ),
    ],
)
def test_a_refusal_says_which_rule(policy: AccessPolicy, of: Call, told: str) -> None:
    assert told == refusal(rights(("tenant", "acme", policy)), of)


def test_what_is_within_the_bounds_passes() -> None:
    policy = AccessPolicy(("gpt-*",), frozenset({"chat"}), frozenset({"tools"}), 10)
    found = rights(("tenant", "acme", policy))

    assert ALL == found.narrow(call(body={"tools": [{}]}, max_output_tokens=10), ALL)


@pytest.mark.parametrize(
    ("policy", "left"),
    [
        (AccessPolicy(providers=("open*", "local")), (OPENAI, LOCAL)),
        (AccessPolicy(regions=("eu*",)), (MISTRAL,)),
        (AccessPolicy(regions=("*",)), ALL),
        (AccessPolicy(regions=("us", "eu-west")), (OPENAI, MISTRAL)),
    ],
)
def test_candidates_of_other_providers_and_regions_are_left_out(
    policy: AccessPolicy, left: tuple[Candidate, ...]
) -> None:
    assert left == rights(("key", "k", policy)).narrow(call(), ALL)


def test_two_roles_do_not_allow_together_what_neither_does() -> None:
    roles = {
        "big": AccessPolicy(models=("gpt-*",), features=frozenset()),
        "small": AccessPolicy(models=("mini",), features=frozenset({"tools"})),
    }
    found = rights(roles=roles)
    with_tools = {"tools": [{"a": 1}]}

    assert ALL == found.narrow(call("gpt-4o"), ALL) == found.narrow(call("mini", with_tools), ALL)
    message = refusal(found, call("gpt-4o", with_tools))
    assert "tools: not among the features that role big allows (none)" in message
    assert "the model 'gpt-4o' is not among those that role small allows" in message


def test_the_providers_of_any_role_that_allows_the_call_may_serve_it() -> None:
    roles = {
        "a": AccessPolicy(providers=("openai",)),
        "b": AccessPolicy(providers=("mistral",)),
        "c": AccessPolicy(("other",)),
    }

    assert (OPENAI, MISTRAL) == rights(roles=roles).narrow(call(), ALL)


def test_who_should_have_a_role_and_has_none_that_is_known_may_do_nothing() -> None:
    found = rights(roles={})
    unknown = AccessPolicies([], {"a": AccessPolicy()}, {}).of(Principal("acme", "k", roles=("b",)))

    assert "this caller has no configured role" == refusal(found, call()) == refusal(unknown, call())
    with pytest.raises(Forbidden):
        found.may_do("chat")
    assert not found.may_list("gpt-4o")


def test_an_operation_is_refused_before_there_is_a_body() -> None:
    found = rights(("team", "research", AccessPolicy(operations=frozenset({"chat"}))))
    found.may_do("chat")
    with pytest.raises(Forbidden, match="models is not among the operations that team research allows"):
        found.may_do("models")


def test_only_what_may_be_called_is_listed() -> None:
    found = rights(
        ("tenant", "acme", AccessPolicy(models=("gpt-*", "mini"))), roles={"r": AccessPolicy(models=("*-4o", "mini"))}
    )

    assert [True, True, False, False] == [found.may_list(n) for n in ("gpt-4o", "mini", "gpt-5", "other-4o")]


def test_a_policy_of_each_user_is_that_of_those_without_their_own() -> None:
    levels = [("acme", "user", "*", AccessPolicy(("a",))), ("acme", "user", "ann", AccessPolicy(("b",)))]
    policies = AccessPolicies(levels, {}, REGIONS)  # type: ignore[arg-type]
    ann, bob, stranger = (
        policies.of(Principal(t, "k", user=u)) for t, u in (("acme", "ann"), ("acme", "bob"), ("x", "ann"))
    )

    assert ann is not None
    assert bob is not None
    assert (True, True, None) == (ann.may_list("b"), bob.may_list("a"), stranger)
    assert ann is policies.of(Principal("acme", "k", user="ann"))


def test_rights_on_the_admin_api_come_of_roles_alone() -> None:
    found = rights(
        ("tenant", "acme", AccessPolicy()), roles={"a": AccessPolicy(admin=frozenset({"viewer"})), "b": AccessPolicy()}
    )

    assert {"viewer"} == found.admin


# --- never wider

_NAMES = st.lists(st.sampled_from(["gpt-4o", "gpt-*", "claude-*", "*", "mini"]), max_size=3).map(tuple)
_POLICIES = st.builds(
    AccessPolicy,
    models=st.none() | _NAMES,
    operations=st.none() | st.frozensets(st.sampled_from(["chat", "count_tokens"])),
    features=st.none() | st.frozensets(st.sampled_from(["tools", "images"])),
    max_tokens=st.none() | st.integers(1, 20),
    providers=st.none() | st.lists(st.sampled_from(["openai", "mist*", "local"]), max_size=2).map(tuple),
    regions=st.none() | st.lists(st.sampled_from(["us", "eu*", "*"]), max_size=2).map(tuple),
)
_CALLS = st.builds(
    call,
    st.sampled_from(["gpt-4o", "claude-1", "mini"]),
    st.sampled_from([None, {"tools": [{"a": 1}]}, {"x": {"type": "image"}}]),
    operation=st.sampled_from(["chat", "count_tokens"]),
    max_output_tokens=st.none() | st.integers(1, 20),
)


def may(found: Any, of: Call) -> frozenset[Candidate]:
    if found is None:
        return frozenset(ALL)
    try:
        found.may_do(of.operation)
        return frozenset(found.narrow(of, ALL))
    except Forbidden:
        return frozenset()


@given(
    st.dictionaries(st.sampled_from(["tenant", "team", "user", "key"]), _POLICIES, max_size=3),
    st.sampled_from(["tenant", "team", "user", "key"]),
    _POLICIES,
    _CALLS,
    st.none() | st.dictionaries(st.sampled_from(["a", "b"]), _POLICIES, max_size=2),
)
def test_a_policy_more_never_allows_more(
    levels: dict[str, AccessPolicy], level: str, policy: AccessPolicy, of: Call, roles: dict[str, AccessPolicy] | None
) -> None:
    names = {"tenant": "acme", "team": "research", "user": "ann", "key": "k"}
    few = [(n, names[n], p) for n, p in levels.items() if n != level]
    before = may(rights(*few, roles=roles), of)
    after = may(rights(*few, (level, names[level], policy), roles=roles), of)

    assert after <= before
    assert after == before & may(rights((level, names[level], policy)), of)


@given(st.dictionaries(st.sampled_from(["a", "b", "c"]), _POLICIES, max_size=3), _CALLS)
def test_roles_allow_what_one_of_them_does(roles: dict[str, AccessPolicy], of: Call) -> None:
    each = [may(rights(roles={name: policy}), of) for name, policy in roles.items()]

    assert frozenset().union(*each) == may(rights(roles=roles), of)

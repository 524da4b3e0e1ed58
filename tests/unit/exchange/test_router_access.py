"""Roles and policies in the story of a request."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import Stage, body, headers, talk

from edge_extproc.auth.policy import AccessPolicies, AccessPolicy
from edge_extproc.errors import PolicyUnavailable
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.model.principal import Principal

HELLO = [{"role": "user", "content": "Hello"}]


def governed(policy: AccessPolicy) -> Stage:
    return Stage().having(access=AccessPolicies([("acme", "tenant", "acme", policy)], {}, {"openai": "us"}))


def ask(stage: Stage, model: str = "chat", path: str = "/v1/chat/completions", **more: Any) -> list[Any]:
    exchange = stage.exchange()
    commands = talk(exchange, headers(path), body({"model": model, "messages": HELLO, **more}))
    exchange.closed("done")
    return commands


def test_a_refusal_is_told_in_the_callers_words() -> None:
    stage = governed(AccessPolicy(models=("claude",)))
    refusal = ask(stage, path="/v1/messages", max_tokens=5)[1]

    assert isinstance(refusal, ImmediateResponse)
    told = json.loads(refusal.body)
    assert (403, "permission_error") == (refusal.status, told["error"]["type"])
    assert "the model 'chat' is not among those that tenant acme allows" == told["error"]["message"]
    assert ("rejected", "permission_denied") == (stage.settled[0].outcome, stage.settled[0].code)


def test_what_cannot_be_decided_now_is_our_refusal_and_not_the_providers_error() -> None:
    class Away:
        def authenticate(self, _: object) -> Principal:
            raise PolicyUnavailable("try again", retry_after=1.0)

    stage = Stage().having(authenticator=Away())
    exchange = stage.exchange()
    refusal = talk(exchange, headers())[0]
    exchange.closed("done")

    assert isinstance(refusal, ImmediateResponse)
    assert (503, "1") == (refusal.status, dict(refusal.headers)["retry-after"])
    assert ("rejected", "policy_unavailable") == (stage.settled[0].outcome, stage.settled[0].code)


def test_an_operation_is_refused_with_the_headers() -> None:
    commands = talk(
        governed(AccessPolicy(operations=frozenset({"models"}))).exchange(),
        headers(),
    )

    assert isinstance(commands[0], ImmediateResponse)
    assert 403 == commands[0].status


def test_a_forbidden_provider_is_not_in_the_plan() -> None:
    both = ask(Stage(), "both")[1]
    one = ask(governed(AccessPolicy(providers=("anthropic",))), "both")[1]

    assert isinstance(both, Continue)
    assert isinstance(one, Continue)
    assert 2 == len(both.order)
    assert ("provider_anthropic",) == one.order


def test_the_list_holds_what_may_be_called() -> None:
    stage = governed(AccessPolicy(models=("claude*",)))
    listed = talk(stage.exchange(), headers("/v1/models", method="GET", end=True))[0]

    assert isinstance(listed, ImmediateResponse)
    assert ["claude", "claude-first"] == [row["id"] for row in json.loads(listed.body)["data"]]


@pytest.mark.parametrize("asks", [False, True])
def test_where_envoy_tells_of_a_response_only_if_asked_the_answer_to_the_headers_asks(asks: bool) -> None:
    stage = Stage().having(response_phase_opt_in=asks)
    (waits,) = talk(stage.exchange(), headers())
    (refused,) = talk(stage.exchange(), headers(key="edge-wrong"))

    assert isinstance(waits, Continue)
    assert ("none" if asks else None) == waits.response_body
    assert isinstance(refused, ImmediateResponse)

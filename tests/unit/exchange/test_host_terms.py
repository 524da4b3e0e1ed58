"""Models and tiers that a body asks of its host are read where the host reads them, checked, and priced."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from every_dialect import EVERY_NAME
from limits_kit import Now, RecordingListener, dollars
from player import DIALECTS, Stage, answered, body, headers, planner, talk, whole

from edge_extproc.accounting.prices import Override, PriceTable
from edge_extproc.errors import BadRequest
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.host_terms import HostTermsSearch, with_host_terms
from edge_extproc.exchange.worst_case import OutputBounds
from edge_extproc.limits.limiter import PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.plan import Candidate
from edge_extproc.routing.base import ModelTable

SEARCH = HostTermsSearch.of(EVERY_NAME)
MESSAGES = [{"role": "user", "content": "Hello"}]


def read(fields: Any, escape: bool = False) -> Any:
    raw = json.dumps({"model": "m", "messages": MESSAGES, **fields})
    if escape:
        raw = raw.replace('"models"', '"\\u006dodels"')
    return with_host_terms(DIALECTS["openai_chat"].read_call(raw.encode(), "chat", (), "/v1/chat/completions"), SEARCH)


@pytest.mark.parametrize(
    "fields",
    [
        {"models": ["m", "a", "b"], "route": "fallback"},
        {"models": ["a"], "fallbacks": "b"},
        {"fallbacks": [{"model": "a", "messages": [{"role": "user", "content": "x"}]}, "b"]},
        {"context_window_fallbacks": [{"m": ["a", "b"]}]},
        {"providerOptions": {"gateway": {"models": ["a", "b"]}}},
    ],
)
def test_each_form_in_which_hosts_take_further_models_is_read(fields: Any) -> None:
    assert ["a", "b"] == sorted(read(fields).other_models)


@pytest.mark.parametrize("more", ["", "x" * 5_000])
def test_an_escaped_field_is_read_too_in_short_and_long_bodies(more: str) -> None:
    assert ("a",) == read({"models": ["a"], "user": more}, escape=True).other_models
    assert ("a",) == read({"models": ["a"], "user": more}).other_models
    assert () == read({"user": more + '"models"'}).other_models


def test_text_that_looks_like_a_field_is_none() -> None:
    found = read({"messages": [{"role": "user", "content": 'Say {"models": ["a"]}'}], "models": None})

    assert ((), {}) == (found.other_models, dict(found.tiers))


@pytest.mark.parametrize(
    "fields",
    [{"route": "fallback"}, {"models": [1]}, {"models": [{"model": 5}]}, {"models": [f"m{n}" for n in range(33)]}],
)
def test_a_list_that_cannot_be_checked_is_refused(fields: Any) -> None:
    with pytest.raises(BadRequest):
        read(fields)


@pytest.mark.parametrize(
    ("fields", "tiers"),
    [
        ({"service_tier": "Priority"}, ["priority"]),
        ({"serviceTier": {"type": "priority"}}, ["priority"]),
        ({"speed": "fast", "inference_geo": "us"}, ["fast", "us"]),
        ({"performanceConfig": {"latency": "optimized"}}, ["optimized"]),
        ({"service_tier": None}, []),
    ],
)
def test_each_field_with_another_price_is_read(fields: Any, tiers: list[str]) -> None:
    assert tiers == sorted(read(fields).tiers.values())


# --- in the story of a request

MODELS = {
    "mine": (Candidate("openai", "mine"),),
    "dear": (Candidate("openai", "dear"),),
    "alias": (Candidate("openai", "another"),),
    "elsewhere": (Candidate("anthropic", "elsewhere"),),
}
D = Decimal
PRICES = PriceTable(
    overrides=[
        Override("openai", "mine", input=D(1), output=D(1), tiers={"flex": D("0.5")}),
        Override("openai", "dear", input=D(100), output=D(100)),
        Override("anthropic", "elsewhere", input=D(1), output=D(1)),
    ]
)


def stage(budget: float = 1.0) -> Stage:
    models, found = ModelTable(MODELS), Stage()
    limiter = PolicyLimiter(RuleTable([dollars(budget)]), None, RecordingListener(), clock=Now())
    return found.having(
        models=models,
        planner=planner(models),
        prices=PRICES,
        bounds=OutputBounds((("*", 100),), 10, 2_000, 0, 0),
        limiter=limiter,
        sinks=(found.settled.append, limiter.settle),
    )


def ask(on: Stage, fields: Any, served: str = "mine", model: str = "mine") -> list[Any]:
    found = on.exchange()
    reply = {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": served,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 500_000, "completion_tokens": 500_000, "total_tokens": 1_000_000},
    }
    asked = {"model": model, "messages": MESSAGES, "max_tokens": 10, **fields}
    commands = talk(found, headers(), body(asked), answered(), whole(reply))
    found.closed("done")
    return commands


@pytest.mark.parametrize("other", ["unheard-of", "alias", "another", "elsewhere"])
def test_a_model_that_is_not_the_callers_at_that_host_is_refused(other: str) -> None:
    refusal = ask(stage(), {"models": ["mine", other]})[1]

    assert isinstance(refusal, ImmediateResponse)
    assert (400, "models") == (refusal.status, json.loads(refusal.body)["error"]["param"])


def test_a_host_of_another_format_does_not_get_the_field() -> None:
    assert isinstance(ask(stage(), {"models": ["unheard-of"]}, model="elsewhere")[1], Continue)


def test_the_dearest_model_that_may_answer_is_reserved() -> None:
    alone = float(dict(ask(stage(), {})[2].set_headers)["x-ratelimit-remaining-dollars"])
    both = float(dict(ask(stage(), {"models": ["dear"]})[2].set_headers)["x-ratelimit-remaining-dollars"])

    assert 100 * (1 - alone) == pytest.approx(1 - both, rel=0.05)


@pytest.mark.parametrize(("served", "cost"), [("mine", 1), ("dear", 100), ("dear-2026-01-01", 100)])
def test_the_model_that_answered_is_charged_and_the_dearest_if_it_is_not_known(served: str, cost: int) -> None:
    on = stage()
    ask(on, {"models": ["dear"]}, served)

    assert cost == on.settled[-1].cost


@pytest.mark.parametrize(
    ("fields", "model", "cost"),
    [
        ({"service_tier": "priority"}, "mine", D("2.5")),
        ({"service_tier": "flex"}, "mine", D("0.5")),
        ({"service_tier": "flex"}, "dear", 100),
        ({"service_tier": "priority"}, "dear", 250),
    ],
)
def test_a_tier_is_charged_at_its_price(fields: Any, model: str, cost: Any) -> None:
    on = stage(1000)
    ask(on, fields, model=model)

    assert cost == on.settled[-1].cost

"""A provider that an admin has taken out gets no new attempts."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import Stage, body, headers, planner, talk

from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.model.managed import ManagedState, TakenOutProvider
from edge_extproc.model.plan import Candidate, Fallback
from edge_extproc.routing.planner import ModelRoute
from edge_extproc.routing.taken_out import TakenOutProviders, taken_out_of

NOW = 1_700_000_000.0  # of the stage's clock
OUT = TakenOutProviders({"openai": NOW + 60})


def ask(stage: Stage, model: str) -> Any:
    request = {"model": model, "messages": [{"role": "user", "content": "Hello"}]}
    return talk(stage.exchange(), headers(), body(request))[-1]


@pytest.mark.parametrize(
    ("until", "first"),
    [(NOW + 60, "anthropic"), (float("inf"), "anthropic"), (NOW, "openai"), (NOW - 60, "openai")],
)
def test_its_candidates_are_skipped_until_its_time_ends(until: float, first: str) -> None:
    stage = Stage().having(taken_out=TakenOutProviders({"openai": until}))
    command = ask(stage, "both")

    assert isinstance(command, Continue)
    assert f"provider_{first}" == command.order[0]


def test_a_model_of_no_other_provider_is_refused_with_the_reason() -> None:
    command = ask(Stage().having(taken_out=OUT), "chat")

    assert isinstance(command, ImmediateResponse)
    assert 503 == command.status
    assert "taken out the providers of this model: openai" in json.loads(command.body)["error"]["message"]


def test_an_endpoint_of_it_is_refused() -> None:
    command = talk(Stage().having(taken_out=OUT).exchange(), headers("/v1/files", method="GET", end=True))[-1]

    assert isinstance(command, ImmediateResponse)
    assert 503 == command.status


def test_it_is_no_fallback() -> None:
    fallback = Fallback((Candidate("openai", "gpt-4o-mini"), Candidate("google", "gemini-2.5-flash")))
    stage = Stage()
    stage.having(planner=planner(stage.gateway.models, rows={"claude": ModelRoute(fallback=fallback)}), taken_out=OUT)
    ask(stage, "claude")
    (opened,) = stage.open._by_id.values()

    assert Fallback((Candidate("google", "gemini-2.5-flash"),)) == opened.plan.fallback


def test_a_request_that_has_begun_keeps_its_candidates() -> None:
    stage = Stage()
    ask(stage, "both")
    (opened,) = stage.open._by_id.values()
    stage.having(taken_out=OUT)

    assert ["openai", "anthropic"] == [each.provider for each in opened.plan.candidates]


def test_the_managed_state_names_those_that_are_out() -> None:
    managed = ManagedState(taken_out=(TakenOutProvider("a", 5_000), TakenOutProvider("b", None)))
    out = taken_out_of(managed)

    assert [(True, True), (False, True)] == [(out.has("a", now), out.has("b", now)) for now in (4.9, 5.0)]
    assert not taken_out_of(ManagedState())

"""Envoys before 1.40: a header names the cluster that holds an order, and the endpoint says who is asked."""

from dataclasses import replace

from player import MODELS, Stage, body, headers, planner, talk, tried

from edge_extproc.exchange.commands import CONTINUE
from edge_extproc.exchange.events import ResponseHeaders
from edge_extproc.model.envoy_names import ANSWERED_BY
from edge_extproc.model.plan import Candidate, Plan
from edge_extproc.routing.base import ModelTable
from edge_extproc.routing.planner import HedgeSettings, ModelRoute

HELLO = [{"role": "user", "content": "Hello"}]
A, B, TWICE = Candidate("a", "m"), Candidate("b", "m"), Candidate("a", "other")


def planned(model="guarded", **row):
    stage = Stage().having(chains=True)
    stage.having(planner=planner(ModelTable(MODELS), rows={model: ModelRoute(**row)} if row else {}, chains=True))
    exchange = stage.exchange()
    command = talk(exchange, headers(), body({"model": model, "messages": HELLO, "stream": True}))[1]
    return stage, exchange, command


def test_a_header_names_the_chain_and_no_order_is_told():
    _, _, command = planned()

    assert "chain_openai~anthropic" == dict(command.set_headers)["x-edge-cluster"]
    assert () == command.order


def test_an_only_candidate_has_its_own_cluster_and_a_hedged_call_its_pair():
    _, _, single = planned("chat")
    _, _, hedged = planned(hedge=HedgeSettings())

    assert "provider_openai" == dict(single.set_headers)["x-edge-cluster"]
    assert "pair_openai~anthropic" == dict(hedged.set_headers)["x-edge-cluster"]


def test_a_first_try_that_passes_over_the_first_provider_is_written_for_the_second():
    stage, exchange, _ = planned()
    event = tried(1, exchange.id)
    event = replace(event, attributes={**event.attributes, ANSWERED_BY: "anthropic"})
    told = dict(talk(stage.attempt(), event)[0].set_headers)

    assert "x-api-key" in told
    assert "authorization" not in told

    attributes = {
        "upstream.request_attempt_count": 1,
        "response.code_details": "via_upstream",
        ANSWERED_BY: "anthropic",
    }
    talk(exchange, ResponseHeaders(((":status", "200"), ("content-type", "text/event-stream")), False, attributes))
    exchange.closed("done")

    assert "anthropic" == stage.settled[-1].provider


def test_a_guarded_first_try_and_a_hedged_one_are_written_for_whom_they_reach():
    stage, exchange, command = planned(hedge=HedgeSettings())
    stage.having(chains=False)
    reached = {
        name: talk(
            stage.guard(),
            replace(event, attributes={**event.attributes, ANSWERED_BY: name}),
        )[0]
        for name in ("openai", "anthropic")
        for event in [tried(1, exchange.id)]
    }

    assert command.metadata["edge"]["guard"]
    assert CONTINUE == reached["openai"]
    assert "x-api-key" in dict(reached["anthropic"].set_headers)


def test_the_count_tells_two_candidates_of_one_provider_apart():
    plan = Plan((A, TWICE, B))

    assert [A, TWICE, B] == [plan.candidate(1, "a"), plan.candidate(2, "a"), plan.candidate(1, "b")]
    assert [TWICE, B] == [plan.candidate(2, None), plan.candidate(3, "unheard of")]


def test_a_retry_is_written_by_what_its_exchange_began_with():
    """The provider that it goes to may be gone from the configuration by then."""
    stage, exchange, _ = planned()
    stage.having(providers={}, clusters={})
    retry, guarded = (talk(each, tried(2, exchange.id))[0] for each in (stage.attempt(), stage.guard()))

    assert "x-api-key" in dict(retry.set_headers)
    assert retry == guarded

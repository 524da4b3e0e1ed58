"""From a call to its plan."""

from dataclasses import replace

import pytest
from every_dialect import EVERY_NAME
from player import planner

from edge_extproc.errors import BadRequest, Unavailable
from edge_extproc.model.call import Call
from edge_extproc.model.plan import AttemptResult, Candidate, Fallback
from edge_extproc.routing.affinity import Affinity, PromptPrefix
from edge_extproc.routing.base import ModelTable, RoutingRequest
from edge_extproc.routing.breaker import BreakerSettings, Circuits, LocalCircuitTable
from edge_extproc.routing.planner import HedgeSettings, ModelRoute, RoutingRule, RuleCondition

A, B, C = (Candidate(name, "m") for name in "abc")
TABLE = ModelTable({"m": [A, B, C], "single": [A]})
CALL = Call("openai_chat", "chat", "m", False, b"{}")
STREAM = replace(CALL, stream=True)


def wish(call=CALL, tenant="acme", key="k1", **headers):
    return RoutingRequest(call, tenant, key, {name.replace("_", "-"): value for name, value in headers.items()})


def planning(row=None, **more):
    return planner(TABLE, rows={} if row is None else {"m": row}, **more)


def names(plan):
    return "".join(candidate.provider for candidate in plan.candidates)


def test_without_a_word_in_config_the_candidates_are_a_failover_chain():
    plan = planning().plan(wish(), (A, B, C))

    assert ("abc", "failover", 3, False, False, ()) == (
        names(plan),
        plan.strategy,
        plan.max_attempts,
        plan.guarded,
        plan.once,
        plan.probes,
    )


def test_a_model_has_its_own_strategy_and_its_own_state():
    found = planning(ModelRoute(strategy="round_robin"))
    firsts = [names(found.plan(wish(), (A, B, C)))[0] for _ in range(3)]

    assert ["a", "b", "c"] == firsts


@pytest.mark.parametrize(
    ("condition", "asked", "holds"),
    [
        (RuleCondition(tenants=("ac*",)), wish(), True),
        (RuleCondition(tenants=("other",)), wish(), False),
        (RuleCondition(keys=("k1", "k2")), wish(), True),
        (RuleCondition(keys=("k2",)), wish(), False),
        (RuleCondition(headers=(("x-team", "blue*"),)), wish(x_team="blue-2"), True),
        (RuleCondition(headers=(("x-team", "blue*"),)), wish(), False),
        (RuleCondition(stream=True), wish(STREAM), True),
        (RuleCondition(stream=True), wish(), False),
        (RuleCondition(min_tokens=100), wish(replace(CALL, raw=b"x" * 400)), True),
        (RuleCondition(min_tokens=100), wish(replace(CALL, raw=b"x" * 390)), False),
        (RuleCondition(max_tokens=100), wish(replace(CALL, raw=b"x" * 400)), True),
        (RuleCondition(max_tokens=100), wish(replace(CALL, raw=b"x" * 404)), False),
        (RuleCondition(tenants=("acme",), stream=True), wish(), False),
        (RuleCondition(), wish(), True),
    ],
)
def test_a_rule_is_for_calls_of_a_caller_a_tag_or_a_size(condition, asked, holds):
    found = planning(ModelRoute(rules=(RoutingRule(condition, candidates=(C, A)),)))

    candidates = found.apply_rules(asked, (A, B, C))
    assert ("ca" if holds else "abc") == names(found.plan(asked, candidates))


def test_the_first_rule_that_fits_decides():
    rules = (
        RoutingRule(RuleCondition(tenants=("nobody",)), candidates=(A,)),
        RoutingRule(RuleCondition(), "round_robin", (Candidate("b", ""),)),
        RoutingRule(RuleCondition(), candidates=(C,)),
    )
    found = planning(ModelRoute(rules=rules))
    plan = found.plan(wish(), found.apply_rules(wish(), (A, B, C)))

    assert ((Candidate("b", "m"),), "round_robin") == (plan.candidates, plan.strategy)


def test_a_caller_may_choose_a_strategy_only_by_the_header_that_config_names():
    found = planning(strategy_header="x-edge-strategy")

    assert "round_robin" == found.plan(wish(x_edge_strategy="round_robin"), (A, B)).strategy
    assert "failover" == planning().plan(wish(x_edge_strategy="round_robin"), (A, B)).strategy
    with pytest.raises(BadRequest, match="there is no strategy 'luck'; have cheapest, failover"):
        found.plan(wish(x_edge_strategy="luck"), (A, B))


def test_affinity_moves_one_candidate_to_the_front_of_any_strategy():
    found = planning(ModelRoute(strategy="round_robin", affinity=Affinity(PromptPrefix(EVERY_NAME), "x-session")))

    assert 1 == len({names(found.plan(wish(x_session="s"), (A, B, C)))[0] for _ in range(6)})


# --- how often, how carefully


@pytest.mark.parametrize(
    ("guard", "call", "candidates", "guarded"),
    [
        ("auto", STREAM, (A, B), True),
        ("auto", STREAM, (A,), False),
        ("auto", CALL, (A, B), False),
        ("on", STREAM, (A,), True),
        ("on", CALL, (A, B), True),
        ("off", STREAM, (A, B), False),
        ("auto", replace(STREAM, operation="count_tokens"), (A, B), False),
    ],
)
def test_a_stream_is_guarded_where_another_candidate_could_take_over(guard, call, candidates, guarded):
    plan = planning(ModelRoute(guard=guard), first_token_timeout=9.0).plan(wish(call), candidates)

    assert (guarded, 9.0 if guarded and call.stream else None) == (plan.guarded, plan.try_timeout)


def test_a_candidate_is_tried_again_only_where_it_is_the_only_one():
    found = planning(attempts=3)

    assert [3, 2, 3] == [found.plan(wish(), c).max_attempts for c in ((A,), (A, B), (A, B, C, A))]


def test_what_is_left_of_a_plan_decides_anew():
    found = planning()
    plan = found.plan(wish(STREAM), (A, B))

    assert (True, 2) == (plan.guarded, plan.max_attempts)
    left = found.restrict(plan, (B,))
    assert ((B,), False, 3) == (left.candidates, left.guarded, left.max_attempts)
    assert plan is found.restrict(plan, (A, B))


@pytest.mark.parametrize(("value", "once"), [("true", True), ("1", True), ("", True), ("false", False), (None, False)])
def test_a_call_that_its_caller_marked_is_sent_once_and_not_guarded(value, once):
    headers = {} if value is None else {"x_edge_no_retry": value}
    plan = planning().plan(wish(STREAM, **headers), (A, B))

    assert (once, not once) == (plan.once, plan.guarded)


def test_a_fallback_to_another_model_needs_the_answer_to_be_watched():
    plan = planning(ModelRoute(fallback=Fallback(context_length=(C,)))).plan(wish(), (A,))

    assert (True, (C,)) == (plan.guarded, plan.fallback.context_length)


def test_a_hedge_waits_for_a_quantile_of_the_first_tokens_of_late():
    found = planning(ModelRoute(hedge=HedgeSettings(0.5, 0.3)))
    before = found.plan(wish(STREAM), (A, B))
    for n in range(40):
        found.record("m", before, [AttemptResult(A, "ok", first_token=n / 10, stream=True)], "acme")
    after = found.plan(wish(STREAM), (A, B))

    assert (True, 0.3, True, 2.0) == (before.hedged, before.try_timeout, after.hedged, after.try_timeout)
    assert not found.plan(wish(STREAM), (A,)).hedged
    assert not found.plan(wish(), (A, B)).hedged
    assert not found.plan(wish(STREAM, x_edge_no_retry="1"), (A, B)).hedged


def test_all_that_a_call_may_cost_money_at_is_told_before_it_is_planned():
    row = ModelRoute(fallback=Fallback(content_filter=(C,)), hedge=HedgeSettings())

    assert ((A, B), 1) == planning().billable_candidates("m", (A, B))
    assert ((A, B, C), 2) == planning(row).billable_candidates("m", (A, B))


# --- circuits


class Stage:
    def __init__(self):
        self.now = 100.0
        self.circuits = Circuits(
            LocalCircuitTable(), BreakerSettings(2, 30.0), lambda: self.now, lambda candidate: None
        )
        self.planner = planning(circuits=self.circuits)

    def plan(self, *candidates):
        return self.planner.plan(wish(), candidates)

    def fail(self, plan, *candidates):
        self.planner.record("m", plan, [AttemptResult(c, "failed") for c in candidates], "acme")


def test_open_circuits_are_skipped_when_the_plan_is_made():
    stage = Stage()
    for _ in range(2):
        stage.fail(stage.plan(A, B), A)

    assert "b" == names(stage.plan(A, B))


def test_with_all_circuits_open_the_caller_is_told_which_and_until_when():
    stage = Stage()
    for _ in range(2):
        stage.fail(stage.plan(A, B), A, B)
    stage.now += 10
    with pytest.raises(Unavailable, match=r"a \(m\) for 20 s, b \(m\) for 20 s") as told:
        stage.plan(A, B)

    assert (503, 20.0) == (told.value.status, told.value.retry_after)


def test_one_plan_is_the_probe_and_its_end_decides():
    stage = Stage()
    for _ in range(2):
        stage.fail(stage.plan(A, B), A)
    stage.now += 31
    probing, other = stage.plan(A, B), stage.plan(A, B)
    assert (("ab", (A,)), ("b", ())) == tuple((names(p), p.probes) for p in (probing, other))

    stage.planner.record("m", probing, [AttemptResult(A, "ok")], "acme")
    assert ["ab"] * 2 == [names(stage.plan(A, B)) for _ in range(2)]


def test_a_plan_that_came_to_nothing_gives_its_probe_back():
    stage = Stage()
    for _ in range(2):
        stage.fail(stage.plan(A, B), A)
    stage.now += 31
    stage.planner.record("m", stage.plan(A, B), [], "acme")

    assert (A,) == stage.plan(A, B).probes


@pytest.mark.parametrize(("seconds", "tries"), [(59.0, 3), (61.0, 1)])
def test_who_alone_can_be_asked_and_wants_to_rest_for_longer_than_envoy_waits_is_asked_once(seconds, tries):
    stage = Stage()
    stage.planner.record("m", stage.plan(A, B), [AttemptResult(A, "failed", 429, retry_after=seconds)], "acme")

    assert (("b", 3), ("a", tries)) == tuple((names(p), p.max_attempts) for p in (stage.plan(A, B), stage.plan(A)))


@pytest.mark.parametrize(("guard", "guarded"), [("auto", True), ("off", False)])
def test_replies_are_guarded_while_a_candidate_has_failures(guard, guarded):
    stage = Stage()
    stage.planner = planning(ModelRoute(guard=guard), circuits=stage.circuits)
    before, _ = stage.plan(A, B), stage.fail(stage.plan(A, B), A)
    failing, alone = stage.plan(A, B), stage.plan(A)
    stage.planner.record("m", failing, [AttemptResult(A, "ok")], "acme")

    assert (False, guarded, False, False) == tuple(p.guarded for p in (before, failing, alone, stage.plan(A, B)))


def test_of_a_chain_a_strategy_chooses_the_first_and_the_others_follow_as_config_has_them():
    chained = planning(ModelRoute(strategy="round_robin"), chains=True)

    assert {"abc", "bac", "cab"} == {names(chained.plan(wish(), (A, B, C))) for _ in range(6)}


def test_where_envoy_cannot_hold_an_answer_back_nothing_is_guarded():
    assert planning().plan(wish(STREAM), (A, B)).guarded
    assert not planning(guards=False).plan(wish(STREAM), (A, B)).guarded

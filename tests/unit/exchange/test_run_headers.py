"""A call's run: read from its headers and its token, reserved with its limits, and refused at its end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from limits_kit import Now, RecordingListener, rule
from player import ADollarPerToken, Stage, answered, body, headers, planner, talk, whole

from edge_extproc.errors import BadRequest
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.runs import read_run
from edge_extproc.exchange.worst_case import OutputBounds
from edge_extproc.limits.base import LimitRule
from edge_extproc.limits.limiter import LimiterSettings, PolicyLimiter
from edge_extproc.limits.rule_table import RuleTable
from edge_extproc.model.plan import Candidate
from edge_extproc.model.principal import Principal
from edge_extproc.model.run import Run, RunCaps
from edge_extproc.model.settlement import Settlement
from edge_extproc.routing.base import ModelTable
from edge_extproc.routing.planner import ModelRoute, RoutingRule, RuleCondition

HELLO = [{"role": "user", "content": "Hello"}]
REPLY = {
    "id": "c",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7},
}
BOUNDS = OutputBounds((("*", 100),), 10, 2_000, 0, 0)
TASK = Run("task", "job")
FREE, BOUND = Principal("acme", "k"), Principal("acme", "jwt:agent", run="task", run_parent="job")


@pytest.mark.parametrize(
    ("who", "given", "run"),
    [
        (FREE, {"x-edge-run": "a"}, Run("a")),
        (FREE, {"x-edge-run": "a", "x-edge-run-parent": "b"}, Run("a", "b")),
        (
            FREE,
            {"x-edge-run": "a", "x-edge-run-limit": "dollars=$1.5, tokens=200,requests = 40 ,time=15m"},
            Run("a", None, RunCaps(1_500_000, 200, 40, 900)),
        ),
        (FREE, {"x-edge-run": "a", "x-edge-run-limit": "time=90"}, Run("a", None, RunCaps(seconds=90))),
        (
            FREE,
            {"x-edge-run": "a", "x-edge-run-limit": "dollars=99999999"},
            Run("a", None, RunCaps(99_999_999_000_000)),
        ),
        (BOUND, {}, Run("task", "job")),
        (BOUND, {"x-edge-run": "task", "x-edge-run-parent": "other"}, Run("task", "job")),
        (BOUND, {"x-edge-run": "sub"}, Run("task/sub", "task", bound=TASK)),
        (BOUND, {"x-edge-run": "sub", "x-edge-run-parent": "task"}, Run("task/sub", "task", bound=TASK)),
        (BOUND, {"x-edge-run": "subsub", "x-edge-run-parent": "sub"}, Run("task/subsub", "task/sub", bound=TASK)),
        (BOUND, {"x-edge-run-limit": "requests=2"}, Run("task", "job", RunCaps(requests=2))),
    ],
)
def test_a_run_is_read(who: Principal, given: dict[str, str], run: Run) -> None:
    assert run == read_run(who, given)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"x-edge-run": ""}, "x-edge-run"),
        ({"x-edge-run": "a b"}, "x-edge-run"),
        ({"x-edge-run": "a" * 129}, "x-edge-run"),
        ({"x-edge-run": "a", "x-edge-run-parent": "é"}, "x-edge-run-parent"),
        ({"x-edge-run-parent": "a"}, "x-edge-run"),
        ({"x-edge-run-limit": "requests=1"}, "x-edge-run"),
        *(
            ({"x-edge-run": "a", "x-edge-run-limit": limit}, "x-edge-run-limit")
            for limit in ("", "5", "dollars=-1", "dollars=1e3", "tokens=1.5", "euros=1", "time=1y", "tokens=1,tokens=2")
        ),
    ],
)
def test_a_header_that_cannot_be_read_is_refused(given: dict[str, str], param: str) -> None:
    with pytest.raises(BadRequest) as found:
        read_run(FREE, given)

    assert param == found.value.param


# --- in the story of a request


def stage(*rules: LimitRule, runs: bool = True) -> Stage:
    found = Stage()
    limiter = PolicyLimiter(RuleTable(rules), None, RecordingListener(), LimiterSettings(runs=runs), Now())
    return found.having(
        limiter=limiter, bounds=BOUNDS, sinks=(found.settled.append, limiter.settle), prices=ADollarPerToken()
    )


def exchange(on: Stage, given: dict[str, str], path: str = "/v1/chat/completions", model: str = "chat") -> list[Any]:
    found = on.exchange()
    asked = body({"model": model, "messages": HELLO, "max_tokens": 10})
    commands = talk(found, headers(path, *given.items()), asked, answered(), whole(REPLY))
    found.closed("done")
    return commands


RUN = {"x-edge-run": "a", "x-edge-run-limit": "requests=2, dollars=5000"}


def test_each_response_says_what_is_left_and_no_header_of_the_run_reaches_the_provider() -> None:
    on = stage()
    first = exchange(on, RUN)
    second = exchange(on, {"x-edge-run": "a"})

    assert {"x-edge-run", "x-edge-run-limit"} <= set(first[1].remove_headers)
    assert dict(first[2].set_headers)["x-edge-run-left"].endswith("requests=1")
    # Seven tokens, a dollar each, are settled.
    lefts = [dict(each[2].set_headers)["x-edge-run-left"].partition(",")[0] for each in (first, second)]
    assert 7 == pytest.approx(float(lefts[0].removeprefix("dollars=")) - float(lefts[1].removeprefix("dollars=")))


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_at_its_end_nothing_is_sent_and_the_client_is_told_not_to_retry(path: str) -> None:
    on = stage(rule("requests", 2, "run"))
    for _ in range(2):
        exchange(on, {"x-edge-run": "a"})
    refusal = exchange(on, {"x-edge-run": "a"}, path)[1]

    assert isinstance(refusal, ImmediateResponse)
    told = dict(refusal.headers)
    assert (429, "false", "requests=0") == (refusal.status, told["x-should-retry"], told["x-edge-run-left"])
    assert "retry-after" not in told
    assert "requests of run a are limited to 2 requests, and 0 requests are left" in refusal.body.decode()
    assert ("rejected", "run_limit_exceeded") == (on.settled[-1].outcome, on.settled[-1].code)
    assert isinstance(exchange(on, {"x-edge-run": "b"})[1], Continue)
    assert isinstance(exchange(on, {})[1], Continue)


def test_near_its_end_a_run_takes_the_model_of_a_rule() -> None:
    models = ModelTable({"chat": (Candidate("openai", "dear"),)})
    cheap = RoutingRule(RuleCondition(run_used=50), None, (Candidate("openai", "cheap"),))
    on = stage().having(models=models, planner=planner(models, rows={"chat": ModelRoute(rules=(cheap,))}))
    limit = {"x-edge-run": "a", "x-edge-run-limit": "requests=4"}
    sent = [json.loads(exchange(on, limit)[1].body)["model"] for _ in range(4)]

    assert ["dear", "dear", "cheap", "cheap"] == sent
    assert "dear" == json.loads(exchange(on, {"x-edge-run": "b"})[1].body)["model"]


@pytest.mark.parametrize("limiter", [True, False])
def test_a_cap_that_would_not_be_applied_is_refused(limiter: bool) -> None:
    on = stage(runs=False) if limiter else Stage()
    found = on.exchange()
    commands = talk(found, headers("/v1/chat/completions", *RUN.items()))
    found.closed("done")

    assert isinstance(commands[0], ImmediateResponse)
    assert (400, "x-edge-run-limit") == (commands[0].status, json.loads(commands[0].body)["error"]["param"])
    assert isinstance(exchange(on, {"x-edge-run": "a"})[1], Continue)


def test_a_run_with_another_parent_is_refused() -> None:
    on = stage()
    exchange(on, {"x-edge-run": "a", "x-edge-run-parent": "b"})
    found = on.exchange()
    refusal = talk(found, headers("/v1/chat/completions", ("x-edge-run", "a"), ("x-edge-run-parent", "c")))[0]
    found.closed("done")

    assert isinstance(refusal, ImmediateResponse)
    assert (400, "x-edge-run-parent") == (refusal.status, json.loads(refusal.body)["error"]["param"])


def named(given: Settlement) -> tuple[str | None, str | None]:
    return given.run, given.run_parent


@pytest.mark.parametrize("counted", [True, False])
def test_a_settlement_names_the_run_and_its_parent(counted: bool) -> None:
    on = stage(runs=counted)
    exchange(on, {})
    exchange(on, {"x-edge-run": "b"})
    exchange(on, {"x-edge-run": "a", "x-edge-run-parent": "b"})

    assert [(None, None), ("b", None), ("a", "b")] == [named(each) for each in on.settled]


def test_a_later_call_of_a_run_has_the_parent_of_the_first_one() -> None:
    on = stage()
    exchange(on, {"x-edge-run": "b", "x-edge-run-parent": "c"})
    exchange(on, {"x-edge-run": "a", "x-edge-run-parent": "b"})
    exchange(on, {"x-edge-run": "a"})

    assert ("a", "b") == named(on.settled[-1])


def test_a_call_that_its_run_refuses_is_settled_with_the_run() -> None:
    on = stage(rule("requests", 1, "run"))
    for _ in range(3):
        exchange(on, {"x-edge-run": "a"})

    assert [("ok", "a"), ("rejected", "a"), ("rejected", "a")] == [(each.outcome, each.run) for each in on.settled]

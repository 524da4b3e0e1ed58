"""One worker's metrics: each moves when it should, and no caller can make a new one."""

from __future__ import annotations

import random
from dataclasses import replace
from decimal import Decimal

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from settlements import settlement
from structlog.testing import capture_logs

from edge_extproc.auth.api_key import REASONS
from edge_extproc.model.plan import AttemptResult, Candidate
from edge_extproc.model.settlement import PhaseTime, Settlement
from edge_extproc.model.usage import Usage
from edge_extproc.telemetry import metrics as room
from edge_extproc.telemetry.credential_metrics import CredentialMetrics
from edge_extproc.telemetry.merge import merge
from edge_extproc.telemetry.metrics import CODES, MAX_SERIES, MOST_TOKENS, LabelNames, Metrics

NAMES = LabelNames(
    tenants=frozenset({"acme"}),
    models=frozenset({"gpt-4o", "claude"}),
    providers=frozenset({"openai", "anthropic"}),
    dialects=frozenset({"openai_chat"}),
    codes=frozenset(REASONS),
)
DONE = settlement(
    time_to_first_token=0.5,
    tenant="acme",
    dialect="openai_chat",
    stream=True,
    model="gpt-4o",
    provider="openai",
    lane="raw",
    attempts=1,
    usage=Usage(1, 2, 3, 4, 5, 6, 7, 8),
    cost=Decimal("0.000001"),
    request_bytes=100,
    response_bytes=200,
)
WHO = {"tenant": "acme", "model": "gpt-4o", "provider": "openai"}


def fresh() -> Metrics:
    return Metrics(NAMES, version="1.2.3", started_at=77.0)


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    for family in text_string_to_metric_families(metrics.exposition().decode()):
        for sample in family.samples:
            if sample.name == name and sample.labels == labels:
                return sample.value
    return None


def settled(*settlements: Settlement) -> Metrics:
    metrics = fresh()
    for each in settlements:
        metrics.settle(each)
    return metrics


def test_a_good_reply_moves_what_counts_replies() -> None:
    metrics = settled(DONE)

    assert value(metrics, "edge_requests_total", **WHO, outcome="ok") == 1
    assert value(metrics, "edge_responses_total", dialect="openai_chat", status="200") == 1
    assert value(metrics, "edge_request_duration_seconds_sum", model="gpt-4o", provider="openai", stream="true") == 2
    assert value(metrics, "edge_time_to_first_token_seconds_sum", model="gpt-4o", provider="openai") == 0.5
    assert value(metrics, "edge_overhead_seconds_sum", lane="raw") == 0.003
    assert value(metrics, "edge_upstream_attempts_total", provider="openai") == 1
    assert value(metrics, "edge_request_bytes_total") == 100
    assert value(metrics, "edge_response_bytes_total") == 200


def test_tokens_are_counted_by_kind() -> None:
    done = replace(DONE, usage=Usage(1, 2, 3, 4, 5, 6, 7, 8, 9, 10))
    metrics = settled(done, done)
    counted = [value(metrics, "edge_tokens_total", **WHO, kind=kind) for kind in room.TOKEN_KINDS]

    assert dict(zip(room.TOKEN_KINDS, counted, strict=True)) == {
        "input": 2,
        "cache_read": 4,
        "cache_write": 6,
        "cache_write_1h": 8,
        "output": 10,
        "reasoning": 12,
        "input_audio": 14,
        "output_audio": 16,
        "input_image": 18,
        "output_image": 20,
    }


def test_a_count_below_zero_moves_no_counter() -> None:
    metrics = settled(replace(DONE, usage=Usage(input=-5, output=1)))

    assert value(metrics, "edge_tokens_total", **WHO, kind="input") is None
    assert value(metrics, "edge_tokens_total", **WHO, kind="output") == 1


def test_an_absurd_count_does_not_break_the_exposition() -> None:
    metrics = settled(replace(DONE, usage=Usage(input=10**400)))

    assert value(metrics, "edge_tokens_total", **WHO, kind="input") == MOST_TOKENS


def test_cost_adds_up_exactly() -> None:
    metrics = settled(*[replace(DONE, cost=Decimal("0.1"))] * 10, replace(DONE, cost=None))

    assert value(metrics, "edge_cost_usd_total", **WHO) == 1.0
    assert sum([0.1] * 10) != 1.0


def test_a_reply_without_a_price_moves_unpriced_and_no_cost() -> None:
    metrics = settled(replace(DONE, cost=None, unpriced=True))

    assert value(metrics, "edge_unpriced_requests_total", model="gpt-4o", provider="openai") == 1
    assert value(metrics, "edge_cost_usd_total", **WHO) is None


def test_what_went_badly_moves_its_own_counter() -> None:
    bad = replace(DONE, outcome="broken_stream", code="api", attempts=3, garbled=2, dropped=("a", "b"), estimated=True)
    metrics = settled(bad)

    assert value(metrics, "edge_requests_total", **WHO, outcome="broken_stream") == 1
    assert value(metrics, "edge_errors_total", outcome="broken_stream", code="api") == 1
    assert value(metrics, "edge_upstream_attempts_total", provider="openai") == 3
    assert value(metrics, "edge_failovers_total", provider="openai") == 1
    assert value(metrics, "edge_garbled_frames_total", provider="openai") == 2
    assert value(metrics, "edge_dropped_fields_total", provider="openai") == 2
    assert value(metrics, "edge_estimated_requests_total", provider="openai") == 1


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_for_a_401_is_told_apart(reason: str) -> None:
    metrics = settled(settlement(outcome="rejected", status=401, code=reason, dialect="openai_chat"))

    assert value(metrics, "edge_auth_failures_total", reason=reason) == 1
    assert value(metrics, "edge_errors_total", outcome="rejected", code=reason) == 1
    assert value(metrics, "edge_overhead_seconds_count", lane="none") == 1


def test_a_providers_401_is_not_a_callers() -> None:
    metrics = settled(replace(DONE, outcome="upstream_error", status=401, code="its_own_word"))

    assert value(metrics, "edge_auth_failures_total", reason="other") is None
    assert value(metrics, "edge_errors_total", outcome="upstream_error", code="other") == 1


def test_a_word_of_the_providers_own_counts_by_its_kind() -> None:
    metrics = settled(replace(DONE, outcome="upstream_error", status=503, code="a_word", kind="overloaded"))

    assert value(metrics, "edge_errors_total", outcome="upstream_error", code="overloaded") == 1
    assert value(metrics, "edge_errors_total", outcome="upstream_error", code="other") is None


def test_a_caller_who_left_before_any_answer_has_no_status() -> None:
    metrics = settled(settlement(outcome="caller_left", status=None))

    assert value(metrics, "edge_responses_total", dialect="none", status="none") == 1
    assert value(metrics, "edge_errors_total", outcome="caller_left", code="none") == 1
    nobody = {"tenant": "none", "model": "none", "provider": "none"}
    assert value(metrics, "edge_requests_total", **nobody, outcome="caller_left") == 1


@pytest.mark.parametrize(("status", "label"), [(429, "429"), (299, "other"), (418, "other"), (999, "other")])
def test_only_known_statuses_are_labels(status: int, label: str) -> None:
    metrics = settled(replace(DONE, status=status))

    assert value(metrics, "edge_responses_total", dialect="openai_chat", status=label) == 1


def test_the_time_and_the_bytes_of_a_session_are_those_of_its_responses() -> None:
    """An hour would be the longest of all streams."""
    session = replace(
        DONE,
        operation="socket",
        status=101,
        duration=3_600.0,
        usage=None,
        cost=None,
        time_to_first_token=None,
        lane=None,
    )
    metrics = settled(session)

    assert value(metrics, "edge_requests_total", **WHO, outcome="ok") == 1
    assert not value(metrics, "edge_request_duration_seconds_count", model="gpt-4o", provider="openai", stream="true")
    assert not value(metrics, "edge_request_bytes_total")


def test_the_gauge_and_the_messages_of_sessions() -> None:
    metrics = fresh()
    metrics.sockets.opened()
    metrics.sockets.opened()
    metrics.sockets.closed()
    metrics.sockets.messages(3, from_client=True)
    metrics.sockets.messages(0, from_client=False)

    assert value(metrics, "edge_open_sockets") == 1
    assert value(metrics, "edge_socket_messages_total", sender="caller") == 3


def test_the_gauge_of_open_requests_goes_up_and_down() -> None:
    metrics = fresh()
    metrics.opened()
    metrics.opened()
    metrics.closed()

    assert value(metrics, "edge_open_requests") == 1


def test_phases_are_timed_by_name() -> None:
    metrics = settled(
        replace(DONE, phases=(PhaseTime("request_headers", 0.0, 0.001), PhaseTime("response_body", 0.5, 0.002)))
    )

    assert value(metrics, "edge_phase_duration_seconds_sum", phase="request_headers") == 0.001
    assert value(metrics, "edge_phase_duration_seconds_count", phase="response_body") == 1


def test_numbers_of_a_usage_that_are_no_counts_are_counted():
    metrics = settled(DONE, replace(DONE, usage=Usage(output=1, unreadable=3)))

    assert value(metrics, "edge_unreadable_usage_total", provider="openai") == 3


def test_the_time_of_a_token_is_that_between_two() -> None:
    metrics = settled(DONE, replace(DONE, usage=Usage(output=1)), replace(DONE, estimated=True))

    labels = {"model": "gpt-4o", "provider": "openai"}
    assert value(metrics, "edge_time_per_output_token_seconds_count", **labels) == 1
    assert value(metrics, "edge_time_per_output_token_seconds_sum", **labels) == 1.5 / (5 + 6 + 8 - 1)


def test_a_trace_is_named_where_a_number_came_from_it() -> None:
    metrics = settled(replace(DONE, trace_id="4bf92f3577b34da6a3ce929d0e0e4736"))
    said = merge([metrics.snapshot()]).exposition(openmetrics=True).decode()

    shown = [line for line in said.splitlines() if 'trace_id="4bf92f3577b34da6a3ce929d0e0e4736"' in line]
    assert {line.partition("_bucket")[0] for line in shown} == {
        "edge_request_duration_seconds",
        "edge_overhead_seconds",
        "edge_time_to_first_token_seconds",
    }


def test_only_the_configuration_in_force_is_told() -> None:
    metrics = fresh()
    metrics.configured("old", 5.0)
    metrics.configured("new", 7.0)
    metrics.configured("new", 9.0)

    assert value(metrics, "edge_config_info", version="new") == 1
    assert value(metrics, "edge_config_info", version="old") is None
    assert value(metrics, "edge_config_loaded_timestamp_seconds") == 7


def test_a_loop_that_wakes_early_has_no_lag() -> None:
    metrics = fresh()
    metrics.loop_lagged(-0.001)
    metrics.loop_lagged(0.25)

    assert value(metrics, "edge_event_loop_lag_seconds_sum") == 0.25
    assert value(metrics, "edge_event_loop_lag_seconds_count") == 2


def test_circuits_are_shown_for_as_long_as_they_are_open() -> None:
    metrics, open_now = fresh(), {Candidate("openai", "a"), Candidate("openai", "b")}
    metrics.watch_circuits(open_now.__contains__)
    for candidate in (*open_now, *open_now):
        metrics.circuit_opened(candidate)

    assert value(metrics, "edge_circuits_open", provider="openai") == 2
    open_now.clear()
    assert value(metrics, "edge_circuits_open", provider="openai") == 0
    assert value(metrics, "edge_circuits_opened_total", provider="openai") == 4


def test_a_circuit_outlives_the_worker_that_opened_it() -> None:
    named, elsewhere = Candidate("openai", "a"), Candidate("openai", "named by a caller")
    open_now = {named, replace(named, weight=2), elsewhere}
    other, opener = fresh(), fresh()
    for metrics in (other, opener):
        metrics.watch_circuits(open_now.__contains__, lambda: (named, replace(named, weight=2), Candidate("p", "c")))
    for candidate in (named, elsewhere):
        opener.circuit_opened(candidate)

    assert value(other, "edge_circuits_open", provider="openai") == 1
    assert value(opener, "edge_circuits_open", provider="openai") == 2
    assert value(other, "edge_circuits_open", provider="p") is None
    both = merge([other.snapshot(), opener.snapshot()])
    assert [2.0] == [count for _, count in both.values("edge_circuits_open", "edge_circuits_open")]


def test_each_try_is_counted_with_whose_it_was() -> None:
    tries = (AttemptResult(Candidate("openai", "a"), "failed"), AttemptResult(Candidate("anthropic", "b"), "ok"))
    metrics = settled(replace(DONE, attempt_results=tries))

    assert value(metrics, "edge_provider_tries_total", provider="openai", verdict="failed") == 1
    assert value(metrics, "edge_provider_tries_total", provider="anthropic", verdict="ok") == 1


def test_the_worker_says_that_it_is_there() -> None:
    metrics = fresh()
    metrics.lines_dropped(4)

    assert value(metrics, "edge_workers") == 1
    assert value(metrics, "edge_worker_start_time_seconds") == 77
    assert value(metrics, "edge_build_info", version="1.2.3") == 1
    assert value(metrics, "edge_log_lines_dropped_total") == 4


def test_ten_thousand_random_names_make_no_new_series() -> None:
    chance = random.Random(7)
    metrics = settled(
        DONE, replace(DONE, model="x", tenant="x", provider="x", dialect="x", outcome="rejected", code="x")
    )
    before = metrics.exposition().count(b"\n")
    for _ in range(10_000):
        word = f"{chance.getrandbits(64):x}"
        metrics.settle(
            replace(
                DONE, model=word, tenant=word, provider=word, dialect=word, status=999, outcome="rejected", code=word
            )
        )

    # The one more status ("other"), and the one more phase with its buckets.
    assert metrics.exposition().count(b"\n") <= before + 1 + len(room.PHASE_BUCKETS) + 3
    other = {"tenant": "other", "model": "other", "provider": "other"}
    assert value(metrics, "edge_requests_total", **other, outcome="rejected") == 10_001


def test_a_config_with_very_many_names_has_a_bound_too() -> None:
    many = frozenset(f"t{number}" for number in range(MAX_SERIES + 50))
    metrics = Metrics(replace(NAMES, tenants=many), version="1", started_at=0.0)
    for tenant in sorted(many):
        metrics.settle(replace(DONE, tenant=tenant))
    lines = metrics.exposition().decode().splitlines()

    assert sum(line.startswith("edge_requests_total{") for line in lines) == MAX_SERIES + 1
    assert value(metrics, "edge_requests_total", tenant="other", model="other", provider="other", outcome="ok") == 50


def test_names_may_change_with_config() -> None:
    metrics = fresh()
    metrics.names = replace(NAMES, tenants=frozenset({"new"}))
    metrics.settle(replace(DONE, tenant="new"))

    assert value(metrics, "edge_requests_total", **{**WHO, "tenant": "new"}, outcome="ok") == 1


def test_every_code_of_the_exception_tree_is_told_apart() -> None:
    assert {"invalid_api_key", "no_provider", "model_not_found", "overloaded", "unsupported_field"} <= CODES


def test_names_follow_the_convention() -> None:
    families = {f.name: f for f in text_string_to_metric_families(settled(DONE).exposition().decode())}
    ours = {name: family for name, family in families.items() if not name.startswith("process_")}

    assert all(name.startswith("edge_") for name in ours)
    assert all(family.documentation.endswith(".") for family in ours.values())
    assert not any(name.endswith("_created") for name in families)


def test_a_refused_account_is_counted_by_attempt_and_logged_once_a_minute() -> None:
    now = [0.0]
    metrics = fresh()
    metrics.credentials = CredentialMetrics(CollectorRegistry(), clock=lambda: now[0])
    refused = AttemptResult(Candidate("openai", "m"), "failed", 401, account_problem="credential")
    unpaid = AttemptResult(Candidate("anthropic", "m"), "failed", 402, account_problem="payment")
    with capture_logs() as lines:
        metrics.settle(replace(DONE, attempt_results=(refused, unpaid)))
        metrics.settle(replace(DONE, attempt_results=(refused,)))
        now[0] = 60.0
        metrics.settle(replace(DONE, attempt_results=(refused,)))

    assert [("openai", "credential", 401), ("anthropic", "payment", 402), ("openai", "credential", 401)] == [
        (line["provider"], line["problem"], line["status"])
        for line in lines
        if line["event"] == "provider_refused_account"
    ]


def test_a_refused_account_has_a_counter_by_provider() -> None:
    refused = AttemptResult(Candidate("openai", "m"), "failed", 401, account_problem="credential")
    metrics = settled(replace(DONE, attempt_results=(refused, refused)))

    assert value(metrics, "edge_provider_account_refusals_total", provider="openai", problem="credential") == 2

"""The table of Prometheus alerts. Each has its expression, and series for which promtool expects it to fire or not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

# The error budget of a month: the share of requests that may fail because of a provider or the gateway.
BUDGET = 0.005
FAILED = 'outcome=~"upstream_error|broken_stream|gateway_error"'
# Outcomes that a caller caused do not count.
COUNTED = 'outcome!~"rejected|refused|caller_left"'


@dataclass(frozen=True, slots=True)
class Alert:
    name: str
    expr: str
    wait: str
    """How long it must be true: Prometheus' `for`."""
    severity: str
    """page: now. ticket: in working hours."""
    summary: str
    fires: dict[str, str] = field(default_factory=dict)
    """Series, in promtool's notation (one value a minute), under which it fires after `at`."""
    quiet: dict[str, str] = field(default_factory=dict)
    """Series under which it does not."""
    at: str = "30m"


def _burn(window: str, factor: float) -> str:
    failed = f"sum(rate(edge_requests_total{{{FAILED}}}[{window}]))"
    return f"{failed} / sum(rate(edge_requests_total{{{COUNTED}}}[{window}])) > {factor * BUDGET:g}"


def _grew(metric: str, by: str, window: str) -> str:
    """Whether a counter moved. A series that begins above zero has moved too, which increase() does not see."""
    return (
        f"sum by ({by}) (increase({metric}[{window}])) > 0 or "
        f"(sum by ({by}) ({metric}) > 0 unless sum by ({by}) ({metric} offset {window}))"
    )


def _quantile(q: float, metric: str, by: str, window: str, where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{where}[{window}])))"


# Selectors of Envoy's own metrics.
_ENVOY = '{envoy_http_conn_manager_prefix="edge"}'
_UNANSWERED = "envoy_http_ext_proc_(streams_failed|message_timeouts)"

_TOOLS_BAD = 'edge_tool_calls_total{outcome="upstream_error"}'
_OK = 'edge_requests_total{outcome="ok"}'
_BAD = 'edge_requests_total{outcome="upstream_error"}'


def _slow(metric: str, labels: str, over: str) -> dict[str, str]:
    """A histogram with no observation below its bound `over`."""
    sep = "," if labels else ""
    return {
        f'{metric}_bucket{{{labels}{sep}le="{over}"}}': "0+0x120",
        f'{metric}_bucket{{{labels}{sep}le="+Inf"}}': "0+60x120",
    }


def _fast(metric: str, labels: str, over: str) -> dict[str, str]:
    sep = "," if labels else ""
    return {
        f'{metric}_bucket{{{labels}{sep}le="{over}"}}': "0+60x120",
        f'{metric}_bucket{{{labels}{sep}le="+Inf"}}': "0+60x120",
    }


ALERTS = (
    Alert(
        "EdgeDown",
        "absent(edge_workers)",
        "2m",
        "page",
        "Prometheus has no metrics of the gateway's workers.",
        fires={"up": "0x60"},
        quiet={"edge_workers": "2x60"},
    ),
    Alert(
        # EdgeDown does not see one gateway of several.
        "EdgeInstanceDown",
        'up{job="edge"} == 0',
        "3m",
        "page",
        "The gateway at {{ $labels.instance }} does not answer.",
        fires={'up{job="edge",instance="a"}': "1x10 0x60", 'up{job="edge",instance="b"}': "1x70"},
        quiet={'up{job="edge",instance="a"}': "1x60", 'up{job="other",instance="a"}': "0x60"},
    ),
    Alert(
        "EdgeErrorBudgetBurnsFast",
        f"({_burn('1h', 14.4)}) and ({_burn('5m', 14.4)})",
        "2m",
        "page",
        "At this rate, a month's error budget is used up in two days.",
        fires={_OK: "0+60x120", _BAD: "0+10x120"},
        # Invalid requests of a caller do not page anybody.
        quiet={_OK: "0+600x120", _BAD: "0+1x120", 'edge_requests_total{outcome="refused"}': "0+300x120"},
        at="90m",
    ),
    Alert(
        "EdgeErrorBudgetBurnsSlowly",
        f"({_burn('6h', 3)}) and ({_burn('30m', 3)})",
        "15m",
        "ticket",
        "At this rate, a month's error budget is used up in ten days.",
        fires={_OK: "0+60x600", _BAD: "0+2x600"},
        quiet={_OK: "0+600x600", _BAD: "0+1x600"},
        at="8h",
    ),
    Alert(
        "EdgeProviderDown",
        'sum by (provider) (rate(edge_provider_tries_total{verdict="failed"}[5m])) / '
        'sum by (provider) (rate(edge_provider_tries_total{verdict=~"ok|failed"}[5m])) > 0.9',
        "3m",
        "page",
        "Nine of ten attempts with provider {{ $labels.provider }} fail.",
        fires={'edge_provider_tries_total{provider="a",verdict="failed"}': "0+60x60"},
        quiet={
            'edge_provider_tries_total{provider="a",verdict="failed"}': "0+30x60",
            'edge_provider_tries_total{provider="a",verdict="ok"}': "0+30x60",
        },
    ),
    Alert(
        "EdgeProviderRefusesAccount",
        _grew("edge_provider_account_refusals_total", "provider, problem", "15m"),
        "0m",
        "page",
        "Provider {{ $labels.provider }} refuses the gateway's own account ({{ $labels.problem }}): renew the "
        "credential or pay the account.",
        fires={'edge_provider_account_refusals_total{provider="a",problem="credential"}': "_x10 1+0x60"},
        quiet={'edge_provider_account_refusals_total{provider="a",problem="credential"}': "1+0x60"},
        at="15m",
    ),
    Alert(
        "EdgeCircuitOpen",
        "max by (provider) (edge_circuits_open) > 0",
        "5m",
        "ticket",
        "A circuit of provider {{ $labels.provider }} is open: calls skip it.",
        fires={'edge_circuits_open{provider="a"}': "1x60"},
        quiet={'edge_circuits_open{provider="a"}': "0x60"},
    ),
    Alert(
        "EdgeSlow",
        _quantile(0.99, "edge_request_duration_seconds", "model", "10m", '{stream="false"}') + " > 80",
        "10m",
        "ticket",
        "1 % of the replies of {{ $labels.model }} that are not streamed take over 80 s.",
        fires=_slow("edge_request_duration_seconds", 'model="m",stream="false"', "160"),
        quiet=_fast("edge_request_duration_seconds", 'model="m",stream="false"', "40"),
    ),
    Alert(
        "EdgeFirstTokenSlow",
        _quantile(0.95, "edge_time_to_first_token_seconds", "model, provider", "10m") + " > 12",
        "10m",
        "ticket",
        "5 % of the streams of {{ $labels.model }} by {{ $labels.provider }} have their first token after 12 s.",
        fires=_slow("edge_time_to_first_token_seconds", 'model="m",provider="a"', "25"),
        quiet=_fast("edge_time_to_first_token_seconds", 'model="m",provider="a"', "6"),
    ),
    Alert(
        "EdgeOverheadHigh",
        _quantile(0.99, "edge_overhead_seconds", "", "10m") + " > 0.12",
        "10m",
        "ticket",
        "For 1 % of the requests, the gateway itself takes over 0.12 s.",
        fires=_slow("edge_overhead_seconds", "", "0.5"),
        quiet=_fast("edge_overhead_seconds", "", "0.03"),
    ),
    Alert(
        "EdgeStreamsBreak",
        'sum by (provider) (rate(edge_requests_total{outcome="broken_stream"}[10m])) / '
        "sum by (provider) (rate(edge_requests_total[10m])) > 0.02",
        "10m",
        "ticket",
        "Over 2 % of the requests to {{ $labels.provider }} are streams that break before their end.",
        fires={'edge_requests_total{provider="a",outcome="broken_stream"}': "0+60x60"},
        quiet={
            'edge_requests_total{provider="a",outcome="broken_stream"}': "0+1x60",
            'edge_requests_total{provider="a",outcome="ok"}': "0+600x60",
        },
    ),
    Alert(
        "EdgeStreamsCut",
        f"sum(rate(envoy_http_downstream_rq_tx_reset{_ENVOY}[10m])) / "
        f"sum(rate(envoy_http_downstream_rq_total{_ENVOY}[10m])) > 0.02",
        "10m",
        "ticket",
        "Envoy ends over 2 % of all responses early: the provider's connection broke or was idle too long.",
        fires={
            f"envoy_http_downstream_rq_tx_reset{_ENVOY}": "0+6x60",
            f"envoy_http_downstream_rq_total{_ENVOY}": "0+60x60",
        },
        quiet={
            f"envoy_http_downstream_rq_tx_reset{_ENVOY}": "0+1x60",
            f"envoy_http_downstream_rq_total{_ENVOY}": "0+600x60",
        },
    ),
    Alert(
        "EdgeAgentFails",
        f'sum(rate({{__name__=~"{_UNANSWERED}",envoy_http_conn_manager_prefix="edge"}}[5m])) / '
        f"sum(rate(envoy_http_downstream_rq_total{_ENVOY}[5m])) > 0.01",
        "2m",
        "page",
        "For over 1 % of all requests Envoy gets no answer from a worker and refuses them.",
        fires={
            f"envoy_http_ext_proc_message_timeouts{_ENVOY}": "0+6x60",
            f"envoy_http_downstream_rq_total{_ENVOY}": "0+60x60",
        },
        quiet={
            f"envoy_http_ext_proc_streams_failed{_ENVOY}": "0+1x60",
            f"envoy_http_downstream_rq_total{_ENVOY}": "0+600x60",
        },
    ),
    Alert(
        "EdgeSocketsEnd",
        "sum(edge_open_sockets) < 0.5 * sum(edge_open_sockets offset 5m) and sum(edge_open_sockets offset 5m) >= 20",
        "0m",
        "ticket",
        "Over half of the WebSocket sessions ended in 5 minutes: a worker, a provider or the network may have failed.",
        fires={"edge_open_sockets": "40x28 5x60"},
        quiet={"edge_open_sockets": "40x27 30x60"},
    ),
    Alert(
        "EdgeToolsFail",
        f"sum by (server) (rate({_TOOLS_BAD}[10m])) / sum by (server) (rate(edge_tool_calls_total[10m])) > 0.2 and "
        "sum by (server) (increase(edge_tool_calls_total[10m])) >= 20",
        "5m",
        "ticket",
        "Over 20 % of the calls of tools of the MCP server {{ $labels.server }} failed for ten minutes.",
        fires={
            'edge_tool_calls_total{server="s",tool="a",outcome="upstream_error"}': "0+3x60",
            'edge_tool_calls_total{server="s",tool="a",outcome="ok"}': "0+6x60",
        },
        quiet={
            'edge_tool_calls_total{server="s",tool="a",outcome="upstream_error"}': "0+1x60",
            'edge_tool_calls_total{server="s",tool="a",outcome="refused"}': "0+6x60",
        },
    ),
    Alert(
        "EdgeCacheDown",
        "sum by (tier) (edge_cache_down) > 0",
        "5m",
        "ticket",
        "The cache tier {{ $labels.tier }} fails and is not used.",
        fires={'edge_cache_down{tier="redis"}': "1x60"},
        quiet={'edge_cache_down{tier="redis"}': "0x60"},
    ),
    Alert(
        "EdgeSemanticCacheOff",
        "max by (model, tenant) (edge_semantic_off) > 0",
        "1m",
        "ticket",
        "Too many similar replies differ for {{ $labels.model }} of {{ $labels.tenant }}: the semantic cache is off.",
        fires={'edge_semantic_off{model="m",tenant="t"}': "1x60"},
        quiet={'edge_semantic_off{model="m",tenant="t"}': "0x60"},
    ),
    Alert(
        "EdgeGuardrailServiceFails",
        'sum by (rule, service) (rate(edge_guardrail_service_checks_total{verdict="failed"}[5m])) / '
        "sum by (rule, service) (rate(edge_guardrail_service_checks_total[5m])) > 0.1",
        "3m",
        "page",
        "A tenth of the checks by {{ $labels.service }} for the guardrail rule {{ $labels.rule }} have no verdict.",
        fires={
            'edge_guardrail_service_checks_total{rule="r",service="lakera",verdict="failed"}': "0+20x60",
            'edge_guardrail_service_checks_total{rule="r",service="lakera",verdict="pass"}': "0+60x60",
            # A failed rule stays visible beside a service that answers.
            'edge_guardrail_service_checks_total{rule="other",service="lakera",verdict="pass"}': "0+6000x60",
        },
        quiet={
            'edge_guardrail_service_checks_total{rule="r",service="lakera",verdict="failed"}': "0+1x60",
            'edge_guardrail_service_checks_total{rule="r",service="lakera",verdict="pass"}': "0+60x60",
            'edge_guardrail_service_checks_total{rule="r",service="lakera",verdict="block"}': "0+60x60",
        },
    ),
    Alert(
        "EdgeBudgetNear",
        _grew("edge_limit_warnings_total", "level, measure", "15m"),
        "0m",
        "ticket",
        "A limit on {{ $labels.measure }} of a {{ $labels.level }} has reached its warning threshold.",
        fires={'edge_limit_warnings_total{level="tenant",measure="dollars_per_day"}': "_x10 1+0x60"},
        quiet={'edge_limit_warnings_total{level="tenant",measure="dollars_per_day"}': "1+0x60"},
        at="15m",
    ),
    Alert(
        "EdgeLimitsReject",
        "sum(rate(edge_limit_refusals_total[10m])) / sum(rate(edge_requests_total[10m])) > 0.1",
        "10m",
        "ticket",
        "Limits refuse over a tenth of all requests.",
        fires={'edge_limit_refusals_total{level="key"}': "0+60x60", _OK: "0+60x60"},
        quiet={'edge_limit_refusals_total{level="key"}': "0+1x60", _OK: "0+60x60"},
    ),
    Alert(
        "EdgeLimitStoreDown",
        "sum(edge_limit_store_down) > 0",
        "2m",
        "page",
        "Workers cannot reach the store of limits.",
        fires={"edge_limit_store_down": "1x60"},
        quiet={"edge_limit_store_down": "0x60"},
    ),
    Alert(
        "EdgeConversationStoreDown",
        "sum(edge_conversation_store_down) > 0",
        "2m",
        "page",
        "Workers cannot use the store of conversations.",
        fires={"edge_conversation_store_down": "1x60"},
        quiet={"edge_conversation_store_down": "0x60"},
    ),
    Alert(
        "EdgeLimitReplicasTooFew",
        # limiter.replicas: auto is always enough.
        "edge_limit_workers > (edge_limit_shares > 0)",
        "5m",
        "ticket",
        "More gateways share the store of limits than limiter.replicas says.",
        fires={"edge_limit_workers": "6x60", "edge_limit_shares": "2x60"},
        quiet={"edge_limit_workers": "6x60", "edge_limit_shares": "0x10 6x50"},
    ),
    Alert(
        "EdgeUnpriced",
        _grew("edge_unpriced_requests_total", "model, provider", "15m"),
        "0m",
        "ticket",
        "Replies of {{ $labels.model }} by {{ $labels.provider }} have no price: their cost is not counted.",
        fires={'edge_unpriced_requests_total{model="m",provider="a"}': "_x10 1+0x60"},
        quiet={'edge_unpriced_requests_total{model="m",provider="a"}': "1+0x60"},
        at="15m",
    ),
    Alert(
        "EdgeWorkersRestart",
        "increase(edge_worker_restarts_total[15m]) > 2",
        "0m",
        "page",
        "Workers die repeatedly and are restarted.",
        fires={"edge_worker_restarts_total": "0+1x60"},
        quiet={"edge_worker_restarts_total": "1+0x60"},
    ),
    Alert(
        "EdgeWorkersMissing",
        # A gateway without any worker has no sample of edge_workers.
        "(edge_workers or edge_workers_wanted * 0) < edge_workers_wanted",
        "2m",
        "page",
        "Fewer workers run than are configured.",
        fires={
            'edge_workers{instance="x"}': "2x60",
            'edge_workers_wanted{instance="x"}': "2x60",
            'edge_workers_wanted{instance="y"}': "2x60",
        },
        quiet={"edge_workers": "2x60", "edge_workers_wanted": "2x60"},
    ),
    Alert(
        "EdgeEventLoopLags",
        _quantile(0.99, "edge_event_loop_lag_seconds", "", "5m") + " > 0.1",
        "5m",
        "ticket",
        "A worker's event loop is blocked for over 0.1 s.",
        fires=_slow("edge_event_loop_lag_seconds", "", "0.25"),
        quiet=_fast("edge_event_loop_lag_seconds", "", "0.01"),
    ),
    Alert(
        "EdgeConfigRejected",
        "min by (job, instance) (edge_config_last_reload_successful) == 0",
        "1m",
        "ticket",
        "The configuration file is not in force: it was rejected, or needs a restart.",
        fires={"edge_config_last_reload_successful": "1x10 0x60"},
        quiet={"edge_config_last_reload_successful": "1x60"},
    ),
    Alert(
        "EdgeConfigsDiffer",
        "count by (job) (count by (job, version) (edge_config_info > 0)) > 1",
        "5m",
        "ticket",
        "Workers run different configurations: some could not apply the newest.",
        fires={'edge_config_info{version="a"}': "1x60", 'edge_config_info{version="b"}': "1x60"},
        # A change by the admin API: one gateway has it a minute before the other.
        quiet={
            'edge_config_info{version="a+1",instance="x"}': "2x27 stale",
            'edge_config_info{version="a+2",instance="x"}': "_x28 2x30",
            'edge_config_info{version="a+1",instance="y"}': "2x28 stale",
            'edge_config_info{version="a+2",instance="y"}': "_x29 2x30",
        },
    ),
    Alert(
        "EdgeDatabaseDown",
        "min by (job, instance) (edge_database_up) == 0",
        "10m",
        "ticket",
        "The database accepts nothing: usage rows wait in the journal, and keys cannot be changed.",
        fires={"edge_database_up": "0x60"},
        quiet={"edge_database_up": "1x60"},
    ),
    Alert(
        "EdgeLedgerRowsQuarantined",
        "max by (job, instance) (edge_ledger_quarantined_rows) > 0",
        "0m",
        "ticket",
        "The ledger refused some rows: they are in the quarantine file, and in no sum.",
        fires={"edge_ledger_quarantined_rows": "0x10 1x60"},
        quiet={"edge_ledger_quarantined_rows": "0x60"},
    ),
    Alert(
        "EdgeJournalFails",
        _grew("edge_journal_errors_total", "job, instance", "15m"),
        "0m",
        "page",
        "The gateway at {{ $labels.instance }} cannot write its journal: ledger rows wait in memory or are lost.",
        fires={"edge_journal_errors_total": "0x10 1x60"},
        quiet={"edge_journal_errors_total": "3x60"},
        at="20m",
    ),
    Alert(
        "EdgeTaskFails",
        "max by (job, instance, task) (edge_tasks_failed) > 0 or "
        "sum by (job, instance, task) (increase(edge_task_failures_total[15m])) > 3",
        "5m",
        "ticket",
        "The background task {{ $labels.task }} fails repeatedly.",
        fires={'edge_task_failures_total{task="ledger"}': "0+2x60", 'edge_tasks_failed{task="ledger"}': "1x60"},
        quiet={'edge_task_failures_total{task="ledger"}': "0x5 1x60", 'edge_tasks_failed{task="ledger"}': "0x60"},
    ),
    Alert(
        "EdgeSpansLost",
        'sum(increase(edge_spans_total{outcome=~"failed|dropped"}[15m])) > 0',
        "5m",
        "ticket",
        "Spans are lost: the collector does not accept them.",
        fires={'edge_spans_total{outcome="failed"}': "0+60x60"},
        quiet={'edge_spans_total{outcome="failed"}': "5x60", 'edge_spans_total{outcome="sent"}': "0+60x60"},
    ),
    Alert(
        "EdgeAccessLinesLost",
        "increase(edge_log_lines_dropped_total[15m]) > 0",
        "0m",
        "ticket",
        "Access lines are lost: the reader of the gateway's output is too slow.",
        fires={"edge_log_lines_dropped_total": "0+1x60"},
        quiet={"edge_log_lines_dropped_total": "0x60"},
    ),
    Alert(
        "EdgeKeysRefused",
        "sum by (reason) (rate(edge_auth_failures_total[10m])) > 1",
        "10m",
        "ticket",
        "More than one request a second has no valid key ({{ $labels.reason }}).",
        fires={'edge_auth_failures_total{reason="unknown_key"}': "0+120x60"},
        quiet={'edge_auth_failures_total{reason="unknown_key"}': "0+6x60"},
    ),
    Alert(
        "EdgeCredentialNotRenewed",
        'sum by (provider) (increase(edge_credential_renewals_total{outcome="failed"}[15m])) > 1',
        "0m",
        "page",
        "The credential of provider {{ $labels.provider }} cannot be renewed.",
        fires={'edge_credential_renewals_total{provider="a",outcome="failed"}': "0+1x60"},
        quiet={'edge_credential_renewals_total{provider="a",outcome="ok"}': "0+1x60"},
    ),
)

RUNBOOK = "docs/runbook.md"


def rules(of: Sequence[Alert] = ALERTS) -> dict[str, object]:
    """A Prometheus rules file."""
    return {
        "groups": [
            {
                "name": "edge",
                "rules": [
                    {
                        "alert": alert.name,
                        "expr": alert.expr,
                        "for": alert.wait,
                        "labels": {"severity": alert.severity},
                        "annotations": {"summary": alert.summary, "runbook": f"{RUNBOOK}#{alert.name.lower()}"},
                    }
                    for alert in of
                ],
            }
        ]
    }


def promtool_tests(alert: Alert, rule_file: str) -> dict[str, object]:
    """A promtool test file: the alert fires for its `fires` series, and does not for its `quiet` series. `rule_file`
    has its rule, and no other: promtool evaluates each rule of the file at each minute of each test."""
    return {
        "rule_files": [rule_file],
        "evaluation_interval": "1m",
        "tests": [
            {
                "name": f"{alert.name} {'fires' if firing else 'is quiet'}",
                "interval": "1m",
                "input_series": [{"series": series, "values": values} for series, values in inputs.items()],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert.name}",alertstate="firing"}}) or vector(0)',
                        "eval_time": alert.at,
                        "exp_samples": [{"labels": "{}", "value": 1 if firing else 0}],
                    }
                ],
            }
            for firing, inputs in ((True, alert.fires), (False, alert.quiet))
        ],
    }

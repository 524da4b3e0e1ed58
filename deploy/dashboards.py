"""The Grafana dashboards, as a table of panels with their queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

_WIDTH, _HEIGHT = 12, 8


@dataclass(frozen=True, slots=True)
class Panel:
    title: str
    queries: tuple[tuple[str, str], ...]
    """PromQL and its legend."""
    unit: str = "short"
    kind: str = "timeseries"


@dataclass(frozen=True, slots=True)
class Dashboard:
    name: str
    title: str
    panels: tuple[Panel, ...]


def _rate(metric: str, by: str = "", where: str = "") -> str:
    grouped = f"sum by ({by})" if by else "sum"
    return f"{grouped} (rate({metric}{where}[$__rate_interval]))"


def _quantile(q: float, metric: str, by: str = "", where: str = "") -> str:
    labels = f"le, {by}" if by else "le"
    return f"histogram_quantile({q}, sum by ({labels}) (rate({metric}_bucket{where}[$__rate_interval])))"


def _quantiles(metric: str, by: str = "", where: str = "") -> tuple[tuple[str, str], ...]:
    legend = "".join(f" {{{{{label.strip()}}}}}" for label in by.split(",")) if by else ""
    return tuple((_quantile(q, metric, by, where), f"p{q * 100:g}{legend}") for q in (0.5, 0.95, 0.99))


_ENVOY = '{envoy_http_conn_manager_prefix="edge"}'


def _one(title: str, query: str, legend: str, unit: str = "short", kind: str = "timeseries") -> Panel:
    return Panel(title, ((query, legend),), unit, kind)


_TOOL_FAILED = '{outcome=~"upstream_error|gateway_error"}'
_FAILED = '{outcome=~"upstream_error|broken_stream|gateway_error"}'


def _failed_share() -> str:
    return f"({_rate('edge_requests_total', '', _FAILED)} or vector(0)) / {_rate('edge_requests_total')}"


DASHBOARDS = (
    Dashboard(
        "overview",
        "Edge: overview",
        (
            _one("Requests", _rate("edge_requests_total", "outcome"), "{{outcome}}", "reqps"),
            Panel(
                "Share of failed requests",
                (
                    (
                        f"({_rate('edge_requests_total', '', _FAILED)} or vector(0)) / {_rate('edge_requests_total')}",
                        "failed",
                    ),
                ),
                "percentunit",
            ),
            _one("Errors by code", _rate("edge_errors_total", "outcome, code"), "{{outcome}} {{code}}", "reqps"),
            _one("Responses by status", _rate("edge_responses_total", "status"), "{{status}}", "reqps"),
            Panel(
                "Replies that are not streamed",
                _quantiles("edge_request_duration_seconds", "", '{stream="false"}'),
                "s",
            ),
            Panel("Streams", _quantiles("edge_request_duration_seconds", "", '{stream="true"}'), "s"),
            Panel("Time to the first token", _quantiles("edge_time_to_first_token_seconds"), "s"),
            Panel("Time per output token", _quantiles("edge_time_per_output_token_seconds"), "s"),
            Panel("The gateway's own time", _quantiles("edge_overhead_seconds"), "s"),
            _one("Open requests", "sum(edge_open_requests)", "open"),
            _one("WebSockets", "sum(edge_open_sockets)", "open"),
            _one("Messages of WebSockets", _rate("edge_socket_messages_total", "sender"), "{{sender}}", "reqps"),
            Panel(
                "Responses ended early by Envoy",
                ((f"{_rate('envoy_http_downstream_rq_tx_reset', '', _ENVOY)} or vector(0)", "ended early"),),
                "reqps",
            ),
            _one(
                "Connections of callers",
                f"sum(envoy_http_downstream_cx_active{_ENVOY})",
                "open",
            ),
        ),
    ),
    Dashboard(
        "providers",
        "Edge: providers",
        (
            _one("Requests", _rate("edge_requests_total", "provider"), "{{provider}}", "reqps"),
            Panel(
                "Attempts",
                ((_rate("edge_provider_tries_total", "provider, verdict"), "{{provider}} {{verdict}}"),),
                "reqps",
            ),
            Panel(
                "Share of failed attempts",
                (
                    (
                        # A provider that never failed has no such series.
                        "("
                        + _rate("edge_provider_tries_total", "provider", '{verdict="failed"}')
                        + " or 0 * "
                        + _rate("edge_provider_tries_total", "provider", '{verdict=~"ok|failed"}')
                        + ") / "
                        + _rate("edge_provider_tries_total", "provider", '{verdict=~"ok|failed"}'),
                        "{{provider}}",
                    ),
                ),
                "percentunit",
            ),
            _one("Health (1 is healthy)", "min by (provider) (edge_provider_health)", "{{provider}}", "percentunit"),
            _one("Failovers", _rate("edge_failovers_total", "provider"), "to {{provider}}", "reqps"),
            Panel(
                "Connections that providers broke",
                (
                    (
                        _rate(
                            "envoy_cluster_upstream_cx_destroy_remote_with_active_rq",
                            "envoy_cluster_name",
                            '{envoy_cluster_name=~"provider_.*"}',
                        )
                        + " or vector(0)",
                        "{{envoy_cluster_name}}",
                    ),
                ),
                "ops",
            ),
            _one("Circuits", "max by (provider) (edge_circuits_open)", "{{provider}}"),
            _one("Circuits opened", "sum by (provider) (edge_circuits_opened_total)", "{{provider}}"),
            Panel("Time to the first token", _quantiles("edge_time_to_first_token_seconds", "provider"), "s"),
            Panel("Time per output token", _quantiles("edge_time_per_output_token_seconds", "provider"), "s"),
            Panel("Duration", _quantiles("edge_request_duration_seconds", "provider"), "s"),
            Panel(
                "Age of credentials",
                (
                    (
                        "time() - max by (provider) (edge_credential_renewed_timestamp_seconds) or vector(0)",
                        "{{provider}}",
                    ),
                ),
                "s",
            ),
        ),
    ),
    Dashboard(
        "tools",
        "Edge: tools",
        (
            _one("Calls", f"{_rate('edge_tool_calls_total', 'server')} or vector(0)", "{{server}}", "reqps"),
            _one(
                "Calls, by tool",
                f"{_rate('edge_tool_calls_total', 'server, tool')} or vector(0)",
                "{{server}} {{tool}}",
                "reqps",
            ),
            _one("Outcomes", f"{_rate('edge_tool_calls_total', 'outcome')} or vector(0)", "{{outcome}}", "reqps"),
            _one(
                "Share of calls that failed",
                # A server that never failed has no such series.
                f"({_rate('edge_tool_calls_total', 'server', _TOOL_FAILED)} or 0 * "
                f"{_rate('edge_tool_calls_total', 'server')}) / "
                f"{_rate('edge_tool_calls_total', 'server')} or vector(0)",
                "{{server}}",
                "percentunit",
            ),
            Panel(
                "Duration of a call",
                tuple(
                    (f"{query} or vector(0)", legend)
                    for query, legend in _quantiles("edge_tool_call_duration_seconds", "server")
                ),
                "s",
            ),
            Panel(
                "Dollars an hour",
                (
                    (
                        f"{_rate('edge_tool_cost_usd_total', 'server, tool')} * 3600 or vector(0)",
                        "{{server}} {{tool}}",
                    ),
                ),
                "currencyUSD",
            ),
        ),
    ),
    Dashboard(
        "cost",
        "Edge: cost",
        (
            Panel(
                "Dollars an hour",
                ((f"{_rate('edge_cost_usd_total', 'provider')} * 3600", "{{provider}}"),),
                "currencyUSD",
            ),
            Panel(
                "Dollars an hour, by model",
                ((f"{_rate('edge_cost_usd_total', 'model')} * 3600", "{{model}}"),),
                "currencyUSD",
            ),
            _one("Dollars so far", "sum(edge_cost_usd_total)", "all", "currencyUSD", "stat"),
            _one("Tokens", _rate("edge_tokens_total", "kind"), "{{kind}}", "short"),
            _one("Tokens, by model", _rate("edge_tokens_total", "model"), "{{model}}", "short"),
            _one("Price table", "max by (version) (edge_price_table_info)", "genai-prices {{version}}", kind="stat"),
            _one("Rows that wait for the ledger", "max(edge_journal_bytes) or vector(0)", "waiting", "bytes"),
            _one("Rows that the ledger refused", "max(edge_ledger_quarantined_rows) or vector(0)", "quarantined"),
            Panel(
                "Replies without a price",
                (("sum by (model, provider) (edge_unpriced_requests_total) or vector(0)", "{{model}} {{provider}}"),),
            ),
        ),
    ),
    Dashboard(
        "cache",
        "Edge: cache",
        (
            _one("Calls", _rate("edge_cache_requests_total", "result"), "{{result}}", "reqps"),
            Panel(
                "Share of hits",
                (
                    (
                        "("
                        + _rate("edge_cache_requests_total", "", '{result=~"hit|semantic"}')
                        + " or vector(0)) / "
                        + _rate("edge_cache_requests_total", "", '{result=~"hit|semantic|miss"}'),
                        "hits",
                    ),
                ),
                "percentunit",
            ),
            Panel(
                "Hits, by tier",
                ((_rate("edge_cache_requests_total", "tier", '{result=~"hit|semantic"}'), "{{tier}}"),),
                "reqps",
            ),
            Panel("Lookups", _quantiles("edge_cache_lookup_seconds", "tier"), "s"),
            Panel(
                "Dollars saved",
                (("sum(edge_cache_saved_cost_usd_total) or vector(0)", "saved"),),
                "currencyUSD",
                "stat",
            ),
            _one("Tokens saved", "sum by (model) (edge_cache_saved_tokens_total)", "{{model}}"),
            _one("Writes", _rate("edge_cache_writes_total", "tier"), "{{tier}}", "ops"),
            _one("Semantic lookups", _rate("edge_semantic_lookups_total", "result"), "{{result}}", "ops"),
            Panel("Time of semantic lookups", _quantiles("edge_semantic_lookup_seconds"), "s"),
            _one("Refusals, by verifier", _rate("edge_semantic_refusals_total", "verifier"), "{{verifier}}", "ops"),
            Panel(
                "Estimated false hits, with their interval",
                (
                    ("max by (model, tenant) (edge_semantic_false_hit_rate)", "{{model}} {{tenant}}"),
                    ("max by (model, tenant) (edge_semantic_false_hit_rate_low)", "{{model}} {{tenant}}, from"),
                    ("max by (model, tenant) (edge_semantic_false_hit_rate_high)", "{{model}} {{tenant}}, to"),
                ),
                "percentunit",
            ),
            Panel(
                "Replies that agree in shadow mode",
                (
                    (
                        "sum by (model, tenant) "
                        '(rate(edge_semantic_shadow_compared_total{agreed="true"}[$__rate_interval])) / '
                        "sum by (model, tenant) (rate(edge_semantic_shadow_compared_total[$__rate_interval]))",
                        "{{model}} {{tenant}}",
                    ),
                ),
                "percentunit",
            ),
        ),
    ),
    Dashboard(
        "conversations",
        "Edge: conversations",
        (
            _one(
                "Records, by operation",
                _rate("edge_conversation_operations_total", "operation"),
                "{{operation}}",
                "ops",
            ),
            _one(
                "Records that were missed, too large, or failed",
                _rate("edge_conversation_operations_total", "operation, result", '{result!="done"}'),
                "{{operation}}: {{result}}",
                "ops",
            ),
            _one("Bytes", _rate("edge_conversation_bytes_total", "operation"), "{{operation}}", "Bps"),
            _one(
                "Removed by the store",
                f"{_rate('edge_conversation_removals_total', 'reason')} or vector(0)",
                "{{reason}}",
                "ops",
            ),
            _one(
                "Replies that were not stored",
                "sum by (reason) (edge_conversation_unstored_replies_total) or vector(0)",
                "{{reason}}",
            ),
            _one("Bytes in memory", "sum(edge_conversation_memory_bytes) or vector(0)", "bytes", "bytes"),
            _one("Workers without the store", "sum(edge_conversation_store_down)", "workers"),
        ),
    ),
    Dashboard(
        "guardrails",
        "Edge: guardrails",
        (
            _one(
                "Calls with a finding",
                _rate("edge_guardrail_hits_total", "rule, action, mode"),
                "{{rule}} {{action}} {{mode}}",
                "reqps",
            ),
            _one("Findings", _rate("edge_guardrail_findings_total", "rule, label"), "{{rule}} {{label}}"),
            _one(
                "Checks by services",
                _rate("edge_guardrail_service_checks_total", "rule, service, verdict"),
                "{{rule}} {{service}}: {{verdict}}",
                "ops",
            ),
            _one(
                "Checks without a verdict",
                f"{_rate('edge_guardrail_service_failures_total', 'rule, service, reason')} or vector(0)",
                "{{rule}} {{service}}: {{reason}}",
                "ops",
            ),
            _one(
                "Circuits of services opened",
                "sum by (rule, service) (edge_guardrail_service_circuits_opened_total) or vector(0)",
                "{{rule}} {{service}}",
            ),
            _one(
                "Checks without a request",
                f"{_rate('edge_guardrail_service_spared_total', 'rule, by')} or vector(0)",
                "{{rule}} {{by}}",
                "ops",
            ),
            Panel("Time of a check", _quantiles("edge_guardrail_service_seconds", "service"), "s"),
        ),
    ),
    Dashboard(
        "tenants",
        "Edge: tenants",
        (
            _one("Requests", _rate("edge_requests_total", "tenant"), "{{tenant}}", "reqps"),
            Panel(
                "Dollars an hour", ((f"{_rate('edge_cost_usd_total', 'tenant')} * 3600", "{{tenant}}"),), "currencyUSD"
            ),
            _one("Tokens", _rate("edge_tokens_total", "tenant"), "{{tenant}}"),
            Panel(
                "Refused by the gateway",
                ((_rate("edge_requests_total", "tenant", '{outcome="rejected"}'), "{{tenant}}"),),
                "reqps",
            ),
            Panel(
                "Refused by limits", (("sum by (level, measure) (edge_limit_refusals_total)", "{{level}} {{measure}}"),)
            ),
            _one(
                "Limits nearest to their end",
                "topk(20, edge_limit_used / (edge_limit_maximum > 0))",
                "{{tenant}} {{level}} {{name}}: {{measure}} per {{window}}",
                "percentunit",
            ),
            Panel(
                "Budgets",
                tuple(
                    (
                        f'sum by (tenant, window) (edge_limit_{what}{{level="tenant",measure="dollars"}})',
                        f"{{{{tenant}}}} per {{{{window}}}}: {what}",
                    )
                    for what in ("used", "reserved", "left")
                ),
                "currencyUSD",
            ),
            _one("Bad keys", _rate("edge_auth_failures_total", "reason"), "{{reason}}", "reqps"),
        ),
    ),
    Dashboard(
        "agent",
        "Edge: agent internals",
        (
            Panel("Workers", (("edge_workers", "alive"), ("edge_workers_wanted", "wanted"))),
            _one("Restarts", "edge_worker_restarts_total", "restarts"),
            Panel(
                "Requests that no worker answered",
                (
                    (f"{_rate('envoy_http_ext_proc_streams_failed', '', _ENVOY)} or vector(0)", "failed"),
                    (f"{_rate('envoy_http_ext_proc_message_timeouts', '', _ENVOY)} or vector(0)", "too late"),
                ),
                "reqps",
            ),
            _one("Processor time", _rate("process_cpu_seconds_total"), "cores"),
            _one("Memory", "process_resident_memory_bytes", "resident", "bytes"),
            Panel("Event-loop lag", _quantiles("edge_event_loop_lag_seconds"), "s"),
            Panel("Time of a phase", _quantiles("edge_phase_duration_seconds", "phase"), "s"),
            _one("Queues", "sum by (queue) (edge_queue_length)", "{{queue}}"),
            _one("Background tasks", "sum by (task) (increase(edge_task_failures_total[15m]))", "{{task}} failed"),
            Panel(
                "Spans",
                ((f"{_rate('edge_spans_total', 'outcome')} or vector(0)", "{{outcome}}"),),
                "ops",
            ),
            _one("Open files", "process_open_fds", "open"),
            _one("Configuration", "edge_config_info", "{{version}}"),
            _one("Configuration files read", "sum by (outcome) (edge_config_reloads_total)", "{{outcome}}"),
            _one("Configuration file is in force", "edge_config_last_reload_successful", "1: it is", kind="stat"),
            _one("Age of the configuration", "time() - edge_config_loaded_timestamp_seconds", "age", "s"),
            _one("Access lines lost", "edge_log_lines_dropped_total", "lost"),
            Panel("Version", (("edge_build_info", "{{version}}"),), kind="stat"),
        ),
    ),
)


def grafana(dashboard: Dashboard) -> dict[str, Any]:
    """The dashboard as a Grafana file (schema 39, version 10 and later)."""
    return {
        "uid": f"edge-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["edge"],
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": [{"name": "datasource", "type": "datasource", "query": "prometheus"}]},
        "panels": [_panel(n, panel) for n, panel in enumerate(dashboard.panels)],
    }


def _panel(number: int, panel: Panel) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    return {
        "id": number + 1,
        "title": panel.title,
        "type": panel.kind,
        "datasource": source,
        "fieldConfig": {"defaults": {"unit": panel.unit}, "overrides": []},
        "gridPos": {"x": number % 2 * _WIDTH, "y": number // 2 * _HEIGHT, "w": _WIDTH, "h": _HEIGHT},
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": source,
                "expr": expr,
                "legendFormat": legend,
                "exemplar": "_bucket" in expr,
            }
            for n, (expr, legend) in enumerate(panel.queries)
        ],
    }

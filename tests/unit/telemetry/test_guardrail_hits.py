"""What guardrail rules did is in the log, the metrics and the trace of an exchange."""

from __future__ import annotations

import json

from settlements import settlement

from edge_extproc.model.rule_hit import RuleHit
from edge_extproc.telemetry import console
from edge_extproc.telemetry.guardrail_metrics import _MOST_LABELS
from edge_extproc.telemetry.logs import access_line
from edge_extproc.telemetry.metrics import LabelNames, Metrics

HITS = (
    RuleHit("pii", "email", "mask", "enforce", "request", 2),
    RuleHit("keys", "aws", "block", "shadow", "reply", 1),
)


def test_the_line_of_an_exchange_has_the_hits() -> None:
    line = json.loads(access_line(settlement(guardrails=HITS)))

    assert line["guardrails"] == [
        {"rule": "pii", "label": "email", "action": "mask", "mode": "enforce", "direction": "request", "count": 2},
        {"rule": "keys", "label": "aws", "action": "block", "mode": "shadow", "direction": "reply", "count": 1},
    ]
    assert list(line) == sorted(line, key=list(line).index)
    assert "guardrails" not in json.loads(access_line(settlement()))


def test_the_line_on_a_console_names_the_rules() -> None:
    assert "guardrails pii=mask, keys=block" in "  ".join(console._settlement(settlement(guardrails=HITS)))


def test_calls_and_findings_are_counted_by_rule() -> None:
    metrics = Metrics(LabelNames(), version="0", started_at=0.0)
    metrics.settle(settlement(guardrails=HITS))
    metrics.settle(settlement(guardrails=HITS[:1]))
    text = metrics.exposition().decode()

    labels = '{action="mask",direction="request",label="email",mode="enforce",rule="pii"}'
    assert f"edge_guardrail_hits_total{labels} 2.0" in text
    assert f"edge_guardrail_findings_total{labels} 4.0" in text


def test_the_number_of_labels_is_bounded() -> None:
    metrics = Metrics(LabelNames(), version="0", started_at=0.0)
    for number in range(_MOST_LABELS + 2):
        metrics.settle(settlement(guardrails=(RuleHit("service", f"l{number}", "flag", "enforce", "request", 1),)))
    text = metrics.exposition().decode()

    assert f'label="l{_MOST_LABELS}"' not in text
    assert 'edge_guardrail_hits_total{action="flag",direction="request",label="other",mode="enforce"' in text

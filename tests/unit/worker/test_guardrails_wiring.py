"""The guardrails of a worker: nothing is loaded without a rule, and a rule of the configuration is applied."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from config_kit import read
from prometheus_client import CollectorRegistry

from edge_extproc.cli import app
from edge_extproc.errors import ConfigError, exit_code
from edge_extproc.guardrails.rules import RuleHolder
from edge_extproc.model.principal import Principal
from edge_extproc.telemetry.guardrail_service_metrics import GuardrailServiceMetrics
from edge_extproc.worker.wiring.guardrails import WorkerGuardrails, check_detectors

WITHOUT_RULES = """
import sys
from config_kit import read
from edge_extproc.accounting import prices
from edge_extproc.worker.wiring.gateway import build_gateway
import edge_extproc.worker.state
from player import Stage, body, headers, talk
stage = Stage()
talk(stage.exchange(), headers(), body({"model": "chat", "messages": [{"role": "user", "content": "Hello"}]}))
loaded = sorted(name for name in sys.modules if name.startswith("edge_extproc.guardrails."))
print(*[name for name in loaded if name != "edge_extproc.guardrails.base"])
"""
RULES = """
guardrails:
  rules:
    - {name: words, detect: {words: {words: [falcon]}}, action: mask, for: {models: ["m*"]}, on: [request, reply]}
    - {name: same, detect: {words: {words: [falcon]}}, action: flag, kinds: [user], mode: shadow}
auth: {pepper: pepper-pepper-pepper}
callers:
  - tenant: dev
    guardrails: [{name: own, detect: {words: {words: [x]}}, action: block}]
    keys: [{id: dev, key: {env: KEY}, team: t}]
    teams: [{name: "*", guardrails: [{name: teams, detect: {words: {words: [y]}}, action: flag, on: [reply]}]}]
  - {tenant: other}
"""
WITH_FILE = """
guardrails:
  rules: [{name: from-file, action: block, detect: {credentials: {rules_file: rules.toml}}}]
"""
OTHERS = """
auth: {pepper: "a pepper of the tests, long enough"}
callers: [{tenant: acme, keys: [{id: k1, key: edge-key-of-the-tests-1}]}]
providers: {openai: {kind: openai, api_key: of-the-tests}}
models: {"gpt-*": [{provider: openai}]}
"""


def test_nothing_is_loaded_without_a_rule() -> None:
    tests = Path(__file__).resolve().parents[2]
    out = subprocess.run(
        [sys.executable, "-c", WITHOUT_RULES],
        cwd=tests,
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": "."},
    )

    assert out.stdout.split() == []


async def test_the_rules_of_a_caller_are_those_of_all_its_levels() -> None:
    worker = WorkerGuardrails(
        read(RULES), lambda provider, error, expires_at: None, GuardrailServiceMetrics(CollectorRegistry())
    )
    built = worker.guardrails
    assert built is not None
    ours, theirs = Principal("dev", "dev", team="t"), Principal("other", "k")

    def names(principal: Principal, model: str) -> tuple[list[str], list[str]]:
        rules = built._selector.of(principal, model)
        assert rules is not None
        return [rule.name for rule in rules.requests], [rule.name for rule in rules.replies]

    assert names(ours, "m") == (["words", "same", "own"], ["words", "teams"])
    assert names(ours, "x") == (["same", "own"], ["teams"])
    assert names(theirs, "m") == (["words", "same"], ["words"])
    first, second = [each.scoped for each in built._selector._rules[:2]]
    assert first.rule.detector is second.rule.detector
    assert built._selector._rules[3].scoped.holder == RuleHolder("dev", "team", "*")
    await worker.start(0.1)
    await worker.close()


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        ('[[rules]]\nid = "own"\nregex = "(?<=x)y"\nkeywords = ["x"]\n', "own"),
        ("[[rules", "rules.toml"),
        ("[extend]\nuseDefault = true\n", "extend"),
    ],
)
def test_check_reads_the_files_of_detectors(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, mistake: str
) -> None:
    (tmp_path / "rules.toml").write_text(content)
    config = tmp_path / "edge.yaml"
    config.write_text(WITH_FILE + OTHERS)
    assert exit_code(lambda: app(["check", str(config)], result_action="return_value")) == 1

    text = capsys.readouterr().err
    assert "the guardrail 'from-file'" in text
    assert mistake in text


def test_detectors_that_work_pass_the_check(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text('[[rules]]\nid = "own"\nregex = "own-[0-9]{8}"\nkeywords = ["own-"]\n')
    check_detectors(read(WITH_FILE, tmp_path))


def test_a_schema_that_is_none_is_found_by_the_check(tmp_path: Path) -> None:
    (tmp_path / "schema.json").write_text("no JSON")
    rule = "{name: shape, action: block, on: [reply], detect: {json_schema: {schema_file: schema.json}}}"
    config = read(f"guardrails: {{rules: [{rule}]}}", tmp_path)

    with pytest.raises(ConfigError, match=r"the guardrail 'shape': .*this is not JSON"):
        check_detectors(config)

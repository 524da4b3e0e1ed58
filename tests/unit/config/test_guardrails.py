"""What a configuration may say about texts, and its mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest
from config_kit import mistake, read
from prometheus_client import CollectorRegistry

from edge_extproc.config import load
from edge_extproc.config.guardrails import KINDS
from edge_extproc.errors import ConfigError
from edge_extproc.providers.credentials.refresh import CredentialRefreshers
from edge_extproc.telemetry.guardrail_service_metrics import GuardrailServiceMetrics
from edge_extproc.worker.wiring.guardrails import WorkerGuardrails, build_guardrails

WORDS = "detect: {words: {words: [falcon]}}"
SERVICE = "name: a, service: {openai_moderation: {api_key: {env: KEY}}}"
RULE = f"name: a, {WORDS}, action: block"
CALLERS = "auth: {pepper: pepper-pepper-pepper}\ncallers: [{tenant: dev, keys: [{id: dev, key: {env: KEY}%s}]%s}]\n"


METRICS = GuardrailServiceMetrics(CollectorRegistry())


def rules(*each: str) -> str:
    return "guardrails:\n  rules:\n" + "".join(f"    - {{{one}}}\n" for one in each)


def test_a_rule_has_defaults() -> None:
    (rule,) = read(rules(RULE)).guardrails.rules

    assert (rule.on, rule.kinds, rule.mode, rule.fail, rule.restore) == (("request",), KINDS, "enforce", "closed", True)
    assert rule.detect is not None
    assert (rule.detect.name, rule.detect.options.words) == ("words", ("falcon",))


def test_all_fields_can_be_given() -> None:
    scope = "for: {tenants: [d*], teams: [t], users: [u], keys: [k*], models: [m]}"
    text = f"{RULE.replace('block', 'route')}, route_to: m, mode: shadow, kinds: [user, tool_result], {scope}"
    (rule,) = read(rules(text)).guardrails.rules

    assert (rule.for_.tenants, rule.route_to, rule.kinds) == (("d*",), "m", ("user", "tool_result"))


def test_each_level_may_add_rules() -> None:
    more = f"guardrails: [{{name: %s, {WORDS}, action: flag}}]"
    key, tenant = f", team: t, {more % 'of-key'}", f", {more % 'of-tenant'}, teams: [{{name: t, {more % 'of-team'}}}]"
    config = read(rules(RULE) + CALLERS % (key, tenant))

    assert [(holder, rule.name) for holder, rule in config.guardrail_rules()] == [
        (None, "a"),
        (("dev", "tenant", "dev"), "of-tenant"),
        (("dev", "team", "t"), "of-team"),
        (("dev", "key", "dev"), "of-key"),
    ]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (f"name: a, {WORDS}", "f:3:7: guardrails.rules[0].action: this key is missing; add it"),
        (
            RULE.replace("block", "blok"),
            "guardrails.rules[0].action: 'blok': this is not one of block, mask, flag, route",
        ),
        (f"{RULE}, modes: shadow", "guardrails.rules[0].modes: there is no such key; did you mean mode?"),
        (f"{RULE}, on: [replies]", "this is not one of request, reply; write one of them, such as request"),
        (f"{RULE}, on: []", "this list is empty; name one or more"),
        (f"{RULE}, kinds: [tools]", "this is not one of system, user, assistant"),
        (
            f"{RULE}, for: {{tenant: [dev]}}",
            "guardrails.rules[0].for.tenant: there is no such key; did you mean tenants?",
        ),
        (f"{RULE}, for: {{tenants: [dve]}}", "guardrails.rules[0].for.tenants[0]: there is no tenant 'dve'; have dev"),
        (f"{RULE}, for: {{roles: [r]}}", "guardrails.rules[0].for.roles[0]: there is no role 'r'; have none"),
        (f"{RULE}, for: {{models: [n]}}", "guardrails.rules[0].for.models[0]: there is no model 'n'; have m"),
        ("name: a, action: block", "exactly one of detect and service is needed"),
        (f"{RULE}, route_to: m", "action: route and route_to belong together"),
        (RULE.replace("block", "route"), "action: route and route_to belong together"),
        (RULE.replace("block", "route") + ", route_to: n", "route_to: there is no model 'n'; have m"),
        (RULE.replace("block", "route") + ", route_to: m, on: [reply]", "a reply cannot go to another model"),
        (f"{SERVICE}, action: flag, on: [reply]", "a reply does not wait for a rule that only flags"),
        (f"{SERVICE}, action: block, window: 100", "only a service that blocks or masks replies holds a stream"),
        (f"{SERVICE}, action: flag, fail: open, on: [reply], window: 100", "only a service that blocks or masks"),
        (f"{RULE}, on: [reply], interval: 1s", "only a service that blocks or masks replies holds a stream"),
        (f"{SERVICE}, action: mask, on: [reply], interval: 1s", "with window: whole, a stream is checked at its end"),
        (f"{SERVICE}, action: mask, when: during", "the provider already has the call when a verdict could mask it"),
        (f"{SERVICE}, action: route, route_to: m, when: during", "when a verdict could route it; write when: before"),
        (f"{RULE}, when: during", "only a service that checks requests can be asked at another time"),
        (f"{SERVICE}, action: block, on: [reply], when: during", "only a service that checks requests can be asked"),
        (f"{SERVICE}, action: block, on: [reply], window: 9", "this is not a window; write whole, or a number"),
        (f"{SERVICE}, action: block, on: [reply], window: half", "this is not a window; write whole, or a number"),
        (f"{RULE}, restore: false", "only a rule that masks restores values; remove it"),
        (f"{RULE}, fail: open", "only a service can fail to answer; remove it"),
        ("name: a, action: block, detect: {wrods: {}}", "there is no such detector; have"),
        ("name: a, action: block, detect: words", "this is not one detector; have"),
        ("name: a, action: block, service: {nothing: {}}", "there is no such service; have"),
        ("name: a, action: block, detect: {words: {}}", "detect.words: there are no words and no patterns"),
        (
            "name: a, action: block, detect: {words: {word: [x]}}",
            "guardrails.rules[0].detect.words.word: there is no such key; did you mean words?",
        ),
        (
            "name: a, action: block, detect: {words: {patterns: {x: 'a+'}}}",
            "guardrails.rules[0].detect.words.patterns.x: 'a+': the matches of this pattern have no longest length",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place(rule: str, text: str) -> None:
    message = mistake(rules(rule))

    assert text in message
    assert message.startswith("f:3:")
    assert "\n" not in message


def test_a_name_is_given_once_on_all_levels() -> None:
    text = rules(RULE) + CALLERS % ("", f", guardrails: [{{{RULE}}}]")

    assert "callers[0].guardrails[0].name: 'a' was already given; give each name once" in mistake(text)


def test_nothing_is_built_without_a_rule() -> None:
    assert build_guardrails(read(""), CredentialRefreshers(lambda: 0.0, _ignore), METRICS) is None


def test_equal_rules_are_served_by_the_same_guardrails() -> None:
    built = WorkerGuardrails(read(rules(RULE)), _ignore, METRICS)

    assert built.serves(read(rules(RULE)))
    assert not built.serves(read(rules(f"{RULE}, mode: shadow")))
    assert not built.serves(read(""))


def test_rules_of_a_changed_file_are_built_again(tmp_path: Path) -> None:
    """Also if the configuration still has the same text: else the old rules would stay without a word."""
    file = tmp_path / "rules.toml"
    text = rules(f"name: a, detect: {{credentials: {{rules_file: {file}}}}}, action: block")
    file.write_text("[[rules]]\nid = 'one'\nregex = 'one-[a-z]{8}'\n")
    built = WorkerGuardrails(read(text), _ignore, METRICS)
    serves = built.serves(read(text))
    file.write_text("[[rules]]\nid = 'two'\nregex = 'two-[a-z]{8}'\n")

    assert serves
    assert not built.serves(read(text))
    file.write_text("[[rules]\n")
    with pytest.raises(ConfigError):
        WorkerGuardrails(read(text), _ignore, METRICS)


def test_the_schema_has_the_options_of_the_plugins() -> None:
    schema = load.schema()["$defs"]["GuardrailRuleConfig"]["properties"]

    assert "words" in str(schema["detect"])
    assert set(schema) >= {"name", "detect", "service", "on", "kinds", "for", "action", "route_to", "mode", "fail"}


def _ignore(provider: str, error: str | None, expires_at: float | None) -> None:
    """Nothing is renewed here."""

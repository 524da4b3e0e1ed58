"""What config says of limits, and what comes of it."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Any

import pytest
from config_kit import mistake, read

from edge_extproc.accounting.max_outputs import KNOWN
from edge_extproc.config.limits import read_dollars, write_dollars
from edge_extproc.errors import StartError
from edge_extproc.gateway.own_valkey import check_store
from edge_extproc.limits.base import LimitRule, LimitStatus
from edge_extproc.limits.levels import MAX_NAMED, metric_levels
from edge_extproc.limits.merge import merge_rules
from edge_extproc.telemetry.limit_metrics import LimitLevel
from edge_extproc.worker.wiring.limits import build_bounds, build_limits

BUDGET = """
agent: {workers: 4}
callers:
  - tenant: acme
    limits: {dollars_per_month: 12.50, tokens_per_minute: 1000, time_zone: Europe/Berlin, mode: soft, warn_at: 50}
    teams: [{name: research, limits: {concurrent: 3, fail: local}}]
    users: [{name: "*", limits: {requests_per_minute: 6}}]
    keys: [{id: a, key: {env: KEY}, team: research, limits: {dollars_per_day: "3", unpriced: allow}}]
"""


@pytest.mark.parametrize(
    ("written", "micro"), [(12, 12_000_000), (12.5, 12_500_000), ("$0.000001", 1), ("0", 0), (0.1, 100_000)]
)
def test_money_is_read_by_its_digits(written: object, micro: int) -> None:
    assert micro == read_dollars(written)
    assert micro == read_dollars(write_dollars(micro))


@pytest.mark.parametrize("written", ["12,50", "1e3", -1, "0.0000001", True, None, "99999999", "€5", 1e-7])
def test_what_is_no_amount_of_money_is_refused(written: object) -> None:
    with pytest.raises(ValueError, match="write dollars"):
        read_dollars(written)


def test_rules_come_of_every_level() -> None:
    config = read(BUDGET)
    found = [(r.level, r.name, r.measure, r.window, r.maximum) for r in merge_rules(config)]
    month, _, slots, _, day = merge_rules(config)

    assert config.has_limits
    assert [
        ("tenant", "acme", "tokens", "minute", 1000),
        ("tenant", "acme", "dollars", "month", 12_500_000),
        ("team", "research", "concurrent", None, 3),
        ("user", "*", "requests", "minute", 6),
        ("key", "a", "dollars", "day", 3_000_000),
    ] == found
    assert ("Europe/Berlin", False, 500) == (month.zone, month.hard, month.warn_at)
    assert (True, None, True, 2_400_000) == (slots.local, slots.warn_at, day.allow_unpriced, day.warn_at)


def test_the_first_fitting_bound_of_an_answer_counts() -> None:
    bounds = build_bounds(read("limiter: {max_output: {gpt-4o-mini: 100}, default_max_output: 7}"))

    assert [100, 16_384, 7] == [bounds.output_of(name) for name in ("gpt-4o-mini", "gpt-4o", "unheard-of")]


def test_several_workers_share_a_store_of_their_own_unless_one_is_given() -> None:
    own = read(BUDGET)
    given = read(BUDGET + "limiter: {url: 'redis://h:6379/0'}")

    assert "valkey.sock" == getattr(own.own_store_socket(), "name", None)
    assert given.own_store_socket() is None
    assert read(BUDGET.replace("workers: 4", "workers: 1")).own_store_socket() is None
    check_store(own, with_own=True)
    check_store(given, with_own=False)
    with pytest.raises(
        StartError, match=r"4 workers need a shared store for limits and conversations: set limiter.url"
    ):
        check_store(own, with_own=False)


def test_without_limits_there_is_no_limiter_and_no_store() -> None:
    config = read("agent: {workers: 4}")

    assert (False, None) == (config.has_limits, config.own_store_socket())
    assert build_limits(config, None, print) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BUDGET + "limiter: {store: memory}", "each of 4 workers would have counters of its own"),
        (BUDGET + "limiter: {replicas: 2}", "2 gateways need a shared store for these limits"),
        (BUDGET + "limiter: {replicas: auto}", "several gateways need a shared store for these limits"),
        ("limiter: {replicas: many}", "this is neither auto nor a number; write auto, or a number from 1 to 1000000"),
        ("limiter: {replicas: true}", "this is neither auto nor a number"),
        ("limiter: {replicas: 0}", "this number is out of range; write auto, or a number"),
        ("limiter: {store: redis}", "there is no url; give url: redis://host:6379/0"),
        ("limiter: {store: memory, url: 'redis://h'}", "a url is given, but store is memory"),
        ("limiter: {url: 'http://h'}", "this is not an address of a Redis"),
        ("limiter: {lease: 1s}", "this lease is too short"),
        ("limiter: {webhook: {url: 'ftp://h/'}}", "this is not a URL to post to"),
        (BUDGET.replace("Europe/Berlin", "Berlin"), "there is no such time zone"),
        (BUDGET.replace("Europe/Berlin", "Europe/Atlantis"), "there is no such time zone"),
        (BUDGET.replace("Europe/Berlin", "../etc"), "there is no such time zone"),
        (BUDGET.replace("name: research", 'name: "a\\tb"'), "this is not a name"),
        (BUDGET.replace("tokens_per_minute: 1000", "tokens_per_minute: 0"), "write one from 1 to 10000000000"),
        (BUDGET.replace('[{name: "*"', '[{name: ann}, {name: ann}, {name: "*"'), "give each name once"),
    ],
)
def test_a_mistake_says_what_would_be_right(text: str, told: str) -> None:
    assert told in mistake(text)


def test_the_address_of_the_store_is_a_secret() -> None:
    config = read("limiter: {url: 'redis://:hunter2@h:6379/0'}")

    assert "hunter2" not in repr(config)


def test_only_names_of_the_configuration_stand_in_metrics() -> None:
    named = {("acme", "tenant", "acme"), ("acme", "user", "*")}

    def status(tenant: str, level: Any, name: str, used: int) -> LimitStatus:
        return LimitStatus(LimitRule(tenant, level, name, "dollars", "day", 10_000_000), 10_000_000, used, 500_000, 7.0)

    found = metric_levels(
        named,
        [
            status("acme", "tenant", "acme", 4_000_000),
            status("acme", "user", "ann", 1_000_000),
            status("acme", "user", "bob", 2_000_000),
            status("stranger", "tenant", "stranger", 1),
        ],
    )

    assert found == [
        LimitLevel(("acme", "tenant", "acme", "dollars", "day"), 10.0, 4.0, 0.5, 7.0),
        LimitLevel(("acme", "user", "*", "dollars", "day"), 10.0, 2.0, 1.0, None),
    ]


def test_of_very_many_holders_those_nearest_to_their_limit_are_told_by_name() -> None:
    many = MAX_NAMED + 50
    named = {("acme", "key", f"k{n}") for n in range(many)}
    statuses = [
        LimitStatus(LimitRule("acme", "key", f"k{n}", "requests", "minute", 10_000), 10_000, n, 1, 7.0)
        for n in range(many)
    ]
    found = metric_levels(named, statuses)

    assert MAX_NAMED + 1 == len(found)
    assert LimitLevel(("acme", "key", "*", "requests", "minute"), 10_000, 49, 50, None) == found[-1]
    assert f"k{many - 1}" == found[0].labels[2]


@pytest.mark.parametrize(
    ("model", "most"),
    [
        ("gpt-4o-2024-11-20", 16_384),
        ("gpt-4o:extended", 65_536),
        ("gpt-5-mini", 131_072),
        ("gpt-5-pro-2025-10-06", 272_000),
        ("gpt-3.5-turbo-16k-0613", 16_384),
        ("us.anthropic.claude-3-5-sonnet-20241022-v2:0", 8_192),
        ("deepseek-ai/DeepSeek-V3.1", 163_840),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", 262_144),
        ("gemini-3.1-pro-preview", 65_536),
        ("claude-opus-4-8", 131_072),
    ],
)
def test_what_a_model_answers_with_at_most_is_never_less_than_its_provider_says(model: str, most: int) -> None:
    assert most == build_bounds(read("")).output_of(model)


def test_no_row_is_hidden_behind_a_wider_one() -> None:
    for n, (glob, _) in enumerate(KNOWN):
        name = glob.replace("*", "")
        assert n == next(i for i, (each, _) in enumerate(KNOWN) if fnmatchcase(name, each)), glob


def test_caps_of_runs_are_rules_of_each_level_and_enable_limits() -> None:
    config = read(
        """
callers:
  - tenant: acme
    limits: {dollars_per_run: 2.50, time_per_run: 1h}
    keys: [{id: a, key: {env: KEY}, limits: {tokens_per_run: 1000, requests_per_run: 20}}]
"""
    )

    assert config.has_limits
    assert [
        ("tenant", "dollars", "run", 2_500_000, None),
        ("tenant", "seconds", "run", 3_600, None),
        ("key", "tokens", "run", 1_000, None),
        ("key", "requests", "run", 20, None),
    ] == [(r.level, r.measure, r.window, r.maximum, r.warn_at) for r in merge_rules(config)]


def test_runs_can_be_counted_without_a_cap_in_the_configuration() -> None:
    text = "callers: [{tenant: acme, keys: [{id: a, key: {env: KEY}}]}]\n"

    assert [False, True] == [read(text + more).has_limits for more in ("", "limiter: {runs: true}\n")]

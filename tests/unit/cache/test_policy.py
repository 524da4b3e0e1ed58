"""What may be cached, for how long, and what callers may say of it."""

import pytest

from edge_extproc.cache.policy import (
    CacheDirectives,
    CachePolicies,
    CachePolicy,
    is_clean,
    is_repeatable,
    read_directives,
)
from edge_extproc.errors import BadRequest
from edge_extproc.model.content import Opaque, Refusal, Text, Thinking, ToolCall
from edge_extproc.model.reply import Choice, Finish, Reply

RULES = CachePolicy()


def reply(*choices):
    return Reply("openai_chat", "id", "m", choices)


def choice(reason="stop", *parts):
    return Choice(parts or (Text("Hi"),), Finish(reason) if reason else None)


@pytest.mark.parametrize("reason", ["stop", "stop_sequence"])
def test_a_whole_reply_is_clean(reason):
    assert is_clean(reply(choice(reason), choice("stop", Thinking("hm"), Text("Hi"))), RULES)


@pytest.mark.parametrize(
    "reason", ["length", "context_window", "content_filter", "refusal", "pause", "malformed", "other", None]
)
def test_a_reply_that_was_cut_or_filtered_is_not(reason):
    assert not is_clean(reply(choice(reason)), RULES)
    assert not is_clean(reply(choice("stop"), choice(reason)), RULES)


def test_nothing_and_a_refusal_are_not():
    assert not is_clean(reply(), RULES)
    assert not is_clean(reply(Choice((), Finish("stop"))), RULES)
    assert not is_clean(reply(choice("stop", Refusal("No."))), RULES)


@pytest.mark.parametrize("part", [ToolCall("1", "f", "{}"), Opaque("anthropic_messages", "web_search_tool_result", {})])
def test_the_work_of_tools_is_kept_only_if_config_says_so(part):
    for reason in ("stop", "tool_calls"):
        assert not is_clean(reply(choice(reason, part)), RULES)
        assert is_clean(reply(choice(reason, part)), CachePolicy(tool_calls=True))


def test_calls_that_a_provider_may_answer_in_many_ways_are_asked_anew():
    assert is_repeatable(0, RULES, CacheDirectives())
    assert not is_repeatable(0.1, RULES, CacheDirectives())
    assert not is_repeatable(None, RULES, CacheDirectives())
    assert is_repeatable(0.7, CachePolicy(max_temperature=0.7), CacheDirectives())
    assert not is_repeatable(None, CachePolicy(max_temperature=0.7), CacheDirectives())
    assert is_repeatable(None, CachePolicy(max_temperature=2), CacheDirectives())
    assert is_repeatable(None, RULES, CacheDirectives(ttl=60))


@pytest.mark.parametrize(
    ("headers", "said"),
    [
        ((), CacheDirectives()),
        ((("cache-control", "no-cache"),), CacheDirectives(no_cache=True)),
        ((("cache-control", "No-Store"),), CacheDirectives(no_store=True)),
        ((("cache-control", 'private, max-age="60", foo=bar'),), CacheDirectives(max_age=60)),
        ((("cache-control", "max-age=0,"), ("cache-control", "no-cache")), CacheDirectives(no_cache=True, max_age=0)),
        ((("x-edge-cache-ttl", "60"), ("user-agent", "no-store")), CacheDirectives(ttl=60)),
        ((("x-edge-cache-ttl", "60"), ("cache-control", "no-cache")), CacheDirectives(no_cache=True, ttl=60)),
        ((("cache-control", ",,; what"),), CacheDirectives()),
    ],
)
def test_callers_say_what_they_want_in_headers(headers, said):
    assert said == read_directives(headers, 3600)


@pytest.mark.parametrize(
    "header",
    [
        ("x-edge-cache-ttl", "0"),
        ("x-edge-cache-ttl", "-1"),
        ("x-edge-cache-ttl", "5m"),
        ("x-edge-cache-ttl", "3601"),
        ("x-edge-cache-ttl", "٣"),
        ("cache-control", "max-age"),
        ("cache-control", "max-age=soon"),
    ],
)
def test_what_cannot_be_read_is_told(header):
    with pytest.raises(BadRequest, match="whole seconds"):
        read_directives((header,), 3600)


def test_rules_of_a_tenant_win_over_those_of_a_model_and_those_over_the_common_ones():
    policies = CachePolicies(
        CachePolicy(max_temperature=0.5),
        {"gpt-*": {"ttl": 10.0, "tool_calls": True}, "gpt-4*": {"ttl": 20.0}, "gpt-4o": {"ttl": 30.0}},
        {"acme": {"ttl": 40.0}},
    )

    assert (10.0, True, 0.5) == (
        policies.policy_for("umbrella", "gpt-3").ttl,
        policies.policy_for("umbrella", "gpt-3").tool_calls,
        policies.policy_for("umbrella", "gpt-3").max_temperature,
    )
    assert 20.0 == policies.policy_for("umbrella", "gpt-4").ttl
    assert 30.0 == policies.policy_for("umbrella", "gpt-4o").ttl
    assert (40.0, True) == (policies.policy_for("acme", "gpt-3").ttl, policies.policy_for("acme", "gpt-3").tool_calls)
    assert policies.policy_for("umbrella", "other").ttl is None


def test_off_wins_and_on_can_be_for_one():
    off_for_one = CachePolicies(CachePolicy(), {"a": {"enabled": False}}, {"acme": {"enabled": True}})
    on_for_one = CachePolicies(CachePolicy(enabled=False), {"a": {"enabled": True}}, {})

    assert not off_for_one.policy_for("acme", "a").enabled
    assert off_for_one.policy_for("acme", "b").enabled
    assert on_for_one.policy_for("acme", "a").enabled
    assert not on_for_one.policy_for("acme", "b").enabled


def test_names_that_callers_make_up_do_not_fill_memory():
    policies = CachePolicies(CachePolicy(), {}, {})
    for n in range(10_000):
        policies.policy_for("acme", f"model-{n}")

    assert len(policies._policies) <= 4096

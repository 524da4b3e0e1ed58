"""What makes two calls the same call, and what never does."""

import json

import hypothesis.strategies as st
import pytest
from every_dialect import EVERY_NAME
from hypothesis import assume, given

from edge_extproc import registry
from edge_extproc.cache.key import CacheKey, CacheOwner, CanonicalCall, key_of, of_body, of_chat
from edge_extproc.errors import BadRequest
from edge_extproc.model.plan import Candidate

DIALECTS = {name: registry.load("dialects", name) for name in registry.names("dialects")}
PATHS = {
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "anthropic_messages": "/v1/messages",
    "gemini_generate": "/v1beta/models/m:generateContent",
}
ROUTED = (Candidate("openai", "gpt-4o-mini"),)
ACME = CacheOwner("tenant", "acme")
HELLO = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}

# Every field that shapes an answer, with values of it that are not the same thing.
SHAPING = {
    "messages": [
        [{"role": "user", "content": "Hello"}],
        [{"role": "user", "content": "Hello!"}],
        [{"role": "system", "content": "Hello"}],
        [{"role": "user", "content": [{"type": "text", "text": "Hello"}]}, {"role": "user", "content": "there"}],
        [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/1.png"}}]}],
        [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://a.example/2.png"}}]}],
    ],
    "temperature": [None, 0, 0.5, 1],
    "top_p": [None, 0.5, 0.9],
    "seed": [None, 0, 1, 2**63 + 1, 2**64 + 1, 2**64 + 2],
    "stop": [None, ["a"], ["b"], ["a", "b"]],
    "n": [None, 2, 3],
    "max_tokens": [None, 5, 6],
    "max_completion_tokens": [None, 5, 6],
    "presence_penalty": [None, 0.5, 1],
    "frequency_penalty": [None, 0.5, 1],
    "logprobs": [None, True],
    "top_logprobs": [None, 1, 2],
    "tool_choice": [None, "required", "none", {"type": "function", "function": {"name": "f"}}],
    "parallel_tool_calls": [None, False, True],
    "tools": [
        None,
        [{"type": "function", "function": {"name": "f"}}],
        [{"type": "function", "function": {"name": "g"}}],
        [{"type": "function", "function": {"name": "f", "description": "says"}}],
        [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
        [{"type": "function", "function": {"name": "f", "strict": True}}],
    ],
    "response_format": [
        None,
        {"type": "json_object"},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}},
        {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "array"}}},
    ],
    "reasoning_effort": [None, "low", "high"],
    "service_tier": [None, "flex"],
    "user": [None, "u1", "u2"],
    "logit_bias": [None, {"5": 1}, {"5": 2}],
    "something_new": [None, 1, "1", [1], {"a": 1}],
}
bodies = st.fixed_dictionaries({field: st.sampled_from(values) for field, values in SHAPING.items()})


def call(asked, dialect="openai_chat"):
    raw = asked if isinstance(asked, bytes) else json.dumps(asked).encode()
    return DIALECTS[dialect].read_call(raw, "chat", (), PATHS[dialect])


def without_null(fields):
    return {"model": "m", **{name: value for name, value in fields.items() if value is not None}}


def body_key(asked, owner=ACME, model="m", routed=ROUTED, headers=(), **more):
    shape = of_body(call(asked), headers, EVERY_NAME, **more)
    assert shape is not None
    return key_of(owner, model, routed, shape)


def chat_key(asked, dialect="openai_chat", owner=ACME, headers=(), **more):
    shape = of_chat(DIALECTS[dialect].read_chat(call(asked, dialect)), headers, EVERY_NAME, **more)
    assert shape is not None
    return key_of(owner, "m", ROUTED, shape)


# --- what differs


@pytest.mark.parametrize("key", [body_key, chat_key])
@pytest.mark.parametrize("field", SHAPING)
def test_every_value_of_every_field_that_shapes_an_answer_has_a_key_of_its_own(field, key):
    asked = [without_null({**HELLO, field: value}) for value in SHAPING[field]]

    assert len(asked) == len({key(each).digest for each in asked})


@given(bodies, bodies)
def test_calls_that_differ_in_any_field_have_different_keys(one, other):
    assume(one != other)

    assert body_key(without_null(one)) != body_key(without_null(other))


@given(bodies, st.sampled_from(sorted(SHAPING)), st.data())
def test_changing_one_field_changes_the_key_of_the_conversation(asked, field, data):
    assume(asked["n"] is None or field != "n")
    other = data.draw(st.sampled_from([v for v in SHAPING[field] if v != asked[field]]))
    one, two = without_null(asked), without_null({**asked, field: other})
    try:
        first, second = chat_key(one), chat_key(two)
    except BadRequest:
        return

    # Two spellings of one limit: the conversation has one.
    if field in ("max_tokens", "max_completion_tokens") and asked["max_tokens"] and asked["max_completion_tokens"]:
        return
    assert first != second


@given(st.text(min_size=1), st.text(min_size=1), st.text(), st.text(), st.sampled_from(["tenant", "team"]))
def test_two_tenants_never_share_unless_config_says_so(one, other, team, other_team, sharing):
    assume(one != other)

    shape = CanonicalCall(b"[]", None)
    assert key_of(CacheOwner(sharing, one, team), "m", ROUTED, shape) != key_of(
        CacheOwner(sharing, other, team), "m", ROUTED, shape
    )
    assert CacheOwner(sharing, one, team).name != CacheOwner(sharing, other, other_team).name
    mine = key_of(CacheOwner(sharing, one, team), "m", ROUTED, shape)
    assert mine.belongs_to(one)
    assert not mine.belongs_to(other)


def test_sharing_is_by_team_by_tenant_or_with_all():
    def name(sharing, tenant, team):
        return CacheOwner(sharing, tenant, team).name

    assert name("team", "acme", "a") != name("team", "acme", "b")
    assert name("team", "acme/a", "b") != name("team", "acme", "a/b")
    assert name("tenant", "acme", "a") == name("tenant", "acme", "b")
    assert name("tenant", "acme", "a") != name("team", "acme", "a")
    assert name("global", "acme", "a") == name("global", "umbrella", "b")
    assert name("global", "acme", "") != name("tenant", "global", "")


def test_there_is_no_key_without_a_tenant():
    with pytest.raises(ValueError, match="the tenant must not be empty"):
        CacheOwner("global", "")
    with pytest.raises(TypeError):
        CacheOwner("tenant")


def test_what_a_model_stands_for_is_part_of_the_key():
    now = (Candidate("openai", "gpt-5"),)
    both = (*ROUTED, Candidate("anthropic", "claude"))

    assert 4 == len(
        {body_key(HELLO, model=m, routed=r) for m, r in (("m", ROUTED), ("m", now), ("m", both), ("n", now))}
    )


def test_headers_that_switch_features_on_are_part_of_the_key():
    plain, thinking = (), (("anthropic-beta", "interleaved-thinking-2025-05-14"),)

    assert body_key(HELLO, headers=plain) != body_key(HELLO, headers=thinking)
    assert chat_key(HELLO, headers=plain) != chat_key(HELLO, headers=thinking)
    assert body_key(HELLO, headers=plain) == body_key(HELLO, headers=(("user-agent", "curl"),))


def test_the_same_words_in_another_dialect_are_another_body():
    asked = {**HELLO, "max_tokens": 5}
    shapes = {of_body(call(asked, dialect), (), EVERY_NAME).text for dialect in ("openai_chat", "anthropic_messages")}

    assert 2 == len(shapes)


def test_numbers_beyond_64_bits_are_told_apart():
    assert body_key({**HELLO, "seed": 2**70}) != body_key({**HELLO, "seed": 2**70 + 1})


# --- what does not


def spellings(value):
    return st.sampled_from(
        [
            json.dumps(value),
            json.dumps(value, indent=3),
            json.dumps(value, ensure_ascii=False),
            json.dumps(value, separators=(",", ":")),
            "\n\t " + json.dumps(value) + " \r\n",
        ]
    )


def shuffled(value, random):
    if isinstance(value, dict):
        items = [(name, shuffled(inner, random)) for name, inner in value.items()]
        random.shuffle(items)
        return dict(items)
    return [shuffled(inner, random) for inner in value] if isinstance(value, list) else value


@given(bodies, st.text(alphabet=st.characters(codec="utf-8"), max_size=5), st.randoms(use_true_random=False), st.data())
def test_the_spelling_of_json_and_the_order_of_keys_do_not_matter(asked, word, random, data):
    asked = without_null({**asked, "messages": [{"role": "user", "content": "H" + word}]})
    spelled = data.draw(spellings(shuffled(asked, random)))

    assert body_key(asked) == body_key(spelled.encode())


def test_the_spelling_of_numbers_does_not_matter():
    asked = json.dumps({**HELLO, "temperature": 0.5, "top_p": 1}).encode()
    spelled = asked.replace(b"0.5", b"5E-1").replace(b'"top_p": 1', b'"top_p": 1.0')

    assert asked != spelled
    assert body_key(asked) == body_key(spelled)


@pytest.mark.parametrize("key", [body_key, chat_key])
def test_how_the_reply_comes_does_not_matter(key):
    assert key(HELLO) == key({**HELLO, "stream": True, "stream_options": {"include_usage": True}})


@pytest.mark.parametrize("key", [body_key, chat_key])
def test_a_field_that_config_ignores_does_not_matter(key):
    ignore = frozenset({"user", "logit_bias"})
    asked = {**HELLO, "user": "u1", "logit_bias": {"5": 1}}

    assert key(asked, ignore=ignore) == key({**HELLO, "user": "u2"}, ignore=ignore)
    assert key(asked) != key({**HELLO, "user": "u2"})


def test_the_same_chat_in_two_dialects_has_one_key():
    openai = {
        "model": "m",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}],
        "max_tokens": 100,
        "temperature": 0,
        "stop": ["END"],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}],
    }
    anthropic = {
        "model": "m",
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hello"}],
        "max_tokens": 100,
        "temperature": 0.0,
        "stop_sequences": ["END"],
        "tools": [{"name": "f", "input_schema": {"type": "object"}}],
    }

    assert chat_key(openai) == chat_key(anthropic, "anthropic_messages", headers=(("anthropic-version", "2023-06-01"),))
    assert chat_key(openai) != chat_key({**anthropic, "top_k": 5}, "anthropic_messages")


def test_what_only_one_dialect_knows_ties_the_key_to_it():
    openai = {**HELLO, "max_tokens": 100, "something": 1}
    anthropic = {**HELLO, "max_tokens": 100, "something": 1}

    assert chat_key(openai) != chat_key(anthropic, "anthropic_messages")


# --- what has no key at all


@pytest.mark.parametrize(
    "asked",
    [
        {"model": "m", "input": "Hello", "previous_response_id": "resp_1"},
        {"model": "m", "input": "Hello", "conversation": "conv_1"},
        {"model": "m", "input": "Hello", "background": True},
    ],
)
def test_a_call_that_leans_on_what_lies_at_its_provider_has_no_key(asked):
    said = call(asked, "openai_responses")

    assert of_body(said, (), EVERY_NAME) is None
    assert of_chat(DIALECTS["openai_responses"].read_chat(said), (), EVERY_NAME) is None


@pytest.mark.parametrize(
    "raw", [b'{"model":"m","a":"\\ud800"}', b'{"model":"m","a":' + b"[" * 3000 + b"]" * 3000 + b"}"]
)
def test_what_cannot_be_read_has_no_key(raw):
    said = call(HELLO)
    said = type(said)(said.dialect, "chat", "m", stream=False, raw=raw)

    assert of_body(said, (), EVERY_NAME) is None


def test_temperature_is_found_where_each_dialect_keeps_it():
    gemini = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}], "generationConfig": {"temperature": 0.25}}

    assert 0.25 == of_body(call({**HELLO, "temperature": 0.25}), (), EVERY_NAME).temperature
    assert 0.25 == of_body(call(gemini, "gemini_generate"), (), EVERY_NAME).temperature
    assert of_body(call(HELLO), (), EVERY_NAME).temperature is None


def test_a_key_shows_no_word_of_what_was_asked():
    assert "Hello" not in repr(body_key(HELLO))
    assert 32 == len(body_key(HELLO).digest)
    assert isinstance(body_key(HELLO), CacheKey)

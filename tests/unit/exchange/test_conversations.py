"""A conversation survives each change of its provider: for each caller's format, each provider of one turn and each
provider of the next one, no provider refuses the request that it gets.

The replies are in the shape of the provider (whole and streamed), are written for the caller as the exchange writes
them, and come back in the caller's history. What a provider refuses is in `request_validators.py`.
"""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from answering_hosts import HOSTS, Turn, answer, streamed
from callers_paths import leads_somewhere
from calling_clients import After, Settings, has_content, kept, next_request
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from thoroughness import LEAST, examples

from edge_extproc.dialects.base import Dialect
from edge_extproc.exchange.adapt import Adapted, adapt
from edge_extproc.exchange.parsed_call import ParsedCall
from edge_extproc.exchange.relay import CrossRelay, RawRelay
from edge_extproc.exchange.reply_calls import ReplyCalls
from edge_extproc.model.plan import Candidate
from edge_extproc.registry import load, names

Json = dict[str, Any]
DIALECTS: dict[str, Dialect] = {name: load("dialects", name) for name in names("dialects")}
CALLERS = sorted(DIALECTS)
PROVIDERS = {name: host.provider(name) for name, host in HOSTS.items()}
DOCUMENTED = Path(__file__).parents[3] / "docs" / "translation" / "README.md"
TRIPLES = list(itertools.product(CALLERS, HOSTS, HOSTS))

TOOLS = ("weather", "news")
# Names that the caller's own provider takes, and others refuse.
LONG = "mcp__files__" + "read_" * 13
OWN_NAMES = {"gemini_generate": ("mcp.files:read", "news"), "anthropic_messages": ("weather", LONG)}
TURNS = st.builds(
    Turn,
    thinking=st.sampled_from(["", "let me think"]),
    redacted=st.booleans(),
    text=st.sampled_from(["", "I look it up.", " \n"]),
    calls=st.lists(st.sampled_from(TOOLS), max_size=3).map(tuple),
    arguments=st.sampled_from(['{"city": "Rome"}', "", "{}"]),
    repeats_ids=st.booleans(),
    picture=st.booleans(),
    refusal=st.booleans(),
    search=st.booleans(),
    cut=st.booleans(),
    cut_call=st.booleans(),
    cited=st.booleans(),
)
AFTER = st.builds(
    After,
    st.sampled_from(["text", "object", "empty", "error", "picture"]),
    reverse=st.booleans(),
    text=st.booleans(),
    system=st.sampled_from(["", "", "system", "developer"]),
)
# A caller without some results, and no text within them: a format has no place for it.
INTERRUPTED = st.builds(After, missing=st.sampled_from(["last", "all"]))
SETTINGS = st.builds(
    Settings,
    thinks=st.booleans(),
    user=st.sampled_from(["", "u1", "user-0001", "u" * 100, "u" * 186]),
    marks=st.booleans(),
    strict=st.booleans(),
    tools=st.just(TOOLS),
)
Conversation = list[tuple[Turn, After]]


def call_of(caller: str, body: Json, path: str) -> ParsedCall:
    dialect = DIALECTS[caller]
    call = dialect.read_call(json.dumps(body).encode(), "chat", ((":path", path),), path.partition("?")[0])
    return ParsedCall(call, dialect, None)


def candidate_of(name: str) -> Candidate:
    return Candidate(name, HOSTS[name].model, HOSTS[name].dialect)


def asked(parsed: ParsedCall, name: str) -> Adapted:
    """The request that this host gets."""
    return adapt(parsed, candidate_of(name), DIALECTS, PROVIDERS, {})


def offered(dialect: str, body: Json) -> list[str]:
    """The names of the tools that a request offers."""
    match dialect:
        case "openai_chat":
            return [tool["function"]["name"] for tool in body["tools"]]
        case "gemini_generate":
            return [each["name"] for tool in body["tools"] for each in tool["functionDeclarations"]]
        case "bedrock_converse":
            return [tool["toolSpec"]["name"] for tool in body["toolConfig"]["tools"] if "toolSpec" in tool]
        case _:
            return [tool["name"] for tool in body["tools"]]


def called(caller: str, reply: Json) -> list[str]:
    """The names of the tools that a kept reply calls."""
    match caller:
        case "openai_chat":
            calls = reply["choices"][0]["message"].get("tool_calls") or ()
            return [call["function"]["name"] for call in calls]
        case "openai_responses":
            return [item["name"] for item in reply["output"] if item["type"] == "function_call"]
        case "anthropic_messages":
            return [block["name"] for block in reply["content"] if block["type"] == "tool_use"]
        case "gemini_generate":
            parts = reply["candidates"][0]["content"].get("parts") or ()
            return [part["functionCall"]["name"] for part in parts if "functionCall" in part]
        case _:
            blocks = reply["output"]["message"]["content"]
            return [block["toolUse"]["name"] for block in blocks if "toolUse" in block]


def answered(parsed: ParsedCall, name: str, turn: Turn, number: int) -> Json:
    """The reply of this host, as the caller keeps it."""
    call = parsed.call
    adapted = asked(parsed, name)
    upstream, caller = DIALECTS[adapted.dialect], DIALECTS[call.dialect]
    known = dict(zip(TOOLS, offered(upstream.name, json.loads(adapted.request.body)), strict=True))
    turn = replace(turn, calls=tuple(known[each] for each in turn.calls))
    whole = answer(HOSTS[name], upstream.name, turn, number)
    if call.stream:
        reader, writer = upstream.reader(upstream.stream_type), caller.writer(call)
        same = upstream.name == caller.name
        named = (f"request-{number}", HOSTS[name].model)
        relay = (
            RawRelay(reader, writer, hide_usage=False, chat=True)
            if same
            else CrossRelay(reader, writer, named=named, calls=ReplyCalls(parsed))
        )
        wire = streamed(upstream.name, whole)
        out = b"".join(relay.feed(wire[at : at + 1000]) for at in range(0, len(wire), 1000)) + relay.close()
        return kept(caller.name, out, stream=True)
    body = json.dumps(whole).encode()
    if upstream.name != caller.name:
        reply = ReplyCalls(parsed).reply(upstream.read_reply(body))
        body = caller.write_reply(replace(reply, id=reply.id or f"request-{number}", call=call))
    return kept(caller.name, body, stream=False)


def refused(name: str, adapted: Adapted) -> list[str]:
    """Why this host refuses a request."""
    return HOSTS[name].validators[adapted.dialect](json.loads(adapted.request.body))


def converse(caller: str, turns: list[tuple[str, Turn, After]], options: Settings, *, stream: bool) -> ParsedCall:
    """The request after these turns, each with the host that answers it."""
    history: list[tuple[Json, After]] = []
    options = replace(options, tools=OWN_NAMES.get(caller, TOOLS))
    parsed = call_of(caller, *next_request(caller, history, options, stream=stream))
    for number, (name, turn, after) in enumerate(turns):
        reply = answered(parsed, name, turn, number)
        assert set(called(caller, reply)) <= set(options.tools)
        if has_content(caller, reply):
            history.append((reply, after))
        parsed = call_of(caller, *next_request(caller, history, options, stream=stream))
    return parsed


@pytest.mark.parametrize("second", HOSTS)
@pytest.mark.parametrize("caller", CALLERS)
@settings(max_examples=examples(12) // LEAST, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    turns=st.lists(st.tuples(TURNS, AFTER), min_size=1, max_size=3),
    options=SETTINGS,
    stream=st.booleans(),
)
def test_no_provider_refuses_what_another_one_said(
    caller: str, second: str, turns: Conversation, options: Settings, stream: bool
) -> None:
    """The turns alternate between the two providers, and the second one gets the last request. Each example is run with
    every provider of the first turn."""
    for first in HOSTS:
        hosts = itertools.cycle((first, second))
        parsed = converse(caller, [(next(hosts), *each) for each in turns], options, stream=stream)
        adapted, body = asked(parsed, second), json.loads(parsed.call.raw)

        assert (first, []) == (first, refused(second, adapted))
        assert (first, []) == (first, [name for name in adapted.dropped if not leads_somewhere(name, body)])


@pytest.mark.parametrize("second", HOSTS)
@pytest.mark.parametrize("caller", CALLERS)
@settings(max_examples=examples(12) // LEAST, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    turns=st.lists(st.tuples(TURNS, AFTER | INTERRUPTED), min_size=1, max_size=3),
    options=SETTINGS,
    stream=st.booleans(),
)
def test_no_provider_of_another_format_refuses_a_history_without_results(
    caller: str, second: str, turns: Conversation, options: Settings, stream: bool
) -> None:
    for first in HOSTS:
        parsed = converse(caller, [(first, *each) for each in turns], options, stream=stream)
        adapted, body = asked(parsed, second), json.loads(parsed.call.raw)

        if adapted.lane == "cross":  # a provider of the caller's own format reports the caller's mistake
            assert (first, []) == (first, refused(second, adapted))
        assert (first, []) == (first, [name for name in adapted.dropped if not leads_somewhere(name, body)])


@pytest.mark.parametrize("missing", ["last", "all"])
@pytest.mark.parametrize("caller", CALLERS)
def test_a_call_without_a_result_has_one_at_a_provider_of_another_format(caller: str, missing: Any) -> None:
    turn = Turn(calls=TOOLS)
    for second in HOSTS:
        turns = [("deepseek", turn, After(missing=missing)), ("deepseek", Turn(text="Good."), After())]
        for count in (1, 2):
            adapted = asked(converse(caller, turns[:count], Settings(tools=TOOLS), stream=False), second)

            if adapted.lane == "cross":
                assert (second, []) == (second, refused(second, adapted))
                assert (1 if missing == "last" else 2) == adapted.request.body.count(b"No result of this call")


@pytest.mark.parametrize("caller", CALLERS)
def test_a_switch_within_a_failover_makes_the_same_request(caller: str) -> None:
    """An attempt is made of the call alone, whatever was tried before it: all hosts in turn, then backwards."""
    turn = Turn("let me think", text="It is warm.", calls=TOOLS, picture=True, refusal=True, search=True)
    for first in HOSTS:
        parsed = converse(caller, [(first, turn, After("picture"))], Settings(tools=TOOLS), stream=False)
        once = {name: asked(parsed, name) for name in HOSTS}
        again = {name: asked(parsed, name) for name in reversed(HOSTS)}

        assert once == again
        assert once == {name: asked(ParsedCall(parsed.call, DIALECTS[caller], None), name) for name in HOSTS}
        assert {} == {name: found for name, each in once.items() if (found := refused(name, each))}


def test_no_triple_is_missing() -> None:
    """Every kind of provider answers and is asked, for each caller's format, on both lanes of each format."""
    kinds = {host.kind for host in HOSTS.values()}
    lanes = {
        (adapted.dialect, adapted.lane)
        for caller in CALLERS
        for name in HOSTS
        if (adapted := asked(call_of(caller, *next_request(caller, [], Settings())), name))
    }

    assert set(names("providers")) == kinds
    assert set(itertools.product(DIALECTS, ("raw", "cross"))) == lanes
    assert len(CALLERS) * len(HOSTS) ** 2 == len(TRIPLES)
    said = f"{len(TRIPLES):,} ordered triples ({len(CALLERS)} callers' formats, {len(HOSTS)} × {len(HOSTS)} providers)"
    assert said in DOCUMENTED.read_text("utf-8")

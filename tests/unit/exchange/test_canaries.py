"""Canaries: credentials and personal data in each place of a call, in each caller's format, to each kind of provider.

With the default options, none reaches a provider, and the caller gets each one back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from calls_with_secrets import CALLS, FORMATS_OF_CALLERS
from cells import each_cell
from guarded_kit import sent, short_deltas
from guarding import guardrails, rule
from player import DIALECTS, MODELS, Stage, answered, body, chunks, headers, planner, provider, talk, whole

from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse, Pass
from edge_extproc.exchange.events import ResponseBody
from edge_extproc.exchange.response_bodies import read_stream
from edge_extproc.guardrails.detectors import credentials, pii
from edge_extproc.model.content import Text, ToolCall
from edge_extproc.model.plan import Candidate
from edge_extproc.model.reply import Choice, Finish, Reply, fold, unfold
from edge_extproc.model.usage import Usage
from edge_extproc.routing.base import ModelTable

# Divided, because hosts of source code refuse what looks like a token. They belong to nobody.
CANARIES = (
    "AKIA" + "QYLPMN5HFIQR7XYZ",
    "ghp" + "_zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ0mLq17",
    "4111 1111 1111 1111",
    "jane.doe@canary.example",
    "123-45-6789",
)
TEXT = "Here: " + " and ".join(CANARIES) + "."
PROVIDERS = {
    "openai": "gpt-4o-mini",
    "anthropic": "claude-haiku-4-5",
    "google": "gemini-2.5-flash",
    "bedrock": "amazon.nova-lite-v1:0",
    "azure": "gpt-4o-mini",
}
UPSTREAM = {
    "completions": "openai_chat",
    "responses": "openai_responses",
    "messages": "anthropic_messages",
    "converse": "bedrock_converse",
    "converse-stream": "bedrock_converse",
}
PLACEHOLDER = re.compile(r"[A-Z][A-Z_]*_[bcdfghjkmnpqrstv]{12}")
CELLS = [(path, to, place) for path in sorted(FORMATS_OF_CALLERS) for to in PROVIDERS for place in sorted(CALLS)]
EACH = each_cell(("path", "to", "place"), CELLS, ids=["-".join((p.strip("/"), *more)) for p, *more in CELLS], parts=5)
DETECTORS = {
    "credentials": credentials.PLUGIN.build(credentials.CredentialsOptions()),
    "pii": pii.PLUGIN.build(pii.PiiOptions()),
}


def stage_of(action: Any) -> Stage:
    rules = [rule(action, name=name, detector=detector) for name, detector in DETECTORS.items()]
    table = ModelTable({**MODELS, **{name: [Candidate(name, model)] for name, model in PROVIDERS.items()}})
    return Stage().having(
        guardrails=guardrails(*rules),
        models=table,
        planner=planner(table),
        providers={name: provider(name) for name in PROVIDERS},
        clusters={name: f"provider_{name}" for name in PROVIDERS},
    )


def call_of(path: str, to: str, place: str, *, stream: bool = False) -> tuple[str, dict[str, Any]]:
    call = json.loads(json.dumps(CALLS[place][path]).replace("SECRET", TEXT).replace("MODEL", to))
    where = path.replace("MODEL", to)
    if stream and "generateContent" in path:
        return where.replace(":generateContent", ":streamGenerateContent?alt=sse"), call
    if stream and path.endswith("converse"):
        return f"{where}-stream", call
    return where, {**call, "stream": True} if stream else call


def texts_of(found: Any) -> str:
    text, tool_call = found.choices[0].parts
    assert isinstance(text, Text)
    assert isinstance(tool_call, ToolCall)
    return text.text + json.dumps(json.loads(tool_call.arguments))


@EACH
@pytest.mark.parametrize("stream", [False, True])
def test_no_canary_goes_up_and_each_one_comes_back(path: str, to: str, place: str, stream: bool) -> None:
    stage = stage_of("mask")
    where, call = call_of(path, to, place, stream=stream)
    exchange = stage.exchange()
    up = talk(exchange, headers(where), body(call))[-1]
    assert isinstance(up, Continue), up
    raw = (up.body or b"").decode()
    assert [each for each in CANARIES if each in raw] == []
    names = list(dict.fromkeys(PLACEHOLDER.findall(raw)))
    assert len(names) == len(CANARIES), raw

    up_path = dict(up.set_headers)[":path"]
    of = DIALECTS[UPSTREAM.get(up_path.partition("?")[0].rpartition("/")[2], "gemini_generate")]
    parts = (Text(f"They are {', '.join(names)}."), ToolCall("call_1", "f", json.dumps({"x": names})))
    reply = Reply(of.name, "id_1", "m", (Choice(parts, Finish("tool_calls")),), Usage(input=7, output=5), 1)
    commands: list[Command]
    if stream:
        writer = of.writer(of.read_call(raw.encode(), "chat", [(":path", up_path)], up_path.partition("?")[0]))
        out = b"".join(writer.write(event) for event in short_deltas(unfold(reply)))
        events: Sequence[ResponseBody] = chunks(*(out[start : start + 7] for start in range(0, len(out), 7)))
        commands = talk(exchange, answered(content_type=of.stream_type), *events)[1:]
    else:
        events = [whole(of.write_reply(reply))]
        commands = talk(exchange, answered(), *events)[1:]
    exchange.closed("done")

    got = sent(events, commands)
    assert PLACEHOLDER.search(got.decode("latin-1")) is None
    caller = exchange._caller_dialect
    shown = texts_of(fold(caller.name, read_stream(caller, got)) if stream else caller.read_reply(got))
    assert [each for each in CANARIES if shown.count(each) != 2] == []
    assert stage.bugs == []
    assert [each for each in CANARIES if each in repr(stage.settled)] == []


@EACH
def test_a_canary_that_a_rule_blocks_goes_nowhere(path: str, to: str, place: str) -> None:
    stage = stage_of("block")
    where, call = call_of(path, to, place)
    exchange = stage.exchange()
    refused = talk(exchange, headers(where), body(call))[-1]
    exchange.closed("done")

    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 400
    assert [each for each in CANARIES if each in refused.body.decode() + repr(stage.settled)] == []


@pytest.mark.parametrize("path", sorted(FORMATS_OF_CALLERS))
@pytest.mark.parametrize("to", sorted(PROVIDERS))
def test_a_canary_of_the_model_is_masked_in_a_stream_cut_anywhere(path: str, to: str) -> None:
    rules = [
        rule("mask", name=name, detector=detector, directions=frozenset({"reply"}))
        for name, detector in DETECTORS.items()
    ]
    stage = stage_of("flag").having(guardrails=guardrails(*rules))
    where, call = call_of(path, to, "user", stream=True)
    for size in (1, 13):
        exchange = stage.exchange()
        up = talk(exchange, headers(where), body(call))[-1]
        assert isinstance(up, Continue)
        up_path = dict(up.set_headers)[":path"]
        of = DIALECTS[UPSTREAM.get(up_path.partition("?")[0].rpartition("/")[2], "gemini_generate")]
        reply = Reply(of.name, "id_1", "m", (Choice((Text(TEXT),), Finish("stop")),), Usage(input=7, output=5), 1)
        writer = of.writer(of.read_call(up.body or b"{}", "chat", [(":path", up_path)], up_path.partition("?")[0]))
        out = b"".join(writer.write(event) for event in short_deltas(unfold(reply)))
        events = chunks(*(out[start : start + size] for start in range(0, len(out), size)))
        _, *commands = talk(exchange, answered(content_type=of.stream_type), *events)
        exchange.closed("done")

        assert all(isinstance(command, Continue | Pass) for command in commands)
        got = sent(events, commands)
        caller = exchange._caller_dialect
        (text,) = fold(caller.name, read_stream(caller, got)).choices[0].parts
        assert isinstance(text, Text)
        assert len(PLACEHOLDER.findall(text.text)) == len(CANARIES)
        assert [each for each in CANARIES if each in text.text] == []

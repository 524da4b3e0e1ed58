"""In which wire format each candidate is asked, and what a host may have wrapped around the answer."""

import json
from dataclasses import dataclass, replace

import pytest
from player import Stage, answered, body, chunks, headers, provider, talk

from edge_extproc.errors import Unsupported, UpstreamError
from edge_extproc.exchange.adapt import format_of
from edge_extproc.model.call import Call
from edge_extproc.model.plan import Candidate
from edge_extproc.routing.base import ModelTable


def call(dialect, operation="chat"):
    return Call(dialect, operation, "m", False, b"{}")


def test_the_callers_own_format_wins_where_the_host_speaks_it():
    openai, candidate = provider("openai"), Candidate("openai", "gpt")

    assert "openai_responses" == format_of(call("openai_responses"), candidate, openai)
    assert "openai_chat" == format_of(call("openai_chat"), candidate, openai)


def test_the_hosts_first_format_is_for_all_others():
    assert "openai_chat" == format_of(call("anthropic_messages"), Candidate("openai", "gpt"), provider("openai"))


def test_config_may_demand_a_format():
    candidate = Candidate("openai", "gpt", "openai_responses")

    assert "openai_responses" == format_of(call("openai_chat"), candidate, provider("openai"))


def test_a_host_that_takes_no_such_call_says_so():
    with pytest.raises(Unsupported, match="count_tokens of 'm' cannot be sent to a provider that uses openai"):
        format_of(call("anthropic_messages", "count_tokens"), Candidate("openai", "gpt"), provider("openai"))


def test_chat_can_be_sent_as_responses():
    stage = Stage()
    stage.having(models=ModelTable({"m": [Candidate("openai", "gpt-5", "openai_responses")]}))
    asked = body({"model": "m", "messages": [{"role": "user", "content": "Hello"}]})
    commands = talk(stage.exchange(), headers(), asked)

    assert "/v1/responses" == dict(commands[1].set_headers)[":path"]
    assert "gpt-5" == json.loads(commands[1].body)["model"]
    assert "input" in json.loads(commands[1].body)


def test_betas_are_read_from_all_lines_of_the_header_without_repeats():
    read = Stage().gateway.dialects["anthropic_messages"].read_call
    lines = [("anthropic-beta", "a-1, b-2"), ("x", "y"), ("anthropic-beta", " b-2,c-3,, ")]

    assert ("a-1", "b-2", "c-3") == read(b'{"model":"m"}', "chat", lines, "/v1/messages").betas


# --- a host with a framing of its own


class Hexed:
    """A framing for these tests: hexadecimal digits, and a dot at the end."""

    def __init__(self):
        self._ended = False

    def feed(self, data):
        if (self._ended and data) or not set(data) <= set(b"0123456789abcdef."):
            raise UpstreamError("the provider's framing is broken")
        self._ended = self._ended or data.endswith(b".")
        return bytes.fromhex(data.rstrip(b".").decode())

    def close(self):
        if not self._ended:
            raise UpstreamError("the provider's stream ends within a frame")
        return b""


@dataclass
class HexedHost:
    """A host that speaks like another one, within a framing of its own."""

    host: object

    def __getattr__(self, name):
        return getattr(self.host, name)

    def unframe(self, dialect, content_type):
        return Hexed() if content_type == "application/hex" else None


STREAM = (
    b'data: {"id":"c1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{"index":0,'
    b'"delta":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)


@pytest.fixture
def framed():
    stage = Stage()
    providers = {**stage.gateway.providers, "openai": HexedHost(provider("openai"))}
    return stage.having(providers=providers)


def say(stage, path, *parts, stream=True):
    exchange = stage.exchange()
    asks = body(
        {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 5, "stream": stream}
    )
    commands = talk(exchange, headers(path), asks, answered(content_type="application/hex"), *parts)
    exchange.closed("done")
    return commands, stage.settled[-1]


def test_a_hosts_framing_is_taken_off_and_the_rest_passes_as_it_is(framed):
    commands, settled = say(framed, "/v1/chat/completions", *chunks(STREAM.hex().encode(), b"."))

    assert ("content-type", "text/event-stream") in commands[2].set_headers
    assert STREAM == b"".join(command.body or b"" for command in commands[3:])
    assert ("ok", "raw") == (settled.outcome, settled.lane)


def test_a_hosts_framing_is_taken_off_before_a_stream_crosses(framed):
    commands, settled = say(framed, "/v1/messages", *chunks(STREAM.hex().encode() + b"."))

    assert commands[3].body.startswith(b"event: message_start")
    assert ("ok", "cross", "stop") == (settled.outcome, settled.lane, settled.finish)


@pytest.mark.parametrize("parts", [(STREAM.hex().encode(),), (STREAM[:20].hex().encode(), b"no hex")])
def test_a_torn_framing_ends_in_an_error(framed, parts):
    commands, settled = say(framed, "/v1/chat/completions", *chunks(*parts))
    told = b"".join(command.body or b"" for command in commands[3:])

    assert b'"error"' in told
    assert "broken_stream" == settled.outcome


def test_a_framed_stream_that_nobody_asked_for_is_folded(framed):
    last = chunks(STREAM.hex().encode() + b".", end=False)[0]
    commands, settled = say(framed, "/v1/chat/completions", type(last)(last.body, True), stream=False)

    assert "Hi" == json.loads(commands[3].body)["choices"][0]["message"]["content"]
    assert "ok" == settled.outcome


# --- tools that a host of the caller's format does not know

CODEX = {"model": "m", "input": "Go.", "tools": [{"type": "custom", "name": "patch"}]}


@pytest.mark.parametrize(
    ("asked", "takes", "path"),
    [
        (CODEX, True, "/v1/responses"),
        (CODEX, False, "/v1/chat/completions"),
        ({**CODEX, "tools": [{"type": "function", "name": "patch"}]}, False, "/v1/responses"),
        ({**CODEX, "tools": [], "input": '"type":"custom"'}, False, "/v1/responses"),
    ],
)
def test_tools_that_a_host_of_responses_does_not_know_are_functions_of_its_chat_format(asked, takes, path):
    stage = Stage()
    openai = stage.gateway.providers["openai"]
    changed = replace(openai, profile=replace(openai.profile, callers_tools=takes))
    stage.having(providers={**stage.gateway.providers, "openai": changed})
    stage.having(models=ModelTable({"m": [Candidate("openai", "gpt-5")]}))
    commands = talk(stage.exchange(), headers("/v1/responses"), body(asked))

    assert path == dict(commands[1].set_headers)[":path"]

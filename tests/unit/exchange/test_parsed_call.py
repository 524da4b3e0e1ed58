"""A call is read once, and what each attempt dropped is recorded when its request is made."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import golden_files
import pytest
from crossings import read_call
from player import DIALECTS, FORMATS, MODELS, Stage, answered, body, headers, planner, provider, talk, tried, whole

from edge_extproc.errors import BadRequest
from edge_extproc.exchange.parsed_call import ParsedCall
from edge_extproc.exchange.path_router import PathRouter
from edge_extproc.model.plan import Candidate
from edge_extproc.routing.base import ModelTable

ASKED = {"model": "chat", "messages": [{"role": "user", "content": "Hello"}], "seed": 7}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "Hi"}],
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 3, "output_tokens": 2},
}
FOREIGN = [
    Candidate("anthropic", "claude-haiku-4-5"),
    Candidate("anthropic", "claude-sonnet-4-5"),
    Candidate("anthropic", "claude-opus-4-5"),
]


class Counted:
    """A dialect that counts how often it reads a chat."""

    def __init__(self, name: str = "openai_chat", error: Exception | None = None) -> None:
        self._dialect, self._error, self.read = DIALECTS[name], error, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dialect, name)

    def read_chat(self, call: Any) -> Any:
        self.read += 1
        if self._error is not None:
            raise self._error
        return self._dialect.read_chat(call)


def stage_with(dialect: Counted) -> Stage:
    dialects: Any = {**DIALECTS, "openai_chat": dialect}
    models = ModelTable({**MODELS, "chat": FOREIGN})
    return Stage().having(
        dialects=dialects, routes=PathRouter(dialects, FORMATS), models=models, planner=planner(models)
    )


def test_a_call_is_read_once_for_all_candidates_and_attempts() -> None:
    dialect = Counted()
    stage = stage_with(dialect)
    exchange = stage.exchange()
    talk(exchange, headers(), body(ASKED))
    for attempt in (2, 3):
        talk(stage.attempt(), tried(attempt, exchange.id))

    assert 1 == dialect.read


def test_a_body_that_cannot_be_read_is_read_once_too() -> None:
    dialect = Counted(error=BadRequest("no chat"))
    stage = stage_with(dialect)

    assert 400 == talk(stage.exchange(), headers(), body(ASKED))[-1].status  # type: ignore[union-attr]
    assert 1 == dialect.read


def test_a_call_that_was_forgotten_is_read_again() -> None:
    dialect: Any = Counted()
    parsed = ParsedCall(read_call("openai_chat", json.dumps(ASKED).encode(), "chat", stream=False), dialect, None)
    first = parsed.chat()
    parsed.forget()

    assert first == parsed.chat()
    assert 2 == dialect.read


def test_a_chat_has_no_question() -> None:
    parsed = ParsedCall(
        read_call("openai_chat", json.dumps(ASKED).encode(), "chat", stream=False), DIALECTS["openai_chat"], None
    )

    with pytest.raises(TypeError, match="chat"):
        parsed.question()


class CountedProvider:
    """A provider that counts the requests that it makes."""

    def __init__(self, kind: str) -> None:
        self._provider, self.made = provider(kind), 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._provider, name)

    def request(self, call: Any) -> Any:
        self.made += 1
        return self._provider.request(call)


def test_what_an_attempt_dropped_is_recorded_when_its_request_is_made() -> None:
    stage, anthropic = Stage(), CountedProvider("anthropic")
    stage.having(providers={**stage.gateway.providers, "anthropic": anthropic})
    exchange = stage.exchange()
    talk(exchange, headers(), body({**ASKED, "model": "both"}))
    talk(stage.attempt(), tried(2, exchange.id))
    made = anthropic.made
    command = talk(exchange, answered(attempt=2), whole(MESSAGE))[0]
    exchange.closed("done")

    assert "seed" in dict(command.set_headers)["x-edge-dropped"]  # type: ignore[union-attr]
    assert ("cross", True) == (stage.settled[0].lane, "seed" in stage.settled[0].dropped)
    assert made == anthropic.made


@pytest.mark.parametrize(("source", "case"), sorted({(source, case) for source, case, _ in golden_files.cases()}))
def test_no_target_changes_the_chat_that_it_writes(source: str, case: str) -> None:
    """Candidates of several dialects share one chat."""
    raw = (golden_files.GOLDEN / source / f"{case}.json").read_bytes()
    chat = DIALECTS[source].read_chat(read_call(source, raw, golden_files.MODELS[source], stream=False))
    before = repr(chat)
    for name in sorted(golden_files.MODELS):
        # A target may refuse the chat after it has read a part of it.
        with suppress(BadRequest):
            DIALECTS[name].write_chat(chat, golden_files.MODELS[name])

    assert before == repr(chat)

"""The plugins of this directory in a gateway in memory. tests/unit/test_plugins_from_outside.py runs this file, in a
process that finds them by their entry points."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import player
import pytest
from player import answered, body, chunks, headers, whole
from semantic_kit import SemanticEvents

from edge_extproc.auth.features import features_of
from edge_extproc.cache.semantic.questions import Question
from edge_extproc.config import load
from edge_extproc.errors import ConfigError
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.events import Event
from edge_extproc.exchange.open import OpenExchanges
from edge_extproc.exchange.router import RouterExchange
from edge_extproc.model.settlement import Settlement
from edge_extproc.providers.base import gen_ai_provider
from edge_extproc.providers.credentials.refresh import CredentialRefreshers
from edge_extproc.worker.wiring.gateway import build_gateway, metric_names
from edge_extproc.worker.wiring.semantic import build_semantic

KEY = "edge-key-of-the-tests"
CONFIG = (Path(__file__).parent / "edge.yaml").read_text()
HI = {"role": "user", "content": "Hi"}
SAID = {"model": "talk-1", "said": "Hello", "why": "stop", "in": 3, "out": 1}
CLAUDE_SAID = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5",
    "content": [{"type": "text", "text": "Hello"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}


def config_of(directory: Path, text: str) -> Any:
    path = directory / "edge.yaml"
    path.write_text(text)
    return load.load(path)


@pytest.fixture
def talk(tmp_path: Path) -> Any:
    """Plays Envoy: the commands for these events, and the settlement."""

    def play(*events: Event) -> tuple[list[Any], Settlement]:
        settled: list[Settlement] = []
        bugs: list[BaseException] = []
        prices = player.ADollarPerToken()
        gateway = build_gateway(config_of(tmp_path, CONFIG), prices, (settled.append,), bugs.append)
        exchange = RouterExchange(gateway, OpenExchanges())
        commands = player.talk(exchange, *events)
        exchange.closed("done")

        assert [] == bugs
        return commands, settled[0]

    return play


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("options: {room: blue}", "options: {rum: blue}", "kind example has no option 'rum'; have room"),
        (", options: {room: blue}", "", "options.room is missing"),
        ("api_key: openai-key", "api_key: openai-key, options: {room: red}", "kind openai has no option 'room'"),
        (
            "options: {ticket: t-1}",
            "options: {tickt: t-1}",
            "a credential of kind example_ticket has no tickt; have ticket",
        ),
        ("{kind: example_ticket, options: {ticket: t-1}}", "{kind: example_ticket}", "a ticket is missing"),
        ("kind: example_ticket", "kind: exmple_ticket", "no such kind of credential; have aws, azure, example_ticket"),
        ("{kind: example_ticket, ", "{kind: example_ticket, profile: p, ", "kind example_ticket has no profile"),
        ("strategy: last_first", "strategy: first_last", "no such strategy; have cheapest, failover, last_first"),
        ("kind: example", "kind: exmple", "no such kind of provider; have anthropic, azure, bedrock, example"),
        ("api: talk", "api: tlk", "kind example has no api 'tlk'; have talk"),
    ],
)
def test_a_mistake_in_its_settings_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in CONFIG
    with pytest.raises(ConfigError) as raised:
        config_of(tmp_path, CONFIG.replace(old, new))

    assert message in str(raised.value)


def test_bodies_are_searched_for_the_names_of_the_new_dialect(tmp_path: Path) -> None:
    gateway = build_gateway(config_of(tmp_path, CONFIG), player.ADollarPerToken(), (), lambda _: None)

    assert gateway.prompt_search.elsewhere.search(b'{"kept_talk": 1}')
    assert "images" in features_of(b'{"pictures": [1]}', gateway.wire_names)
    assert {"x-example-client", "anthropic-beta"} <= gateway.wire_names.headers


def test_a_caller_of_another_dialect_reaches_the_new_kind(talk: Any) -> None:
    asked = {"model": "talk", "messages": [HI], "seed": 1, "max_tokens": 9}
    (_, sent, _, back), settled = talk(headers(key=KEY), body(asked), answered(), whole(SAID))
    sent_headers, reply = dict(sent.set_headers), json.loads(back.body)

    wanted = {"model": "talk-1", "lines": [{"from": "user", "text": "Hi"}], "longest": 9}
    assert wanted == json.loads(sent.body)
    assert "/example/talk" == sent_headers[":path"]
    assert ("example-key", "blue") == (sent_headers["x-example-key"], sent_headers["x-example-room"])
    assert "Hello" == reply["choices"][0]["message"]["content"]
    assert (3, 1) == (reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"])
    assert ("openai_chat", "cross", ("seed",)) == (settled.dialect, settled.lane, settled.dropped)


def test_the_new_kind_of_credential_proves_who_asks(talk: Any) -> None:
    asked = {"model": "guest", "messages": [HI]}
    (_, sent, *_), _ = talk(headers(key=KEY), body(asked), answered(), whole(SAID))

    assert "t-1 /example/talk" == dict(sent.set_headers)["x-example-ticket"]
    assert "x-example-key" not in dict(sent.set_headers)


def test_a_stream_of_the_new_dialect_is_translated(talk: Any) -> None:
    asked = {"model": "talk", "messages": [HI], "stream": True}
    came = chunks(b'{"say":"Hel"}\n{"sa', b'y":"lo"}\n', b'{"why":"stop","in":3,"out":2}\n')
    opened = answered(content_type="application/x-ndjson")
    (_, _, command, *parts), settled = talk(headers(key=KEY), body(asked), opened, *came)
    text = b"".join(part.body or b"" for part in parts).decode()
    rows = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    deltas = [choice["delta"].get("content") or "" for row in rows[:-1] for choice in json.loads(row)["choices"]]

    assert dict(command.set_headers)["content-type"].startswith("text/event-stream")
    assert ("Hello", "[DONE]") == ("".join(deltas), rows[-1])
    assert ("ok", 5) == (settled.outcome, settled.usage.total)


def test_a_stream_of_the_new_dialect_that_breaks_never_looks_whole(talk: Any) -> None:
    asked = {"model": "talk", "messages": [HI], "stream": True}
    opened = answered(content_type="application/x-ndjson")
    (_, _, _, *parts), settled = talk(headers(key=KEY), body(asked), opened, *chunks(b'{"say":"Hel"}\n'))

    assert b"[DONE]" not in b"".join(part.body or b"" for part in parts)
    assert "ok" != settled.outcome


def test_a_caller_of_the_new_dialect_reaches_another_kind(talk: Any) -> None:
    asked = {"model": "claude", "lines": [{"from": "user", "text": "Hi"}], "mood": "calm"}
    (_, sent, _, back), settled = talk(headers("/example/talk", key=KEY), body(asked), answered(), whole(CLAUDE_SAID))
    written = json.loads(sent.body)

    assert ("claude-sonnet-4-5", "user") == (written["model"], written["messages"][0]["role"])
    assert ("Hello", 3, 1) == tuple(json.loads(back.body)[name] for name in ("said", "in", "out"))
    assert ("example_talk", "cross", ("mood",)) == (settled.dialect, settled.lane, settled.dropped)


def test_the_new_strategy_orders_and_the_callers_own_bytes_pass(talk: Any) -> None:
    """`chat` has the plugin's provider last, so the strategy puts it first."""
    asked = {"model": "chat", "lines": [{"from": "user", "text": "Hi"}], "mood": "calm"}
    (_, sent, _, back), settled = talk(headers("/example/talk", key=KEY), body(asked), answered(), whole(SAID))

    assert {**asked, "model": "talk-1"} == json.loads(sent.body)
    assert back.body in (None, json.dumps(SAID).encode())
    assert ("raw", "talker", "last_first") == (settled.lane, settled.plan.candidates[0].provider, settled.plan.strategy)


@pytest.mark.parametrize(
    ("path", "more", "wanted"),
    [
        ("/example/talk", (), "wrong"),
        ("/v1/models", (("x-example-client", "1"),), "wrong"),
        ("/v1/models", (), "error"),
    ],
)
def test_errors_are_in_the_new_dialect(talk: Any, path: str, more: Any, wanted: str) -> None:
    """Its path chooses it, and where a path is shared, the header that its clients send."""
    (refused,), _ = talk(headers(path, *more, key="a-wrong-key"))

    assert isinstance(refused, ImmediateResponse)
    assert 401 == refused.status
    assert wanted in json.loads(refused.body)


def test_an_error_that_is_marked_as_of_the_new_dialect_is_read_in_it(talk: Any) -> None:
    asked = {"model": "claude", "messages": [HI]}
    marked = answered(404, ("x-example-error", "1"))
    (*_, told), _ = talk(headers(key=KEY), body(asked), marked, whole({"wrong": "gone"}))

    assert isinstance(told, Continue)
    assert "gone" == json.loads(told.body or b"")["error"]["message"]


def test_metrics_and_traces_name_what_was_added(tmp_path: Path) -> None:
    config = config_of(tmp_path, CONFIG)

    assert "example_talk" in metric_names(config).dialects
    assert "example.talk" == gen_ai_provider(config.providers["talker"].kind, None)


def test_a_new_verifier_and_a_new_embedder_decide_on_similar_calls(tmp_path: Path) -> None:
    text = CONFIG + "cache: {semantic: {embedder: {example_letters: {letters: 30}}}}\n"
    settings = config_of(tmp_path, text).cache.semantic
    tier = build_semantic(
        settings, "a pepper", SemanticEvents(), CredentialRefreshers(lambda: 0.0, lambda *_: None), lambda _: None
    )

    assert "letters/30" == tier.embedder.identity
    verifier = tier.verifiers["example_ending"]
    assert verifier.agree(Question("Is it so?"), Question("Why?"))
    assert not verifier.agree(Question("Is it so?"), Question("It is so."))
    with pytest.raises(ConfigError, match="have example_letters, openai, static"):
        config_of(tmp_path, text.replace("example_letters", "letters"))

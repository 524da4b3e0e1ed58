"""What the comparison makes of its measurements. It measures nothing here."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench import agent_router, compare, growth, peers, proc, stand
from bench.compare import PLAIN, Measurement
from edge_extproc.config import load as config_load
from edge_extproc.envoy_config.validate import envoy_path, validate


def one(name: str, per_second: float, *, errors: int = 0, rate: float | None = None, cpu: float = 0.5) -> Measurement:
    return Measurement(name, 16, rate, per_second, 1.0, 2.0, errors, {"agent": cpu})


def test_a_ratio_compares_the_rounds_and_not_the_medians():
    ours, plain = (
        [one("ours", each) for each in (10.0, 40.0, 30.0)],
        [one(PLAIN, each) for each in (100.0, 200.0, 100.0)],
    )
    result = compare._median(ours, plain)

    assert pytest.approx(0.2) == result.of_plain
    assert 30.0 == result.per_second


def test_errors_add_up_and_cpu_is_the_median():
    rounds = [one("ours", 1.0, errors=1, cpu=0.4), one("ours", 1.0, errors=2, cpu=9.0), one("ours", 1.0, cpu=0.6)]
    result = compare._median(rounds, rounds)

    assert 3 == result.errors
    assert {"agent": 0.6} == result.cpu_ms


def test_a_fixed_rate_has_no_ratio():
    rounds = [one("ours", 300.0, rate=300.0)]

    assert compare._median(rounds, rounds).of_plain is None


def test_the_table_has_a_block_for_each_load():
    lines = compare.table([one(PLAIN, 100.0), one("ours", 10.0), one("ours", 300.0, rate=300.0)]).splitlines()

    assert "16 connections" == lines[0]
    assert "300 requests a second" in lines
    assert 2 * 2 + 3 + 1 == len(lines)


def test_the_cached_request_is_always_the_same(tmp_path: Path):
    target = compare._cached(compare._target("http://127.0.0.1:1", "gpt-4o-mini", tmp_path, "hit"))

    assert "{N}" not in target.body.read_text()
    assert '"temperature": 0' in target.body.read_text()


def test_the_same_request_for_messages(tmp_path: Path):
    chat = compare._target("http://127.0.0.1:1", "gpt-4o-mini", tmp_path, "messages")
    before = json.loads(chat.body.read_text())
    target = compare._messages(chat)
    after = json.loads(target.body.read_text())

    assert "http://127.0.0.1:1/v1/messages" == target.url
    assert [{"role": "system", "content": after["system"]}, *after["messages"]] == before["messages"]
    assert {**before, "messages": after["messages"], "system": after["system"]} == after


def test_the_envoy_of_agent_router_is_valid(tmp_path: Path):
    config = agent_router.envoy_config(1, 2, tmp_path / "processor.sock", tmp_path / "access.log")

    validate(config, envoy_path())


@pytest.mark.parametrize("name", sorted(peers.PEERS))
def test_the_command_of_a_peer_can_be_written(name: str):
    peer = peers.PEERS[name]
    values = {"home": "/home", "port": "1", "config": "/config", "provider": "http://127.0.0.1:2/v1"}
    words = [word.format(**values) for word in peer.command]

    assert any("1" in word for word in words)
    assert not any("{" in word for word in [*words, *(value.format(**values) for _, value in peer.headers)])


def test_the_processes_of_a_peer_are_a_tree():
    assert os.getpid() == proc.tree(os.getpid())[0]


def test_an_envoy_with_a_processor_sends_it_all_four_phases():
    listener = stand.envoy_with_processor(1, 2, 3)["static_resources"]["listeners"][0]
    filters = listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"]
    modes = filters[0]["typed_config"]["processing_mode"]

    assert {"SEND"} == {modes["request_header_mode"], modes["response_header_mode"]}
    assert ("BUFFERED", "STREAMED") == (modes["request_body_mode"], modes["response_body_mode"])


@pytest.mark.parametrize(("providers", "keys"), [(1, 1), (3, 1), (1, 3)])
def test_the_gateways_of_growth_have_a_good_config(providers: int, keys: int):
    config = config_load.parse(growth.config(providers, keys), "bench")

    assert 1 + providers == len(config.providers)
    assert keys == len(config.callers[0].keys)


@pytest.mark.parametrize("events", [10, 100])
def test_a_stream_has_so_many_events(events: int):
    assert events == len(growth.stream_of(events))
    assert events == len(growth.events_of_claude(events))


def test_a_conversation_has_so_many_messages_of_one_length():
    messages = growth.conversation(3, 200)["messages"]

    assert isinstance(messages, list)
    assert [200] * 3 == [len(each["content"]) for each in messages]

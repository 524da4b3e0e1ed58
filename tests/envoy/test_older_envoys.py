"""What is rendered for Envoys before 1.40, where an order of providers is a cluster: the same failover, seen whole."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest
from config_kit import read
from running_envoy import envoy_binary
from two_levels import Seen

from edge_extproc.envoy_config.bootstrap import render
from edge_extproc.envoy_config.validate import validate

pytestmark = pytest.mark.envoy

MODELS = """
"two.*": [{provider: a}, {provider: b, model: b.good}]
"three.*": [{provider: a}, {provider: b, model: b.503}, {provider: c, model: c.good}]
"turns.*": {strategy: round_robin, candidates: [{provider: a}, {provider: b}]}
"nowhere.*": [{provider: lost}, {provider: b, model: b.good}]
"alone.*": [{provider: b}]
"""
MORE = """
retries: {attempts: 3, back_off: {base: 5ms, max: 10ms}}
routing: {breaker: {enabled: false}}
"""
HEDGED = '"hedged.*": {candidates: [{provider: a}, {provider: c, model: c.good}], hedge: {at_least: 200ms}}\n'


@pytest.fixture(scope="module", params=["1.36", "1.37"])
def older(request: pytest.FixtureRequest) -> Iterator[tuple[gateways.RunningGateway, fault_player.FaultPlayer]]:
    with fault_player.fault_player() as player:
        here = f"http://127.0.0.1:{player.port}"
        hedged = HEDGED if request.param == "1.37" else ""
        text = gateways.config(here, more=MORE + f'envoy: {{version: "{request.param}"}}\n', models=MODELS + hedged)
        providers = (
            f"  a: {{kind: openai, base_url: '{here}/v1', api_key: sk-of-a}}\n"
            f"  b: {{kind: anthropic, base_url: '{here}/v1', api_key: sk-of-b}}\n"
            f"  c: {{kind: openai, base_url: '{here}/v1', api_key: sk-of-c}}\n"
            "  lost: {kind: openai, base_url: 'http://no-such-host.invalid/v1', api_key: x, allow_plaintext: true}\n"
        )
        with gateways.RunningGateway(text.replace("providers:\n", "providers:\n" + providers, 1)) as gateway:
            yield gateway, player


def ask(gateway: gateways.RunningGateway, model: str, *, stream: bool) -> httpx.Response:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 50, "stream": stream}
    with httpx.Client(headers={"authorization": f"Bearer {gateways.KEY}"}, timeout=30) as http:
        return http.post(f"{gateway.url}/v1/chat/completions", json=asked)


def is_whole(came: httpx.Response, *, stream: bool) -> bool:
    text = came.text
    return came.status_code == 200 and "there" in text and ("[DONE]" in text) is stream


def seen_by(player: fault_player.FaultPlayer) -> list[tuple[str | None, str | None, str]]:
    """Of each request, the credentials as either dialect sends them, and the model."""
    return [(one.header("authorization"), one.header("x-api-key"), _model(one)) for one in player.server.seen]


def _model(seen: Seen) -> str:
    return str(json.loads(seen.body)["model"])


@pytest.mark.parametrize("stream", [False, True])
def test_each_try_goes_to_the_next_provider_in_its_own_words_with_its_own_key(older, stream):
    gateway, player = older
    player.server.seen.clear()

    assert is_whole(ask(gateway, "two.503", stream=stream), stream=stream)
    assert [("Bearer sk-of-a", None, "two.503"), (None, "sk-of-b", "b.good")] == seen_by(player)

    player.server.seen.clear()

    assert is_whole(ask(gateway, "three.503", stream=stream), stream=stream)
    assert [
        ("Bearer sk-of-a", None, "three.503"),
        (None, "sk-of-b", "b.503"),
        ("Bearer sk-of-c", None, "c.good"),
    ] == seen_by(player)
    assert not [name for one in player.server.seen for name, _ in one.headers if name.startswith(("x-edge", "x-envoy"))]
    gateway.all_settled()
    assert "c" == gateway.access_lines()[-1]["provider"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_without_an_address_is_passed_over_and_its_key_with_it(older, stream):
    gateway, player = older
    player.server.seen.clear()

    assert is_whole(ask(gateway, "nowhere.good", stream=stream), stream=stream)
    assert [(None, "sk-of-b", "b.good")] == seen_by(player)


def test_a_strategy_still_chooses_who_is_first(older):
    gateway, player = older
    player.server.seen.clear()
    for _ in range(2):
        assert is_whole(ask(gateway, "turns.good", stream=False), stream=False)

    assert {"Bearer sk-of-a", None} == {key for key, _, _ in seen_by(player)}


def test_an_only_candidate_is_asked_again_and_nobody_else(older):
    gateway, player = older
    player.server.seen.clear()

    assert 503 == ask(gateway, "alone.503", stream=False).status_code
    assert [(None, "sk-of-b", "alone.503")] * 3 == seen_by(player)


def test_a_stream_that_fails_before_its_first_token_is_tried_elsewhere_where_envoy_can_hold_it_back(older):
    gateway, _ = older
    came = ask(gateway, "two.error-first", stream=True)

    assert is_whole(came, stream=True) is ('"1.37"' in gateway.path.read_text())


def test_a_hedged_call_is_asked_of_a_second_provider(older):
    gateway, _ = older
    if "hedged" not in gateway.path.read_text():
        pytest.skip("aggregate clusters cannot hedge, and check refuses it")

    assert is_whole(ask(gateway, "hedged.slow-first-token", stream=True), stream=True)


@pytest.mark.parametrize("version", ["1.36", "1.37", "1.38", "1.39"])
def test_envoy_takes_what_is_rendered_for_it(version):
    with tempfile.TemporaryDirectory(prefix="edge-") as short:
        config = read(
            "agent: {workers: 1}\n"
            "auth: {pepper: pepper-pepper-pepper, trust_ext_authz: true}\n"
            "telemetry: {otlp: {endpoint: 'http://127.0.0.1:4317'}}\n"
            "providers: {a: {kind: openai, api_key: x}, b: {kind: anthropic, api_key: x}}\n"
            "models: {m: [{provider: a}, {provider: b}, {provider: a, model: other}]}\n",
            Path(short),
        )
        validate(render(config, version), envoy_binary())

"""A dialect, a kind of provider and a strategy of another distribution, through `up`: real Envoy, real workers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import gateway as gateways
import plugin_kit
import pytest
from gateway import KEY
from replaying import Replaying, replaying

pytestmark = [pytest.mark.envoy]

SAID = b'{"model":"talk-1","said":"Hello","why":"stop","in":3,"out":1}'
LINES = b'{"say":"Hel"}\n{"say":"lo"}\n{"why":"stop","in":3,"out":2}\n'


@pytest.fixture(scope="module")
def provider() -> Iterator[Replaying]:
    with replaying() as found:
        yield found


@pytest.fixture(scope="module")
def gateway(provider: Replaying, tmp_path_factory: pytest.TempPathFactory) -> Iterator[gateways.RunningGateway]:
    outside = plugin_kit.install(tmp_path_factory.mktemp("plugins") / "site")
    models = """
    talk: [{provider: talker, model: talk-1}]
    chat: {strategy: last_first, candidates: [{provider: openai, model: gpt-4.1}, {provider: talker, model: talk-1}]}
    """
    kind = f"kind: example, base_url: '{provider.url}/example', api_key: example-key, options: {{room: blue}}"
    text = gateways.config(provider.url, models=models).replace(
        "providers:\n", f"providers:\n  talker: {{{kind}}}\n", 1
    )
    with gateways.RunningGateway(text, environment=plugin_kit.environment(outside)) as found:
        yield found


def post(gateway: gateways.RunningGateway, path: str, body: object, key: str = KEY) -> tuple[int, bytes]:
    headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
    try:
        with urlopen(Request(gateway.url + path, json.dumps(body).encode(), headers), timeout=30) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def test_an_openai_caller_reaches_the_new_kind(gateway: gateways.RunningGateway, provider: Replaying) -> None:
    provider.answers(SAID)
    status, told = post(
        gateway, "/v1/chat/completions", {"model": "talk", "messages": [{"role": "user", "content": "Hi"}]}
    )
    (asked,) = provider.asked

    assert (200, "Hello") == (status, json.loads(told)["choices"][0]["message"]["content"])
    assert ("/example/talk", "blue") == (asked.path, asked.headers["x-example-room"])
    assert {"model": "talk-1", "lines": [{"from": "user", "text": "Hi"}]} == json.loads(asked.body)


def test_a_stream_of_the_new_kind_reaches_an_openai_caller(
    gateway: gateways.RunningGateway, provider: Replaying
) -> None:
    provider.answers(LINES, "application/x-ndjson")
    asked = {"model": "talk", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
    status, told = post(gateway, "/v1/chat/completions", asked)
    rows = [line.removeprefix("data: ") for line in told.decode().split("\n\n") if line]
    deltas = [choice["delta"].get("content") or "" for row in rows[:-1] for choice in json.loads(row)["choices"]]

    assert (200, "Hello", "[DONE]") == (status, "".join(deltas), rows[-1])


def test_a_caller_of_the_new_dialect_is_answered_and_counted(
    gateway: gateways.RunningGateway, provider: Replaying
) -> None:
    provider.answers(SAID)
    status, told = post(gateway, "/example/talk", {"model": "chat", "lines": [{"from": "user", "text": "Hi"}]})

    assert (200, SAID) == (status, told)
    assert "/example/talk" == provider.asked[0].path
    gateway.all_settled()
    assert 'edge_responses_total{dialect="example_talk",status="200"}' in gateway.metrics()


def test_a_wrong_key_is_refused_in_the_new_dialect(gateway: gateways.RunningGateway) -> None:
    status, told = post(gateway, "/example/talk", {"model": "chat", "lines": []}, key="a-wrong-key")

    assert (401, {"wrong", "kind"}) == (status, set(json.loads(told)))

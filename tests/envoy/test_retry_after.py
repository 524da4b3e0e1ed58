"""A provider that says for how long to leave it alone, behind a real Envoy and two workers."""

from __future__ import annotations

from collections.abc import Iterator

import fault_player
import gateway as gateways
import httpx2 as httpx
import pytest

pytestmark = pytest.mark.envoy

MODELS = """
"two.*": [{provider: busy}, {provider: healthy, model: a.good}]
"alone.*": [{provider: busy}]
"""


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[gateways.RunningGateway, fault_player.FaultPlayer]]:
    with fault_player.fault_player() as player:
        here = f"http://127.0.0.1:{player.port}/v1"
        more = "retries: {back_off: {base: 5ms, max: 50ms}}\nrouting: {breaker: {failures: 1000}}\n"
        text = gateways.config(here.removesuffix("/v1"), more=more, models=MODELS, workers=2)
        providers = "".join(f"  {n}: {{kind: openai, base_url: '{here}', api_key: x}}\n" for n in ("busy", "healthy"))
        with gateways.RunningGateway(text.replace("providers:\n", "providers:\n" + providers, 1)) as gateway:
            yield gateway, player


def ask(gateway: gateways.RunningGateway, model: str, *, stream: bool) -> httpx.Response:
    asked = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    headers = {"authorization": f"Bearer {gateways.KEY}"}
    answer = httpx.post(f"{gateway.url}/v1/chat/completions", json=asked, headers=headers, timeout=30)
    gateway.all_settled()
    return answer


@pytest.mark.parametrize(("stream", "asked"), [(True, 1), (False, 2)])
def test_others_are_asked_in_its_place_by_all_workers(running, stream, asked):
    gateway, player = running
    model = f"two.429-much-later.{stream}"
    came = [ask(gateway, model, stream=stream) for _ in range(12)]

    assert [200] * 12 == [each.status_code for each in came]
    # Of a reply, the first call's first try is seen by nobody; from then on the guard watches.
    assert asked == player.asked[model]


def test_where_there_is_no_other_the_caller_gets_its_own_answer_and_it_is_asked_once(running):
    gateway, player = running
    model = "alone.429-much-later"
    first = ask(gateway, model, stream=False)
    before = player.asked[model]
    later = [ask(gateway, model, stream=False) for _ in range(4)]

    assert {(429, "300")} == {(each.status_code, each.headers["retry-after"]) for each in (first, *later)}
    assert (3, 4) == (before, player.asked[model] - before)

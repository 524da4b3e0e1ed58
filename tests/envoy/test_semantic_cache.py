"""The semantic cache on real Envoy, with the official SDK."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from typing import Any

import gateway as gateways
import httpx2 as httpx
import openai
import pytest
from gateway import KEY, OTHER_KEY

from edge_extproc.gateway.worker_client import WorkerClient

pytestmark = pytest.mark.envoy

MODELS = """
chat: [{provider: openai, model: rehearsal}]
claude: [{provider: anthropic, model: rehearsal}]
only-this: [{provider: openai, model: rehearsal}]
"""
MORE = """
cache:
  semantic: {budget: 1s, shadow: {share: SHARE, min_compared: 2}}
"""


@pytest.fixture(scope="module")
def served(rehearsal_url: str) -> Iterator[Any]:
    config = gateways.config(rehearsal_url, more=MORE.replace("SHARE", "0"), models=MODELS, workers=1)
    with gateways.RunningGateway(config) as found:
        yield found


@pytest.fixture
def sdk(served: Any) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client.chat.completions


PLACES = iter(
    ("Mongolia", "Ecuador", "Finland", "Zambia", "Nepal", "Uruguay", "Iceland", "Malta", "Rwanda", "Bhutan", "Georgia")
)


def place() -> str:
    """A name that no other test asks about. A real one, because a made-up word has no vector of its own."""
    return next(PLACES)


def ask(sdk: Any, text: str, model: str = "chat", **headers: str) -> Any:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    messages = [{"role": "user", "content": text}]
    return sdk.with_raw_response.create(model=model, messages=messages, temperature=0, extra_headers=named)


def asked(rehearsal_url: str, text: str) -> int:
    """How often the provider got a text."""
    seen = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["data"]
    return sum(text.encode() in base64.b64decode(each["body"]) for each in seen)


def text_of(raw: Any) -> str:
    content = raw.parse().choices[0].message.content
    assert isinstance(content, str)
    return content


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_a_call_that_means_the_same_hits_whole_and_as_a_stream(
    sdk: Any, served: Any, rehearsal_url: str, model: str
) -> None:
    city = place()
    first = ask(sdk, f"What is the capital of {city}?", model)
    second = ask(sdk, f"Could you tell me what the capital of {city} is?", model)
    messages = [{"role": "user", "content": f"What's {city}'s capital?"}]
    with sdk.with_streaming_response.create(
        model=model, messages=messages, temperature=0, stream=True
    ) as streamed:  # fmt: skip
        chunks = list(streamed.parse())

    assert ["miss", "semantic", "semantic"] == [each.headers["x-edge-cache"] for each in (first, second, streamed)]
    assert int(second.headers["age"]) < 60
    assert first.headers["x-edge-cache-key"] == second.headers["x-edge-cache-key"]
    assert streamed.headers["content-type"] == "text/event-stream"
    assert text_of(first) == text_of(second)
    assert text_of(first) == "".join(each.choices[0].delta.content or "" for each in chunks if each.choices)
    assert 1 == asked(rehearsal_url, city)
    assert "hit" == ask(sdk, f"What is the capital of {city}?", model).headers["x-edge-cache"]


def test_near_questions_with_other_meanings_go_to_the_provider(sdk: Any, rehearsal_url: str) -> None:
    city = place()
    questions = (
        f"Is it safe to swim in {city}?",
        f"Is it not safe to swim in {city}?",
        f"Is it safe to swim in {city} in March?",
        f"Is it legal to swim in {city}?",
        f"Are 2 hours enough for {city}?",
        f"Are 3 hours enough for {city}?",
        f"Is {city} larger than Rome?",
        f"Is Rome larger than {city}?",
    )

    assert ["miss"] * len(questions) == [ask(sdk, each).headers["x-edge-cache"] for each in questions]
    assert len(questions) == asked(rehearsal_url, city)


def test_callers_control_it_by_headers(sdk: Any) -> None:
    city = place()
    ask(sdk, f"What is the capital of {city}?")

    def result(text: str, **headers: str) -> str:
        return str(ask(sdk, text.format(city), **headers).headers["x-edge-cache"])

    assert "miss" == result("Tell me the capital of {}", x_edge_cache_semantic="off")
    assert "bypass" == result("What's {}'s capital?", cache_control="no-cache")
    assert "bypass" == result("What's the capital of {}?", cache_control="no-store")
    assert "semantic" == result("What's the capital of {}?")
    with pytest.raises(openai.BadRequestError, match="x-edge-cache-semantic is 'perhaps'"):
        result("What's the capital of {}?", x_edge_cache_semantic="perhaps")


def test_two_tenants_never_meet(sdk: Any, served: Any) -> None:
    city = place()
    ask(sdk, f"What is the capital of {city}?", "only-this")
    with openai.OpenAI(base_url=f"{served.url}/v1", api_key=OTHER_KEY, max_retries=0) as client:
        theirs = client.chat.completions

        assert "miss" == ask(theirs, f"What's the capital of {city}?", "only-this").headers["x-edge-cache"]
    assert "semantic" == ask(sdk, f"What's the capital of {city}?", "only-this").headers["x-edge-cache"]


def test_a_purge_removes_it(sdk: Any, served: Any) -> None:
    city = place()
    ask(sdk, f"What is the capital of {city}?")
    hit = ask(sdk, f"What's the capital of {city}?")
    wanted = json.dumps({"tenant": "acme", "key": hit.headers["x-edge-cache-key"]}).encode()

    async def purge() -> int:
        (socket,) = (served.directory / ".edge" / "run").glob("worker-*.sock")
        client = WorkerClient(f"unix:{socket}")
        try:
            return await client.purge_cache(wanted)
        finally:
            await client.close()

    assert 2 == asyncio.run(purge())
    assert "miss" == ask(sdk, f"What's the capital of {city}?").headers["x-edge-cache"]


def test_hits_are_logged_and_counted(sdk: Any, served: Any) -> None:
    served.all_settled()
    before = len(served.access_lines())
    city = place()
    ask(sdk, f"What is the capital of {city}?")
    ask(sdk, f"What's the capital of {city}?")
    ask(sdk, f"What is not the capital of {city}?")
    missed, hit, _ = served.settled(before + 3)[before:]

    assert "similarity" not in missed
    assert ("semantic", "l3", "0") == (hit["cache"], hit["cache_tier"], hit["cost_usd"])
    assert 0.75 <= hit["similarity"] <= 1
    assert hit["saved_tokens"] > 0
    metrics = served.metrics()
    for sample in (
        'edge_cache_requests_total{result="semantic",tier="l3"}',
        'edge_semantic_hits_total{model="chat",tenant="acme"}',
        'edge_semantic_lookups_total{result="hit"}',
        "edge_semantic_lookup_seconds_count",
        'edge_semantic_refusals_total{verifier="',
        "edge_semantic_entries ",
        "edge_semantic_bytes ",
    ):
        assert sample in metrics


def test_shadow_mode_calls_the_provider_and_turns_it_off(rehearsal_url: str) -> None:
    """The rehearsal provider's reply has the question in it, so another question has another reply."""
    more = MORE.replace("SHARE", "1").replace("min_compared: 2", "min_compared: 2, agreement: 1")
    config = gateways.config(rehearsal_url, more=more, models=MODELS, workers=1)
    with (
        gateways.RunningGateway(config) as measured,
        openai.OpenAI(base_url=f"{measured.url}/v1", api_key=KEY, max_retries=0, timeout=30) as client,
    ):
        sdk, city = client.chat.completions, place()
        texts = (f"What is the capital of {city}?", f"What's {city}'s capital?", f"Tell me the capital of {city}")
        results = [ask(sdk, each).headers["x-edge-cache"] for each in texts]
        measured.all_settled()
        metrics = measured.metrics()

    assert ["miss"] * 3 == results
    assert 3 == asked(rehearsal_url, city)
    names = 'model="chat",tenant="acme"'
    assert f'edge_semantic_shadow_compared_total{{agreed="false",how="embedding",{names}}} 2.0' in metrics
    assert f"edge_semantic_false_hit_rate{{{names}}} 1.0" in metrics
    assert f"edge_semantic_false_hit_rate_low{{{names}}} 0.34" in metrics
    assert f"edge_semantic_off{{{names}}} 1.0" in metrics


def test_an_endpoint_for_vectors_is_charged_to_the_tenant_in_the_ledger(rehearsal_url: str) -> None:
    """Any two questions are near enough here: verifiers decide."""
    embedder = f"{{openai: {{base_url: '{rehearsal_url}/v1', model: text-embedding-3-small, api_key: a-key}}}}"
    more = f"""
store: {{every: 100ms}}
cache:
  semantic: {{budget: 2s, similarity: 0, embedder: {embedder}}}
"""
    config = gateways.config(rehearsal_url, more=more, models=MODELS, workers=1)
    with (
        gateways.RunningGateway(config) as running,
        openai.OpenAI(base_url=f"{running.url}/v1", api_key=KEY, max_retries=0, timeout=30) as client,
    ):
        sdk = client.chat.completions
        results = [
            ask(sdk, text).headers["x-edge-cache"]
            for text in ("What is the capital of Samoa?", "What's the capital of Samoa?")
        ]
        gateways.until(lambda: len(running.usage("--rows")) == 4)
        kept = {row["operation"]: row for row in running.usage("--by", "operation,tenant,upstream_model")}

    assert ["miss", "semantic"] == results
    vectors = kept["question_vectors"]
    assert ("acme", "text-embedding-3-small", 0) == (vectors["tenant"], vectors["upstream_model"], vectors["requests"])
    assert float(vectors["cost"]) > 0
    assert 2 == kept["chat"]["requests"]

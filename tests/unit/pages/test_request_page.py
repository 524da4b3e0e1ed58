"""The page of one request, and what the admin API says of why it went so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from admin_kit import Api, open_api
from pages_kit import AdminPort

from edge_extproc.model.explanation import (
    MOST_ENTRIES,
    MOST_TEXT,
    ExplainedAttempt,
    ExplainedCandidate,
    ExplainedLimit,
    Explanation,
    LeftOutCandidate,
)
from edge_extproc.store.journal import write_explanation

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"
WHY = Explanation(
    "token",
    roles=("reader",),
    limits=(ExplainedLimit("dollars per day of tenant acme", "dollars", 5_000_000, 1_000_000, 20_000, 1_250),),
    strategy="cheapest",
    candidates=(ExplainedCandidate("openai", "gpt-4o-mini", 0.0021), ExplainedCandidate("azure", "gpt", None, 2, True)),
    left_out=(
        LeftOutCandidate("groq", "llama", "circuit", "12"),
        LeftOutCandidate("anthropic", "claude", "capability", "n"),
        LeftOutCandidate("google", "gemini", "rights"),
        LeftOutCandidate("vertex", "gemini", "account"),
        LeftOutCandidate("mistral", "small", "hedge"),
    ),
    attempts=(
        ExplainedAttempt("openai", "gpt-4o-mini", "failed", 402, "payment", 2, 20, None, 25, "payment"),
        ExplainedAttempt("azure", "gpt", "ok", 200, "", 25, 100, 110, 250),
    ),
    lane="cross",
    dropped=("logit_bias",),
    lost=("citations",),
    cache_reason="temperature",
    costs={"input": "0.001", "output": "0.0005", "other": "0.0001"},
    agent_us=1_900,
)
HIT = '[{"rule":"pii","label":"email","action":"mask","mode":"shadow","direction":"request","count":2}]'


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    explain(found, "explained", WHY, guardrails=HIT, cache="bypass", attempts=2, input=5, output=7)
    found.settle("plain")
    yield found
    found.engine.dispose()


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


def explain(api: Api, exchange: str, explanation: Explanation, **fields: Any) -> None:
    api.settle(exchange, explanation=write_explanation(explanation), **fields)


async def test_the_page_says_why_in_words(port: AdminPort) -> None:
    text = (await (await port.signed_in("root")).page("/requests/explained")).text

    for words in (
        "Recognised by a signed token (JWT)",
        "Roles reader",
        "dollars per day of tenant acme $5.00 $1.00 $0.02 $0.00125",
        "cheapest, the strategy of the model: the lowest expected cost first.",
        "1 openai gpt-4o-mini 1 $0.0021",
        "2 azure gpt 2 – a probe after failures",
        "left out groq llama – – it failed recently, and was not used for another 12 s",
        "left out anthropic claude – – it cannot take this call: n",
        "left out google gemini – – the caller may not use it",
        "left out vertex gemini – – its account lacks what the call names",
        "left out mistral small – – a hedged call has two candidates",
        "1 openai gpt-4o-mini failed 402 the gateway’s account has no credit or quota 2 ms 20 ms – 25 ms",
        "2 azure gpt ok 200 – 25 ms 100 ms 110 ms 250 ms",
        "not come from the cache: the call has no temperature",
        "left out: logit_bias .",
        "caller’s format: citations .",
        "The rule pii found email 2 times in the request: mask (shadow).",
        "input 5 $0.001 output 7 $0.0005 other – $0.0001",
        "worked 1.9 ms",
    ):
        assert words in text


async def test_a_request_without_an_explanation_says_so(port: AdminPort) -> None:
    browser = await port.signed_in("root")

    assert "no longer has" in (await browser.page("/requests/plain")).text
    assert "no longer has" not in (await browser.page("/requests/explained")).text


async def test_who_is_bound_to_a_tenant_does_not_see_what_is_of_all_tenants(api: Api, port: AdminPort) -> None:
    everything = (await api.ask("eye", "GET", "/requests/explained")).json()["explain"]
    own = (await api.ask("acme-eye", "GET", "/requests/explained")).json()["explain"]
    text = (await (await port.signed_in("acme-admin")).page("/requests/explained")).text

    assert [0.0021, None] == [each["score"] for each in everything["candidates"]]
    assert [None, None] == [each["score"] for each in own["candidates"]]
    hidden = ("status", "reason", "account_problem")
    assert [402, "payment", "payment"] == [everything["attempts"][0][name] for name in hidden]
    assert [None, "failed", None] == [own["attempts"][0][name] for name in hidden]
    assert everything["attempts"][1] == own["attempts"][1]
    assert everything["limits"] == own["limits"]
    assert "credit" not in text
    for name in ("umbrella-admin",):
        assert 404 == (await api.ask(name, "GET", "/requests/explained")).status_code


async def test_a_refusal_is_shown_with_its_limit(api: Api, port: AdminPort) -> None:
    explain(api, "refused", Explanation("key", refusal="dollars per day of tenant acme: nothing is left"), status=429)
    text = (await (await port.signed_in("root")).page("/requests/refused")).text

    assert "The gateway refused the request: dollars per day of tenant acme: nothing is left" in text
    assert "No plan was made." in text
    assert "Nothing was sent to a provider." in text


@pytest.mark.parametrize("cache", ["hit", "stale", "miss", None])
@pytest.mark.parametrize("chosen_by", ["model", "rule", "header"])
async def test_each_kind_of_plan_and_cache_has_its_words(api: Api, port: AdminPort, cache: Any, chosen_by: Any) -> None:
    why = Explanation(
        "key",
        strategy="of-a-plugin",
        chosen_by=chosen_by,
        rule=2,
        affinity=True,
        hedged=True,
        cache_tier="memory",
        cache_reason="of a later version",
        candidates=(ExplainedCandidate("openai", "m", 4.5),),
        lane="raw",
        more=7,
    )
    explain(api, "odd", why, cache=cache)
    text = (await (await port.signed_in("root")).page("/requests/odd")).text

    words = {"model": "the strategy of the model", "rule": "of the routing rule 2", "header": "named in a header"}
    for each in (
        words[chosen_by],
        "routing rule 2",
        "moved to the front",
        "the second one is called too",
        "4.5",
        "7 more",
    ):
        assert each in text
    told = {
        "hit": "from the worker’s memory",
        "stale": "an expired reply",
        "miss": "of a later version",
        None: "not asked",
    }
    assert told[cache] in text


async def test_the_longest_explanation_of_a_hostile_caller_is_text_and_fits_the_page(api: Api, port: AdminPort) -> None:
    long = (MARKUP * 9)[:MOST_TEXT]
    why = Explanation(
        "key",
        roles=(long,) * MOST_ENTRIES,
        refusal=long,
        limits=(ExplainedLimit(long, "tokens", 2**53, 2**53, 2**53, 2**53),) * MOST_ENTRIES,
        strategy="failover",
        candidates=(ExplainedCandidate(long, long),) * MOST_ENTRIES,
        left_out=(LeftOutCandidate(long, long, "capability", long),) * MOST_ENTRIES,
        attempts=(ExplainedAttempt(long, long, "failed", 500, long),) * MOST_ENTRIES,
        dropped=(long,) * MOST_ENTRIES,
        lost=(long,) * MOST_ENTRIES,
        costs={long: "1"},
    )
    # What the database has may be longer than what the journal writes now.
    api.settle("hostile", explanation=msgspec.json.encode(why).decode())
    browser = await port.signed_in("root")
    page = await browser.page("/requests/hostile")

    assert len((await browser.get("/requests/hostile")).content) < 150 * 1024
    assert 1 == len([tag for tag, _ in page.elements if tag == "script"])
    assert "img" not in [tag for tag, _ in page.elements]
    assert "{{7*7}}" in page.text

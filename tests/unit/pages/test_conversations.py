"""The page of conversations, and the routes of the API behind it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from admin_kit import Api, open_api
from pages_kit import AdminPort

from edge_extproc.model.explanation import ExplainedPromptCache, Explanation, PromptCacheReason
from edge_extproc.store.journal import write_explanation

MARKUP = "<script>alert(1)</script><img src=x onerror=alert(2)>{{7*7}}"
REASONS: dict[PromptCacheReason, str] = {
    "first": "the first turn that is known",
    "unchanged": "the prompt only grew",
    "changed": "tools[2] had changed, after 2 unchanged segments",
    "provider": "the turn before went to another provider or model",
    "unmarked": "no part of the prompt is marked",
    "idle": "the turn before was 400 s ago",
    "evicted": "the provider did not have it",
}


@pytest.fixture
def api() -> Iterator[Api]:
    found = open_api()
    yield found
    found.engine.dispose()


@pytest.fixture
def port(api: Api) -> AdminPort:
    return AdminPort(api)


def turn(
    api: Api, exchange: str, reason: PromptCacheReason, tenant: str = "acme", run: str | None = "nightly", lost: int = 0
) -> None:
    segment = "tools[2]" if reason == "changed" else ""
    why = ExplainedPromptCache(reason, segment, 2, 9, 5_000, 100, lost, "0.25" if lost else None, 400)
    text = write_explanation(Explanation("key", prompt_cache=why))
    cost = 1_500_000_000_000
    api.settle(exchange, tenant, run=run, explanation=text, input=4_000, cache_read=1_000, cost=cost, provider="openai")


async def test_a_run_is_shown_with_its_cost_and_why_the_prompt_cache_missed(api: Api, port: AdminPort) -> None:
    for reason in REASONS:
        turn(api, f"turn-{reason}", reason, lost=3_900 if reason == "changed" else 0)
    api.settle("part", run="sub", run_parent="nightly")
    api.settle("elsewhere", user="somebody")
    browser = await port.signed_in("acme-eye")
    listed, shown = (await browser.page("/conversations")), (await browser.page("/conversations?run=nightly"))

    assert "nightly acme" in listed.text
    assert "7 0 35,000 7,000 (20 %) $10.50" in listed.text
    assert "/ui/conversations?run=nightly&tenant=acme" in listed.links
    for words in (*REASONS.values(), "Requests on this page 8", "Cost $10.50", "7,000 20 %", "3,900 $0.25", "run sub"):
        assert words in shown.text
    assert "/ui/requests/elsewhere" not in shown.links
    assert "/ui/requests/turn-changed" in shown.links
    bars = [given for tag, given in shown.elements if tag == "rect" and given["class"] == "bar"]
    assert 8 == len(bars)
    assert 1 == len([1 for tag, given in shown.elements if tag == "rect" and given["class"] == "part"])


async def test_a_session_is_shown_alike(api: Api, port: AdminPort) -> None:
    api.settle("one", session="s/1", cost=1)
    api.settle("two", session="s/1", unpriced=True)
    browser = await port.signed_in("root")
    listed = await browser.page("/conversations?by=session")

    assert "s/1 acme" in listed.text
    assert "1 unpriced" in listed.text
    shown = await browser.page("/conversations?session=s/1")
    assert "Requests on this page 2" in shown.text
    assert {"/ui/requests/one", "/ui/requests/two"} <= set(shown.links)
    request = await browser.page("/requests/one")
    assert "/ui/conversations?session=s%2F1&tenant=acme" in request.links


async def test_pages_have_no_gap_and_no_double(api: Api, port: AdminPort) -> None:
    for n in range(120):
        api.settle(f"e{n}", run=f"run-{n:03}" if n >= 60 else "long")
    browser = await port.signed_in("root")

    async def walk(path: str, prefix: str) -> list[str]:
        found: list[str] = []
        while True:
            page = await browser.page(path)
            found += [link for link in page.links if link.startswith(prefix)]
            older = [given["href"] for tag, given in page.elements if tag == "a" and given.get("rel") == "next"]
            if not older:
                return found
            path = older[0].removeprefix("/ui")

    runs = await walk("/conversations", "/ui/conversations?run=")
    turns = await walk("/conversations?run=long", "/ui/requests/")
    assert [
        *(f"/ui/conversations?run=run-{n:03}&tenant=acme" for n in range(119, 59, -1)),
        "/ui/conversations?run=long&tenant=acme",
    ] == runs
    assert [f"/ui/requests/e{n}" for n in range(59, -1, -1)] == turns


async def test_who_is_bound_to_a_tenant_sees_its_conversations_alone(api: Api) -> None:
    turn(api, "ours", "changed")
    turn(api, "theirs", "first", "umbrella")
    listed = (await api.ask("acme-eye", "GET", "/conversations")).json()["conversations"]
    turns = (await api.ask("acme-eye", "GET", "/conversations/turns?id=nightly")).json()["turns"]
    everybody = (await api.ask("eye", "GET", "/conversations/turns?id=nightly")).json()["turns"]

    assert [("acme", 1)] == [(each["tenant"], each["requests"]) for each in listed]
    assert ["ours"] == [each["exchange"] for each in turns]
    assert ["theirs", "ours"] == [each["exchange"] for each in everybody]
    for path in ("/conversations?tenant=umbrella", "/conversations/turns?id=nightly&tenant=umbrella"):
        assert 403 == (await api.ask("acme-eye", "GET", path)).status_code


@pytest.mark.parametrize(
    "query", ["", "?id=", "?id=a%00b", f"?id={'x' * 300}", "?id=a&by=user", "?id=a&before=x", "?id=a&limit=0"]
)
async def test_a_query_that_is_wrong_is_refused(api: Api, query: str) -> None:
    assert 400 == (await api.ask("eye", "GET", f"/conversations/turns{query}")).status_code


async def test_what_callers_send_is_text(api: Api, port: AdminPort) -> None:
    for kind in ("run", "session"):
        api.settle(f"of-{kind}", upstream_model=MARKUP, provider=MARKUP, **{kind: MARKUP})
    why = ExplainedPromptCache("changed", MARKUP, 0, 1, 0, 0, 9_000, None, 0)
    api.settle("marked", run=MARKUP, explanation=write_explanation(Explanation("key", prompt_cache=why)))
    browser = await port.signed_in("root")
    for kind in ("run", "session"):
        for query in ({"by": kind}, {kind: MARKUP}):
            answer = await browser.get("/conversations", params=query)
            assert 200 == answer.status_code
            assert "<script>alert" not in answer.text
            assert "<img" not in answer.text
            assert "alert(1)" in answer.text


async def test_a_conversation_that_is_not_there_says_so(port: AdminPort) -> None:
    browser = await port.signed_in("root")

    assert "has no such conversations" in (await browser.page("/conversations")).text
    assert "has no requests of this session" in (await browser.page("/conversations?session=none")).text

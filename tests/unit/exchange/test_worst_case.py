"""The most that a call can come to is never less than what it comes to."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from every_dialect import EVERY_NAME
from hypothesis import given
from hypothesis import strategies as st
from player import provider

from edge_extproc.accounting.prices import Override, PriceTable
from edge_extproc.exchange.worst_case import OutputBounds, PromptSearch, reservation_request
from edge_extproc.model.call import Call
from edge_extproc.model.plan import Candidate
from edge_extproc.model.usage import Usage
from edge_extproc.model.wire_names import WireNames
from edge_extproc.registry import load, names

SEARCH = PromptSearch.of(EVERY_NAME)
PROVIDERS = {name: provider(name) for name in ("openai", "anthropic")}
BOUNDS = OutputBounds((("small", 50), ("*", 1_000)), 20, 100_000, 2_000_000, 3_000_000)
D = Decimal
PRICES = PriceTable(
    overrides=[
        Override("openai", "cheap", input=D(1), output=D(2)),
        Override("openai", "small", input=D(1), output=D(2)),
        Override("openai", "talks", input=D(1), output=D(2), input_audio=D(40), output_audio=D(80)),
        Override("openai", "draws", input=D(1), output=D(2), input_image=D(4), output_image=D(80)),
        Override("anthropic", "dear", input=D(10), output=D(50), cache_write=D(12), cache_write_1h=D(20)),
    ]
)
CHEAP, DEAR = Candidate("openai", "cheap"), Candidate("anthropic", "dear")


def call(body: Any = None, **more: Any) -> Call:
    raw = json.dumps(body if body is not None else {"messages": [{"role": "user", "content": "Hello"}]}).encode()
    return Call("openai_chat", more.pop("operation", "chat"), "asked", False, raw, **more)


def ask(of: Call, *candidates: Candidate, priced: bool = True) -> Any:
    return reservation_request(of, candidates or (CHEAP,), PROVIDERS, PRICES, BOUNDS, SEARCH, priced=priced)


def test_the_dearest_candidate_counts() -> None:
    cheap, dear, both = (ask(call(max_output_tokens=100), *c) for c in ((CHEAP,), (DEAR,), (CHEAP, DEAR)))

    assert cheap.micro_dollars < dear.micro_dollars == both.micro_dollars


def test_without_a_bound_the_models_own_counts_and_tokens_are_estimated() -> None:
    free, bound = ask(call()), ask(call(max_output_tokens=50))

    assert 2 * (1_000 - 50) == free.micro_dollars - bound.micro_dollars
    assert (20 - 50) == free.tokens - bound.tokens
    assert bound.micro_dollars == ask(call(), Candidate("openai", "small")).micro_dollars


def test_each_choice_is_an_answer() -> None:
    one, three = ask(call(max_output_tokens=100)), ask(call(max_output_tokens=100, choices=3))

    assert (400, 200) == (three.micro_dollars - one.micro_dollars, three.tokens - one.tokens)


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://host/image.png"}},
        {"type": "file", "file": {"file_id": "f"}},
        {"type": "image", "source": {"type": "url", "url": "https://host/i.png"}},
    ],
)
def test_what_is_elsewhere_counts_as_a_whole_context_window(part: Any) -> None:
    found = ask(call({"messages": [{"role": "user", "content": [part]}]}, max_output_tokens=1))

    assert 100_000 + 2 <= found.micro_dollars <= 100_000 + 3


def test_an_inline_image_counts_as_the_dearest_there_is() -> None:
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    found = ask(call({"messages": [{"role": "user", "content": [part]}]}, max_output_tokens=1))

    assert 48_169 < found.micro_dollars < 100_000


def test_a_prompt_that_may_be_cached_pays_for_being_written() -> None:
    marked = {"messages": [{"role": "user", "content": [{"text": "x", "cache_control": {"type": "ephemeral"}}]}]}
    plain = {"messages": [{"role": "user", "content": [{"text": "x", "other_control": {"type": "ephemeral"}}]}]}

    assert (
        1.9
        < ask(call(marked, max_output_tokens=1), DEAR).micro_dollars
        / ask(call(plain, max_output_tokens=1), DEAR).micro_dollars
    )


def test_sound_pays_the_price_of_sound() -> None:
    said = {"modalities": ["audio"], "messages": []}
    found = ask(call(said, max_output_tokens=1_000), Candidate("openai", "talks"))

    assert found.micro_dollars > 40 * 1_024 + 80_000


def test_a_model_that_draws_may_draw_all_of_its_reply() -> None:
    found = ask(call(max_output_tokens=1_000), Candidate("openai", "draws"))

    assert found.micro_dollars > 4 * 1_024 + 80_000


def test_sound_that_has_no_price_of_its_own_is_not_made() -> None:
    assert ask(call({"modalities": ["audio"]}, max_output_tokens=1)).micro_dollars is not None


@pytest.mark.parametrize("key", ["image_url", "cache_control", "file_id"])
def test_nothing_hides_behind_escapes(key: str) -> None:
    raw = json.dumps({"messages": [{key: 1}]}).replace(key[0], f"\\u{ord(key[0]):04x}", 1).encode()
    hidden = Call("openai_chat", "chat", "asked", False, raw, max_output_tokens=1)

    assert ask(hidden).micro_dollars >= 100_000
    assert ask(hidden, DEAR).micro_dollars >= 20 * 100_000


def test_letters_beyond_ascii_may_be_escaped() -> None:
    assert ask(call({"messages": [{"content": "é<"}]}, max_output_tokens=1)).micro_dollars < 2_000


def test_an_embedding_has_no_answer_to_pay_for() -> None:
    found = ask(call(operation="embeddings"))

    assert found.micro_dollars < 2_000


def test_a_model_without_a_price_has_none_and_an_assumed_one() -> None:
    found = ask(call(max_output_tokens=1_000), CHEAP, Candidate("openai", "unheard-of"))

    assert (None, True) == (found.micro_dollars, found.assumed > 2 * 1_024 + 3_000)


def test_what_is_only_passed_on_has_no_price_and_to_count_or_to_look_is_free() -> None:
    assert ask(call(operation="passed")).micro_dollars is None
    assert (0, 0) == (
        ask(call(operation="passed", method="GET")).tokens,
        ask(call(operation="passed", method="GET")).micro_dollars,
    )
    assert (0, 0) == (ask(call(operation="count_tokens")).tokens, ask(call(operation="count_tokens")).micro_dollars)


def test_embeddings_cost_their_input_and_completions_what_all_of_them_can_come_to() -> None:
    embedding = call({"input": "Hello"}, operation="embeddings")
    one = ask(call({"prompt": "Hello"}, operation="completions", max_output_tokens=100))
    many = ask(call({"prompt": "Hello"}, operation="completions", max_output_tokens=100, choices=6))

    assert len(embedding.raw) + 1_024 + 1 == ask(embedding).micro_dollars
    assert ask(embedding).tokens < 20
    assert 2 * 500 == many.micro_dollars - one.micro_dollars


def test_where_no_rule_counts_dollars_no_price_is_looked_up() -> None:
    assert 0 == ask(call(), Candidate("openai", "unheard-of"), priced=False).micro_dollars


@given(
    st.text(max_size=300),
    st.integers(1, 1_000),
    st.sampled_from([CHEAP, DEAR]),
    st.sampled_from(["input", "cache_read", "cache_write", "cache_write_1h"]),
    st.sampled_from(["output", "reasoning"]),
)
def test_no_usage_within_the_bounds_costs_more(text: str, limit: int, who: Candidate, bucket: str, out: str) -> None:
    """A byte is a token at most."""
    body = {"messages": [{"role": "user", "content": text, "cache_control": {}}]}
    of = call(body, max_output_tokens=limit)
    usage = Usage(**{bucket: len(text.encode(errors="surrogatepass")) + 50, out: limit})
    cost = PRICES.cost("", who.model, usage, host=who.provider)
    found = ask(of, who)

    assert cost is not None
    assert cost * 1_000_000 <= found.micro_dollars


WORDS = [
    "image", "image_url", "input_image", "inlineData", "inline_data", "audio", "input_audio", "document", "video",
    "file_id", "fileData", "file_uri", "previous_response_id", "conversation", "cachedContent", "cached_content",
    "file_url", "container", "prompt", "url", "cache_control", "cachePoint", "text", "role", "prompted",
]  # fmt: skip


@given(st.lists(st.sampled_from(WORDS), max_size=6), st.sampled_from(['"x"', '"https://h"', '"data:x"', "1"]))
def test_one_look_finds_whatever_any_of_the_closer_ones_would(words: list[str], value: str) -> None:
    raw = ("{" + ",".join(f'"{word}" :{value}' for word in words) + "}").encode()
    closer = (SEARCH.elsewhere, SEARCH.media, SEARCH.caches)

    assert SEARCH.marked.search(raw) or not any(each.search(raw) for each in closer)


@pytest.mark.parametrize("dialect", names("dialects"))
def test_what_a_dialect_says_is_elsewhere_counts_as_a_whole_window_in_every_body(dialect: str) -> None:
    for name in load("dialects", dialect).wire_names.elsewhere:
        elsewhere = ask(call({"messages": [{"role": "user", "content": [{name: "x"}]}]}, max_output_tokens=1))

        assert BOUNDS.context_window <= elsewhere.micro_dollars, name


def test_a_search_for_no_names_finds_nothing() -> None:
    nothing = PromptSearch.of(WireNames())

    assert not any(
        pattern.search(b'{"": "", "image": "url"}')
        for pattern in (nothing.marked, nothing.media, nothing.elsewhere, nothing.caches)
    )


@given(st.frozensets(st.text("ab_", min_size=1, max_size=5), max_size=8), st.text("ab_", max_size=6))
def test_a_search_finds_its_names_and_no_others(searched: frozenset[str], word: str) -> None:
    media = PromptSearch.of(WireNames(media=searched)).media

    assert (word in searched) == (media.search(f'{{"{word}": 1}}'.encode()) is not None)


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
        {"tools": [{"type": "file_search", "vector_store_ids": ["v"]}]},
        {"tools": [{"googleSearch": {}}]},
        {"tools": [{"url_context": {}}]},
        {"tools": [{"type": "mcp", "server_url": "https://x"}]},
        {"toolConfig": {"tools": [{"systemTool": {"name": "nova_grounding"}}]}},
        {"search_parameters": {"mode": "auto"}},
        {"plugins": [{"id": "web"}]},
        {"preset": "p"},
        {"messages": [{"role": "user", "content": [{"document": {"source": {"s3Location": {"uri": "s3://b/k"}}}}]}]},
    ],
)
def test_what_a_tool_of_the_provider_finds_counts_as_a_whole_context_window(fields: Any) -> None:
    found = ask(call({"messages": [], **fields}, max_output_tokens=1))

    assert 100_000 + 2 <= found.micro_dollars <= 100_000 + 3


def test_the_name_of_a_callers_function_is_no_tool_of_the_provider() -> None:
    tool = {"type": "function", "function": {"name": "web_search", "description": 'Say {"type": "web_search"}'}}

    assert ask(call({"messages": [], "tools": [tool]}, max_output_tokens=1)).micro_dollars < 2_000


@pytest.mark.parametrize(("tier", "factor"), [("priority", D("2.5")), ("fast", D(6)), ("flex", 1), ("default", 1)])
def test_a_dearer_tier_is_reserved_at_its_price(tier: str, factor: Any) -> None:
    usual, other = (ask(call(max_output_tokens=100, tiers=tiers)) for tiers in ({}, {"service_tier": tier}))

    assert (usual.micro_dollars - 1) * factor == pytest.approx(other.micro_dollars - 1, abs=3)


@pytest.mark.parametrize(
    ("target", "free"),
    [
        ("/files", True),
        ("/files?purpose=batch", True),
        ("/uploads", True),
        ("/uploads/upload_1/parts", True),
        ("/uploads/upload_1/complete", True),
        ("/batches/batch_1/cancel", True),
        ("/messages/batches/b/cancel", True),
        ("/batches", False),
        ("/messages/batches", False),
        ("/files/batches", False),
        ("/fine_tuning/jobs", False),
        ("/vector_stores", False),
    ],
)
def test_to_store_a_file_or_to_cancel_work_is_free_and_to_begin_work_has_no_price(target: str, free: bool) -> None:
    found = ask(Call("openai_chat", "passed", "", False, b"x" * 5_000, format="passed", target=target))

    assert ((0, 0) if free else (1_270, None)) == (found.tokens, found.micro_dollars)


def test_a_stored_file_that_names_a_model_is_a_call_of_it() -> None:
    found = ask(Call("openai_chat", "passed", "cheap", False, b"{}", format="passed", target="/files"))

    assert found.micro_dollars is None


def compacting(text: str, **edit: Any) -> Call:
    settings = {"edits": [{"type": "compact_20260112", **edit}]}
    return call({"messages": [{"role": "user", "content": text}], "context_management": settings}, max_output_tokens=10)


def test_a_summary_by_the_provider_reads_the_prompt_once_more_and_is_an_output() -> None:
    long = "x" * 60_000
    plain = ask(call({"messages": [{"role": "user", "content": long}]}, max_output_tokens=10))
    found = ask(compacting(long))
    # At most: the prompt twice, where the second has the summary (1,000 tokens), and the summary at $2.
    assert 60_000 + 1_000 + 2 * 1_000 <= found.micro_dollars - plain.micro_dollars <= 63_500 + 2 * 1_000
    assert found.assumed > plain.assumed


def test_a_prompt_that_is_too_short_for_a_summary_is_reserved_as_without_one() -> None:
    short = ask(call({"messages": [{"role": "user", "content": "Hi"}]}, max_output_tokens=10)).micro_dollars

    assert ask(compacting("Hi")).micro_dollars - short < 200  # the bytes of the setting


def test_an_edit_of_the_context_without_a_summary_costs_nothing_more() -> None:
    long = "x" * 60_000
    body = {"messages": [{"role": "user", "content": long}]}
    clearing = {**body, "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}

    more = ask(call(clearing, max_output_tokens=10)).micro_dollars - ask(call(body, max_output_tokens=10)).micro_dollars
    assert more < 200

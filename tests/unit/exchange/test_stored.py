"""Conversations that the gateway stores: a caller of Responses refers to earlier replies, whichever provider made
them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import DIALECTS, FORMATS, answered, body, chunks, headers, talk, whole
from storing import CLAUDE, CLAUDE_STREAM, OPENAI, UMBRELLA, Storing, hello

from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.policy import CachePolicies, CachePolicy
from edge_extproc.cache.tiered import CacheBounds, TieredCache
from edge_extproc.conversations.base import Bounds
from edge_extproc.conversations.memory import MemoryConversations
from edge_extproc.errors import PolicyUnavailable
from edge_extproc.exchange.body_shape import ShapeBounds
from edge_extproc.exchange.commands import Continue
from edge_extproc.exchange.path_router import PathRouter
from edge_extproc.exchange.prompt_size import read_prompt


def test_a_reply_of_claude_is_continued_by_its_id() -> None:
    stage = Storing().with_store()

    _, first = stage.send(hello())
    sent, second = stage.send(hello(text="And now?", previous_response_id=first["id"]))

    assert [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": "Bonjour"},
        {"role": "user", "content": "And now?"},
    ] == [{"role": m["role"], "content": _text(m)} for m in sent["messages"]]
    assert (first["id"], True) == (second["previous_response_id"], second["store"])
    assert first["id"] != second["id"]


def test_the_bounds_of_bodies_hold_for_the_whole_conversation_and_for_stored_items() -> None:
    stage = Storing().with_store()
    stage.having(shape=ShapeBounds(messages=3, values=60))
    _, first = stage.send(hello())
    _, second = stage.send(hello(text="And now?", previous_response_id=first["id"]))
    _, refused = stage.send(hello(text="Again", previous_response_id=second["id"]))
    items = [{"type": "message", "role": "user", "content": "x"}] * 20

    assert "more than 3 messages" in refused["error"]["message"]
    assert 413 == stage.ask("POST", "/v1/conversations", {"items": items})[0]


def _text(message: dict[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def test_a_conversation_of_many_turns_is_whole_at_each_turn() -> None:
    stage = Storing().with_store()
    last: dict[str, Any] = {}
    sent: Any = None
    for n in range(5):
        sent, reply = stage.send(hello(text=f"turn {n}", **last))
        last = {"previous_response_id": reply["id"]}

    assert [f"turn {n}" for n in range(5)] == [_text(m) for m in sent["messages"] if m["role"] == "user"]
    assert 9 == len(sent["messages"])


def test_a_stream_is_stored_when_it_is_complete() -> None:
    stage = Storing().with_store()

    _, events = stage.stream(hello(), CLAUDE_STREAM)
    created, completed = events[0]["response"], events[-1]["response"]
    sent, _ = stage.send(hello(text="And?", previous_response_id=completed["id"]))

    assert created["id"] == completed["id"]
    assert created["store"] is True
    assert ["Hello", "Bonjour", "And?"] == [_text(m) for m in sent["messages"]]


def test_it_is_stored_before_the_caller_has_the_last_event() -> None:
    """A caller may refer to a reply as soon as it has read it, before the stream of the connection ends."""
    stage = Storing().with_store()
    exchange = stage.exchange()
    talk(exchange, headers("/v1/responses"), body(hello(stream=True)))

    talk(exchange, answered(content_type="text/event-stream"), *chunks(*CLAUDE_STREAM, end=False))

    assert stage.store.size > 0


@pytest.mark.parametrize("parts", [CLAUDE_STREAM[:4], CLAUDE_STREAM[:-2]])
def test_a_stream_that_breaks_off_is_not_stored(parts: list[bytes]) -> None:
    stage = Storing().with_store()

    stage.stream(hello(), parts)

    assert 0 == stage.store.size


def test_an_error_is_not_stored() -> None:
    stage = Storing().with_store()
    exchange = stage.exchange()

    error = {"type": "error", "error": {"type": "overloaded_error", "message": "x"}}
    talk(exchange, headers("/v1/responses"), body(hello()), answered(529), whole(error))

    assert 0 == stage.store.size


def test_a_caller_who_wants_no_record_gets_none() -> None:
    stage = Storing().with_store()

    _, reply = stage.send(hello(store=False))

    assert (0, False) == (stage.store.size, reply["store"])


def test_another_tenant_does_not_find_it() -> None:
    stage = Storing().with_store()
    _, first = stage.send(hello())

    _, error = stage.send(hello(text="And?", previous_response_id=first["id"]), key=UMBRELLA)
    found = stage.ask("GET", f"/v1/responses/{first['id']}", key=UMBRELLA)
    deleted = stage.ask("DELETE", f"/v1/responses/{first['id']}", key=UMBRELLA)

    assert ("previous_response_not_found", "previous_response_id") == (error["error"]["code"], error["error"]["param"])
    assert [404, 404] == [found[0], deleted[0]]
    assert 200 == stage.ask("GET", f"/v1/responses/{first['id']}")[0]


def test_without_a_store_the_error_says_what_to_set() -> None:
    stage = Storing()

    _, error = stage.send(hello(text="And?", previous_response_id="resp_1"))

    assert ("invalid_request_error", "previous_response_id") == (error["error"]["type"], error["error"]["param"])
    assert "`conversations`" in error["error"]["message"]


def test_an_id_of_a_provider_passes_to_it() -> None:
    stage = Storing().with_store()

    sent, reply = stage.send(hello("responses", previous_response_id="resp_of_openai"), OPENAI)

    assert ("resp_of_openai", "resp_of_openai") == (sent["previous_response_id"], reply["id"])
    assert 0 == stage.store.size  # OpenAI stores it


def test_an_id_of_a_provider_cannot_go_to_another_one() -> None:
    stage = Storing().with_store()

    _, error = stage.send(hello(previous_response_id="resp_of_openai"))

    assert "does not store" in error["error"]["message"]


def test_a_reply_of_a_host_with_this_api_names_no_context_that_the_gateway_added() -> None:
    """The bytes of the host are passed on. A translated reply has the ids."""
    stage = Storing().with_store()
    _, first = stage.send(hello())
    _, passed_on = stage.send(hello("responses", "And?", previous_response_id=first["id"]), OPENAI)
    _, translated = stage.send(hello(text="And?", previous_response_id=first["id"]))
    status, stored = stage.ask("GET", f"/v1/responses/{passed_on['id']}")

    assert (None, first["id"]) == (passed_on.get("previous_response_id"), translated["previous_response_id"])
    assert (200, OPENAI) == (status, stored)


def test_a_stored_conversation_moves_to_openai_and_back() -> None:
    stage = Storing().with_store()

    _, first = stage.send(hello())
    sent, second = stage.send(hello("responses", "Again", previous_response_id=first["id"]), OPENAI)
    back, _ = stage.send(hello(text="Back", previous_response_id=second["id"]))

    assert "previous_response_id" not in sent
    assert ["user", "assistant", "user"] == [item["role"] for item in sent["input"]]
    assert ["Hello", "Bonjour", "Again", "Hi", "Back"] == [_text(m) for m in back["messages"]]


def test_a_deleted_reply_is_gone_and_so_is_what_continues_it() -> None:
    stage = Storing().with_store()
    _, first = stage.send(hello())
    _, second = stage.send(hello(text="And?", previous_response_id=first["id"]))

    gone = stage.ask("DELETE", f"/v1/responses/{first['id']}")
    _, error = stage.send(hello(text="More", previous_response_id=second["id"]))

    assert (200, {"id": first["id"], "object": "response", "deleted": True}) == gone
    assert 404 == stage.ask("GET", f"/v1/responses/{first['id']}")[0]
    assert "not found completely" in error["error"]["message"]


def test_it_can_be_read_again() -> None:
    stage = Storing().with_store()
    items = [{"role": "user", "content": "one"}, {"role": "user", "content": "two"}]
    _, first = stage.send(hello(text=items))  # type: ignore[arg-type]

    status, read = stage.ask("GET", f"/v1/responses/{first['id']}")
    _, page = stage.ask("GET", f"/v1/responses/{first['id']}/input_items?limit=1&order=asc")
    _, rest = stage.ask("GET", f"/v1/responses/{first['id']}/input_items?order=asc&after={page['last_id']}")

    assert (200, first) == (status, read)
    assert ("list", True, "one") == (page["object"], page["has_more"], page["data"][0]["content"][0]["text"])
    assert (False, ["two"]) == (rest["has_more"], [item["content"][0]["text"] for item in rest["data"]])


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "order=up", "after=nothing"])
def test_a_wrong_page_is_refused(query: str) -> None:
    stage = Storing().with_store()
    _, first = stage.send(hello())

    assert 400 == stage.ask("GET", f"/v1/responses/{first['id']}/input_items?{query}")[0]


@pytest.mark.parametrize("kind", [{"type": "item_reference"}, {}, {"type": None}])
def test_a_reference_to_an_item_is_replaced_by_the_item(kind: dict[str, str | None]) -> None:
    """The ai SDK of Vercel refers to each earlier output item of a stored reply. OpenAI's type is optional there."""
    stage = Storing().with_store()
    _, first = stage.send(hello())
    items = [
        {"role": "user", "content": "Hello"},
        {**kind, "id": first["output"][0]["id"]},
        {"role": "user", "content": "And?"},
    ]

    sent, _ = stage.send(hello(text=items))  # type: ignore[arg-type]
    unknown = first["output"][0]["id"][:-4] + "00ff"
    _, error = stage.send(hello(text=[{**kind, "id": unknown}]))  # type: ignore[arg-type]

    assert ["Hello", "Bonjour", "And?"] == [_text(m) for m in sent["messages"]]
    assert ("input[0].id", f"Item with id '{unknown}' not found.") == (
        error["error"]["param"],
        error["error"]["message"],
    )


def test_a_call_that_was_cut_off_is_no_context() -> None:
    stage = Storing().with_store()
    cut = {
        **CLAUDE,
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}}],
        "stop_reason": "max_tokens",
    }
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    _, first = stage.send(hello(tools=tools), cut)

    sent, _ = stage.send(hello(text="And?", previous_response_id=first["id"], tools=tools))

    assert "incomplete" == first["status"]
    assert "toolu_1" not in json.dumps(sent)


def test_tools_and_their_results_are_continued() -> None:
    stage = Storing().with_store()
    call = {
        **CLAUDE,
        "content": [{"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}],
        "stop_reason": "tool_use",
    }
    tools = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
    _, first = stage.send(hello(tools=tools), call)
    result = {"type": "function_call_output", "call_id": first["output"][0]["call_id"], "output": "2"}

    sent, _ = stage.send({"model": "claude", "input": [result], "previous_response_id": first["id"], "tools": tools})

    assert ["user", "assistant", "user"] == [m["role"] for m in sent["messages"]]
    assert "toolu_1" == sent["messages"][2]["content"][0]["tool_use_id"]


# --- conversations


def test_a_conversation_collects_its_turns() -> None:
    stage = Storing().with_store()
    status, made = stage.ask(
        "POST", "/v1/conversations", {"metadata": {"a": "b"}, "items": [{"role": "user", "content": "Before"}]}
    )
    of_it = {"conversation": made["id"]}

    _, first = stage.send(hello(**of_it))
    sent, _ = stage.send(hello(text="And?", conversation={"id": made["id"]}))
    _, items = stage.ask("GET", f"/v1/conversations/{made['id']}/items?order=asc")

    assert (200, "conversation", {"a": "b"}) == (status, made["object"], made["metadata"])
    assert {"id": made["id"]} == first["conversation"]
    texts = [_text(m) for m in sent["messages"]]
    assert "BeforeHello" == "".join(texts[:-2]).replace("\n", "")
    assert ["Bonjour", "And?"] == texts[-2:]
    assert ["Before", "Hello", "Bonjour", "And?", "Bonjour"] == [i["content"][0]["text"] for i in items["data"]]
    one = items["data"][1]
    assert (200, one) == stage.ask("GET", f"/v1/conversations/{made['id']}/items/{one['id']}")
    assert 404 == stage.ask("GET", f"/v1/conversations/{made['id']}/items/msg_none")[0]


def test_a_conversation_can_be_changed_and_deleted() -> None:
    stage = Storing().with_store()
    _, made = stage.ask("POST", "/v1/conversations", {})
    path = f"/v1/conversations/{made['id']}"

    _, changed = stage.ask("POST", path, {"metadata": {"topic": "x"}})
    _, added = stage.ask("POST", f"{path}/items", {"items": [{"role": "user", "content": "one"}]})
    _, none = stage.ask("POST", f"{path}/items", {"items": []})
    _, read = stage.ask("GET", path)
    foreign = [
        stage.ask("GET", path, key=UMBRELLA)[0],
        stage.ask("POST", f"{path}/items", {"items": []}, key=UMBRELLA)[0],
        stage.ask("POST", path, {}, key=UMBRELLA)[0],
    ]
    _, deleted = stage.ask("DELETE", path)

    assert {"topic": "x"} == changed["metadata"] == read["metadata"]
    assert ["one"] == [item["content"][0]["text"] for item in added["data"]]
    assert [] == none["data"]
    assert [404, 404, 404] == foreign
    assert {"id": made["id"], "object": "conversation.deleted", "deleted": True} == deleted
    assert 404 == stage.ask("GET", path)[0]


def test_a_conversation_is_not_found_as_a_reply() -> None:
    stage = Storing().with_store()
    _, made = stage.ask("POST", "/v1/conversations", {})

    assert 404 == stage.ask("GET", f"/v1/responses/{made['id']}")[0]
    assert 404 == stage.ask("DELETE", f"/v1/responses/{made['id']}")[0]


def test_an_unknown_conversation_is_a_404() -> None:
    stage = Storing().with_store()

    _, error = stage.send(hello(conversation="conv_" + "0" * 28))

    assert ("not_found", "conversation") == (error["error"]["code"], error["error"]["param"])


@pytest.mark.parametrize(
    "content",
    [{"metadata": []}, {"metadata": {"a": 1}}, {"items": {}}, {"items": [1]}, {"items": [{}] * 21}, b"[]", b"{"],
)
def test_a_wrong_conversation_is_refused(content: Any) -> None:
    assert 400 == Storing().with_store().ask("POST", "/v1/conversations", content)[0]


@pytest.mark.parametrize(
    "more",
    [
        {"previous_response_id": 1},
        {"previous_response_id": "a/b"},
        {"conversation": 1},
        {"conversation": {}, "previous_response_id": {}},
        {"conversation": "conv_1", "previous_response_id": "resp_1"},
    ],
)
def test_wrong_references_are_refused(more: dict[str, Any]) -> None:
    _, error = Storing().with_store().send(hello(**more))

    assert "invalid_request_error" == error["error"]["type"]


# --- other stages see the whole conversation


def test_the_cache_key_contains_the_stored_context() -> None:
    stage = Storing().with_store()
    _, one = stage.send(hello(text="One"))
    _, two = stage.send(hello(text="Two"))
    limits = CacheBounds(max_entry=1 << 20, wait=5.0, wait_of_streams=5.0)
    rules = CachePolicies(CachePolicy(max_temperature=2.0), {}, {})
    tier = MemoryTier(100, 1 << 22, 300)
    stage.having(cache=TieredCache(rules, limits, tier, None, Unheard(), lambda: stage.now))

    of_one, first = stage.send(hello(text="And?", previous_response_id=one["id"]))
    of_two, _ = stage.send(hello(text="And?", previous_response_id=two["id"]))
    again, hit = stage.send(hello(text="And?", previous_response_id=one["id"]))
    after_hit, _ = stage.send(hello(text="More", previous_response_id=hit["id"]))

    assert (True, True, None) == (of_one is not None, of_two is not None, again)
    assert first["id"] != hit["id"]
    assert ["One", "Bonjour", "And?", "Bonjour", "More"] == [_text(m) for m in after_hit["messages"]]


class Unheard:
    def cache_looked_up(self, *_: object, found: bool) -> None: ...
    def cache_wrote(self, *_: object) -> None: ...
    def cache_failed(self, *_: object) -> None: ...
    def cache_is_down(self, *_: object, down: bool) -> None: ...


def test_the_prompt_counts_the_stored_context() -> None:
    stage = Storing().with_store()
    _, first = stage.send(hello(text="word " * 500))

    exchange = stage.exchange()
    talk(exchange, headers("/v1/responses"), body(hello(text="And?", previous_response_id=first["id"])))
    call = next(iter(stage.open._by_id.values())).call
    size = read_prompt(call, stage.gateway.wire_names)

    assert size.text > 500
    assert not size.elsewhere


def test_a_context_over_the_limit_of_requests_is_refused() -> None:
    stage = Storing().with_store()
    _, first = stage.send(hello(text="word " * 500))
    limits = type(stage.gateway.body_limits)(2_000, 1 << 20)
    stage.having(body_limits=limits)

    _, error = stage.send(hello(text="And?", previous_response_id=first["id"]))

    assert "request_too_large" == error["error"]["code"]


def test_paths_of_a_provider_pass_to_it() -> None:
    """The configuration passes /v1/files to OpenAI; the same holds for responses that lie there."""
    routes = PathRouter(DIALECTS, FORMATS, ("/v1/responses",), stores=True)

    assert "passed" == routes.match("GET", "/v1/responses/resp_of_openai")[1].operation
    assert "stored" == routes.match("GET", "/v1/responses/resp_" + "0" * 28)[1].operation
    assert "stored" == routes.match("POST", "/v1/conversations")[1].operation
    assert "chat" == routes.match("POST", "/v1/responses")[1].operation


def test_without_a_store_there_are_no_such_paths() -> None:
    assert 404 == Storing().ask("GET", "/v1/responses/resp_1")[0]


class Broken(MemoryConversations):
    """A store that cannot be used; or that cannot be written to."""

    reads = False

    async def read(self, tenant: str, ids: Any) -> Any:
        if self.reads:
            return await super().read(tenant, ids)
        raise PolicyUnavailable("no store")

    async def write(self, tenant: str, id: str, block: bytes) -> None:
        raise PolicyUnavailable("no store")


def test_a_call_that_needs_the_store_fails_without_it() -> None:
    stage = Storing().with_store()
    stage.having(conversations=Broken(Bounds(1, 1, 1.0), 1, lambda: 0.0))

    _, error = stage.send(hello(previous_response_id="resp_1"))

    assert "policy_unavailable" == error["error"]["code"]


def test_a_reply_that_cannot_be_stored_reaches_its_caller() -> None:
    stage = Storing().with_store()
    stage.having(conversations=Broken(Bounds(1, 1, 1.0), 1, lambda: 0.0))

    _, reply = stage.send(hello())

    assert "completed" == reply["status"]
    assert [] == stage.bugs


def test_other_formats_are_not_concerned() -> None:
    stage = Storing().with_store()
    exchange = stage.exchange()

    _, command = talk(exchange, headers(), body({"model": "claude", "messages": [{"role": "user", "content": "x"}]}))
    talk(exchange, answered(), whole(CLAUDE))

    assert isinstance(command, Continue)
    assert 0 == stage.store.size

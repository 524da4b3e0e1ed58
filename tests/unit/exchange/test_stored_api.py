"""The API of stored responses and conversations: single items, and a response that is streamed again."""

from __future__ import annotations

import json
from typing import Any

import pytest
from player import headers, talk
from storing import CLAUDE, CLAUDE_STREAM, OPENAI, UMBRELLA, Storing, events_of, hello, sse

from edge_extproc.conversations.base import Bounds
from edge_extproc.conversations.memory import MemoryConversations
from edge_extproc.exchange.commands import ImmediateResponse

START, BLOCK, *_ = CLAUDE_STREAM
DELTAS = sse(
    *(
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}
        for text in ("Bon", "j", "our", " à tous 🎉")
    )
)
LONG = [START, BLOCK, *DELTAS, *CLAUDE_STREAM[3:]]
TOOLS = [{"type": "function", "name": "f", "parameters": {"type": "object"}}]
CALLS = sse(
    {"type": "message_start", "message": {**CLAUDE, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": "", "signature": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": " see"}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "I call"}},
    {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": " it"}},
    {"type": "content_block_stop", "index": 1},
    {
        "type": "content_block_start",
        "index": 2,
        "content_block": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
    },
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": '{"a"'}},
    {"type": "content_block_delta", "index": 2, "delta": {"type": "input_json_delta", "partial_json": ": 1}"}},
    {"type": "content_block_stop", "index": 2},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
)


# --- a response is streamed again


def again(stage: Storing, id: str, after: int | None = None) -> list[Any]:
    more = "" if after is None else f"&starting_after={after}"
    status, events = stage.ask("GET", f"/v1/responses/{id}?stream=true{more}")
    assert 200 == status
    return list(events)


@pytest.mark.parametrize(("parts", "more"), [(LONG, {}), (CALLS, {"tools": TOOLS})])
def test_a_stream_is_read_again_after_any_of_its_events(parts: list[bytes], more: dict[str, Any]) -> None:
    stage = Storing().with_store()
    _, first = stage.stream(hello(**more), parts)
    id = first[-1]["response"]["id"]

    assert len(first) > 10
    assert first == again(stage, id)
    for after in range(-1, len(first) - 1):
        assert first[after + 1 :] == again(stage, id, after)


def test_a_long_stream_is_written_off_the_event_loop() -> None:
    class Counting:
        runs = 0

        async def run(self, work: Any) -> Any:
            self.runs += 1
            return work()

    async def more_time(seconds: float) -> None:
        asked.append(seconds)

    asked: list[float] = []
    stage, runner = Storing().with_store(), Counting()
    _, first = stage.stream(hello(), LONG)
    id = first[-1]["response"]["id"]
    stage.having(large_body_runner=runner)
    exchange = stage.exchange()
    exchange.more_time = more_time
    (command,) = talk(exchange, headers(f"/v1/responses/{id}?stream=true", method="GET", end=True))

    assert isinstance(command, ImmediateResponse)
    assert first == events_of(command.body)
    assert (1, 1) == (runner.runs, len(asked))


def test_the_order_of_a_very_long_stream_is_not_kept() -> None:
    stage = Storing().with_store()
    deltas = [DELTAS[1]] * 20_001
    _, first = stage.stream(hello(), [START, BLOCK, b"".join(deltas), *CLAUDE_STREAM[3:]])

    read = again(stage, first[-1]["response"]["id"])

    assert ["j" * 20_001] == [event["delta"] for event in read if event["type"] == "response.output_text.delta"]
    assert list(range(len(read))) == [event["sequence_number"] for event in read]


def test_the_last_event_is_sent_also_after_a_higher_number() -> None:
    """A client waits for it, and it has the whole response."""
    stage = Storing().with_store()
    _, first = stage.stream(hello(), LONG)
    last = first[-1]

    assert [{**last, "sequence_number": 500}] == again(stage, last["response"]["id"], 499)


def test_a_response_that_was_no_stream_is_one_too() -> None:
    stage = Storing().with_store()
    _, first = stage.send(hello())

    events = again(stage, first["id"])

    assert ["response.created", "response.in_progress", "response.output_item.added"] == [e["type"] for e in events[:3]]
    assert list(range(len(events))) == [event["sequence_number"] for event in events]
    assert ["Bonjour"] == [event["delta"] for event in events if event["type"] == "response.output_text.delta"]
    assert ("response.completed", first) == (events[-1]["type"], events[-1]["response"])
    assert ("in_progress", []) == (events[0]["response"]["status"], events[0]["response"]["output"])
    assert events[4:] == again(stage, first["id"], 3)


def test_a_stream_of_a_host_with_events_of_its_own_is_read_again_from_its_response() -> None:
    """Its events have other numbers. The texts are whole, and the last event has the response as it was."""
    stage = Storing().with_store()
    item = OPENAI["output"][0]
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search"}}
    response = {**OPENAI, "output": [search, item], "store": True}
    events = sse(
        {"type": "response.created", "sequence_number": 0, "response": {**response, "status": "in_progress"}},
        {"type": "response.web_search_call.searching", "sequence_number": 1, "output_index": 0, "item_id": "ws_1"},
        {"type": "response.output_text.delta", "sequence_number": 2, "item_id": "msg_a", "delta": "H"},
        {"type": "response.output_text.delta", "sequence_number": 3, "item_id": "msg_a", "delta": "i"},
        {"type": "response.completed", "sequence_number": 4, "response": response},
    )
    _, before = stage.send(hello())  # so that the gateway stores what follows
    stage.stream(hello("responses", previous_response_id=before["id"]), events)

    read = again(stage, response["id"])

    assert ["Hi"] == [event["delta"] for event in read if event["type"] == "response.output_text.delta"]
    assert response == read[-1]["response"]
    assert read[-1:] == again(stage, response["id"], len(read) - 2)


def test_a_response_that_cannot_be_read_has_its_last_event() -> None:
    stage = Storing().with_store()
    odd = {**OPENAI, "output": [{**OPENAI["output"][0], "content": 7}]}
    _, before = stage.send(hello())
    stage.stream(
        hello("responses", previous_response_id=before["id"]),
        sse(
            {"type": "response.created", "sequence_number": 0, "response": {**odd, "output": []}},
            {"type": "response.completed", "sequence_number": 1, "response": odd},
        ),
    )

    (event,) = again(stage, odd["id"])

    assert ("response.completed", odd, 0) == (event["type"], event["response"], event["sequence_number"])


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("stream=yes", "stream"),
        ("starting_after=1", "starting_after"),
        ("stream=true&starting_after=x", "starting_after"),
        ("stream=true&starting_after=-2", "starting_after"),
        ("stream=true&starting_after=" + "9" * 5_000, "starting_after"),
    ],
)
def test_a_wrong_query_of_a_stream_is_refused(query: str, param: str) -> None:
    stage = Storing().with_store()
    _, first = stage.send(hello())

    status, error = stage.ask("GET", f"/v1/responses/{first['id']}?{query}")

    assert (400, param) == (status, error["error"]["param"])


def test_another_tenant_streams_nothing() -> None:
    stage = Storing().with_store()
    _, first = stage.send(hello())

    assert 404 == stage.ask("GET", f"/v1/responses/{first['id']}?stream=true", key=UMBRELLA)[0]


# --- an item of a conversation is deleted


def conversation(stage: Storing, *texts: str) -> tuple[str, list[Any]]:
    """Its path, and its items."""
    items = [{"role": "user", "content": text} for text in texts]
    _, made = stage.ask("POST", "/v1/conversations", {"metadata": {"a": "b"}, "items": items})
    path = f"/v1/conversations/{made['id']}"
    return path, stage.ask("GET", f"{path}/items?order=asc")[1]["data"]


def texts(stage: Storing, path: str) -> list[str]:
    return [item["content"][0]["text"] for item in stage.ask("GET", f"{path}/items?order=asc")[1]["data"]]


def test_a_deleted_item_is_gone_and_the_others_keep_their_ids() -> None:
    stage = Storing().with_store()
    path, items = conversation(stage, "one", "two", "three")
    stage.ask("POST", f"{path}/items", {"items": [{"role": "user", "content": "four"}]})

    status, of_conversation = stage.ask("DELETE", f"{path}/items/{items[1]['id']}")
    _, after = stage.ask("GET", f"{path}/items?order=asc")

    assert (200, "conversation", {"a": "b"}) == (status, of_conversation["object"], of_conversation["metadata"])
    assert of_conversation == stage.ask("GET", path)[1]
    assert ["one", "three", "four"] == texts(stage, path)
    assert [items[0], items[2]] == after["data"][:2]
    assert 404 == stage.ask("GET", f"{path}/items/{items[1]['id']}")[0]
    assert 404 == stage.ask("DELETE", f"{path}/items/{items[1]['id']}")[0]


def test_a_deleted_item_is_no_context_and_no_longer_in_the_store() -> None:
    stage = Storing().with_store()
    path, items = conversation(stage, "one", "a secret plan")
    size = stage.store.size

    stage.ask("DELETE", f"{path}/items/{items[1]['id']}")
    smaller = stage.store.size
    sent, _ = stage.send(hello(text="And?", conversation=path.rpartition("/")[2]))

    assert "secret plan" not in json.dumps(sent)
    assert smaller < size
    assert not any(b"secret plan" in block for block in _blocks(stage))


def _blocks(stage: Storing) -> list[bytes]:
    return [
        block
        for of_tenant in stage.store._tenants.values()
        for record in of_tenant.records.values()
        for block in record.blocks
    ]


def test_an_item_of_a_reply_is_deleted_by_its_own_id() -> None:
    stage = Storing().with_store()
    path, _ = conversation(stage, "Before")
    _, first = stage.send(hello(conversation=path.rpartition("/")[2]))

    status, _ = stage.ask("DELETE", f"{path}/items/{first['output'][0]['id']}")

    assert 200 == status
    assert ["Before", "Hello"] == texts(stage, path)
    assert 200 == stage.ask("GET", f"/v1/responses/{first['id']}")[0]  # the response itself stays


def test_a_foreign_or_unknown_item_is_not_deleted() -> None:
    stage = Storing().with_store()
    path, items = conversation(stage, "one")

    foreign = stage.ask("DELETE", f"{path}/items/{items[0]['id']}", key=UMBRELLA)
    _, unknown = stage.ask("DELETE", f"{path}/items/msg_none")
    _, lost = stage.ask("DELETE", f"/v1/conversations/conv_{'0' * 28}/items/{items[0]['id']}")

    assert 404 == foreign[0]
    assert ("invalid_request_error", "Item with id 'msg_none' not found.") == (
        unknown["error"]["type"],
        unknown["error"]["message"],
    )
    assert "Conversation with id" in lost["error"]["message"]
    assert ["one"] == texts(stage, path)


class Contended(MemoryConversations):
    """Another request deletes the first item before the first replacement."""

    first: Any = None

    async def replace(self, tenant: str, id: str, at: int, before: bytes, block: bytes) -> bool:
        if self.first is not None:
            competing, self.first = self.first, None
            competing()
        return await super().replace(tenant, id, at, before, block)


def test_two_deletions_at_once_both_hold() -> None:
    stage = Storing().with_store()
    store = Contended(Bounds(100, 1 << 20, 60.0), 1 << 22, lambda: stage.now)
    stage.having(conversations=store)
    path, items = conversation(stage, "one", "two", "three")

    def competing() -> None:
        entries = json.loads(store._tenants["acme"].records[path.rpartition("/")[2]].blocks[0])
        entries["items"][0] = None
        store._tenants["acme"].records[path.rpartition("/")[2]].blocks[0] = json.dumps(entries).encode()

    store.first = competing
    status, _ = stage.ask("DELETE", f"{path}/items/{items[1]['id']}")

    assert 200 == status
    assert ["three"] == texts(stage, path)


@pytest.mark.parametrize("metadata", [{"k" * 65: "v"}, {"k": "v" * 513}])
def test_metadata_has_the_bounds_of_the_format(metadata: dict[str, str]) -> None:
    stage = Storing().with_store()

    status, error = stage.ask("POST", "/v1/conversations", {"metadata": metadata})

    assert (400, "metadata") == (status, error["error"]["param"])

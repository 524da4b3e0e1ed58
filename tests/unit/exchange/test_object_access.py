"""Tenants that share a provider's account: each has only the objects that it made."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from player import Stage, answered, body, chunks, headers, planner, whole
from tenants import KEYS, tenants
from thoroughness import examples

from edge_extproc.cache.memory import MemoryTier
from edge_extproc.cache.policy import CachePolicies, CachePolicy
from edge_extproc.cache.tiered import CacheBounds, TieredCache
from edge_extproc.exchange.commands import Command, Continue, ImmediateResponse
from edge_extproc.exchange.events import Event, RequestBody
from edge_extproc.model.plan import Candidate, Fallback
from edge_extproc.model.stored_objects import ObjectPath, object_of, resource_name
from edge_extproc.records.memory import MemoryRecords
from edge_extproc.records.owners import ObjectOwners, ProviderAccount
from edge_extproc.routing.base import ModelTable
from edge_extproc.routing.planner import ModelRoute

JSON = ("content-type", "application/json")


def play(stage: Stage, *events: Event) -> list[Command]:
    """One whole exchange."""

    async def run() -> list[Command]:
        exchange = stage.exchange()
        commands = []
        for event in events:
            commands.append(await exchange.handle(event))
            if isinstance(commands[-1], ImmediateResponse):
                break
        exchange.closed("done")
        return commands

    commands = asyncio.run(run())
    assert [] == stage.bugs
    return commands


def ask(stage: Stage, tenant: str, path: str, content: Any = None, method: str = "POST", *more: Event) -> list[Command]:
    """A request, and `more` events of its response."""
    head = headers(path, JSON, method=method, key=KEYS[tenant], end=content is None)
    return play(stage, head, *(() if content is None else (body(content),)), *more)


def owner(stage: Stage, tenant: str, *ids: str) -> None:
    """Makes a tenant the owner of ids at all providers."""
    owners = stage.gateway.owners
    assert owners is not None
    for provider in stage.gateway.providers:
        asyncio.run(owners.record(provider, tenant, ids))


def refusal(commands: list[Command]) -> tuple[int, str] | None:
    """The status and the body of the refusal of a request; None: it passed."""
    last = commands[-1]
    return (last.status, last.body.decode()) if isinstance(last, ImmediateResponse) else None


# --- ids in requests

RESPONSES = {"model": "chat", "input": "hi"}
MESSAGES = {"model": "claude", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]}
CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
GEMINI = {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}
ASK_GEMINI = "/v1beta/models/gemini:generateContent"


def _input(item: Any) -> dict[str, Any]:
    return {**RESPONSES, "input": [item]}


def _tool(tool: Any) -> dict[str, Any]:
    return {**RESPONSES, "tools": [tool]}


def _parts(*parts: Any) -> dict[str, Any]:
    return {**MESSAGES, "messages": [{"role": "user", "content": list(parts)}]}


NAMING: Mapping[str, tuple[str, Any, str]] = {
    "previous response": ("/v1/responses", lambda id: {**RESPONSES, "previous_response_id": id}, "resp_1"),
    "conversation": ("/v1/responses", lambda id: {**RESPONSES, "conversation": id}, "conv_1"),
    "conversation as an object": ("/v1/responses", lambda id: {**RESPONSES, "conversation": {"id": id}}, "conv_1"),
    "stored prompt": ("/v1/responses", lambda id: {**RESPONSES, "prompt": {"id": id}}, "pmpt_1"),
    "item": ("/v1/responses", lambda id: _input({"type": "item_reference", "id": id}), "msg_1"),
    "item without a type": ("/v1/responses", lambda id: _input({"id": id}), "msg_1"),
    "item with a null for the type": ("/v1/responses", lambda id: _input({"type": None, "id": id}), "rs_1"),
    "image of an earlier turn": (
        "/v1/responses",
        lambda id: _input({"type": "image_generation_call", "id": id}),
        "ig_1",
    ),
    "input file": (
        "/v1/responses",
        lambda id: _input({"role": "user", "content": [{"type": "input_file", "file_id": id}]}),
        "file-1",
    ),
    "input image": (
        "/v1/responses",
        lambda id: _input({"role": "user", "content": [{"type": "input_image", "file_id": id}]}),
        "file-1",
    ),
    "file of a tool's result": (
        "/v1/responses",
        lambda id: _input(
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_id": id}]}
        ),
        "file-1",
    ),
    "vector store": ("/v1/responses", lambda id: _tool({"type": "file_search", "vector_store_ids": [id]}), "vs_1"),
    "container": ("/v1/responses", lambda id: _tool({"type": "code_interpreter", "container": id}), "cntr_1"),
    "files of a container": (
        "/v1/responses",
        lambda id: _tool({"type": "code_interpreter", "container": {"type": "auto", "file_ids": [id]}}),
        "file-1",
    ),
    "image mask": (
        "/v1/responses",
        lambda id: _tool({"type": "image_generation", "input_image_mask": {"file_id": id}}),
        "file-1",
    ),
    "chat file": (
        "/v1/chat/completions",
        lambda id: {**CHAT, "messages": [{"role": "user", "content": [{"type": "file", "file": {"file_id": id}}]}]},
        "file-1",
    ),
    "audio of an earlier reply": (
        "/v1/chat/completions",
        lambda id: {**CHAT, "messages": [{"role": "assistant", "audio": {"id": id}}, *CHAT["messages"]]},
        "audio_1",
    ),
    "anthropic container": ("/v1/messages", lambda id: {**MESSAGES, "container": id}, "container_1"),
    "anthropic container as an object": (
        "/v1/messages",
        lambda id: {**MESSAGES, "container": {"id": id, "skills": []}},
        "container_1",
    ),
    "anthropic skill": (
        "/v1/messages",
        lambda id: {**MESSAGES, "container": {"skills": [{"type": "custom", "skill_id": id}]}},
        "skill_1",
    ),
    "anthropic file": (
        "/v1/messages",
        lambda id: _parts({"type": "document", "source": {"type": "file", "file_id": id}}),
        "file_1",
    ),
    "anthropic upload": ("/v1/messages", lambda id: _parts({"type": "container_upload", "file_id": id}), "file_1"),
    "gemini cache": (ASK_GEMINI, lambda id: {**GEMINI, "cachedContent": id}, "cachedContents/1"),
    "gemini file": (
        ASK_GEMINI,
        lambda id: {"contents": [{"role": "user", "parts": [{"fileData": {"fileUri": id}}]}]},
        "https://generativelanguage.googleapis.com/v1beta/files/1",
    ),
    "gemini store": (
        ASK_GEMINI,
        lambda id: {**GEMINI, "tools": [{"fileSearch": {"fileSearchStoreNames": [id]}}]},
        "fileSearchStores/1",
    ),
    "batch input": ("/v1/batches", lambda id: {"input_file_id": id, "endpoint": "/v1/responses"}, "file-1"),
    "training file": ("/v1/fine_tuning/jobs", lambda id: {"model": "gpt-x", "training_file": id}, "file-1"),
    "files of a store": ("/v1/vector_stores", lambda id: {"file_ids": [id]}, "file-1"),
    "request of a batch": (
        "/v1/messages/batches",
        lambda id: {"requests": [{"custom_id": "1", "params": _parts({"type": "container_upload", "file_id": id})}]},
        "file_1",
    ),
    "item of a conversation": ("/v1/things", lambda id: {"items": [{"id": id}]}, "msg_1"),
    "item without a type in a nested request": ("/v1/evals", lambda id: {"request": _input({"id": id})}, "msg_1"),
    "input of a nested request": (
        "/v1/evals",
        lambda id: {"request": _input({"type": "item_reference", "id": id})},
        "msg_1",
    ),
}


def _key(id: str) -> str:
    return resource_name(id) or id


@pytest.mark.parametrize("kind", NAMING)
def test_an_object_of_another_tenant_is_as_unknown_as_one_that_does_not_exist(kind: str) -> None:
    path, build, id = NAMING[kind]
    stage = tenants()
    unknown = refusal(ask(stage, "umbrella", path, build(id)))
    owner(stage, "acme", _key(id))
    foreign = refusal(ask(stage, "umbrella", path, build(id)))

    assert unknown == foreign
    assert unknown is not None
    assert 404 == unknown[0]
    assert refusal(ask(stage, "acme", path, build(id))) is None


@pytest.mark.parametrize("kind", NAMING)
@pytest.mark.parametrize("way", ["spaces", "escapes", "first of two", "second of two"])
def test_no_spelling_of_a_body_hides_an_object(kind: str, way: str) -> None:
    path, build, id = NAMING[kind]
    stage = tenants()
    owner(stage, "acme", _key(id))
    owner(stage, "umbrella", _key(id + "own"))
    text = json.dumps(build(id))
    own = json.dumps(build(id + "own"))
    match way:
        case "spaces":
            text = json.dumps(build(id), indent=1, separators=(" ,", " : "))
        case "escapes":
            for name in (*_NAMES, "item_reference", "image_generation_call"):
                text = text.replace(f'"{name}"', '"' + "".join(f"\\u{ord(c):04x}" for c in name) + '"')
        case "first of two":
            text = text[:-1] + "," + own[1:]
        case _:
            text = own[:-1] + "," + text[1:]
    found = refusal(ask(stage, "umbrella", path, text.encode()))

    # A body with two models or lists of messages may be refused for that.
    assert found is not None
    assert found[0] in (404, 400)


_NAMES = (
    *(
        "previous_response_id",
        "conversation",
        "prompt",
        "file_id",
        "file_ids",
        "vector_store_ids",
        "container",
        "audio",
    ),
    *("input", "items"),
    *("cachedContent", "fileUri", "fileSearchStoreNames", "input_file_id", "training_file", "skill_id", "id", "type"),
)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/messages", _parts({"type": "tool_use", "id": "t", "name": "f", "input": {"file_id": "file_1"}})),
        ("/v1/messages", {**MESSAGES, "metadata": {"user_id": "u", "container": "x"}}),
        (
            "/v1/messages",
            {**MESSAGES, "tools": [{"name": "f", "input_schema": {"properties": {"file_id": {"type": "string"}}}}]},
        ),
        (
            "/v1/responses",
            {**RESPONSES, "tools": [{"type": "function", "name": "f", "parameters": {"required": ["file_id"]}}]},
        ),
        ("/v1/responses", {**RESPONSES, "metadata": {"previous_response_id": "resp_1"}}),
        (
            "/v1/responses",
            _input({"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"file_id":"x"}'}),
        ),
        ("/v1/responses", _tool({"type": "code_interpreter", "container": {"type": "auto"}})),
        ("/v1/responses", {**RESPONSES, "previous_response_id": None, "conversation": None, "prompt": None}),
        ("/v1/messages", {**MESSAGES, "container": {"skills": [{"type": "anthropic", "skill_id": "pptx"}]}}),
        ("/v1/chat/completions", {**CHAT, "audio": {"voice": "alloy", "format": "wav"}}),
        ("/v1/chat/completions", {**CHAT, "messages": [{"role": "user", "content": '{"file_id": "file-1"}'}]}),
        (
            "/v1/responses",
            _input(
                {
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "", "annotations": [{"file_id": "f"}]}],
                }
            ),
        ),
        ("/v1/responses", _input({"type": "file_search_call", "id": "fs", "results": [{"file_id": "f"}]})),
        ("/v1/responses", _input({"id": "msg_1", "role": "assistant", "content": "x"})),
        ("/v1/messages", _parts({"type": "tool_use", "id": "t", "name": "f", "input": {"input": [{"id": "x"}]}})),
        (ASK_GEMINI, {"contents": [{"parts": [{"fileData": {"fileUri": "https://youtu.be/x"}}]}]}),
        (ASK_GEMINI, {"contents": [{"parts": [{"functionCall": {"name": "f", "args": {"file_id": "x"}}}]}]}),
        (ASK_GEMINI, {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {"container": "x"}}}]}]}),
    ],
)
def test_data_of_a_caller_names_no_object(path: str, content: Any) -> None:
    assert refusal(ask(tenants(), "acme", path, content)) is None


def test_the_lines_of_an_uploaded_batch_are_read() -> None:
    stage = tenants()
    owner(stage, "acme", "resp_1")
    line = json.dumps(
        {"custom_id": "1", "url": "/v1/responses", "body": {**RESPONSES, "previous_response_id": "resp_1"}}
    )
    form = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--b\r\nContent-Disposition: form-data; '
        b'name="file"; filename="a.jsonl"\r\n\r\n{"custom_id": "0"}\n' + line.encode() + b"\n\r\n--b--\r\n"
    )

    def upload(tenant: str) -> tuple[int, str] | None:
        head = headers("/v1/files", ("content-type", "multipart/form-data; boundary=b"), key=KEYS[tenant])
        return refusal(play(stage, head, RequestBody(form, True)))

    assert upload("acme") is None
    assert 404 == (upload("umbrella") or (0,))[0]


@pytest.mark.parametrize("field", ["file_id", "file_ids[]"])
def test_a_field_of_a_form_is_read(field: str) -> None:
    stage = tenants()
    owner(stage, "acme", "file-1")
    form = f"--b\r\nContent-Disposition: form-data; name={field}\r\n\r\nfile-1\r\n--b--\r\n".encode()

    def add(tenant: str, content: bytes = form) -> tuple[int, str] | None:
        head = headers("/v1/things", ("content-type", "multipart/form-data; boundary=b"), key=KEYS[tenant])
        return refusal(play(stage, head, RequestBody(content, True)))

    assert add("acme") is None
    assert 404 == (add("umbrella") or (0,))[0]
    assert 400 == (add("acme", form.replace(b"--b--\r\n", form)) or (0,))[0]


def test_a_query_can_name_an_object() -> None:
    stage = tenants()
    owner(stage, "acme", "conv_1")

    assert 404 == (refusal(ask(stage, "umbrella", "/v1/things?conversation_id=conv_1", None, "GET")) or (0,))[0]
    assert refusal(ask(stage, "acme", "/v1/things?conversation_id=conv_1", None, "GET")) is None


def test_a_request_with_too_many_objects_is_refused() -> None:
    found = refusal(ask(tenants(), "acme", "/v1/vector_stores", {"file_ids": [f"file-{n}" for n in range(10_001)]}))

    assert 400 == (found or (0,))[0]


# --- ids in replies

OBJECTS = {
    "/v1/files": {"id": "file-1", "object": "file"},
    "/v1/batches": {"id": "batch_1", "object": "batch"},
    "/v1/uploads": {"id": "upload_1"},
    "/v1/vector_stores": {"id": "vs_1"},
    "/v1/containers": {"id": "cntr_1"},
    "/v1/conversations": {"id": "conv_1"},
    "/v1/fine_tuning/jobs": {"id": "ftjob-1"},
    "/v1/evals": {"id": "eval_1"},
    "/v1/videos": {"id": "video_1"},
    "/v1/things": {"id": "thing_1"},
    "/v1/messages/batches": {"id": "msgbatch_1"},
    "/v1beta/files": {"file": {"name": "files/1"}},
    "/v1beta/cachedContents": {"name": "cachedContents/1"},
    "/v1beta/batches": {"name": "batches/1"},
}


def _path(collection: str, made: Mapping[str, Any]) -> str:
    name = made.get("id") or made.get("name") or made["file"]["name"]
    return f"{collection}/{name.rpartition('/')[2]}"


@pytest.mark.parametrize("collection", OBJECTS)
def test_an_object_belongs_to_the_tenant_that_made_it_until_it_is_deleted(collection: str) -> None:
    stage, made = tenants(), OBJECTS[collection]
    path = _path(collection, made)
    reply = (answered(), whole(made))
    unknown = refusal(ask(stage, "umbrella", path, None, "GET"))
    assert refusal(ask(stage, "acme", collection, {"purpose": "x"}, "POST", *reply)) is None

    for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/content"), ("POST", "")):
        content = {} if method == "POST" else None
        assert 404 == (refusal(ask(stage, "umbrella", path + below, content, method)) or (0,))[0]
        assert refusal(ask(stage, "acme", path + below, content, method, *reply[:1])) is None
    assert unknown == refusal(ask(stage, "umbrella", path, None, "GET"))
    assert refusal(ask(stage, "acme", path, None, "DELETE", answered(), whole({"deleted": True}))) is None
    assert unknown == refusal(ask(stage, "acme", path, None, "GET"))


def test_a_reply_that_is_read_for_its_ids_is_billed_as_before() -> None:
    stage = tenants()
    owner(stage, "acme", "file-1")
    job = {"model": "gpt-x", "training_file": "file-1"}
    ask(stage, "acme", "/v1/fine_tuning/jobs", job, "POST", answered(), whole({"id": "ftjob-1", "model": "gpt-x"}))
    ask(stage, "acme", "/v1/files", {"purpose": "x"}, "POST", answered(), whole({"id": "file-2"}))

    assert [(None, True), (None, False)] == [(each.usage, each.unpriced) for each in stage.settled]


def test_nothing_is_recorded_from_an_error() -> None:
    stage = tenants()
    ask(stage, "acme", "/v1/files", {}, "POST", answered(400), whole({"id": "file-1"}))

    assert 404 == (refusal(ask(stage, "acme", "/v1/files/file-1", None, "GET")) or (0,))[0]


def test_a_delete_that_fails_changes_nothing() -> None:
    stage = tenants()
    owner(stage, "acme", "file-1")
    ask(stage, "acme", "/v1/files/file-1", None, "DELETE", answered(500), whole({}))

    assert refusal(ask(stage, "acme", "/v1/files/file-1", None, "GET")) is None


def test_no_reply_takes_an_object_from_its_owner() -> None:
    stage = tenants()
    owner(stage, "acme", "file-1")
    ask(stage, "umbrella", "/v1/files", {}, "POST", answered(), whole({"id": "file-1", "output_file_id": "file-1"}))

    assert 404 == (refusal(ask(stage, "umbrella", "/v1/files/file-1", None, "GET")) or (0,))[0]


@pytest.mark.parametrize(
    ("path", "reply", "ids"),
    [
        ("/v1/batches/b", {"id": "b", "output_file_id": "file-o", "error_file_id": "file-e"}, ("file-o", "file-e")),
        ("/v1/fine_tuning/jobs/b", {"id": "b", "result_files": ["file-r"]}, ("file-r",)),
        (
            "/v1/responses/b",
            {"id": "b", "output": [{"type": "code_interpreter_call", "container_id": "c_1"}]},
            ("c_1",),
        ),
    ],
)
def test_what_an_object_has_made_belongs_to_its_owner(path: str, reply: Any, ids: tuple[str, ...]) -> None:
    stage = tenants()
    owner(stage, "acme", "b")
    ask(stage, "acme", path, None, "GET", answered(), whole(reply))

    for id in ids:
        assert refusal(ask(stage, "acme", f"/v1/things/{id}", None, "GET")) is None
        assert 404 == (refusal(ask(stage, "umbrella", f"/v1/things/{id}", None, "GET")) or (0,))[0]


def test_a_completed_upload_gives_its_file_to_its_owner() -> None:
    stage = tenants()
    owner(stage, "acme", "upload_1")
    reply = {"id": "upload_1", "file": {"id": "file-1"}}
    ask(stage, "acme", "/v1/uploads/upload_1/complete", {"part_ids": []}, "POST", answered(), whole(reply))

    assert refusal(ask(stage, "acme", "/v1/files/file-1", None, "GET")) is None


def test_what_a_tenant_makes_from_its_object_is_its_own() -> None:
    stage = tenants()
    owner(stage, "acme", "video_1")
    ask(stage, "acme", "/v1/videos/video_1/remix", {"prompt": "x"}, "POST", answered(), whole({"id": "video_2"}))
    ask(stage, "acme", "/v1/videos/video_1/others", None, "GET", answered(), whole({"id": "video_3"}))

    assert [True, False] == [_has(stage, "acme", id) for id in ("video_2", "video_3")]


def test_the_items_of_a_response_are_known_when_it_is_read() -> None:
    stage = tenants()
    owner(stage, "acme", "resp_9")
    ask(stage, "acme", "/v1/responses/resp_9", None, "GET", answered(), whole(REPLY))

    assert _has(stage, "acme", "msg_9")


def test_a_whole_reply_that_becomes_a_stream_belongs_to_its_tenant() -> None:
    stage = tenants()
    ask(stage, "acme", "/v1/responses", {**RESPONSES, "stream": True}, "POST", answered(), whole(REPLY))

    assert _has(stage, "acme", "resp_9")


def test_text_of_a_caller_in_a_reply_makes_nobody_an_owner() -> None:
    stage = tenants()
    owner(stage, "acme", "b")
    reply = {"id": "b", "metadata": {"file_id": "file-1", "id": "file-1"}, "input": [{"id": "file-1"}]}
    ask(stage, "acme", "/v1/batches/b", None, "GET", answered(), whole(reply))

    assert 404 == (refusal(ask(stage, "acme", "/v1/files/file-1", None, "GET")) or (0,))[0]


def _sse(*events: Mapping[str, Any]) -> bytes:
    return b"".join(b"event: %s\ndata: %s\n\n" % (str(e["type"]).encode(), json.dumps(e).encode()) for e in events)


CONTENT = {"type": "output_text", "text": "hi", "annotations": []}
MESSAGE = {"type": "message", "id": "msg_9", "role": "assistant", "status": "completed", "content": [CONTENT]}
CODE = {"type": "code_interpreter_call", "id": "ci_9", "status": "completed", "code": "1", "container_id": "cntr_9"}
REPLY = {
    "id": "resp_9",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "model": "gpt-4o-mini",
    "output": [MESSAGE, CODE],
    "usage": {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2},
}
STREAM = _sse(
    {"type": "response.created", "sequence_number": 0, "response": {**REPLY, "status": "in_progress", "output": []}},
    {"type": "response.output_item.added", "sequence_number": 1, "output_index": 0, "item": {**MESSAGE, "content": []}},
    {
        "type": "response.content_part.added",
        "sequence_number": 2,
        "item_id": "msg_9",
        "output_index": 0,
        "content_index": 0,
        "part": {**CONTENT, "text": ""},
    },
    {
        "type": "response.output_text.delta",
        "sequence_number": 3,
        "item_id": "msg_9",
        "output_index": 0,
        "content_index": 0,
        "delta": "hi",
    },
    {"type": "response.completed", "sequence_number": 4, "response": REPLY},
)


def _has(stage: Stage, tenant: str, id: str) -> bool:
    return refusal(ask(stage, tenant, f"/v1/things/{id}", None, "GET")) is None


@given(st.lists(st.integers(0, len(STREAM)), max_size=6))
@settings(max_examples=examples(20), deadline=None)
def test_a_streamed_reply_belongs_to_its_tenant_before_its_id_is_passed_on(cuts: list[int]) -> None:
    stage = tenants()
    at = [0, *sorted(cuts), len(STREAM)]
    parts = [STREAM[a:b] for a, b in pairwise(at)]

    async def run() -> None:
        exchange = stage.exchange()
        for event in (headers("/v1/responses", JSON), body({**RESPONSES, "stream": True})):
            await exchange.handle(event)
        await exchange.handle(answered(content_type="text/event-stream"))
        passed = b""
        owners = stage.gateway.owners
        assert owners is not None
        for event in chunks(*parts):
            command = await exchange.handle(event)
            assert isinstance(command, Continue)
            passed += event.body if command.body is None else command.body
            if b"resp_9" in passed:
                assert [True] == await owners.owned("openai", "acme", ["resp_9"])
        exchange.closed("done")
        assert STREAM == passed

    asyncio.run(run())
    assert [True] * 3 == [_has(stage, "acme", id) for id in ("msg_9", "ci_9", "cntr_9")]
    assert not _has(stage, "umbrella", "resp_9")


def test_a_whole_reply_belongs_to_its_tenant() -> None:
    stage = tenants()
    commands = ask(stage, "acme", "/v1/responses", RESPONSES, "POST", answered(), whole(REPLY))

    assert Continue() == commands[-1]
    assert [True] * 4 == [_has(stage, "acme", id) for id in ("resp_9", "msg_9", "ci_9", "cntr_9")]
    assert not _has(stage, "umbrella", "resp_9")


def test_of_a_reply_that_is_not_stored_only_its_containers_are_known() -> None:
    stage = tenants()
    ask(stage, "acme", "/v1/responses", {**RESPONSES, "store": False}, "POST", answered(), whole(REPLY))

    assert [False, False, True] == [_has(stage, "acme", id) for id in ("resp_9", "msg_9", "cntr_9")]


@pytest.mark.parametrize("store", [True, False])
def test_a_chat_completion_is_an_object_only_if_it_is_stored(store: bool) -> None:
    stage = tenants()
    message = {"role": "assistant", "content": None, "audio": {"id": "audio_9", "data": "", "transcript": "hi"}}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    reply = {"id": "chatcmpl-9", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    ask(stage, "acme", "/v1/chat/completions", {**CHAT, "store": store}, "POST", answered(), whole(reply))

    assert (store, True) == (_has(stage, "acme", "chatcmpl-9"), _has(stage, "acme", "audio_9"))


class Counting:
    """Runs at once, and keeps the names of what it ran."""

    def __init__(self) -> None:
        self.ran: list[str] = []

    async def run(self, function: Any, *arguments: Any) -> Any:
        self.ran.append(getattr(getattr(function, "func", function), "__name__", "?"))
        return function(*arguments)

    run_in_turn = run


@pytest.mark.parametrize("large", [True, False])
@pytest.mark.parametrize("store", [True, False])
def test_a_large_body_is_searched_for_its_storage_off_the_event_loop(store: bool, large: bool) -> None:
    apart = Counting()
    stage = tenants().having(large_body_runner=apart)
    asked = {**RESPONSES, "input": "hi" * (200_000 if large else 1), "store": store}
    ask(stage, "acme", "/v1/responses", asked, "POST", answered(), whole(REPLY))

    assert large == ("stores_reply" in apart.ran)
    assert [store, True] == [_has(stage, "acme", id) for id in ("resp_9", "cntr_9")]


@pytest.mark.parametrize("stream", [True, False])
def test_containers_and_files_of_an_anthropic_reply_belong_to_its_tenant(stream: bool) -> None:
    stage = tenants()
    container = {"id": "container_9", "expires_at": "2026-01-01T00:00:00Z"}
    result = {"type": "code_execution_result", "content": [{"type": "code_execution_output", "file_id": "file_9"}]}
    block = {"type": "code_execution_tool_result", "tool_use_id": "t", "content": result}
    usage = {"input_tokens": 1, "output_tokens": 1}
    message = {"id": "msg_9", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
    if stream:
        wire = _sse(
            {"type": "message_start", "message": {**message, "container": container}},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": usage},
            {"type": "message_stop"},
        )
        events: tuple[Event, ...] = (answered(content_type="text/event-stream"), *chunks(wire))
    else:
        reply = {**message, "content": [block], "container": container, "stop_reason": "end_turn"}
        events = (answered(), whole(reply))
    ask(stage, "acme", "/v1/messages", {**MESSAGES, "stream": stream}, "POST", *events)

    def names(tenant: str, id: str) -> bool:
        return refusal(ask(stage, tenant, "/v1/messages", {**MESSAGES, "container": id})) is None

    assert [True, True] == [names("acme", id) for id in ("container_9", "file_9")]
    assert [False, False] == [names("umbrella", id) for id in ("container_9", "file_9")]


# --- lists

LISTS = {
    "/v1/files": lambda ids: {"object": "list", "data": [{"id": id, "n": 1} for id in ids], "has_more": False},
    "/v1/messages/batches": lambda ids: {"data": [{"id": id} for id in ids], "has_more": False},
    "/v1beta/files": lambda ids: {"files": [{"name": f"files/{id}"} for id in ids], "nextPageToken": "t"},
    "/v1beta/batches": lambda ids: {"operations": [{"name": f"batches/{id}"} for id in ids]},
    "/v1/things": lambda ids: [{"id": id} for id in ids],
}


@pytest.mark.parametrize("collection", LISTS)
@given(st.lists(st.sampled_from(["acme", "umbrella", None]), max_size=6))
@settings(max_examples=examples(10), deadline=None)
def test_a_list_has_only_the_tenants_own_objects(collection: str, makers: list[str | None]) -> None:
    stage, build = tenants(), LISTS[collection]
    prefix = f"{collection.rpartition('/')[2]}/" if "beta" in collection else ""
    for n, maker in enumerate(makers):
        if maker is not None:
            owner(stage, maker, f"{prefix}x{n}")
    reply = build([f"x{n}" for n in range(len(makers))])
    for tenant in KEYS:
        commands = ask(stage, tenant, collection, None, "GET", answered(content_type="text/plain"), whole(reply))
        last = commands[-1]
        assert isinstance(last, Continue)
        assert last.body is not None

        assert build([f"x{n}" for n, maker in enumerate(makers) if maker == tenant]) == json.loads(last.body)
        assert str(len(last.body)) == dict(last.set_headers)["content-length"]


@pytest.mark.parametrize(
    ("more", "mine", "cursors"),
    [
        (False, ["x1"], ("x1", "x1")),
        (False, [], (None, None)),
        (True, ["x1"], ("x1", "x2")),
        (True, [], (None, "x2")),
    ],
)
def test_the_cursors_of_a_list_name_own_objects_unless_they_are_needed(
    more: bool, mine: list[str], cursors: tuple[str | None, str | None]
) -> None:
    stage = tenants()
    owner(stage, "acme", *mine)
    reply = {"data": [{"id": f"x{n}"} for n in range(3)], "first_id": "x0", "last_id": "x2", "has_more": more}
    last = ask(stage, "acme", "/v1/files", None, "GET", answered(), whole(reply))[-1]
    assert isinstance(last, Continue)
    listing = json.loads(last.body or b"")

    assert (mine, cursors, more) == (
        [entry["id"] for entry in listing["data"]],
        (listing["first_id"], listing["last_id"]),
        listing["has_more"],
    )


@pytest.mark.parametrize("reply", [b"no json", b"7"])
def test_a_list_that_cannot_be_read_is_not_passed_on(reply: bytes) -> None:
    last = ask(tenants(), "acme", "/v1/files", None, "GET", answered(), whole(reply))[-1]

    assert 502 == last.status if isinstance(last, ImmediateResponse) else b"{}" == last.body  # type: ignore[union-attr]


# --- settings


def test_objects_of_the_operator_are_for_all_tenants() -> None:
    stage = tenants(shared_objects=("pmpt_*", "vs_docs"))

    for tenant in KEYS:
        asked = {**RESPONSES, "prompt": {"id": "pmpt_7"}, "tools": [{"vector_store_ids": ["vs_docs"]}]}
        assert refusal(ask(stage, tenant, "/v1/responses", asked)) is None
    assert 404 == (refusal(ask(stage, "acme", "/v1/responses", {**RESPONSES, "prompt": {"id": "x"}})) or (0,))[0]


def test_the_objects_of_a_shared_path_are_not_checked() -> None:
    stage = tenants(shared_paths=("/v1/things",))
    commands = ask(stage, "acme", "/v1/things", None, "GET", answered(), whole({"data": [{"id": "1"}]}))

    assert Continue(response_body="none") == commands[1]
    assert refusal(ask(stage, "umbrella", "/v1/things/1", None, "GET")) is None


def test_a_provider_without_a_shared_account_is_not_checked() -> None:
    stage = tenants()
    owners = ObjectOwners(MemoryRecords(), {"openai": ProviderAccount("openai")})
    stage.having(owners=owners)

    assert refusal(ask(stage, "acme", "/v1/messages", {**MESSAGES, "container": "c"})) is None
    assert refusal(ask(stage, "acme", "/v1/messages/batches/b", None, "GET")) is None
    assert 404 == (refusal(ask(stage, "acme", "/v1/files/f", None, "GET")) or (0,))[0]


def test_with_one_tenant_nothing_is_checked_and_all_is_recorded() -> None:
    stage, records = tenants(), MemoryRecords()
    account = {"openai": ProviderAccount("openai")}
    stage.having(owners=ObjectOwners(records, account, one_tenant=True))
    listing = {"data": [{"id": "file-of-before"}], "has_more": False}

    assert refusal(ask(stage, "acme", "/v1/files/file-of-before", None, "GET")) is None
    assert refusal(ask(stage, "acme", "/v1/responses", {**RESPONSES, "previous_response_id": "resp_0"})) is None
    assert Continue() == ask(stage, "acme", "/v1/files", None, "GET", answered(), whole(listing))[-1]
    ask(stage, "acme", "/v1/files", {}, "POST", answered(), whole({"id": "file-1"}))
    stage.having(owners=ObjectOwners(records, account))
    assert [True, False] == [_has(stage, tenant, "file-1") for tenant in KEYS]


def test_two_providers_of_one_account_know_the_same_objects() -> None:
    stage = tenants()
    account = ProviderAccount("openai")
    owners = ObjectOwners(MemoryRecords(), {"openai": account, "anthropic": account})
    stage.having(owners=owners)
    asyncio.run(owners.record("anthropic", "acme", ["file-1"]))

    assert refusal(ask(stage, "acme", "/v1/files/file-1", None, "GET")) is None


def test_a_call_goes_only_where_its_objects_are() -> None:
    stage = tenants()
    owners = stage.gateway.owners
    assert owners is not None
    asyncio.run(owners.record("anthropic", "acme", ["file_1"]))
    model = ModelTable({"m": [Candidate("openai", "a"), Candidate("anthropic", "b"), Candidate("google", "c")]})
    fallback = Fallback((Candidate("openai", "d"), Candidate("anthropic", "e")), (Candidate("google", "f"),))
    stage.having(models=model, planner=planner(model, rows={"m": ModelRoute(fallback=fallback)}))

    async def run() -> None:
        exchange = stage.exchange()
        asked = _parts({"type": "container_upload", "file_id": "file_1"})
        for event in (headers("/v1/messages", JSON), body({**asked, "model": "m"})):
            await exchange.handle(event)
        opened = stage.open.find(exchange.id)
        assert opened is not None
        assert (Candidate("anthropic", "b"),) == opened.plan.candidates
        assert Fallback((Candidate("anthropic", "e"),)) == opened.plan.fallback

    asyncio.run(run())


@pytest.mark.parametrize("kind", ["item_reference", "image_generation_call"])
def test_a_reference_is_checked_only_where_it_is_sent(kind: str) -> None:
    """The gateway makes the ids of the items of a translated reply. Vercel's SDK refers to them in its next request."""
    stage = tenants()
    openai = [Candidate("openai", "gpt-5.2", "openai_responses"), Candidate("openai", "gpt-5.2", "openai_chat")]
    model = ModelTable({"m": [openai[0], Candidate("anthropic", "b"), openai[1]], "native": openai[:1]})
    stage.having(models=model, planner=planner(model))
    reference = [{"role": "user", "content": "hi"}, {"type": kind, "id": "rs_1"}]

    async def run() -> None:
        exchange = stage.exchange()
        for event in (headers("/v1/responses", JSON), body({**RESPONSES, "input": reference, "model": "m"})):
            command = await exchange.handle(event)
        assert not isinstance(command, ImmediateResponse)
        opened = stage.open.find(exchange.id)
        assert opened is not None
        assert (Candidate("anthropic", "b"), openai[1]) == opened.plan.candidates

    asyncio.run(run())
    assert 404 == (refusal(ask(stage, "acme", "/v1/responses", {"model": "native", "input": reference})) or (0,))[0]


def test_a_file_beside_a_reference_is_checked_everywhere() -> None:
    stage = tenants()
    items = [
        {"type": "item_reference", "id": "rs_1"},
        {"role": "user", "content": [{"type": "input_file", "file_id": "file-1"}]},
    ]
    found = refusal(ask(stage, "acme", "/v1/responses", {"model": "claude", "input": items}))

    assert found is not None
    assert 404 == found[0]
    assert "'file-1'" in found[1]


def test_while_the_store_is_down_no_object_is_passed_on() -> None:
    stage = tenants()
    records = MemoryRecords()
    stage.having(owners=ObjectOwners(records, {"openai": ProviderAccount("openai")}))
    records.down = True
    named = {**RESPONSES, "previous_response_id": "resp_1"}

    assert 503 == (refusal(ask(stage, "acme", "/v1/responses", named)) or (0,))[0]
    assert 503 == (refusal(ask(stage, "acme", "/v1/files/f", None, "GET")) or (0,))[0]
    listed = ask(stage, "acme", "/v1/files", None, "GET", answered(), whole({"data": [{"id": "f"}]}))
    assert 503 == (refusal(listed) or (0,))[0]
    assert refusal(ask(stage, "acme", "/v1/responses", RESPONSES, "POST", answered(), whole(REPLY))) is None
    assert refusal(ask(stage, "acme", "/v1/files/f", None, "DELETE", answered(), whole({}))) is not None
    records.down = False
    assert not _has(stage, "acme", "resp_9")


class NoMetrics:
    """A listener of a cache."""

    def cache_looked_up(self, tier: str, seconds: float, *, found: bool) -> None: ...

    def cache_wrote(self, tier: str) -> None: ...

    def cache_failed(self, tier: str, why: str) -> None: ...

    def cache_is_down(self, tier: str, *, down: bool) -> None: ...


def test_a_cached_reply_about_an_object_is_not_for_another_tenant() -> None:
    shared = CachePolicies(CachePolicy(sharing="global"), {}, {})
    bounds = CacheBounds(max_entry=1 << 20, wait=0.0, wait_of_streams=0.0)
    cache = TieredCache(shared, bounds, MemoryTier(100, 1 << 22, 300), None, NoMetrics(), lambda: 1_700_000_000.0)
    stage = tenants(cache=cache)
    owner(stage, "acme", "file-1")
    file = {"type": "file", "file": {"file_id": "file-1"}}
    asked = {**CHAT, "temperature": 0, "messages": [{"role": "user", "content": [file]}]}
    choice = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}
    reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
    ask(stage, "acme", "/v1/chat/completions", asked, "POST", answered(), whole(reply))

    assert 200 == (refusal(ask(stage, "acme", "/v1/chat/completions", asked)) or (0,))[0]
    assert 404 == (refusal(ask(stage, "umbrella", "/v1/chat/completions", asked)) or (0,))[0]


# --- paths


@pytest.mark.parametrize(
    ("path", "endpoint", "expected"),
    [
        ("/v1/files", "/v1/files", ObjectPath(None)),
        ("/v1/files/a/content", "/v1/files", ObjectPath("a", True)),
        ("/v1/fine_tuning/jobs", "/v1/fine_tuning", ObjectPath(None)),
        ("/v1/fine_tuning/jobs/j/events", "/v1/fine_tuning", ObjectPath("j", True)),
        ("/v1/chat/completions/c", "/v1/chat/completions", ObjectPath("c")),
        ("/v1/responses/input_tokens", "/v1/responses", ObjectPath(None)),
        ("/v1/own/path/x", "/v1/own/path", ObjectPath("x")),
        ("/v1beta/files/a", "/v1beta/files", ObjectPath("files/a")),
        ("/v1beta/batches/a:cancel", "/v1beta/batches", ObjectPath("batches/a", True)),
        ("/v1beta/fileSearchStores/a/documents/d", "/v1beta/fileSearchStores", ObjectPath("fileSearchStores/a", True)),
    ],
)
def test_a_path_names_an_object(path: str, endpoint: str, expected: ObjectPath) -> None:
    assert expected == object_of(path, endpoint)

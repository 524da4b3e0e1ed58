"""A batch has only requests that its caller may send alone."""

from __future__ import annotations

import json
from typing import Any

import pytest
from every_dialect import EVERY_NAME
from player import DIALECTS, FORMATS, KEY, Stage, headers, planner, talk

from edge_extproc.auth.policy import AccessPolicies, AccessPolicy
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.events import RequestBody
from edge_extproc.exchange.path_router import PathRouter
from edge_extproc.model.plan import Candidate
from edge_extproc.routing.base import ModelTable, PassthroughEndpoint, PassthroughEndpoints

MODELS = ModelTable(
    {
        "small": (Candidate("openai", "small"),),
        "alias": (Candidate("openai", "gpt-big"),),
        "big": (Candidate("openai", "big"),),
        "vectors": (Candidate("openai", "vectors"),),
        "claude": (Candidate("openai", "claude"), Candidate("anthropic", "claude")),
        "haiku": (Candidate("anthropic", "haiku"),),
    }
)
POLICY = AccessPolicy(models=("small", "haiku"), features=frozenset(), max_tokens=100)
# The keys of the stage: acme's may use any model, umbrella's only claude.
UMBRELLA = "edge-key-of-umbrella"


def stage(*, restricted: bool = False) -> Stage:
    access = AccessPolicies([("acme", "tenant", "acme", POLICY)], {}, {}, EVERY_NAME) if restricted else None
    endpoints = PassthroughEndpoints(
        [
            PassthroughEndpoint("/v1/files", "openai"),
            PassthroughEndpoint("/v1/uploads", "openai"),
            PassthroughEndpoint("/v1/messages/batches", "anthropic"),
        ]
    )
    routes = PathRouter(DIALECTS, FORMATS, endpoints.paths)
    return Stage().having(models=MODELS, planner=planner(MODELS), access=access, endpoints=endpoints, routes=routes)


def line(url: str = "/v1/chat/completions", **body: Any) -> dict[str, Any]:
    asked = {"model": "small", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 10, **body}
    return {"custom_id": "a", "method": "POST", "url": url, "body": asked}


def send(on: Stage, raw: bytes, content_type: str, path: str, key: str = UMBRELLA) -> Any:
    found = on.exchange()
    commands = talk(found, headers(path, ("content-type", content_type), key=key), RequestBody(raw, True))
    found.closed("cancelled")
    return commands[-1]


def upload(on: Stage, lines: list[dict[str, Any]] | bytes, purpose: str = "batch", key: str = UMBRELLA) -> Any:
    text = lines if isinstance(lines, bytes) else b"\n".join(json.dumps(each).encode() for each in lines) + b"\n"
    parts = (
        b'--b\r\nContent-Disposition: form-data; name="purpose"\r\n\r\n%b\r\n' % purpose.encode(),
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="b.jsonl"\r\n'
        b"Content-Type: application/jsonl\r\n\r\n%b\r\n--b--\r\n" % text,
    )
    return send(on, b"".join(parts), "multipart/form-data; boundary=b", "/v1/files", key)


def message(refusal: Any, status: int) -> str:
    assert isinstance(refusal, ImmediateResponse)
    assert status == refusal.status
    text: str = json.loads(refusal.body)["error"]["message"]
    return text


def test_a_file_of_requests_that_the_caller_may_send_passes() -> None:
    lines = [line(model="claude"), line("/v1/embeddings?x=1", model="claude", input="Hi")]

    assert isinstance(upload(stage(), lines), Continue)


@pytest.mark.parametrize("model", ["small", "big", "gpt-big", "alias", "haiku"])
def test_a_file_with_a_model_that_is_not_the_callers_at_the_provider_is_refused(model: str) -> None:
    refusal = upload(stage(), [line(model="claude"), line(model=model)])

    assert message(refusal, 404).startswith(f"request 2 of the batch: there is no model {model!r}")


@pytest.mark.parametrize(
    ("wrong", "status", "why"),
    [
        (line(model="big"), 403, "request 2 of the batch: "),
        (line(model="haiku"), 404, "request 2 of the batch: there is no model 'haiku'"),
        (line(max_tokens=101), 403, "request 2 of the batch: "),
        (line(tools=[{"type": "function", "function": {"name": "f"}}]), 403, "request 2 of the batch: "),
        (line("/v1/elsewhere"), 404, "request 2 of the batch: no API at '/v1/elsewhere'"),
        ({"url": "/v1/chat/completions", "body": {"messages": []}}, 400, "request 2 of the batch: "),
        ({"custom_id": "a"}, 400, "request 2 of the batch cannot be read"),
    ],
)
def test_a_file_with_a_request_that_a_policy_forbids_is_refused(wrong: dict[str, Any], status: int, why: str) -> None:
    assert message(upload(stage(restricted=True), [line(), wrong], key=KEY), status).startswith(why)


def test_a_file_of_another_purpose_is_not_read() -> None:
    assert isinstance(upload(stage(), b"\x00 no lines", purpose="assistants"), Continue)


def test_a_caller_without_restrictions_may_send_any() -> None:
    assert isinstance(upload(stage(), [line(model="whatever")], key=KEY), Continue)


def test_a_batch_in_parts_cannot_be_checked() -> None:
    refusal = send(stage(), b'{"purpose": "batch", "bytes": 5}', "application/json", "/v1/uploads")

    assert "upload it as one file" in message(refusal, 400)


@pytest.mark.parametrize(("model", "status"), [("claude", None), ("small", 404), ("haiku", 404)])
def test_the_requests_of_a_batch_of_messages_are_checked_too(model: str, status: int | None) -> None:
    asked = {"model": model, "max_tokens": 10, "messages": [{"role": "user", "content": "Hi"}]}
    raw = json.dumps({"requests": [{"custom_id": "a", "params": asked}]}).encode()
    found = send(stage(), raw, "application/json", "/v1/messages/batches")

    if status is None:
        assert isinstance(found, Continue)
    else:
        assert message(found, status).startswith("request 1 of the batch: ")

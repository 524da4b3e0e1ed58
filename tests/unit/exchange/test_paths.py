"""The paths of the Azure client, of Bedrock's InvokeModel, and paths without a version."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from player import DIALECTS, ENDPOINTS, FORMATS, MODELS, Stage, answered, body, headers, planner, talk, whole

from edge_extproc.auth.policy import AccessPolicy
from edge_extproc.codecs import aws_eventstream
from edge_extproc.dialects.bedrock_converse.invoke import INVOKE
from edge_extproc.errors import BadRequest, Forbidden
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.exchange.path_router import PathRouter
from edge_extproc.model.fault import Fault
from edge_extproc.model.plan import Candidate
from edge_extproc.model.reply import Ended, Failed, PartDelta, PartEnded, PartStarted, ReplyStarted
from edge_extproc.routing.base import ModelTable

ROUTES = PathRouter(DIALECTS, FORMATS, ENDPOINTS.paths)
CLAUDE = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 9, "anthropic_version": "bedrock-2023-05-31"}
HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/responses", "/v1/responses"),
        ("/messages", "/v1/messages"),
        ("/messages/count_tokens", "/v1/messages/count_tokens"),
        ("/embeddings", "/v1/embeddings"),
        ("/models", "/v1/models"),
        ("/models/m", "/v1/models/m"),
        ("/models/m:generateContent", "/v1/models/m:generateContent"),
        ("/moderations", "/v1/moderations"),
        ("/openai/responses", "/v1/responses"),
        ("/openai/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/models", "/v1/models"),
        ("/v1/chat/completions", "/v1/chat/completions"),
        ("/openai/deployments/m/chat/completions", "/openai/deployments/m/chat/completions"),
        ("/elsewhere", "/elsewhere"),
        ("/openai/elsewhere", "/openai/elsewhere"),
    ],
)
def test_a_path_without_its_version_is_found(path: str, found: str) -> None:
    assert found == ROUTES.canonical(path)


def sent(path: str, content: Any, *more: tuple[str, str], stage: Stage | None = None) -> dict[str, Any]:
    """The request of the provider."""
    stage = stage or Stage()
    exchange = stage.exchange()
    commands = talk(exchange, headers(path, *more), body(content))
    exchange.closed("end")
    assert isinstance(commands[-1], Continue), commands[-1]
    found = json.loads(commands[-1].body or b"null")
    return {"path": dict(commands[-1].set_headers)[":path"], **found}


@pytest.mark.parametrize("content", [{"messages": HELLO}, {"messages": HELLO, "model": "another"}])
def test_the_model_of_a_deployments_path_counts(content: Any) -> None:
    found = sent("/openai/deployments/chat/chat/completions?api-version=2024-10-21", content)

    assert ("/v1/chat/completions", "gpt-4o-mini") == (found["path"], found["model"])


def test_embeddings_and_completions_have_such_paths_too() -> None:
    vectors = sent("/openai/deployments/vectors/embeddings?api-version=1", {"input": "a"})
    completed = sent("/openai/deployments/gpt-x/completions?api-version=1", {"prompt": "a"})

    assert ("/v1/embeddings", "text-embedding-3-small") == (vectors["path"], vectors["model"])
    assert ("/v1/completions", "gpt-x") == (completed["path"], completed["model"])


JSON_TYPE = ("content-type", "application/json")


def passed(path: str, content: bytes | dict[str, Any], *more: tuple[str, str]) -> tuple[str, bytes]:
    """The path and the body that the provider gets."""
    exchange = Stage().exchange()
    (*_, command) = talk(exchange, headers(path, *more), body(content))
    exchange.closed("end")
    assert isinstance(command, Continue), command
    return dict(command.set_headers)[":path"], command.body or b""


@pytest.mark.parametrize("operation", ["images/generations", "audio/speech"])
@pytest.mark.parametrize("content", [{"prompt": "a"}, {"prompt": "a", "model": "another"}])
def test_images_and_speech_have_such_paths(operation: str, content: dict[str, Any]) -> None:
    path, sent_body = passed(f"/openai/deployments/chat/{operation}?api-version=2025-04-01-preview", content, JSON_TYPE)

    assert f"/v1/{operation}" == path
    assert {"prompt": "a", "model": "gpt-4o-mini"} == json.loads(sent_body)


FORM = b'--X\r\ncontent-disposition: form-data; name="file"; filename="a.wav"\r\n\r\nRIFF\r\n--X--\r\n'
NAMED = b'--X\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'


@pytest.mark.parametrize("operation", ["audio/transcriptions", "audio/translations", "images/edits"])
@pytest.mark.parametrize("form", [FORM, NAMED % b"another" + FORM, b"preamble\r\n" + FORM])
def test_forms_get_the_model_of_such_a_path(operation: str, form: bytes) -> None:
    kind = ("content-type", "multipart/form-data; boundary=X")
    path, sent_body = passed(f"/openai/deployments/chat/{operation}?api-version=1", form, kind)

    assert f"/v1/{operation}" == path
    assert (form.partition(b"--X")[0] if form.startswith(b"p") else b"") + NAMED % b"gpt-4o-mini" + FORM == sent_body


def test_a_form_that_cannot_be_read_is_a_400() -> None:
    kind = ("content-type", "multipart/form-data; boundary=X")
    path = "/openai/deployments/chat/audio/translations"
    (*_, command) = talk(Stage().exchange(), headers(path, kind), body(b"no form"))

    assert isinstance(command, ImmediateResponse)
    assert 400 == command.status


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/openai/deployments/%ff/chat/completions", b"{}"),
        ("/openai/deployments/%ff/images/generations", b"{}"),
        ("/openai/deployments/chat/images/generations", b"[]"),
        ("/openai/deployments/..%2fx/chat/completions", b"{}"),
        ("/openai/deployments/chat/chat/completions", b'{"model":1,"model":2}'),
        ("/openai/deployments/chat/chat/completions", b"[]"),
    ],
)
def test_a_wrong_deployment_is_a_400(path: str, content: bytes) -> None:
    (*_, command) = talk(Stage().exchange(), headers(path), body(content))

    assert isinstance(command, ImmediateResponse)
    assert 400 == command.status


# --- InvokeModel


def test_a_body_of_claude_passes_to_claude_as_it_is() -> None:
    found = sent("/model/claude/invoke", {**CLAUDE, "anthropic_beta": ["a-beta"]}, ("anthropic-beta", "b-beta"))

    assert {
        "path": "/v1/messages",
        "model": "claude-haiku-4-5",
        "messages": CLAUDE["messages"],
        "max_tokens": 9,
    } == found


def test_its_beta_flags_become_a_header() -> None:
    call = INVOKE.read_call(
        json.dumps({**CLAUDE, "anthropic_beta": ["a", "b"]}).encode(),
        "chat",
        (("anthropic-beta", "b,c"),),
        "/model/us.anthropic.claude%3A0/invoke-with-response-stream",
    )

    assert (("a", "b", "c"), "us.anthropic.claude:0", True) == (call.betas, call.model, call.stream)
    assert ("anthropic_messages", "bedrock_converse") == (call.dialect, call.error_dialect)


@pytest.mark.parametrize("raw", [b"[]", b"{", b'{"messages":[],"messages":[]}'])
def test_a_body_that_is_no_call_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        INVOKE.read_call(raw, "chat", (), "/model/m/invoke")


@pytest.mark.parametrize("flags", ["a", [1], {}])
def test_flags_must_be_a_list(flags: Any) -> None:
    with pytest.raises(BadRequest, match="anthropic_beta"):
        INVOKE.read_call(json.dumps({**CLAUDE, "anthropic_beta": flags}).encode(), "chat", (), "/model/m/invoke")


def test_any_model_answers_a_body_of_claude() -> None:
    stage = Stage()
    exchange = stage.exchange()
    _, command, _, last = talk(
        exchange,
        headers("/model/chat/invoke"),
        body(CLAUDE),
        answered(),
        whole(
            {
                "id": "c",
                "object": "chat.completion",
                "created": 1,
                "model": "m",
                "choices": [{"index": 0, "message": {"role": "assistant", "content": "Yo"}, "finish_reason": "stop"}],
            }
        ),
    )

    assert isinstance(command, Continue)
    assert isinstance(last, Continue)
    assert "gpt-4o-mini" == json.loads(command.body or b"")["model"]
    assert [{"type": "text", "text": "Yo"}] == json.loads(last.body or b"")["content"]


def test_a_stream_has_the_frames_of_aws_and_ends_with_its_exception() -> None:
    call = INVOKE.read_call(json.dumps(CLAUDE).encode(), "chat", (), "/model/m/invoke-with-response-stream")
    events = (
        ReplyStarted("msg_1", "m"),
        PartStarted(0, "text"),
        PartDelta(0, "Yo"),
        PartEnded(0),
        Failed(Fault(529, "overloaded", "busy")),
        Ended(),
    )
    writer = INVOKE.writer(call)
    frames = aws_eventstream.EventStreamDecoder().feed(b"".join(writer.write(event) for event in events))
    payloads = [json.loads(base64.b64decode(json.loads(f.data)["bytes"])) for f in frames if f.event == "chunk"]

    assert aws_eventstream.MEDIA_TYPE == call.stream_type
    assert ["message_start", "content_block_start", "content_block_delta"] == [p["type"] for p in payloads][:3]
    assert ("serviceUnavailableException", {"message": "busy"}) == (frames[-1].event, json.loads(frames[-1].data))


def test_an_error_is_one_of_bedrock() -> None:
    (*_, command) = talk(Stage().exchange(), headers("/model/unknown/invoke"), body(CLAUDE))

    assert isinstance(command, ImmediateResponse)
    assert (404, {"message"}) == (command.status, set(json.loads(command.body)))
    assert "x-amzn-errortype" in dict(command.headers)


@pytest.mark.parametrize(
    ("content", "operation"),
    [
        (b'{"inputText":"a"}', "embeddings"),
        (json.dumps(CLAUDE).encode(), "chat"),
        (json.dumps({**CLAUDE, "tools": [{"name": "inputText", "input_schema": {}}]}).encode(), "chat"),
        (b'["inputText"]', "chat"),
    ],
)
def test_the_body_shows_what_an_invocation_is(content: bytes, operation: str) -> None:
    dialect, route = ROUTES.match("POST", "/model/m/invoke")

    assert operation == ROUTES.by_body(dialect, route, content)[1].operation


class Only:
    """The rights of a caller who may do one operation."""

    def __init__(self, operation: str) -> None:
        self.policy = AccessPolicy(operations=frozenset({operation}))

    def of(self, principal: Any) -> Any:
        return self

    def may_do(self, operation: str) -> None:
        if operation not in (self.policy.operations or ()):
            raise Forbidden(operation)

    def narrow(self, call: Any, candidates: Any) -> Any:
        self.may_do(call.operation)
        return candidates


@pytest.mark.parametrize(("may", "status"), [("chat", None), ("embeddings", 403)])
def test_the_operation_is_checked_when_the_body_shows_it(may: str, status: int | None) -> None:
    stage = Stage().having(access=Only(may))
    (*_, command) = talk(stage.exchange(), headers("/model/claude/invoke"), body(CLAUDE))

    assert status == getattr(command, "status", None)


# --- moderations


def test_moderations_without_a_model_go_where_openais_default_goes() -> None:
    models = ModelTable({**MODELS, "omni-*": [Candidate("openai", "")]})
    stage = Stage().having(models=models, planner=planner(models))

    found = sent("/moderations", {"input": "a"}, ("content-type", "application/json"), stage=stage)

    assert {"path": "/v1/moderations", "input": "a"} == found
    assert "omni-*" == stage.settled[-1].model  # the row of the configuration

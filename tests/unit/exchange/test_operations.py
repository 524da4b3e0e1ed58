"""What is asked besides chat, from headers to bill."""

import base64
import json
import struct

import pytest
from player import KEY, Stage, answered, body, chunks, headers, talk, whole

from edge_extproc.exchange.commands import CONTINUE, Continue, ImmediateResponse
from edge_extproc.exchange.events import RequestBody, RequestHeaders

SSE = "text/event-stream"
EMBEDDED = {
    "object": "list",
    "data": [
        {"object": "embedding", "index": 0, "embedding": [0.5, -0.25]},
        {"object": "embedding", "index": 1, "embedding": [1.0, 2.0]},
    ],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 7, "total_tokens": 7},
}
FORM = (
    b'--X\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n'
    b'\x00\xff\r\n--Y\r\n\r\nname="model"\r\n'
    b'--X\r\nContent-Disposition: form-data; name="model"\r\n\r\nchat\r\n--X--\r\n'
)
FORM_TYPE = ("content-type", "multipart/form-data; boundary=X")


@pytest.fixture
def stage():
    return Stage()


def run(stage, *events, why="done"):
    exchange = stage.exchange()
    commands = talk(exchange, *events)
    exchange.closed(why)
    assert [] == stage.bugs
    return commands, stage.settled[-1]


def sent(command):
    return dict(command.set_headers)


# --- embeddings


def test_embeddings_pass_and_are_metered(stage):
    events = headers("/v1/embeddings"), body({"input": ["a", "b"], "model": "vectors"}), answered(), whole(EMBEDDED)
    commands, settled = run(stage, *events)

    assert "/v1/embeddings" == sent(commands[1])[":path"]
    assert b'{"input": ["a", "b"], "model": "text-embedding-3-small"}' == commands[1].body
    assert CONTINUE == commands[3]
    assert ("ok", "embeddings", "raw", 7, 7, "openai") == (
        settled.outcome,
        settled.operation,
        settled.lane,
        settled.usage.input,
        settled.cost,
        settled.provider,
    )


def test_embeddings_cross_to_gemini_in_order_and_as_base64(stage):
    asked = body({"input": ["a", "b"], "model": "gemini-vectors", "encoding_format": "base64", "user": "me"})
    reply = {"embeddings": [{"values": [0.5, -0.25]}, {"values": [1, 2]}], "usageMetadata": {"promptTokenCount": 3}}
    commands, settled = run(stage, headers("/v1/embeddings"), asked, answered(), whole(reply))

    assert "/v1/models/gemini-embedding-001:batchEmbedContents" == sent(commands[1])[":path"]
    told = json.loads(commands[3].body)
    assert [(0.5, -0.25), (1.0, 2.0)] == [
        struct.unpack("<2f", base64.b64decode(row["embedding"])) for row in told["data"]
    ]
    assert {"prompt_tokens": 3, "total_tokens": 3} == told["usage"]
    assert ("x-edge-dropped", "user") in commands[2].set_headers
    assert ("cross", 3) == (settled.lane, settled.cost)


def test_embeddings_without_a_usage_are_estimated_and_say_so(stage):
    reply = {"embedding": {"values": [0.5]}}
    asked = body({"input": "Hello, world!", "model": "gemini-vectors"})
    commands, settled = run(stage, headers("/v1/embeddings"), asked, answered(), whole(reply))

    assert settled.estimated
    assert settled.usage.input == json.loads(commands[3].body)["usage"]["prompt_tokens"] > 0


def test_base64_is_honoured_where_the_host_answers_with_numbers(stage):
    asked = body({"input": ["a", "b"], "model": "vectors", "encoding_format": "base64"})
    commands, settled = run(stage, headers("/v1/embeddings"), asked, answered(), whole(EMBEDDED))
    told = json.loads(commands[3].body)

    assert base64.b64encode(struct.pack("<2f", 0.5, -0.25)).decode() == told["data"][0]["embedding"]
    assert EMBEDDED["usage"] == told["usage"]
    assert 7 == settled.cost


def test_tokens_by_number_are_refused_where_only_text_can_be_embedded(stage):
    commands, settled = run(stage, headers("/v1/embeddings"), body({"input": [[1, 2]], "model": "gemini-vectors"}))

    assert (400, "unsupported_field") == (commands[1].status, settled.code)


def test_an_error_of_another_format_is_told_in_the_callers_words(stage):
    error = whole({"error": {"code": 404, "message": "no such model", "status": "NOT_FOUND"}})
    asked = body({"input": "a", "model": "gemini-vectors"})
    commands, settled = run(stage, headers("/v1/embeddings"), asked, answered(404), error)

    assert "no such model" == json.loads(commands[3].body)["error"]["message"]
    assert ("upstream_error", None) == (settled.outcome, settled.cost)


def test_an_answer_that_holds_no_embeddings_is_an_error_of_the_provider(stage):
    asked = body({"input": "a", "model": "gemini-vectors"})
    commands, settled = run(stage, headers("/v1/embeddings"), asked, answered(), whole({"surprise": 1}))

    assert (502, "upstream_error") == (commands[3].status, settled.outcome)


# --- to count tokens


def asked_count(model):
    return body({"model": model, "system": "Be brief", "messages": [{"role": "user", "content": "Hello, world!"}]})


def test_a_count_passes_to_a_provider_of_the_format(stage):
    events = headers("/v1/messages/count_tokens"), asked_count("claude"), answered(), whole({"input_tokens": 3})
    commands, settled = run(stage, *events)

    assert ("/v1/messages/count_tokens", "none", "ok", None, False) == (
        sent(commands[1])[":path"],
        commands[2].response_body,
        settled.outcome,
        settled.cost,
        settled.unpriced,
    )


def test_a_count_crosses_to_gemini_and_back(stage):
    events = headers("/v1/messages/count_tokens"), asked_count("gemini"), answered(), whole({"totalTokens": 9})
    commands, settled = run(stage, *events)
    asks = json.loads(commands[1].body)["generateContentRequest"]

    assert "/v1/models/gemini-2.5-flash:countTokens" == sent(commands[1])[":path"]
    assert "models/gemini-2.5-flash" == asks["model"]
    assert "Hello, world!" == asks["contents"][0]["parts"][0]["text"]
    assert b'{"input_tokens":9}' == commands[3].body
    assert ("cross", "ok", None) == (settled.lane, settled.outcome, settled.cost)


def test_a_count_crosses_from_gemini_without_what_only_shapes_an_answer(stage):
    asked = body({"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]})
    path = "/v1beta/models/claude:countTokens"
    commands, _ = run(stage, headers(path), asked, answered(), whole({"input_tokens": 4}))

    assert {"model", "messages"} == json.loads(commands[1].body).keys()
    assert b'{"totalTokens":4}' == commands[3].body


def test_a_count_that_no_provider_can_give_is_estimated_and_says_so(stage):
    commands, settled = run(stage, headers("/v1/messages/count_tokens"), asked_count("chat"))

    assert (200, ("x-edge-estimated", "tokens")) == (commands[1].status, commands[1].headers[1])
    assert 5 < json.loads(commands[1].body)["input_tokens"] < 30
    assert ("ok", "count_tokens", 0, None) == (settled.outcome, settled.operation, settled.attempts, settled.cost)


# --- completions before chat


def test_a_completion_passes_and_is_metered(stage):
    reply = {"id": "c", "choices": [{"text": "x"}], "usage": {"prompt_tokens": 5, "completion_tokens": 2}}
    events = headers("/v1/completions"), body({"model": "chat", "prompt": "a"}), answered(), whole(reply)
    commands, settled = run(stage, *events)

    assert ("/v1/completions", "streamed", CONTINUE) == (
        sent(commands[1])[":path"],
        commands[2].response_body,
        commands[3],
    )
    assert (5, 2, 7) == (settled.usage.input, settled.usage.output, settled.cost)


def completion_chunk(**more):
    return b"data: " + json.dumps({"id": "c", "object": "text_completion", **more}).encode() + b"\n\n"


COMPLETION = (
    completion_chunk(choices=[{"text": "Hi", "index": 0, "finish_reason": None}]),
    completion_chunk(choices=[{"text": "", "index": 0, "finish_reason": "stop"}]),
    completion_chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 2}),
    b"data: [DONE]\n\n",
)


def test_a_streamed_completion_hides_the_usage_that_only_we_asked_for(stage):
    events = headers("/v1/completions"), body({"model": "chat", "prompt": "a", "stream": True})
    commands, settled = run(stage, *events, answered(content_type=SSE), *chunks(*COMPLETION))
    told = [
        command.body if command != CONTINUE else part for command, part in zip(commands[3:], COMPLETION, strict=False)
    ]

    assert {"include_usage": True} == json.loads(commands[1].body)["stream_options"]
    assert [COMPLETION[0], COMPLETION[1], b"", COMPLETION[3]] == told
    assert ("ok", "stop", 7) == (settled.outcome, settled.finish, settled.cost)


@pytest.mark.parametrize(
    ("asked", "choices"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": ["a", "b"], "n": 2}, 4),
        ({"prompt": [[1], [2], [3]], "n": 1, "best_of": 5}, 15),
    ],
)
def test_all_that_a_completion_writes_is_counted(stage, asked, choices):
    raw = json.dumps({"model": "m", **asked}).encode()

    assert choices == stage.gateway.formats["openai_completions"].read_call(raw, "POST", (), "").choices


def test_a_completion_that_breaks_off_ends_in_an_error(stage):
    events = headers("/v1/completions"), body({"model": "chat", "prompt": "a", "stream": True})
    commands, settled = run(stage, *events, answered(content_type=SSE), *chunks(*COMPLETION[:1]))

    assert b'"error"' in commands[-1].body
    assert ("broken_stream", True) == (settled.outcome, settled.estimated)


def test_a_completion_does_not_cross(stage):
    commands, settled = run(stage, headers("/v1/completions"), body({"model": "claude", "prompt": "a"}))

    assert (400, "unsupported_field") == (commands[1].status, settled.code)


# --- what is only passed on


def test_a_form_passes_byte_for_byte_but_for_the_model(stage):
    path = "/v1/audio/transcriptions"
    asked = RequestBody(FORM, True)
    commands, settled = run(
        stage,
        headers(path, FORM_TYPE),
        asked,
        answered(),
        whole({"text": "x", "usage": {"type": "tokens", "input_tokens": 4, "output_tokens": 2}}),
    )

    assert FORM.replace(b"\r\n\r\nchat\r\n", b"\r\n\r\ngpt-4o-mini\r\n") == commands[1].body
    assert "content-type" not in sent(commands[1])
    assert "content-type" not in commands[1].remove_headers
    assert str(len(commands[1].body)) == sent(commands[1])["content-length"]
    assert (path, "passed", 6) == (sent(commands[1])[":path"], settled.operation, settled.cost)


def test_sound_passes_unseen_and_is_unpriced(stage):
    events = headers("/v1/audio/speech", ("content-type", "application/json")), body({"model": "chat", "input": "a"})
    commands, settled = run(stage, *events, answered(content_type="audio/mpeg"))

    assert "none" == commands[2].response_body
    assert ("ok", None, True) == (settled.outcome, settled.cost, settled.unpriced)


def test_a_streamed_image_is_listened_to(stage):
    stream = (
        b'event: image_generation.partial_image\ndata: {"type":"image_generation.partial_image"}\n\n',
        b'data: {"type":"image_generation.completed","usage":{"input_tokens":5,"output_tokens":6}}\n\n',
    )
    events = headers("/v1/images/generations", ("content-type", "application/json")), body({"model": "chat"})
    commands, settled = run(stage, *events, answered(content_type=SSE), *chunks(*stream))

    assert [CONTINUE] * 3 == commands[3:]
    assert ("ok", 11) == (settled.outcome, settled.cost)


def test_a_request_without_a_body_goes_where_config_says(stage):
    path = "/v1/files/file-1/content?x=1"
    events = headers(path, method="GET", end=True), answered(content_type="application/octet-stream")
    commands, settled = run(stage, *events)

    asked = commands[0]
    assert isinstance(asked, Continue)
    assert (None, True) == (asked.body, asked.reroute)
    assert (path, "Bearer secret-of-openai") == (sent(asked)[":path"], sent(asked)["authorization"])
    assert not {"content-length", "content-type"} & sent(asked).keys()
    assert ("provider_openai",) == asked.order
    assert ("ok", False) == (settled.outcome, settled.unpriced)


def test_what_a_path_makes_is_made_once_and_only_where_its_row_says(stage):
    exchange = stage.exchange()
    talk(exchange, headers("/v1/files", FORM_TYPE), RequestBody(FORM, True))
    plan = stage.open.find(exchange.id).plan

    assert plan.once
    assert ["openai"] == [candidate.provider for candidate in plan.candidates]
    exchange.closed("done")
    _, settled = run(stage, headers("/v1/files", method="GET", end=True), answered())
    assert settled.model is None


def test_a_tenant_that_config_does_not_name_does_not_see_the_path(stage):
    events = headers("/v1/files", method="GET", end=True, key="edge-key-of-umbrella")
    commands, settled = run(stage, events)

    assert (404, "unknown_path") == (commands[0].status, settled.code)


def test_a_path_of_anthropics_answers_in_its_words(stage):
    error = whole({"type": "error", "error": {"type": "not_found_error", "message": "no batch"}})
    asked = headers("/v1/messages/batches/b-1", method="GET", end=True)
    commands, _ = run(stage, asked, answered(404), error)

    assert ("/v1/messages/batches/b-1", "secret-of-anthropic") == (
        sent(commands[0])[":path"],
        sent(commands[0])["x-api-key"],
    )
    assert "not_found_error" == json.loads(commands[2].body)["error"]["type"]


@pytest.mark.parametrize("path", ["/v1/files/a%2F..%2Fb", "/v1/files/..", "/v1/files/%2e%2e/models"])
def test_a_path_that_could_lead_elsewhere_is_refused(stage, path):
    commands, settled = run(stage, headers(path, method="GET", end=True))

    assert (400, "invalid_request") == (commands[0].status, settled.code)


def test_realtime_is_refused_with_its_reason(stage):
    commands, _ = run(stage, headers("/v1/realtime", method="GET", end=True))

    assert "realtime sessions do not go through this gateway" in json.loads(commands[0].body)["error"]["message"]


def test_a_path_that_nothing_routes_needs_a_model(stage):
    events = headers("/v1/moderations", ("content-type", "application/json")), body({"input": "a"})
    commands, _ = run(stage, *events)

    assert (400, "model is missing: give the name of a model") == (
        commands[1].status,
        json.loads(commands[1].body)["error"]["message"],
    )


def test_a_try_after_the_first_sends_a_form_again_and_a_bare_request_bare(stage):
    exchange = stage.exchange()
    talk(exchange, headers("/v1/audio/transcriptions", FORM_TYPE), RequestBody(FORM, True))
    again = RequestHeaders(
        ((":method", "POST"), (":path", "/v1/x"), FORM_TYPE, ("authorization", f"Bearer {KEY}")),
        True,
        {"upstream.request_attempt_count": 2},
        {"edge": {"exchange": exchange.id}},
    )
    replaced = talk(stage.attempt(), again)[0]

    assert b"gpt-4o-mini" in replaced.body
    assert "content-type" not in dict(replaced.set_headers).keys() | set(replaced.remove_headers)

    bare = stage.exchange()
    talk(bare, headers("/v1/files", method="GET", end=True))
    again = RequestHeaders(again.headers, True, again.attributes, {"edge": {"exchange": bare.id}})
    followed = talk(stage.attempt(), again)[0]

    assert isinstance(followed, Continue)
    assert "Bearer secret-of-openai" == dict(followed.set_headers)["authorization"]


# --- one model


@pytest.mark.parametrize(
    ("path", "header", "key", "expected"),
    [
        ("/v1/models/chat", None, "id", "chat"),
        ("/v1/models/claude", ("anthropic-version", "2023-06-01"), "type", "model"),
        ("/v1beta/models/gemini", ("x-goog-api-client", "x"), "name", "models/gemini"),
        ("/v1/models/gpt-org%2Fone", None, "id", "gpt-org/one"),
        ("/v1/models/gpt-org/one", None, "id", "gpt-org/one"),
    ],
)
def test_one_model_is_told_in_the_callers_shape(stage, path, header, key, expected):
    events = headers(path, *((header,) if header else ()), method="GET", end=True)
    commands, _ = run(stage, events)

    assert isinstance(commands[0], ImmediateResponse)
    assert (200, expected) == (commands[0].status, json.loads(commands[0].body)[key])


def test_a_model_that_this_caller_may_not_ask_is_not_told(stage):
    commands, _ = run(stage, headers("/v1/models/chat", method="GET", end=True, key="edge-key-of-umbrella"))

    assert 404 == commands[0].status

"""Bedrock as a host: what is signed, where calls go, and Anthropic's events in frames of AWS."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st
from player import KEY, Stage, answered, body, chunks, headers, planner, talk, whole
from recordings import body as recorded_body
from recordings import recordings
from thoroughness import examples

from edge_extproc import registry
from edge_extproc.codecs.aws_eventstream import MEDIA_TYPE, encode, event, exception
from edge_extproc.codecs.sse import SseDecoder
from edge_extproc.dialects.anthropic_messages import PLUGIN as MESSAGES
from edge_extproc.errors import BadRequest, Unavailable, UpstreamError
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.model.plan import Candidate
from edge_extproc.model.reply import Ended, Failed, fold
from edge_extproc.providers.base import ProviderSettings, UpstreamCall
from edge_extproc.providers.credentials.sigv4 import AwsKeys, SigV4
from edge_extproc.routing.base import ModelTable

URL = "https://bedrock-runtime.us-east-1.amazonaws.com"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
MOMENT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC).timestamp()
KEYS = AwsKeys("AKIDEXAMPLE", "secret", "token")


def provider(url=URL, credential=None, key="key"):
    give = (lambda: key) if key is not None else None
    return registry.load("providers", "bedrock").build(ProviderSettings("aws", url, give, {}, credential))


def asked(dialect="bedrock_converse", model=CLAUDE, raw=b'{"messages":[]}', path=None, **more):
    path = path or "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse"
    return UpstreamCall("chat", dialect, model, False, path, raw, **more)


def test_every_model_speaks_converse_and_a_claude_speaks_its_own_format_too():
    host = provider()

    assert ("bedrock_converse", "anthropic_messages") == host.formats("chat", CLAUDE)
    assert ("bedrock_converse",) == host.formats("chat", "amazon.nova-lite-v1:0")
    assert () == host.formats("embeddings", CLAUDE)


def test_a_bedrock_key_is_a_bearer():
    assert (("accept", "application/json"), ("authorization", "Bearer key")) == provider().request(asked()).headers


def test_a_host_that_lets_everybody_in_gets_no_proof():
    assert (("accept", "application/json"),) == provider(key=None).request(asked()).headers


@pytest.mark.parametrize("url", [URL, "https://vpce-1.bedrock-runtime.us-east-1.vpce.amazonaws.com:8443/base"])
def test_the_signature_covers_the_request_as_the_host_sees_it(url):
    credential = SigV4(lambda: KEYS, "us-east-1", "bedrock", lambda: MOMENT)
    request = provider(url, credential).request(asked())

    told = dict(request.headers)
    host = url.split("/")[2]
    theirs = AWSRequest("POST", f"https://{host}{request.path}", headers={"host": host}, data=request.body)
    theirs.context["timestamp"] = told["x-amz-date"]
    theirs.headers["X-Amz-Date"] = told["x-amz-date"]
    theirs.headers["X-Amz-Security-Token"] = "token"
    signer = SigV4Auth(Credentials("AKIDEXAMPLE", "secret", "token"), "bedrock", "us-east-1")
    to_sign = signer.string_to_sign(theirs, signer.canonical_request(theirs))
    assert told["authorization"].endswith("Signature=" + signer.signature(to_sign, theirs))


def test_flags_in_the_body_and_in_the_header_become_one_list():
    raw = json.dumps({"model": "m", "messages": [], "anthropic_beta": ["context-1m-2025-08-07"]}).encode()
    request = provider().request(
        asked("anthropic_messages", raw=raw, betas=("effort-2025-11-24", "context-1m-2025-08-07"))
    )

    assert ["context-1m-2025-08-07", "effort-2025-11-24"] == json.loads(request.body)["anthropic_beta"]


def test_flags_that_are_no_list_are_refused():
    with pytest.raises(BadRequest, match="anthropic_beta must be a list"):
        provider().request(asked("anthropic_messages", raw=b'{"anthropic_beta":"x"}'))


# --- Anthropic's events in frames of AWS


def chunk(value):
    payload = {"bytes": base64.b64encode(json.dumps(value).encode()).decode(), "p": "abc"}
    return event("chunk", json.dumps(payload).encode())


def unframed(wire, cuts=()):
    frames = provider().unframe("anthropic_messages", MEDIA_TYPE)
    edges = [0, *sorted(cuts), len(wire)]
    return b"".join(frames.feed(wire[begin:end]) for begin, end in pairwise(edges)) + frames.close()


def test_only_anthropics_events_are_taken_out_of_their_frames():
    assert provider().unframe("bedrock_converse", MEDIA_TYPE) is None
    assert provider().unframe("anthropic_messages", "application/json") is None


def test_a_chunk_becomes_a_server_sent_event():
    assert b'event: ping\ndata: {"type": "ping"}\n\n' == unframed(chunk({"type": "ping"}))


def test_a_new_kind_of_event_is_left_out():
    assert b"" == unframed(event("news", b"{}"))


@pytest.mark.parametrize(
    ("wire", "kind", "message"),
    [
        (exception("throttlingException", b'{"message":"slow"}'), "rate_limit_error", "slow"),
        (exception("serviceUnavailableException", b'{"message":"busy"}'), "overloaded_error", "busy"),
        (exception("modelTimeoutException", b'{"message":"late"}'), "timeout_error", "late"),
        (exception("internalServerException", b"no json"), "api_error", "the provider gave no reason"),
        (
            encode(b"", {":message-type": "error", ":error-code": "500", ":error-message": "broken"}),
            "api_error",
            "broken",
        ),
    ],
)
def test_an_exception_becomes_anthropics_error_event(wire, kind, message):
    (frame,) = SseDecoder().feed(unframed(wire))
    reader = MESSAGES.reader(MESSAGES.stream_type)
    (failed,) = [e for f in reader.frames(unframed(wire)) for e in reader.read(f)]

    assert {"type": "error", "error": {"type": kind, "message": message}} == json.loads(frame.data)
    assert isinstance(failed, Failed)
    assert message == failed.fault.message


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"bytes":"?"}', b'{"bytes":"e30="', b'{"bytes":"/w=="}'])
def test_a_chunk_that_cannot_be_read_breaks_the_stream(payload):
    with pytest.raises(UpstreamError, match="chunk that cannot be read"):
        unframed(event("chunk", payload))


def test_a_stream_torn_within_a_frame_is_broken():
    with pytest.raises(UpstreamError, match="ended within a frame"):
        unframed(chunk({"type": "ping"})[:-1])


CLAUDES = [
    r
    for r in recordings("invoke_model_stream", status=200)
    if "claude" in r["model"] and "messages" in r["request"]["body"]
]


@settings(max_examples=examples(30))
@given(data=st.data())
def test_portions_do_not_matter(data):
    wire = recorded_body(data.draw(st.sampled_from(CLAUDES))["response"])
    cuts = data.draw(st.lists(st.integers(0, len(wire)), max_size=8))

    assert unframed(wire) == unframed(wire, cuts)


def test_every_recorded_stream_of_a_claude_is_whole():
    assert CLAUDES
    for recording in CLAUDES:
        reader = MESSAGES.reader(MESSAGES.stream_type)
        sse = unframed(recorded_body(recording["response"]))
        events = [e for frame in reader.frames(sse) for e in reader.read(frame)] + reader.close()[1]

        assert isinstance(events[-1], Ended)
        reply = fold(MESSAGES.name, events)
        assert reply.usage.output > 0
        assert reply.choices[0].finish is not None


# --- the story


class Outlived:
    """A credential that has ended."""

    def headers(self, request):
        raise Unavailable("the credential for provider 'aws' has expired and could not be renewed")


def stage(*models, credential=None):
    found = Stage()
    aws = provider(credential=credential or SigV4(lambda: KEYS, "us-east-1", "bedrock", lambda: MOMENT))
    rows = {
        "bedrock": [Candidate("aws", m) for m in models],
        "both": [Candidate("aws", CLAUDE), Candidate("openai", "g")],
    }
    table = ModelTable(rows)
    return found.having(
        providers={**found.gateway.providers, "aws": aws},
        clusters={**found.gateway.clusters, "aws": "provider_aws"},
        models=table,
        planner=planner(table),
    )


HELLO = {"model": "bedrock", "messages": [{"role": "user", "content": "Hello"}]}
CONVERSED = {
    "output": {"message": {"role": "assistant", "content": [{"text": "Hi"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 5, "outputTokens": 2, "totalTokens": 7},
    "metrics": {"latencyMs": 1},
}


def test_an_openai_caller_gets_a_reply_of_converse_with_its_id_and_model():
    told = stage(CLAUDE)
    exchange = told.exchange()
    request_id = ("x-amzn-requestid", "79638e22")
    commands = talk(exchange, headers(), body(HELLO), answered(200, request_id), whole(CONVERSED))
    exchange.closed("done")

    to_provider = dict(commands[1].set_headers)
    assert "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse" == to_provider[":path"]
    assert to_provider["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/")
    assert KEY not in str(to_provider)
    reply = json.loads(commands[3].body)
    assert ("79638e22" in reply["id"], CLAUDE, "Hi", 7) == (
        True,
        reply["model"],
        reply["choices"][0]["message"]["content"],
        reply["usage"]["total_tokens"],
    )
    assert ("ok", "cross", 7) == (told.settled[-1].outcome, told.settled[-1].lane, told.settled[-1].usage.total)


def test_a_stream_of_converse_becomes_server_sent_events_with_its_id_and_model():
    told = stage(CLAUDE)
    wire = (
        event("messageStart", b'{"role":"assistant"}'),
        event("contentBlockDelta", b'{"contentBlockIndex":0,"delta":{"text":"Hi"}}'),
        event("contentBlockStop", b'{"contentBlockIndex":0}'),
        event("messageStop", b'{"stopReason":"end_turn"}'),
        event("metadata", json.dumps({"usage": CONVERSED["usage"], "metrics": {"latencyMs": 1}}).encode()),
    )
    events = answered(200, ("x-amzn-requestid", "79638e22"), content_type=MEDIA_TYPE), *chunks(*wire)
    exchange = told.exchange()
    commands = talk(exchange, headers(), body({**HELLO, "stream": True}), *events)
    exchange.closed("done")
    text = b"".join(c.body for c in commands[3:] if isinstance(c, Continue) and c.body).decode()
    assert "text/event-stream" in dict(commands[2].set_headers)["content-type"]
    assert "79638e22" in text
    assert CLAUDE in text
    assert text.endswith("data: [DONE]\n\n")
    assert 7 == told.settled[-1].usage.total


def test_an_anthropic_caller_hears_a_claude_in_its_own_words():
    told = stage(CLAUDE)
    events = [
        {"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "model": "c",
         "content": [], "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]  # fmt: skip
    exchange = told.exchange()
    request = headers("/v1/messages", ("anthropic-beta", "effort-2025-11-24, made-up"))
    answer = answered(content_type=MEDIA_TYPE), *chunks(*map(chunk, events))
    commands = talk(exchange, request, body({**HELLO, "max_tokens": 9, "stream": True}), *answer)
    exchange.closed("done")

    sent = json.loads(commands[1].body)
    assert ["effort-2025-11-24"] == sent["anthropic_beta"]
    assert ("x-edge-dropped", "anthropic-beta.made-up") in commands[2].set_headers
    text = b"".join(c.body for c in commands[3:] if isinstance(c, Continue) and c.body)
    decoder = SseDecoder()
    assert events == [json.loads(f.data) for f in [*decoder.feed(text), *decoder.close()]]
    assert ("ok", "raw", 7) == (told.settled[-1].outcome, told.settled[-1].lane, told.settled[-1].usage.total)


def test_an_error_of_aws_is_told_by_its_type_whatever_was_asked_in():
    told = stage(CLAUDE)
    exchange = told.exchange()
    error = answered(429, ("x-amzn-errortype", "ModelNotReadyException:http://x/"))
    commands = talk(
        exchange, headers("/v1/messages"), body({**HELLO, "max_tokens": 9}), error, whole({"message": "wait"})
    )
    exchange.closed("done")

    assert "overloaded_error" == json.loads(commands[3].body)["error"]["type"]


def test_a_provider_whose_credential_has_ended_is_passed_over():
    told = stage(CLAUDE, credential=Outlived())
    commands = talk(told.exchange(), headers(), body({**HELLO, "model": "both"}))

    assert "secret-of-openai" in str(commands[1].set_headers)
    (_, refusal) = talk(told.exchange(), headers(), body(HELLO))
    assert isinstance(refusal, ImmediateResponse)
    assert 503 == refusal.status
    assert "could not be renewed" in json.loads(refusal.body)["error"]["message"]


def test_a_converse_caller_keeps_its_own_bytes():
    told = stage(CLAUDE)
    raw = b'{ "messages":[{"role":"user","content":[{"text":"Hi"}]}], "unknown": 1.50 }'
    exchange = told.exchange()
    commands = talk(exchange, headers("/model/bedrock/converse"), body(raw), answered(), whole(CONVERSED))
    exchange.closed("done")

    assert raw == commands[1].body
    assert "/model/us.anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse" == dict(commands[1].set_headers)[":path"]
    assert ("ok", "raw", 7) == (told.settled[-1].outcome, told.settled[-1].lane, told.settled[-1].usage.total)


def test_a_flag_that_stays_behind_takes_its_fields_along():
    tools = [{"name": "a", "defer_loading": True, "eager_input_streaming": True, "input_schema": {}}]
    raw = json.dumps({"model": "m", "messages": [], "context_management": {}, "tools": tools}).encode()
    known = ("fine-grained-tool-streaming-2025-05-14", "context-management-2025-06-27")
    request = provider().request(asked("anthropic_messages", raw=raw, betas=("advanced-tool-use-2025-11-20", *known)))
    sent = json.loads(request.body)

    assert [{"name": "a", "input_schema": {}}] == sent["tools"]
    assert {} == sent["context_management"]
    assert ("tools[0].defer_loading", "tools[0].eager_input_streaming") == request.dropped[1:]
    assert ("anthropic-beta",) == request.removed

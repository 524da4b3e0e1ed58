"""The cache of replies on real Envoy, with the official SDKs and a real Valkey behind."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.server
import json
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor

import anthropic
import gateway as gateways
import httpx2 as httpx
import openai
import pytest
from gateway import KEY, OTHER_KEY
from valkeys import Valkey

from edge_extproc.gateway.worker_client import WorkerClient

pytestmark = pytest.mark.envoy

MODELS = """
chat: [{provider: openai, model: rehearsal}]
claude: [{provider: anthropic, model: rehearsal}]
both: [{provider: anthropic, model: rehearsal}]
only-this: [{provider: openai, model: rehearsal}]
slow: [{provider: openai, model: "rehearsal(delay=4s)"}]
slow-stream: [{provider: openai, model: "rehearsal(first=4s)"}]
cut: [{provider: openai, model: "rehearsal(end=3)"}]
"""


def config(rehearsal_url, valkey, *, workers):
    # A wait for an equal call is longer than Envoy would wait for us: we have to ask for it.
    more = f"""
    limits: {{message_timeout: 3s}}
    cache:
      redis: {{url: "{valkey.url}", budget: 2500ms}}
      single_flight: {{wait: 15s, wait_of_streams: 15s}}
      models: {{both: {{across_dialects: true}}}}
    """
    return gateways.config(rehearsal_url, more=more, models=MODELS, workers=workers)


@pytest.fixture(scope="module")
def valkey():
    with Valkey() as found:
        yield found


@pytest.fixture(scope="module")
def cached(rehearsal_url, valkey):
    """One worker, which knows at once what it has given: what it writes to Valkey comes a moment later."""
    with gateways.RunningGateway(config(rehearsal_url, valkey, workers=1)) as found:
        yield found


@pytest.fixture(scope="module")
def shared(rehearsal_url, valkey):
    with gateways.RunningGateway(config(rehearsal_url, valkey, workers=2)) as found:
        yield found


@pytest.fixture
def asks(rehearsal_url):
    """A question that nobody has asked before, and how often the provider was asked it."""

    class Question:
        def __init__(self):
            self.text = f"Hello {uuid.uuid4()}"
            self.messages = [{"role": "user", "content": self.text}]
            # Anthropic's SDK has no parameter for a temperature any more.
            self.more = {"messages": self.messages, "max_tokens": 100, "extra_body": {"temperature": 0}}

        @property
        def asked(self):
            seen = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["data"]
            return sum(self.text.encode() in base64.b64decode(each["body"]) for each in seen)

    return Question


@pytest.fixture
def openai_sdk(cached):
    with openai.OpenAI(base_url=f"{cached.url}/v1", api_key=KEY, max_retries=0, timeout=30) as client:
        yield client.chat.completions


@pytest.fixture
def anthropic_sdk(cached):
    with anthropic.Anthropic(base_url=cached.url, api_key=KEY, max_retries=0, timeout=30) as client:
        yield client.messages


def told(raw):
    return raw.headers.get("x-edge-cache"), raw.headers.get("age")


def text_of(chunks):
    return "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_an_openai_caller_hits_whole_and_as_a_stream(openai_sdk, asks, model):
    question = asks()
    first = openai_sdk.with_raw_response.create(model=model, **question.more)
    second = openai_sdk.with_raw_response.create(model=model, **question.more)
    with openai_sdk.with_streaming_response.create(model=model, stream=True, **question.more) as streamed:
        chunks = list(streamed.parse())

    assert ("miss", None) == told(first)
    assert ("hit", True) == (told(second)[0], int(told(second)[1]) < 30)
    assert ("hit", "text/event-stream") == (told(streamed)[0], streamed.headers["content-type"])
    assert first.parse() == second.parse()
    assert first.parse().choices[0].message.content == text_of(chunks)
    assert ["stop"] == [c.choices[0].finish_reason for c in chunks if c.choices and c.choices[0].finish_reason]
    assert 1 == question.asked


@pytest.mark.parametrize("model", ["chat", "claude"])
def test_an_anthropic_caller_hits_what_was_streamed(anthropic_sdk, asks, model):
    question = asks()
    with anthropic_sdk.stream(model=model, **question.more) as stream:
        first = stream.get_final_message()
    second = anthropic_sdk.with_raw_response.create(model=model, **question.more)
    with anthropic_sdk.stream(model=model, **question.more) as stream:
        third = stream.get_final_message()

    assert "hit" == told(second)[0]
    assert question.text in first.content[0].text == second.parse().content[0].text == third.content[0].text
    assert first.usage.output_tokens == second.parse().usage.output_tokens == third.usage.output_tokens > 0
    assert "end_turn" == third.stop_reason
    assert 1 == question.asked


def test_a_chat_hits_through_another_api_where_config_allows(openai_sdk, anthropic_sdk, asks):
    question = asks()
    first = anthropic_sdk.create(model="both", **question.more)
    second = openai_sdk.with_raw_response.create(model="both", **question.more)
    chunks = list(openai_sdk.create(model="both", stream=True, **question.more))

    assert "hit" == told(second)[0]
    assert first.content[0].text == second.parse().choices[0].message.content == text_of(chunks)
    assert 1 == question.asked


def test_two_tenants_never_share(cached, openai_sdk, asks):
    question = asks()
    mine = openai_sdk.with_raw_response.create(model="only-this", **question.more)
    with openai.OpenAI(base_url=f"{cached.url}/v1", api_key=OTHER_KEY, max_retries=0) as client:
        theirs = client.chat.completions.with_raw_response.create(model="only-this", **question.more)

    assert ("miss", "miss") == (told(mine)[0], told(theirs)[0])
    assert 2 == question.asked


def test_callers_control_the_cache_by_headers(openai_sdk, asks):
    question = asks()

    def ask(temperature=0, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        more = {**question.more, "extra_body": {"temperature": temperature}}
        return told(openai_sdk.with_raw_response.create(model="chat", extra_headers=named, **more))[0]

    assert "bypass" == ask(cache_control="no-store")
    assert "miss" == ask()
    assert "bypass" == ask(cache_control="no-cache")
    assert "hit" == ask(cache_control="max-age=60")
    assert 3 == question.asked
    assert "bypass" == ask(temperature=1)
    assert "miss" == ask(temperature=1, x_edge_cache_ttl="60")
    assert "hit" == ask(temperature=1, x_edge_cache_ttl="60")
    assert 5 == question.asked
    with pytest.raises(openai.BadRequestError, match="x-edge-cache-ttl is '1h'"):
        ask(x_edge_cache_ttl="1h")


def test_what_was_purged_is_asked_anew(cached, openai_sdk, asks):
    question = asks()
    first = openai_sdk.with_raw_response.create(model="chat", **question.more)
    wanted = json.dumps({"tenant": "acme", "key": first.headers["x-edge-cache-key"]}).encode()

    async def purge():
        sockets = sorted((cached.directory / ".edge" / "run").glob("worker-*.sock"))
        clients = [WorkerClient(f"unix:{path}") for path in sockets]
        try:
            return sum([await client.purge_cache(wanted) for client in clients])
        finally:
            for client in clients:
                await client.close()

    # The reply is stored after its caller has it: near in one worker, and far as soon as that was written.
    gateways.until(lambda: asyncio.run(purge()) in (1, 2))
    assert "miss" == told(openai_sdk.with_raw_response.create(model="chat", **question.more))[0]


def test_a_stream_that_broke_is_not_kept(openai_sdk, asks):
    question = asks()
    for _ in range(2):
        with contextlib.suppress(openai.APIError):
            list(openai_sdk.create(model="cut", stream=True, **question.more))

    assert 2 == question.asked


@pytest.mark.parametrize(("model", "stream"), [("slow", False), ("slow-stream", True)])
def test_equal_calls_at_one_time_ask_the_provider_once_over_all_workers(shared, asks, model, stream):
    question = asks()
    sdk = openai.OpenAI(base_url=f"{shared.url}/v1", api_key=KEY, max_retries=0, timeout=30)
    create = sdk.chat.completions.create

    def ask(_):
        if stream:
            return text_of(create(model=model, stream=True, **question.more))
        return create(model=model, **question.more).choices[0].message.content

    with sdk, ThreadPoolExecutor(8) as pool:
        answers = set(pool.map(ask, range(8)))

    assert 1 == len(answers)
    assert question.text in answers.pop()
    assert 1 == question.asked


def test_hits_cost_nothing_and_are_counted(cached, openai_sdk, asks):
    cached.all_settled()
    before = len(cached.access_lines())
    question = asks()
    for _ in range(2):
        reply = openai_sdk.create(model="chat", **question.more)
    missed, hit = cached.settled(before + 2)[before:]
    metrics = cached.metrics()

    assert ("miss", None) == (missed["cache"], missed["cache_tier"])
    assert ("hit", "0", None, reply.usage.total_tokens) == (
        hit["cache"],
        hit["cost_usd"],
        hit["tokens_output"],
        hit["saved_tokens"],
    )
    assert hit["cache_tier"] in ("memory", "flight", "redis")
    for name in (
        'edge_cache_requests_total{result="hit"',
        'edge_cache_requests_total{result="miss"',
        'edge_cache_lookups_total{found="true",tier="memory"}',
        'edge_cache_lookup_seconds_bucket{le="0.001",tier="redis"}',
        "edge_cache_entries ",
        "edge_cache_bytes ",
        'edge_cache_writes_total{tier="redis"}',
        'edge_cache_saved_tokens_total{model="chat"}',
    ):
        assert name in metrics, name


def test_another_replica_has_it_at_once_and_goes_on_without_redis(rehearsal_url, asks):
    question, other = asks(), asks()
    # A Valkey of its own: gateways of other tests would go on without theirs for a moment.
    with (
        Valkey() as valkey,
        gateways.RunningGateway(config(rehearsal_url, valkey, workers=1)) as first,
        gateways.RunningGateway(config(rehearsal_url, valkey, workers=1)) as replica,
        openai.OpenAI(base_url=f"{first.url}/v1", api_key=KEY, max_retries=0, timeout=30) as writer,
        openai.OpenAI(base_url=f"{replica.url}/v1", api_key=KEY, max_retries=0, timeout=30) as reader,
    ):
        writer.chat.completions.create(model="chat", **question.more)
        ask = reader.chat.completions.with_raw_response.create
        assert "hit" == told(ask(model="chat", **question.more))[0]
        # "flight": the writer has its reply a moment before it is stored.
        assert replica.settled(1)[0]["cache_tier"] in ("redis", "flight")
        valkey.kill()
        assert ["miss", *["hit"] * 9] == [told(ask(model="chat", **other.more))[0] for _ in range(10)]

    assert (1, 1) == (question.asked, other.asked)


class Failing(http.server.BaseHTTPRequestHandler):
    """A provider that answers, until it is told to fail."""

    fails = False
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        message = {"role": "assistant", "content": "Still here"}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        reply = {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
        body = json.dumps({"error": {"message": "down"}} if Failing.fails else reply).encode()
        self.send_response(503 if Failing.fails else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_an_old_reply_stands_in_for_a_provider_that_fails():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Failing) as provider:
        threading.Thread(target=provider.serve_forever, daemon=True).start()
        more = "cache: {ttl: 1s, stale_if_error: 1h}"
        url = f"http://127.0.0.1:{provider.server_port}"
        with gateways.RunningGateway(gateways.config(url, more=more, models=MODELS)) as running:
            question = {"model": "chat", "temperature": 0, "messages": [{"role": "user", "content": "Are you there?"}]}

            def ask(text, **more):
                asked = {**question, "messages": [{"role": "user", "content": text}], **more}
                headers = {"authorization": f"Bearer {KEY}"}
                return httpx.post(f"{running.url}/v1/chat/completions", json=asked, headers=headers, timeout=30)

            first = ask("Are you there?")
            Failing.fails = True
            while (later := ask("Are you there?")).headers["x-edge-cache"] == "hit":
                assert 200 == later.status_code
            streamed = ask("Are you there?", stream=True)
            another = ask("And you?")
        provider.shutdown()

    assert ("miss", "stale") == (first.headers["x-edge-cache"], later.headers["x-edge-cache"])
    assert (200, first.content) == (later.status_code, later.content)
    assert int(later.headers["age"]) >= 1
    assert ("stale", "text/event-stream") == (streamed.headers["x-edge-cache"], streamed.headers["content-type"])
    assert "Still here" in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert another.status_code >= 500

"""Services of guardrails on real Envoy: a webhook judges replies, and requests while the provider works on them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, RunningGateway, until

pytestmark = pytest.mark.envoy

# Replies of 40 seconds, as a stream and as a whole. Only a block ends them earlier.
MODELS = """
chat: [{provider: openai, model: rehearsal}]
claude: [{provider: anthropic, model: rehearsal}]
slow: [{provider: openai, model: "rehearsal(tokens=2000,pace=20ms)"}]
late: [{provider: openai, model: "rehearsal(delay=40s)"}]
early: [{provider: early, model: early}]
hedged:
  candidates: [{provider: openai, model: "rehearsal(delay=40s)"}, {provider: anthropic, model: rehearsal}]
  hedge: {at_least: 200ms}
both-late:
  candidates: [{provider: openai, model: "rehearsal(delay=40s)"}, {provider: anthropic, model: "rehearsal(delay=40s)"}]
  hedge: {at_least: 200ms}
"""
RULES = """
guardrails:
  rules:
    - name: replies
      service: {litellm_webhook: {url: "URL", labels: [word]}}
      on: [reply]
      action: block
      window: 50
      for: {models: [slow]}
    - name: names
      service: {litellm_webhook: {url: "URL"}}
      on: [reply]
      action: mask
      for: {models: [claude]}
    - name: during
      service: {litellm_webhook: {url: "URL", labels: [word, picture], timeout: 20s, pictures: 1KiB}}
      when: during
      action: block
      for: {models: [chat, late, early, hedged, both-late]}
    - {name: secrets, detect: {words: {words: [Falcon Nine], label: project}}, action: mask}
"""


def picture(last: bytes) -> str:
    raw = b"\x89PNG\r\n\x1a\n" + bytes(range(100)) + last
    return f"data:image/png;base64,{base64.b64encode(raw).decode()}"


BAD_PICTURE = picture(b"bad")


class Webhook:
    """LiteLLM's generic guardrail API: refuses `forbidden` and `word20`, masks `asked`, and waits at `wait`."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.may_answer = Event()
        self.begun = Event()
        """A provider at the same address has sent the headers of a reply, and not the reply."""
        self.left = Event()
        """The gateway has left that reply."""
        self.both_asked: Callable[[], object] = self.may_answer.wait
        """Waits until both candidates of a hedged call are asked."""
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                if self.path.endswith("/chat/completions"):
                    self.begin_reply()
                    return
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                body = json.dumps(webhook.answer(asked["texts"], asked["images"] or [])).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def begin_reply(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("transfer-encoding", "chunked")
                self.end_headers()
                webhook.begun.set()
                try:
                    while True:  # white space before JSON, as some hosts send it
                        self.wfile.write(b"1\r\n \r\n")
                        webhook.left.wait(0.05)
                except OSError:
                    webhook.left.set()
                    self.close_connection = True

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def answer(self, texts: list[str], images: list[str]) -> dict[str, Any]:
        self.texts += texts
        if BAD_PICTURE in images:
            return {"action": "BLOCKED", "blocked_reason": "picture"}
        if any("until both are called" in text for text in texts):
            self.both_asked()
        if any("until it begins" in text for text in texts):
            self.begun.wait(20)
        if any("wait" in text for text in texts):
            self.may_answer.wait(20)
        if any("forbidden" in text or "word20 " in text for text in texts):
            return {"action": "BLOCKED", "blocked_reason": "word"}
        masked = [text.replace("asked", "[verb]") for text in texts]
        return {"action": "NONE"} if masked == texts else {"action": "GUARDRAIL_INTERVENED", "texts": masked}


@pytest.fixture(scope="module")
def webhook() -> Iterator[Webhook]:
    found = Webhook()
    thread = Thread(target=found.server.serve_forever)
    thread.start()
    yield found
    found.may_answer.set()
    found.server.shutdown()
    found.server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def guarded(rehearsal_url: str, webhook: Webhook) -> Iterator[RunningGateway]:
    rules = RULES.replace("URL", webhook.url)
    text = gateways.config(rehearsal_url, more=rules, models=MODELS)
    early = f'providers:\n  early: {{kind: openai, base_url: "{webhook.url}/v1", api_key: sk-early, api: chat}}\n'
    with RunningGateway(text.replace("providers:\n", early)) as found:
        yield found


def post(gateway: RunningGateway, path: str, model: str, text: str, **more: Any) -> httpx.Response:
    call = {"model": model, "max_tokens": 4000, "messages": [{"role": "user", "content": text}], **more}
    return httpx.post(f"{gateway.url}{path}", headers={"authorization": f"Bearer {KEY}"}, json=call, timeout=30)


def text_of(stream: str) -> str:
    events = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    chat = "".join(choice["delta"].get("content") or "" for each in events for choice in each.get("choices", ()))
    return chat + "".join(each["delta"].get("text", "") for each in events if each.get("type") == "content_block_delta")


def abandoned(rehearsal_url: str) -> int:
    count: int = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["tally"].get("abandoned", 0)
    return count


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_stream_that_a_webhook_blocks_ends_and_its_upstream_request_is_reset(
    guarded: RunningGateway, rehearsal_url: str, path: str
) -> None:
    before = abandoned(rehearsal_url)
    reply = post(guarded, path, "slow", "count", stream=True)

    assert reply.status_code == 200
    assert text_of(reply.text).endswith("word16 word17")
    assert ('"content_filter"' if "chat" in path else '"refusal"') in reply.text
    assert ("data: [DONE]" if "chat" in path else "event: message_stop") in reply.text
    until(lambda: abandoned(rehearsal_url) == before + 1)


@pytest.mark.parametrize("stream", [False, True])
def test_a_webhook_masks_a_reply_and_sees_no_value(guarded: RunningGateway, webhook: Webhook, stream: bool) -> None:
    reply = post(guarded, "/v1/messages", "claude", "Falcon Nine", stream=stream)

    assert reply.status_code == 200
    assert "You [verb]: Falcon Nine" in reply.text
    assert "asked" not in reply.text
    assert any("PROJECT_" in text for text in webhook.texts)
    assert not any("Falcon Nine" in text for text in webhook.texts)


def test_the_caller_gets_no_byte_before_the_verdict(
    guarded: RunningGateway, rehearsal_url: str, webhook: Webhook
) -> None:
    def reached() -> bool:
        seen = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["data"]
        return any(b"please wait" in base64.b64decode(each["body"]) for each in seen)

    with ThreadPoolExecutor() as pool:
        reply = pool.submit(post, guarded, "/v1/chat/completions", "chat", "please wait", stream=True)
        until(reached)
        assert not reply.done()
        webhook.may_answer.set()
        assert "You asked: please wait" in text_of(reply.result().text)


def test_a_block_ends_a_call_before_its_provider_answers(guarded: RunningGateway, rehearsal_url: str) -> None:
    before = abandoned(rehearsal_url)
    reply = post(guarded, "/v1/chat/completions", "late", "a forbidden word")

    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "content_filter"
    assert "'during'" in reply.json()["error"]["message"]
    assert reply.headers["x-edge-guardrails"] == "during=block"
    until(lambda: abandoned(rehearsal_url) == before + 1)


def test_a_block_ends_a_call_whose_complete_reply_has_only_begun(guarded: RunningGateway, webhook: Webhook) -> None:
    reply = post(guarded, "/v1/chat/completions", "early", "a forbidden word, until it begins")

    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "content_filter"
    assert webhook.left.wait(20)


@pytest.mark.parametrize(("last", "status"), [(b"bad", 400), (b"good", 200), (b"!" * 1024, 503)])
def test_a_webhook_judges_pictures(guarded: RunningGateway, last: bytes, status: int) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": picture(last)}}]
    call = {"model": "chat", "messages": [{"role": "user", "content": parts}]}
    reply = httpx.post(
        f"{guarded.url}/v1/chat/completions", headers={"authorization": f"Bearer {KEY}"}, json=call, timeout=30
    )

    assert reply.status_code == status
    if status == 503:  # as the rule fails closed
        assert "at most 1024 bytes of pictures" in reply.json()["error"]["message"]


def asked(rehearsal_url: str, text: str) -> int:
    seen = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["data"]
    return sum(text.encode() in base64.b64decode(each["body"]) for each in seen)


def test_the_faster_try_of_a_hedged_call_waits_for_the_verdict(
    guarded: RunningGateway, rehearsal_url: str, webhook: Webhook
) -> None:
    text = "hedge it until both are called"
    webhook.both_asked = lambda: until(lambda: asked(rehearsal_url, text) == 2)
    before = abandoned(rehearsal_url)
    reply = post(guarded, "/v1/chat/completions", "hedged", text, stream=True)

    assert f"You asked: {text}" in text_of(reply.text)
    assert asked(rehearsal_url, text) == 2
    until(lambda: abandoned(rehearsal_url) == before + 1)


@pytest.mark.parametrize("model", ["hedged", "both-late"])
def test_a_block_ends_both_tries_of_a_hedged_call(
    guarded: RunningGateway, rehearsal_url: str, webhook: Webhook, model: str
) -> None:
    text = f"a forbidden word of {model}, until both are called"
    webhook.both_asked = lambda: until(lambda: asked(rehearsal_url, text) == 2)
    before = abandoned(rehearsal_url)
    reply = post(guarded, "/v1/chat/completions", model, text, stream=True)

    assert reply.status_code == 400
    assert reply.json()["error"]["code"] == "content_filter"
    assert "You asked" not in reply.text
    until(lambda: abandoned(rehearsal_url) == before + (2 if model == "both-late" else 1))

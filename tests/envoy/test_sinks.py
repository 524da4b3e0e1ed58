"""Secrets and personal data go in through every field, header, body and error path, with everything logged that can be;
no sink shows any of them: not the agent's output nor Envoy's, no metric, no page of the admin port, no trace."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, OTHER_KEY, RunningGateway, until
from otlp import Collector
from ports import free_port

from edge_extproc.config.secrets import generate_key

pytestmark = pytest.mark.envoy

CANARIES = {
    "email": "canary.bird@mine.example.org",
    "phone": "+1 415 555 2671",
    "ssn": "123-45-6789",
    "card": "4111 1111 1111 1111",
    "openai key": "sk-proj-CanaryCanary0123456789",
    "anthropic key": "sk-ant-api03-CanaryCanary0123456789",
    "google key": "AIza" + "SyCanaryCanary0123456789abcdefghijk",
    "our key": generate_key(),
    "bearer": "Bearer canaryOpaqueToken0123456789",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJjYW5hcnkifQ.c2lnbmF0dXJlLW9mLWNhbmFyeQ",
    "ip": "203.0.113.77",
}
# What must not be found; the callers' and providers' own keys among them.
HIDDEN = {
    **{name: text.removeprefix("Bearer ") for name, text in CANARIES.items()},
    **{f"{name} in a URL": quote(CANARIES[name], safe="") for name in ("email", "phone", "card")},
    "caller": KEY,
    "other caller": OTHER_KEY,
    "provider": "sk-provider-openai",
    "second provider": "sk-ant-provider",
    "pepper": gateways.PEPPER,
}
ALL = " and ".join(CANARIES.values())
MODELS = """
chat: [{provider: openai, model: rehearsal}]
claude: [{provider: anthropic, model: rehearsal}]
"error": [{provider: openai, model: rehearsal-400}]
"failing": [{provider: openai, model: rehearsal-503}]
"cut": [{provider: openai, model: "rehearsal(cut=3)"}]
"broken": [{provider: openai, model: "rehearsal(malformed=2)"}]
"html": [{provider: openai, model: "rehearsal(status=502,body=html)"}]
"nobody": [{provider: down}]
"""


def bodies() -> Iterator[dict[str, Any]]:
    """A canary in every place that a call has."""
    said = [{"role": "system", "content": ALL}, {"role": "user", "content": [{"type": "text", "text": ALL}]}]
    for model in ("chat", "claude", "error", "failing", "cut", "broken", "html", "nobody"):
        for stream in (False, True):
            yield {"model": model, "messages": said, "stream": stream, "user": ALL, "metadata": {"who": ALL}}
    plain: dict[str, Any] = {"model": "chat", "messages": said}
    yield {**plain, "model": ALL}
    yield {**plain, ALL: ALL}
    yield {**plain, "temperature": ALL}
    yield {**plain, "messages": [{"role": ALL, "content": ALL}]}
    yield {**plain, "messages": ALL}
    yield {**plain, "stop": [ALL], "seed": ALL}
    yield {**plain, "tools": [{"type": "function", "function": {"name": ALL, "description": ALL, "parameters": ALL}}]}
    yield {**plain, "model": "claude", "logit_bias": {ALL: 1}, "response_format": {"type": ALL}}
    image = {"type": "image_url", "image_url": {"url": f"https://{CANARIES['ip']}/{CANARIES['openai key']}"}}
    yield {**plain, "messages": [{"role": "user", "content": [image]}]}


def headers() -> Iterator[dict[str, str]]:
    """A canary in headers that we read, and in one that we do not."""
    good = {"authorization": f"Bearer {KEY}"}
    for name in (
        *("x-request-id", "user-agent", "cookie", "x-custom", "traceparent", "tracestate", "idempotency-key"),
        *("anthropic-beta", "openai-beta", "accept", "content-encoding", "x-forwarded-for", "x-edge-cache"),
        *("x-client-trace-id", "baggage", "referer", "cache-control", "x-edge-exchange", "content-type"),
    ):
        yield {**good, name: ALL}
    for value in CANARIES.values():
        yield {"authorization": value if value.startswith("Bearer") else f"Bearer {value.replace(' ', '')}"}
        yield {"x-api-key": value}
        yield {**good, "x-api-key": value}


def later_line_is_there(gateway: RunningGateway) -> bool:
    """Sends one more request. Whether Envoy has written the line of one of these."""
    httpx.patch(gateway.url)
    return any(line["method"] == "PATCH" for line in gateway.envoy_lines())


def send(gateway: RunningGateway) -> None:
    chat = {"model": "chat", "messages": [{"role": "user", "content": ALL}]}
    # A connection for each: on one that Envoy has just closed, a request would be lost without a line.
    one_each = httpx.Limits(max_keepalive_connections=0)
    with httpx.Client(base_url=gateway.url, timeout=30, limits=one_each) as client:

        def post(path: str, **how: Any) -> None:
            # A stream that breaks off, or a request that Envoy hangs up on.
            with contextlib.suppress(httpx.HTTPError):
                client.post(path, **how)

        good = {"authorization": f"Bearer {KEY}"}
        for body in bodies():
            post("/v1/chat/completions", json=body, headers=good)
            post("/v1/messages", json={**body, "max_tokens": 10}, headers=good)
        for each in headers():
            post("/v1/chat/completions", content=json.dumps(chat), headers={"content-type": "application/json", **each})
        secret = CANARIES["openai key"]
        post("/v1/chat/completions", content=f'{{"model": "{ALL}', headers=good)
        post(f"/v1/{secret}/{CANARIES['email']}?key={CANARIES['google key']}&ip={CANARIES['ip']}", headers=good)
        for each in ("email", "phone", "card"):
            post(f"/v1/{quote(CANARIES[each], safe='')}/x", headers=good)
        post(f"/v1beta/models/{secret}:generateContent?key={CANARIES['google key']}", json={"contents": ALL})
        post("/v1/chat/completions", json=chat, headers={"authorization": f"Bearer {OTHER_KEY}"})
        # A caller who leaves in the middle of his request.
        host, port = gateway.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as gone:
            gone.sendall(f"POST /v1/chat/completions HTTP/1.1\r\nhost: {secret}\r\nx-a: {ALL}\r\n\r\n{ALL}".encode())


def test_no_sink_shows_what_nobody_may_see(rehearsal_url: str) -> None:
    with Collector() as collector:
        more = f"""
        telemetry:
          log: {{level: debug}}
          otlp: {{endpoint: "{collector.grpc}", content: true, attributes: [langfuse, openinference]}}
        retries: {{attempts: 2, back_off: {{base: 10ms, max: 20ms}}}}
        cache: {{}}
        envoy: {{log_level: debug}}
        """
        down = f"  down: {{kind: openai, base_url: 'http://127.0.0.1:{free_port()}/v1', api_key: x}}\n"
        text = gateways.config(rehearsal_url, more=more, models=MODELS).replace(
            "providers:\n", f"providers:\n{down}", 1
        )
        with RunningGateway(text.replace('"*": [{provider: openai}]', '"*-such": [{provider: openai}]')) as gateway:
            send(gateway)
            gateway.all_settled()
            # Envoy writes its log every second, in order. A line can be torn: its processes share one pipe.
            until(lambda: later_line_is_there(gateway))
            with httpx.Client(base_url=gateway.admin) as admin:
                pages = [admin.get(path).text for path in ("/metrics", "/metrics/envoy", "/readyz", "/healthz")]
            facts = [line["edge"] for line in gateway.envoy_lines() if line["edge"] and "tokens_out" in line["edge"]]
        output = "\n".join(gateway.lines)

    sinks = {"output": output, "admin": "\n".join(pages), "traces": collector.text}
    shown = {(sink, name) for sink, text in sinks.items() for name, secret in HIDDEN.items() if secret in text}
    assert shown == set()
    # And the sinks were not shut.
    assert len(gateway.access_lines()) > 50
    assert "'authorization', '***'" in output
    assert "[email]" in collector.text
    assert {"acme"} == {fact["tenant"] for fact in facts}
    assert {"tenant", "key", "route", "model", "provider", "tokens_in", "tokens_out", "cache"} <= set(facts[0])
    assert "envoy_http_ext_proc_streams_started" in pages[1]

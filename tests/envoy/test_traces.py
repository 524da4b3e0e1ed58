"""One trace from the caller through Envoy and us to the provider, on real Envoy, collected by OTLP."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import gateway as gateways
import httpx2 as httpx
import pytest
from gateway import KEY, RunningGateway
from otlp import Collector, Span

pytestmark = pytest.mark.envoy

TRACE, CALLERS_SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
MODELS = """
chat: [{provider: openai, model: rehearsal}]
"503-then-claude": [{provider: openai, model: rehearsal-503}, {provider: anthropic, model: rehearsal}]
"""


def ours(span: Span) -> bool:
    return span.service == "edge-test"


def envoys(span: Span) -> bool:
    return span.service == "edge-test-envoy"


def ask(gateway: RunningGateway, model: str, **headers: str) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/v1/chat/completions?secret=in-the-query",
        headers={"authorization": f"Bearer {KEY}", "user-agent": "an agent of the caller", **headers},
        json={"model": model, "messages": [{"role": "user", "content": "Hello"}]},
        timeout=30,
    )


def reached(rehearsal_url: str) -> dict[str, str]:
    """The headers of the last request that the provider saw."""
    found = httpx.get(f"{rehearsal_url}/rehearsal/requests").json()["data"][-1]["headers"]
    return {name.lower(): value for name, value in (found.items() if isinstance(found, dict) else found)}


def most_together(gateway: RunningGateway, collector: Collector) -> int:
    """After another twelve calls at once: the greatest number of spans that Envoy has exported together."""
    before = sum(map(envoys, collector.spans()))
    with ThreadPoolExecutor(12) as callers:
        for each in [
            callers.submit(ask, gateway, "chat", traceparent=f"00-{TRACE}-{CALLERS_SPAN}-01") for _ in range(12)
        ]:
            each.result().raise_for_status()
    collector.until(envoys, before + 2 * 12)
    return max(len(export) for export in collector.exports() if envoys(export[0]))


def test_caller_envoy_agent_and_provider_are_one_trace(rehearsal_url: str) -> None:
    with Collector() as collector:
        more = f"""
        telemetry:
          otlp: {{endpoint: "{collector.grpc}", service: edge-test, environment: lab}}
        retries: {{attempts: 3, back_off: {{base: 10ms, max: 50ms}}}}
        """
        with RunningGateway(gateways.config(rehearsal_url, more=more, models=MODELS)) as gateway:
            ask(gateway, "chat", traceparent=f"00-{TRACE}-{CALLERS_SPAN}-01").raise_for_status()
            first_try = reached(rehearsal_url)["traceparent"]
            ask(gateway, "503-then-claude", traceparent=f"00-{TRACE}-{CALLERS_SPAN}-01").raise_for_status()
            second_try = reached(rehearsal_url)["traceparent"]
            ask(gateway, "chat", traceparent=f"00-{'ab' * 16}-{CALLERS_SPAN}-00").raise_for_status()
            unsampled = reached(rehearsal_url)["traceparent"]
            of_envoy = collector.until(lambda span: envoys(span) and span.name == "ingress", 2)
            calls = collector.until(lambda span: envoys(span) and span.name != "ingress", 2)
            of_us = collector.until(ours, 2)
            lines = gateway.settled(3)
            # Envoy's own default is to send each five by themselves. A busy machine can spread a round of calls.
            gateways.until(lambda: 5 < most_together(gateway, collector))
        metrics = collector.metrics()

    # caller → Envoy → us → provider
    assert {TRACE} == {span.trace_id for span in (*of_envoy, *calls, *of_us)}
    assert {CALLERS_SPAN} == {span.parent_id for span in of_envoy}
    assert {span.span_id for span in of_envoy} == {span.parent_id for span in calls}
    assert {span.parent_id for span in of_us} <= {span.span_id for span in calls}
    assert 2 == len({span.parent_id for span in of_us})
    assert f"00-{TRACE}-{of_us[0].span_id}-01" == first_try
    assert f"00-{TRACE}-{of_us[1].span_id}-01" == second_try
    # what the caller does not sample, nobody does, and it stays one trace
    assert unsampled.startswith(f"00-{'ab' * 16}-")
    assert unsampled.endswith("-00")
    assert [TRACE, TRACE, "ab" * 16] == [line["trace_id"] for line in lines]

    chat, retried = of_us
    assert ("chat rehearsal", 3, False) == (chat.name, chat.kind, chat.error)
    assert {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "rehearsal",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": lines[0]["tokens_input"],
        "gen_ai.usage.output_tokens": lines[0]["tokens_output"],
        "edge.tenant": "acme",
        "edge.attempts": 1,
    }.items() <= chat.attributes.items()
    assert {"request_headers", "request_body", "response_headers", "response_body"} == {
        facts["edge.phase"] for name, facts in chat.events if name == "edge.phase"
    }
    assert ["failed", "ok"] == [facts["edge.verdict"] for name, facts in retried.events if name == "edge.attempt"]
    assert ("edge-test", "lab") == (chat.resource["service.name"], chat.resource["deployment.environment.name"])
    assert "lab" == of_envoy[0].resource["deployment.environment.name"]
    assert "Hello" not in collector.text
    for callers in ("in-the-query", "an agent of the caller"):
        assert callers not in collector.text
    assert {"gen_ai.client.token.usage", "gen_ai.client.operation.duration"} <= set(metrics)


def test_content_is_told_on_request_and_redacted(rehearsal_url: str) -> None:
    with Collector() as collector:
        more = f"""
        telemetry:
          otlp:
            endpoint: "{collector.http}"
            protocol: http
            service: edge-test
            headers: {{x-collector-key: a key of the collector}}
            content: true
            attributes: [langfuse, openinference]
        """
        with RunningGateway(gateways.config(rehearsal_url, more=more, models=MODELS)) as gateway:
            body = {
                "model": "chat",
                "messages": [{"role": "user", "content": "I am ann@example.com"}],
                "stream": True,
            }
            with httpx.Client(headers={"authorization": f"Bearer {KEY}"}, timeout=30) as client:
                client.post(f"{gateway.url}/v1/chat/completions", json=body).raise_for_status()
            (span,) = collector.until(ours)
            envoy_config = (gateway.directory / ".edge" / "run" / "envoy.json").read_text()

    assert "a key of the collector" == collector.headers[0]["x-collector-key"]
    assert "a key of the collector" not in envoy_config
    assert "ann@example.com" not in collector.text
    assert '"I am [email]"' in span.attributes["gen_ai.input.messages"]
    assert "You asked: I am [email]" in span.attributes["gen_ai.output.messages"]
    assert ("LLM", "I am [email]") == (span.attributes["openinference.span.kind"], span.attributes["input.value"])
    assert "generation" == span.attributes["langfuse.observation.type"]
    assert "You asked: I am [email]" in span.attributes["langfuse.observation.output"]
    assert "edge.usage" in {name for name, _ in span.events}

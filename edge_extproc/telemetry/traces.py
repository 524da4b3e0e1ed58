"""Exports spans and GenAI metrics by OTLP. It is loaded only if the configuration has `telemetry.otlp`.

An exchange is one span, made from its settlement after its end. No span context is passed through the exchange, and an
exchange that is not sampled costs nothing. The span's id exists from the start, because providers get it in
`traceparent`. Attribute names follow OpenTelemetry's semantic conventions for GenAI and, if configured, those of
Langfuse and OpenInference.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from operator import attrgetter
from random import Random, SystemRandom
from typing import Any, Literal, TypeAlias, get_args

import orjson
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from opentelemetry.sdk.metrics.export import MetricExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Status

from ..model.plan import AttemptResult
from ..model.rule_hit import RuleHit
from ..model.settlement import Phase, Settlement
from ..model.trace import Parent, Trace, Transcript
from ..model.usage import BUCKETS, Usage
from . import otlp
from .base import Flavour
from .genai_metrics import OPERATIONS, Exporting, GenAiMetrics
from .logs import plain, redact
from .otlp import Slot, Stamped
from .sending import SpanQueue

Attributes: TypeAlias = dict[str, Any]

# The content of a span is bounded, because collectors refuse messages over 4 MiB: characters of each text, characters
# of all texts, and number of messages. The last messages of a conversation are included.
_LONGEST_TEXT = 16_384
_LONGEST_TRANSCRIPT = 256 << 10
_MOST_MESSAGES = 256
_TRACE_IDS = 1 << 64
_MOST_CACHED = 2048
# The number of spans that are encoded at a time, in a third of a millisecond. One by one they would take twice as long
# because of cold processor caches; many more would keep the garbage collector busy.
_ENCODE_BATCH = 32
# The number of spans in one export; collectors accept 4 MiB.
_BATCH, _BATCH_WITH_CONTENT = 512, 16


@dataclass(frozen=True, slots=True)
class TracedHost:
    """A provider, in the terms of the conventions."""

    name: str
    """gen_ai.provider.name: openai, anthropic, gcp.gemini, …"""
    address: str
    port: int


@dataclass(frozen=True, slots=True)
class TraceSettings:
    """The settings of `telemetry.otlp` for one worker."""

    endpoint: str
    protocol: Literal["grpc", "http"]
    headers: Mapping[str, Callable[[], str]]
    ratio: float
    """The share of traces beginning here that is sampled, 0 to 1."""
    service: str
    version: str
    instance: str
    environment: str | None
    content: bool
    flavours: tuple[Flavour, ...]
    metrics: bool
    hosts: Mapping[str, TracedHost]
    """By the name of the provider."""


class Traces:
    """The spans and GenAI metrics of one worker. `settle` is called for each exchange; a separate thread exports."""

    def __init__(self, settings: TraceSettings, spans: SpanExporter | None = None) -> None:
        """`spans`: an exporter to use instead of the configured one."""
        self.content = settings.content
        self._settings = settings
        self._bound = int(settings.ratio * _TRACE_IDS)
        self._resource = Resource.create(
            {
                "service.name": settings.service,
                "service.version": settings.version,
                "service.instance.id": settings.instance,
                **({"deployment.environment.name": settings.environment} if settings.environment else {}),
            }
        )
        self._scope = InstrumentationScope("edge_extproc", settings.version)
        self._resource_attributes = {
            n: value for n, value in self._resource.attributes.items() if isinstance(value, str)
        }
        self._cache: dict[tuple[object, ...], bytes] = {}
        self._ended: deque[_ExchangeSpan] = deque()
        self.sending = SpanQueue(
            spans or span_exporter(settings, self.encode),
            _BATCH_WITH_CONTENT if settings.content else _BATCH,
            prepare=self._encode_ended,
            weigh=_weight,
        )
        # For spans of instrumentation libraries only; the spans of exchanges need no tracer. Library spans do not begin
        # a trace, or every health check would be one.
        self.provider = TracerProvider(sampler=ParentBased(ALWAYS_OFF), resource=self._resource, shutdown_on_exit=False)
        self.provider.add_span_processor(self.sending)
        self._metrics: GenAiMetrics | None = None
        if settings.metrics:
            names = {name: host.name for name, host in settings.hosts.items()}
            self._metrics = GenAiMetrics(self._resource, self._scope, names)
            self._exporting = Exporting(self._metrics, metric_exporter(settings))

    def change(self, ratio: float, *, content: bool, flavours: tuple[Flavour, ...]) -> None:
        """Changes settings for new exchanges. Exchanges in progress may already use them."""
        self.content = content
        self._settings = replace(self._settings, ratio=ratio, content=content, flavours=flavours)
        self._bound = int(ratio * _TRACE_IDS)
        self._cache.clear()

    def begin(self, parent: Parent | None) -> Trace | None:
        """The span of a new exchange, or None if it is not sampled. The parent decides; without one, `sampling`
        does."""
        if parent is not None:
            return Trace(parent.trace_id, _span_id(), parent.span_id) if parent.sampled else None
        # The last eight bytes decide, as in TraceIdRatioBased, so that every service decides alike.
        low = _CHANCE(64)
        if low >= self._bound:
            return None
        return Trace(f"{_CHANCE(64):016x}{low or 1:016x}", _span_id(), None)

    def settle(self, s: Settlement) -> None:
        """Counts a finished exchange, and queues its span if it is sampled."""
        if self._metrics is not None:
            self._metrics.settle(s)
        if s.trace is None:
            return
        if s.transcript is not None:
            # Redaction of content takes too long for the event loop, so the exporting thread makes this span.
            self.sending.put(_ExchangeSpan(s, s.trace))
            return
        self._ended.append(_ExchangeSpan(s, s.trace))
        if len(self._ended) >= _ENCODE_BATCH:
            self._encode_ended()

    def _encode_ended(self) -> None:
        """Moves finished exchanges to the queue as encoded spans. The exporting thread also calls it, once a second."""
        while True:
            try:
                one = self._ended.popleft()
            except IndexError:
                return
            self.sending.put(_EncodedSpan(self._span(one.settlement, one.trace)))

    def close(self) -> None:
        """Sends the waiting spans. Blocks until they are sent, ten seconds at most."""
        self.provider.shutdown()
        if self._metrics is not None:
            self._exporting.close()

    def encode(self, spans: Sequence[ReadableSpan]) -> bytes:
        """An encoded ExportTraceServiceRequest. Called by the exporting thread. Exception events are removed from
        library spans, because their text may quote a caller."""
        own_spans: list[bytes] = []
        library_spans: list[ReadableSpan] = []
        for each in spans:
            match each:
                case _EncodedSpan():
                    own_spans.append(each.encoded)
                case _ExchangeSpan():
                    own_spans.append(self._span(each.settlement, each.trace))
                case _:
                    library_spans.append(_without_exceptions(each))
        encoded = encode_spans(library_spans).SerializeToString() if library_spans else b""
        if own_spans:
            # In protobuf, two concatenated messages are one message with the spans of both.
            encoded += otlp.request(self._resource_attributes, (self._scope.name, self._scope.version or ""), own_spans)
        return encoded

    def _span(self, s: Settlement, trace: Trace) -> bytes:
        began = int(s.started_at * 1e9)
        ended = began + int(s.duration * 1e9)
        facts = [self._common(s), _EXCHANGE.text(s.exchange_id), _OVERHEAD.number(s.overhead)]
        if s.max_output_tokens is not None:
            facts.append(_MAX_TOKENS.integer(_int64(s.max_output_tokens)))
        if s.time_to_first_token is not None:
            facts.append(_FIRST_TOKEN.number(s.time_to_first_token))
        if s.time_per_output_token is not None:
            facts.append(_PER_TOKEN.number(s.time_per_output_token))
        if s.cost is not None:
            facts.append(_COST.number(float(s.cost)))
        usage = s.usage
        if usage is not None:
            facts += (_INPUT.integer(_int64(usage.prompt)), _OUTPUT.integer(_int64(usage.completion)))
            if usage.cache_read:
                facts.append(_CACHE_READ.integer(_int64(usage.cache_read)))
            if cache_write := usage.cache_write + usage.cache_write_1h:
                facts += (_CACHE_WRITTEN.integer(_int64(cache_write)), _CACHE_CREATED.integer(_int64(cache_write)))
            if usage.reasoning:
                facts.append(_REASONING.integer(_int64(usage.reasoning)))
        if s.run is not None:
            facts.append(_RUN.text(s.run))
            if s.run_parent is not None:
                facts.append(_RUN_PARENT.text(s.run_parent))
        if s.transcript is not None or self._settings.flavours:
            facts.append(otlp.pairs(otlp.OF_SPAN, self._extra_attributes(s)))
        facts += [_PHASES[phase.name].at(began + int(phase.at * 1e9), phase.seconds) for phase in s.phases]
        if len(s.attempt_results) > 1 or s.outcome != "ok":
            facts += [_attempt(number, attempt, ended) for number, attempt in enumerate(s.attempt_results, 1)]
        if s.guardrails:
            facts += [_hit(hit, ended) for hit in s.guardrails]
        if usage is not None:
            facts.append(_bill(s, usage, ended))
        error = None if s.outcome == "ok" else s.outcome
        return otlp.span(trace.trace_id, trace.span_id, trace.parent_id, _name(s), began, ended, facts, error)

    def _common(self, s: Settlement) -> bytes:
        """The encoded attributes that are equal in many exchanges, from a cache."""
        which = (
            *(s.operation, s.provider, s.upstream_model, s.model, s.response_model, s.finish, s.status, s.outcome),
            *(s.code, s.tenant, s.team, s.user, s.key_id, s.dialect, s.lane, s.stream, s.attempts, s.cache),
        )
        encoded = self._cache.get(which)
        if encoded is None:
            if len(self._cache) >= _MOST_CACHED:  # callers can invent model names
                self._cache.clear()
            encoded = self._cache[which] = otlp.pairs(otlp.OF_SPAN, _present(self._attributes(s)))
        return encoded

    def _attributes(self, s: Settlement) -> Attributes:
        host = self._settings.hosts.get(s.provider or "")
        return {
            "gen_ai.operation.name": OPERATIONS.get(s.operation or "none", s.operation or "none"),
            "gen_ai.provider.name": host.name if host is not None else None,
            "gen_ai.request.model": _short(s.upstream_model or s.model),
            "gen_ai.request.stream": True if s.stream else None,
            "gen_ai.response.model": _short(s.response_model),
            "gen_ai.response.finish_reasons": (_short(s.finish),) if s.finish is not None else None,
            "server.address": host.address if host is not None else None,
            "server.port": host.port if host is not None else None,
            "http.response.status_code": s.status,
            "error.type": (_short(s.code) or s.outcome) if s.outcome != "ok" else None,
            "edge.outcome": s.outcome,
            "edge.tenant": s.tenant,
            "edge.team": s.team,
            "edge.user": _short(s.user),
            "edge.key": s.key_id,
            "edge.model": _short(s.model),
            "edge.provider": s.provider,
            "edge.dialect": s.dialect,
            "edge.lane": s.lane,
            "edge.stream": s.stream,
            "edge.attempts": s.attempts,
            "edge.cache": s.cache,
        }

    def _extra_attributes(self, s: Settlement) -> Attributes:
        """The content, and the attributes of the configured backends."""
        content = _Content(s.transcript) if s.transcript is not None else None
        attributes = content.attributes(s.finish) if content is not None else {}
        for flavour in self._settings.flavours:
            attributes |= _FLAVOURS[flavour](s, content)
        return _present(attributes)


def _present(attributes: Attributes) -> Attributes:
    """The attributes that have a value."""
    return {name: value for name, value in attributes.items() if value is not None}


# The two classes are subclasses of the library's span only because its exporters accept a list of spans.


class _EncodedSpan(ReadableSpan):
    """A span that is already encoded."""

    def __init__(self, encoded: bytes) -> None:
        self.encoded = encoded


class _ExchangeSpan(ReadableSpan):
    """An exchange whose span is made by the exporting thread."""

    def __init__(self, settlement: Settlement, trace: Trace) -> None:
        self.settlement, self.trace = settlement, trace


def _weight(span: ReadableSpan) -> int:
    """The size of the content, in characters."""
    if not isinstance(span, _ExchangeSpan) or (transcript := span.settlement.transcript) is None:
        return 0
    return len(transcript.reply) + sum(len(text) for _, text in transcript.messages)


# Ids must be unique, not secret. The system's random source would cost a system call for each.
_CHANCE = Random(SystemRandom().getrandbits(256)).getrandbits  # noqa: S311 - it protects no secret


def _span_id() -> str:
    """Never all zeros."""
    return f"{_CHANCE(64) or 1:016x}"


# --- attributes with a variable value

_EXCHANGE = Slot("edge.exchange")
_RUN = Slot("edge.run")
_RUN_PARENT = Slot("edge.run_parent")
_OVERHEAD = Slot("edge.overhead_seconds")
_MAX_TOKENS = Slot("gen_ai.request.max_tokens")
_FIRST_TOKEN = Slot("gen_ai.response.time_to_first_chunk")
_PER_TOKEN = Slot("edge.time_per_output_token_seconds")
_COST = Slot("edge.cost_usd")
_INPUT = Slot("gen_ai.usage.input_tokens")
_OUTPUT = Slot("gen_ai.usage.output_tokens")
_CACHE_READ = Slot("gen_ai.usage.cache_read.input_tokens")
_CACHE_WRITTEN = Slot("gen_ai.usage.cache_write.input_tokens")
# The name in the conventions until 2026, which some backends still read.
_CACHE_CREATED = Slot("gen_ai.usage.cache_creation.input_tokens")
_REASONING = Slot("gen_ai.usage.reasoning.output_tokens")
_PHASES = {name: Stamped("edge.phase", {"edge.phase": name}, "edge.seconds") for name in get_args(Phase)}


def _name(s: Settlement) -> bytes:
    return _span_name(OPERATIONS.get(s.operation or "request", s.operation or "request"), s.upstream_model or s.model)


@lru_cache(maxsize=1024)
def _span_name(operation: str, model: str | None) -> bytes:
    short = _short(model)
    return otlp.named(f"{operation} {short}" if short is not None else operation)


# Nearly all texts are one of a few names of models and codes, hence the cache.
@lru_cache(maxsize=1024)
def _short(text: str | None) -> str | None:
    return redact(text[:1024])[:256] if text is not None else None


def _int64(number: int) -> int:
    """The number, bounded by the largest integer of OTLP. A provider may report any number."""
    return number if number < _MOST_INT64 else _MOST_INT64


_MOST_INT64 = (1 << 63) - 1


def _attempt(number: int, attempt: AttemptResult, at: int) -> bytes:
    attributes: Attributes = {
        "edge.attempt": number,
        "edge.provider": attempt.candidate.provider,
        "gen_ai.request.model": _short(attempt.candidate.model) or "",
        "edge.verdict": attempt.verdict,
        "edge.reason": attempt.reason,
        "http.response.status_code": attempt.status or 0,
    }
    return otlp.event("edge.attempt", at, otlp.pairs(otlp.OF_EVENT, attributes))


def _hit(hit: RuleHit, at: int) -> bytes:
    attributes: Attributes = {
        "edge.guardrail.rule": hit.rule,
        "edge.guardrail.label": hit.label,
        "edge.guardrail.action": hit.action,
        "edge.guardrail.mode": hit.mode,
        "edge.guardrail.direction": hit.direction,
        "edge.guardrail.count": hit.count,
    }
    return otlp.event("edge.guardrail", at, otlp.pairs(otlp.OF_EVENT, attributes))


def _bill(s: Settlement, usage: Usage, at: int) -> bytes:
    """The event with tokens by kind and the exact cost, as text."""
    parts = [slot.integer(_int64(count)) for count, slot in zip(_counts(usage), _KINDS.values(), strict=True) if count]
    parts += (_HOW_SURE[s.estimated, s.unpriced], _BILLED.text(plain(s.cost) if s.cost is not None else ""))
    return otlp.event_named(_USAGE, at, b"".join(parts))


_KINDS = {name: Slot(f"edge.tokens.{name}", otlp.OF_EVENT) for name in BUCKETS}
_counts = attrgetter(*_KINDS)
_USAGE = otlp.name_of_event("edge.usage")
_BILLED = Slot("edge.cost_usd", otlp.OF_EVENT)
_HOW_SURE = {
    (estimated, unpriced): otlp.pairs(otlp.OF_EVENT, {"edge.estimated": estimated, "edge.unpriced": unpriced})
    for estimated in (False, True)
    for unpriced in (False, True)
}


def _kinds(usage: Usage) -> dict[str, int]:
    """Token counts by kind, without zeros."""
    return {kind: count for kind in _KINDS if (count := getattr(usage, kind))}


class _Content:
    """The redacted content of an exchange."""

    def __init__(self, transcript: Transcript) -> None:
        self.messages = _last(transcript.messages)
        self.reply = _shortened(transcript.reply)

    def attributes(self, finish: str | None) -> Attributes:
        return {
            "gen_ai.input.messages": _json([_message(role, text) for role, text in self.messages]),
            "gen_ai.output.messages": _json([{**_message("assistant", self.reply), "finish_reason": finish or ""}]),
        }


def _last(messages: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The last messages, redacted. A message with the number of omitted ones replaces those before them."""
    last: list[tuple[str, str]] = []
    remaining = _LONGEST_TRANSCRIPT
    for role, text in reversed(messages):
        text = _shortened(text)
        remaining -= len(text)
        if remaining < 0 or len(last) == _MOST_MESSAGES:
            last.append((role, f"… {len(messages) - len(last)} earlier messages"))
            break
        last.append((role, text))
    return last[::-1]


def _shortened(text: str) -> str:
    return redact(text)[:_LONGEST_TEXT]


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "parts": [{"type": "text", "content": text}]}


def _json(value: object) -> str:
    return orjson.dumps(value).decode()


# --- attributes for other backends


def _langfuse(s: Settlement, content: _Content | None) -> Attributes:
    """https://langfuse.com/integrations/native/opentelemetry: the attributes that it prefers to the conventions'."""
    return {
        "langfuse.observation.type": "generation",
        "langfuse.observation.model.name": _short(s.response_model or s.upstream_model or s.model),
        "langfuse.observation.usage_details": _json(_kinds(s.usage)) if s.usage is not None else None,
        "langfuse.observation.cost_details": _json({"total": float(s.cost)}) if s.cost is not None else None,
        "langfuse.trace.metadata.tenant": s.tenant,
        "langfuse.observation.input": _json([{"role": r, "content": t} for r, t in content.messages])
        if content
        else None,
        "langfuse.observation.output": content.reply if content is not None else None,
    }


def _openinference(s: Settlement, content: _Content | None) -> Attributes:
    """https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md"""
    usage = s.usage
    attributes: Attributes = {
        "openinference.span.kind": "LLM",
        "llm.model_name": _short(s.response_model or s.upstream_model or s.model),
        "llm.token_count.prompt": _int64(usage.prompt) if usage is not None else None,
        "llm.token_count.completion": _int64(usage.completion) if usage is not None else None,
        "llm.token_count.total": _int64(usage.total) if usage is not None else None,
        "llm.cost.total": float(s.cost) if s.cost is not None else None,
    }
    if content is not None:
        attributes["input.value"] = content.messages[-1][1] if content.messages else ""
        attributes["output.value"] = content.reply
        for n, (role, text) in enumerate(content.messages):
            attributes[f"llm.input_messages.{n}.message.role"] = role
            attributes[f"llm.input_messages.{n}.message.content"] = text
        attributes["llm.output_messages.0.message.role"] = "assistant"
        attributes["llm.output_messages.0.message.content"] = content.reply
    return attributes


_FLAVOURS: dict[Flavour, Callable[[Settlement, _Content | None], Attributes]] = {
    "langfuse": _langfuse,
    "openinference": _openinference,
}


# --- exporters


def _without_exceptions(span: ReadableSpan) -> ReadableSpan:
    if not any(event.name == "exception" for event in span.events):
        return span
    return ReadableSpan(
        name=span.name,
        context=span.context,
        parent=span.parent,
        resource=span.resource,
        attributes=span.attributes,
        events=tuple(event for event in span.events if event.name != "exception"),
        kind=span.kind,
        status=Status(span.status.status_code),
        start_time=span.start_time,
        end_time=span.end_time,
        instrumentation_scope=span.instrumentation_scope,
    )


Encode: TypeAlias = Callable[[Sequence[ReadableSpan]], bytes]


class _Stub:
    """The collector's gRPC service, for requests that are already encoded."""

    def __init__(self, channel: Any) -> None:
        self.Export = channel.unary_unary(
            "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
            response_deserializer=ExportTraceServiceResponse.FromString,
        )


def span_exporter(settings: TraceSettings, encode: Encode) -> SpanExporter:
    """The library's exporter, for its transport, retries and compression, with `encode` instead of its encoder."""
    headers = {name: reveal() for name, reveal in settings.headers.items()}
    if settings.protocol == "http":
        from opentelemetry.exporter.otlp.proto.http import trace_exporter as over_http

        class Http(over_http.OTLPSpanExporter):
            def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
                done = self._client.export(encode(spans))
                return SpanExportResult.SUCCESS if done.success else SpanExportResult.FAILURE

        return Http(endpoint=f"{settings.endpoint}/v1/traces", headers=headers)
    from opentelemetry.exporter.otlp.proto.grpc import trace_exporter as over_grpc

    class Grpc(over_grpc.OTLPSpanExporter):
        def _initialize_channel_and_stub(self) -> None:
            super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]  # the library has no types here
            self._client = _Stub(self._channel)  # type: ignore[assignment]  # declared with its initial None

        def _translate_data(self, data: Sequence[ReadableSpan]) -> Any:
            """The encoded request for `_Stub`. The library's method returns a message, which its stub encodes."""
            return encode(data)

    return Grpc(endpoint=settings.endpoint, headers=headers)


def metric_exporter(settings: TraceSettings) -> MetricExporter:
    headers = {name: reveal() for name, reveal in settings.headers.items()}
    if settings.protocol == "http":
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as OverHttp

        return OverHttp(endpoint=f"{settings.endpoint}/v1/metrics", headers=headers)
    from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as OverGrpc

    return OverGrpc(endpoint=settings.endpoint, headers=headers)


# --- spans of unary gRPC services

# The instrumentation of the library breaks stream handlers, so exchanges are traced by `Traces`.
UNARY = ("grpc.health.v1.Health/Check", "envoy.service.auth.v3.Authorization/Check", "edge.v1.Worker/Metrics")


def interceptors(traces: Traces) -> list[Any]:
    """The gRPC server interceptors that trace the unary services of a worker."""
    from opentelemetry.instrumentation.grpc import aio_server_interceptor

    def is_unary(call: Any) -> bool:
        return call.method.lstrip("/") in UNARY

    return [aio_server_interceptor(tracer_provider=traces.provider, filter_=is_unary)]

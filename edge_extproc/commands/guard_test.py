"""Runs the guardrails of a configuration over texts and calls, and says what they would do.

It uses the same rules, detectors, services and placeholders as a worker. No finding is shown in clear: an excerpt has
the label in its place.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from prometheus_client import CollectorRegistry

from ..config.schema import Config
from ..errors import EdgeError, GuardrailBlocked, PolicyUnavailable, StartError
from ..exchange.parsed_call import ParsedCall
from ..exchange.path_router import PathRouter
from ..exchange.request_guardrails import texts_of
from ..guardrails.base import Finding, Rule
from ..guardrails.body_texts import BodyText, BodyTexts, TextPlace, read_texts
from ..guardrails.call_guard import Guardrails
from ..guardrails.findings import Findings, findings_in
from ..model.content import Text
from ..model.principal import Principal
from ..model.reply import Choice, Reply
from ..model.rule_hit import RuleHit, TextKind
from ..operations.base import OperationFormat
from ..providers.credentials.refresh import CredentialRefreshers
from ..telemetry.guardrail_service_metrics import GuardrailServiceMetrics
from ..worker.wiring.gateway import build_dialects, build_endpoints, build_formats
from ..worker.wiring.guardrails import build_guardrails
from .guard_inputs import CallInput, Input, TextInput

NOTHING, REFUSED, FOUND = 0, 3, 4
"""Exit codes: no rule found anything; a call would be refused; something else was found."""

_CREDENTIAL_PATIENCE = 10.0
_CONTEXT = 24
"""Characters of an excerpt before and after the finding."""

Effect: TypeAlias = Literal["nothing", "flagged", "changed", "refused"]


@dataclass(frozen=True, slots=True)
class ShownFinding:
    """One finding of a detector."""

    rule: Rule
    label: str
    path: str
    excerpt: str


@dataclass(slots=True)
class Outcome:
    """What the rules would do to one text or call."""

    source: str
    what: str
    """The path of a call, or `text`."""
    model: str
    principal: Principal
    places: list[ShownFinding] = field(default_factory=list)
    hits: list[RuleHit] = field(default_factory=list)
    """Of services, too, whose findings have no place."""
    skipped: list[str] = field(default_factory=list)
    """The rules with a service that was not asked."""
    refusal: str | None = None
    """The error that the caller would get."""
    route: str | None = None
    """The model that would get the call instead."""
    request: bytes = b""
    """The body as the provider would get it, in the caller's format."""
    is_changed: bool = False

    @property
    def effect(self) -> Effect:
        if self.refusal is not None:
            return "refused"
        if self.is_changed or self.route is not None:
            return "changed"
        return "flagged" if self.hits else "nothing"

    @property
    def exit_code(self) -> int:
        return {"nothing": NOTHING, "refused": REFUSED}.get(self.effect, FOUND)


def principal_of(config: Config, tenant: str | None, key: str | None) -> Principal:
    """The caller whose rules apply. Raises StartError."""
    callers = [caller for caller in config.callers if tenant in (None, caller.tenant)]
    if not callers:
        have = ", ".join(caller.tenant for caller in config.callers) or "none"
        raise StartError(f"--tenant {tenant}: there is no such tenant; have {have}")
    if key is None:
        return Principal(callers[0].tenant, "", callers[0].models)
    found = [(caller, each) for caller in callers for each in caller.keys if each.id == key]
    if not found:
        have = ", ".join(each.id for caller in callers for each in caller.keys) or "none"
        raise StartError(f"--key {key}: there is no key with this id; have {have}")
    caller, its = found[0]
    return Principal(caller.tenant, its.id, caller.models, its.team, its.user, its.roles)


class GuardTest:
    """The rules of one configuration, for one caller."""

    def __init__(
        self,
        config: Config,
        principal: Principal,
        *,
        kind: TextKind | None = None,
        reply: bool = False,
        online: bool = True,
        model: str | None = None,
    ) -> None:
        """`kind`: of texts. None: a text is of each kind. `reply`: texts are those of a reply. `online`: services are
        asked. `model`: of texts, and of calls whose body does not name one."""
        self._refreshers = CredentialRefreshers(time.time, _ignore)
        metrics = GuardrailServiceMetrics(CollectorRegistry())
        guardrails = build_guardrails(config, self._refreshers, metrics)
        if guardrails is None:
            raise StartError("this configuration has no rule; add some under guardrails: {rules: […]}")
        self._guardrails: Guardrails = guardrails
        self._principal = principal
        self._kind: TextKind | None = "assistant" if reply else kind
        self._reply = reply
        self._online = online
        self._model = model
        self._formats: dict[str, OperationFormat] = build_formats()
        self._router = PathRouter(build_dialects(), self._formats, build_endpoints(config).paths)

    async def run(self, inputs: Sequence[Input]) -> list[Outcome]:
        if self._online:
            await self._refreshers.start(_CREDENTIAL_PATIENCE)
        try:
            return [await self._outcome(each) for each in inputs]
        finally:
            await self._refreshers.stop()
            await self._guardrails.close()

    async def _outcome(self, given: Input) -> Outcome:
        match given:
            case TextInput(source, text) if self._reply:
                return await self._reply_outcome(source, text)
            case TextInput(source, text):
                body = read_texts(text.encode(errors="surrogatepass"), "text/plain", _OneKind(self._kind))
                outcome = Outcome(source, "text", self._model or "", self._principal)
                return await self._check(outcome, body, lambda raw: read_texts(raw, "text/plain", _OneKind(self._kind)))
            case CallInput():
                parsed = self._parsed(given)
                outcome = Outcome(given.source, given.path, parsed.call.model or self._model or "", self._principal)
                return await self._check(outcome, texts_of(parsed), lambda raw: texts_of(parsed.with_body(raw)))

    def _parsed(self, given: CallInput) -> ParsedCall:
        path = self._router.canonical(given.path.partition("?")[0])
        try:
            dialect, route = self._router.match("POST", path)
            if path in self._router.paths_by_body:
                dialect, route = self._router.by_body(dialect, route, given.body)
            if not route.format:
                return ParsedCall(dialect.read_call(given.body, route.operation, given.headers, path), dialect, None)
            form = self._formats[route.format]
            return ParsedCall(form.read_call(given.body, "POST", given.headers, given.path), dialect, form)
        except EdgeError as error:
            raise StartError(f"{given.source}: {error.message}") from error

    async def _check(self, outcome: Outcome, body: BodyTexts, read: Callable[[bytes], BodyTexts]) -> Outcome:
        """The outcome of a request. `read`: reads a changed body again."""
        outcome.request = body.raw
        guard = self._guardrails.begin(self._principal, outcome.model, call_id="guard-test")
        if guard is None:
            return outcome
        outcome.places = list(_places(guard.rules.requests, body))
        self._take(outcome, guard.apply_detectors(body), body)
        if outcome.refusal is not None or not guard.has_services:
            return outcome
        if not self._online:
            outcome.skipped = [rule.name for rule in guard.rules.requests if rule.service is not None]
            return outcome
        if outcome.is_changed:
            body = read(outcome.request)
        try:
            self._take(outcome, await guard.apply_services(body), body)
        except PolicyUnavailable as error:
            outcome.refusal = error.message
        return outcome

    def _take(self, outcome: Outcome, findings: Findings, body: BodyTexts) -> None:
        outcome.hits += findings.hits
        if findings.blocked is not None:
            blocked = findings.blocked
            outcome.refusal = GuardrailBlocked(blocked.rule, blocked.label, param=blocked.param).message
            return
        if findings.route is not None and outcome.route is None:
            outcome.route = findings.route.model
        if findings.body is not body.raw:
            outcome.request, outcome.is_changed = findings.body, True

    async def _reply_outcome(self, source: str, text: str) -> Outcome:
        outcome = Outcome(source, "text of a reply", self._model or "", self._principal, request=text.encode())
        guard = self._guardrails.begin(self._principal, outcome.model, call_id="guard-test")
        reply_guard = guard.guard_reply(signs_thinking=False) if guard is not None else None
        if guard is None or reply_guard is None:
            return outcome
        body = read_texts(text.encode(errors="surrogatepass"), "text/plain", _OneKind("assistant"))
        outcome.places = list(_places(guard.rules.replies, body))
        reply = Reply("openai_chat", None, None, (Choice((Text(text),)),))
        services = reply_guard.services
        if services is None or self._online:
            try:
                checked = reply_guard.complete(reply) if services is None else await services.judged_reply(reply)
            except PolicyUnavailable as error:
                outcome.refusal = error.message
                return outcome
        else:
            outcome.skipped = [rule.name for rule in guard.rules.replies if rule.service is not None]
            checked = services.detected_reply(reply)
        outcome.hits = list(reply_guard.hits)
        if reply_guard.blocked is not None:
            blocked = reply_guard.blocked
            outcome.refusal = GuardrailBlocked(blocked.rule, blocked.label).message
        else:
            texts = [part.text for choice in checked.choices for part in choice.parts if isinstance(part, Text)]
            outcome.request = "".join(texts).encode(errors="surrogatepass")
            outcome.is_changed = "".join(texts) != text
        return outcome


class _OneKind:
    """The whole text has one kind, or each."""

    def __init__(self, kind: TextKind | None) -> None:
        self._place = TextPlace(kind)

    def place_of(self, path: str, text: str) -> TextPlace:
        del path, text
        return self._place


# --- the findings and their excerpts


def _places(rules: Sequence[Rule], body: BodyTexts) -> Iterator[ShownFinding]:
    """Each finding of each rule with a detector, in the order of the rules."""
    found = [
        (rule, text, finding)
        for rule in rules
        if rule.detector is not None
        for text, findings in findings_in(body.texts, rule, rule.detector, set())
        if not (rule.action == "mask" and text.place.is_signed)
        for finding in findings
    ]
    excerpts = _Excerpts([(text, finding) for _, text, finding in found])
    for rule, text, finding in found:
        yield ShownFinding(rule, finding.label, text.path, excerpts.of(text, finding))


class _Excerpts:
    """Parts of texts in which each finding is replaced by its label, and each other place with the same value, too."""

    def __init__(self, found: Sequence[tuple[BodyText, Finding]]) -> None:
        self._by_text: dict[BodyText, list[Finding]] = {}
        values: dict[str, str] = {}
        for text, finding in found:
            self._by_text.setdefault(text, []).append(finding)
            values.setdefault(text.text[finding.start : finding.end], finding.label)
        # The longest first, because a value may contain another one.
        self._values = sorted(((v, label) for v, label in values.items() if v.strip()), key=lambda each: -len(each[0]))

    def of(self, text: BodyText, finding: Finding) -> str:
        if text.inner:  # a text that is JSON spells the values of its strings in another way
            return f"[{finding.label}]"
        spans = _merged(self._by_text[text])
        start, end, _ = next(span for span in spans if span[0] <= finding.start and finding.end <= span[1])
        before = self._masked(text.text, 0, start, spans)
        after = self._masked(text.text, end, len(text.text), spans)
        left = ("…" if len(before) > _CONTEXT else "") + before[-_CONTEXT:]
        right = after[:_CONTEXT] + ("…" if len(after) > _CONTEXT else "")
        return " ".join(f"{left}[{finding.label}]{right}".split())

    def _masked(self, text: str, start: int, end: int, spans: Sequence[_Span]) -> str:
        """The text from `start` to `end` without values."""
        parts: list[str] = []
        at = start
        for first, last, label in spans:
            if start <= first and last <= end:
                parts += (self._without_values(text[at:first]), f"[{label}]")
                at = last
        return "".join([*parts, self._without_values(text[at:end])])

    def _without_values(self, text: str) -> str:
        for value, label in self._values:
            text = text.replace(value, f"[{label}]")
        return text


_Span: TypeAlias = tuple[int, int, str]


def _merged(findings: Sequence[Finding]) -> list[_Span]:
    """Places that overlap become one, with the label of the first."""
    merged: list[_Span] = []
    for finding in sorted(findings, key=lambda each: (each.start, -each.end)):
        if merged and finding.start < merged[-1][1]:
            start, end, label = merged[-1]
            merged[-1] = (start, max(finding.end, end), label)
        else:
            merged.append((finding.start, finding.end, finding.label))
    return merged


# --- the output


def lines_of(outcome: Outcome, *, show_request: bool) -> Iterator[str]:
    """For people."""
    key = f", key {outcome.principal.key_id}" if outcome.principal.key_id else ""
    who = f"tenant {outcome.principal.tenant}{key}"
    model = f", model {outcome.model}" if outcome.model else ""
    yield f"{outcome.source}: {outcome.what} ({who}{model})"
    for place in outcome.places:
        yield f"  {_action(place.rule)} {place.rule.name}: {place.label} at {place.path or 'the text'}: {place.excerpt}"
    for hit in _without_place(outcome):
        yield f"  {hit.action}{_shadow(hit.mode)} {hit.rule}: {hit.label} (service)"
    for rule in outcome.skipped:
        yield f"  not asked: the service of {rule}"
    match outcome.effect:
        case "refused":
            yield f"  => refused: {outcome.refusal}"
        case "changed":
            routed = f"model {outcome.route} gets it" if outcome.route is not None else ""
            yield f"  => {', '.join(filter(None, ('changed' if outcome.is_changed else '', routed)))}"
        case "flagged":
            yield "  => passes, with findings"
        case "nothing":
            yield "  => passes"
    if show_request and outcome.refusal is None:
        yield outcome.request.decode(errors="replace")


def json_of(outcome: Outcome, *, show_request: bool) -> dict[str, Any]:
    """For programs."""
    return {
        "source": outcome.source,
        "input": outcome.what,
        "tenant": outcome.principal.tenant,
        "key": outcome.principal.key_id or None,
        "model": outcome.model or None,
        "effect": outcome.effect,
        "error": outcome.refusal,
        "route": outcome.route,
        "findings": [
            {
                "rule": place.rule.name,
                "action": place.rule.action,
                "mode": place.rule.mode,
                "label": place.label,
                "path": place.path,
                "excerpt": place.excerpt,
            }
            for place in outcome.places
        ],
        "services": [
            {"rule": hit.rule, "action": hit.action, "mode": hit.mode, "label": hit.label, "count": hit.count}
            for hit in _without_place(outcome)
        ],
        "services_not_asked": outcome.skipped,
        **({"request": outcome.request.decode(errors="replace")} if show_request and outcome.refusal is None else {}),
    }


def _without_place(outcome: Outcome) -> list[RuleHit]:
    named = {place.rule.name for place in outcome.places}
    return [hit for hit in outcome.hits if hit.rule not in named]


def _action(rule: Rule) -> str:
    return rule.action + _shadow(rule.mode)


def _shadow(mode: str) -> str:
    return " (shadow)" if mode == "shadow" else ""


def exit_code_of(outcomes: Sequence[Outcome]) -> int:
    """The code of the gravest outcome."""
    codes = {outcome.exit_code for outcome in outcomes}
    return next((code for code in (REFUSED, FOUND) if code in codes), NOTHING)


def _ignore(provider: str, error: str | None, expires_at: float | None) -> None:
    """A credential that cannot be fetched is an error of its service."""

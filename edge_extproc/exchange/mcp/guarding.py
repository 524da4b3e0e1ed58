"""The guardrails of one request to an MCP server: the texts that the caller sends, and those that the server sends.

Rules see the arguments of a call as tool_call. Of all other texts of a message the kind is not known, so each rule
applies. `for.models` of a rule names a tool as SERVER/TOOL. A rule that gives a call to another model blocks it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from ...codecs.json_rpc import RpcMessage, read_message
from ...errors import BadRequest, GuardrailBlocked
from ...guardrails.body_texts import BodyTexts, TextPlace, read_texts
from ...guardrails.call_guard import CallGuard, Guardrails
from ...guardrails.during_check import raise_if_blocked
from ...guardrails.findings import Findings
from ...model.principal import Principal
from ..events import Headers
from ..large_bodies import WorkRunner, is_large
from .methods import CHECKED, uses_of
from .mirrored import check_parameters, has_parameters

T = TypeVar("T")

_SERVICE_SECONDS = 30.0
"""How long Envoy waits for the services."""
# They say what a message is. The rights of the caller have decided about them.
_NOT_TEXT = frozenset({"jsonrpc", "id", "method", "params", "params.name", "params.arguments"})
_ARGUMENTS = ("params.arguments.", "params.arguments[")


class MessagePlaces:
    """Knows the texts of a message."""

    def place_of(self, path: str, text: str) -> TextPlace | None:
        del text
        if path in _NOT_TEXT:
            return None
        return TextPlace("tool_call" if path.startswith(_ARGUMENTS) else None, path)


class McpGuard:
    def __init__(self, call: CallGuard) -> None:
        self.call = call

    @classmethod
    def begin(
        cls, guardrails: Guardrails, principal: Principal, server: str, tool: str, exchange_id: str
    ) -> McpGuard | None:
        """None: no rule applies. `tool`: "" for what is no call of one."""
        call = guardrails.begin(principal, f"{server}/{tool}", call_id=exchange_id)
        return cls(call) if call is not None else None

    @property
    def asks_about_replies(self) -> bool:
        """Whether services judge what the server sends."""
        return any(rule.service is not None for rule in self.call.rules.replies)

    async def check(
        self,
        headers: Headers,
        message: RpcMessage,
        body: bytes,
        runner: WorkRunner,
        take_time: Callable[[float], Awaitable[None]],
    ) -> bytes:
        """The body for the server: the same object if nothing is masked. Raises GuardrailBlocked, PolicyUnavailable
        without the verdict of a service, and HeaderMismatch."""
        if not self.call.checks_requests:
            return body
        check_parameters(headers, message)
        texts, findings = await _work(runner, body, partial(self._detect, body))
        self._note(findings)
        checked = findings.body
        if self.call.has_services:
            await take_time(_SERVICE_SECONDS)
            if checked is not body:
                texts = await _work(runner, checked, partial(_texts, checked))
            findings = await self.call.apply_services(texts)
            self._note(findings)
            checked = findings.body
        if checked is body or checked == body:
            return body
        if has_parameters(headers):
            raise BadRequest("a guardrail masks an argument that a header repeats; call without the argument")
        masked = read_message(checked, CHECKED)
        if (masked.kind, masked.id, masked.method) != (message.kind, message.id, message.method) or (
            message.kind != "response" and uses_of(masked) != uses_of(message)
        ):
            raise BadRequest("a guardrail masks the name of what the message uses")
        return checked

    def _detect(self, body: bytes) -> tuple[BodyTexts, Findings]:
        texts = _texts(body)
        return texts, self.call.apply_detectors(texts)

    def _note(self, findings: Findings) -> None:
        self.call.add_hits(findings.hits)
        raise_if_blocked(findings)
        if findings.route is not None:
            raise GuardrailBlocked(findings.route.rule, "a model would have to get it, and this is no call of a model")


async def _work(runner: WorkRunner, body: bytes, function: Callable[[], T]) -> T:
    return await runner.run(function) if is_large(body) else function()


def _texts(body: bytes) -> BodyTexts:
    return read_texts(body, "application/json", MessagePlaces())

"""A server that has the guardrail webhook API of agentgateway and kgateway.

POST /request gets the messages of a call, POST /response the choices of a reply. The answer has one action: to pass, to
mask (`body` with new messages or choices) or to reject (`body` with a text, and `status_code`)
(https://agentgateway.dev/docs/standalone/latest/llm/prompt-guards/webhooks/). Each string of a call is one message. The
status and the text of a rejection are not used: the caller gets the error of its own format.
"""

from __future__ import annotations

from typing import Any

from ..base import Checked, ServiceTools, Verdict
from ..service_http import ServiceClient, undocumented
from ..service_options import WebhookOptions
from ..service_texts import ROLES
from ..webhook_headers import webhook_headers


class AgentgatewayWebhookOptions(WebhookOptions):
    """A server with agentgateway's webhook API."""


class AgentgatewayWebhook:
    def __init__(self, options: AgentgatewayWebhookOptions, client: ServiceClient) -> None:
        self._labels = options.labels
        self._client = client

    async def check(self, checked: Checked) -> Verdict:
        messages = [{"role": ROLES.get(piece.kind, "user"), "content": piece.text} for piece in checked.pieces]
        if not messages:
            return Verdict("pass")
        if checked.direction == "request":
            answer = await self._client.post("/request", {"body": {"messages": messages}})
        else:
            choices = [{"message": message} for message in messages]
            answer = await self._client.post("/response", {"body": {"choices": choices}})
        action = answer.get("action")
        if not isinstance(action, dict):
            raise undocumented("action")
        reason = action.get("reason")
        match action.get("body"):
            case None if "status_code" not in action and action.keys() <= {"reason", "body"}:
                return Verdict("pass")
            case str() if isinstance(action.get("status_code"), int):
                return Verdict("block", reason if reason in self._labels else "blocked")
            case dict() as body if "status_code" not in action:
                label = reason if reason in self._labels else "masked"
                return Verdict("mask", label, _texts(body, checked))
        raise undocumented("action")

    async def close(self) -> None:
        await self._client.close()


def _texts(body: dict[str, Any], checked: Checked) -> tuple[str, ...]:
    if checked.direction == "request":
        messages = body.get("messages")
    else:
        choices = body.get("choices")
        if not isinstance(choices, list) or not all(isinstance(choice, dict) for choice in choices):
            raise undocumented("choices")
        messages = [choice.get("message") for choice in choices]
    if not isinstance(messages, list) or len(messages) != len(checked.pieces):
        raise undocumented("messages")
    texts = [message.get("content") if isinstance(message, dict) else None for message in messages]
    if not all(isinstance(text, str) for text in texts):
        raise undocumented("messages")
    return tuple(text for text in texts if isinstance(text, str))


class AgentgatewayWebhookPlugin:
    options = AgentgatewayWebhookOptions

    def build(self, options: AgentgatewayWebhookOptions, tools: ServiceTools) -> AgentgatewayWebhook:
        headers = webhook_headers(options.headers, tools)
        return AgentgatewayWebhook(options, ServiceClient(options.url, options, headers))


PLUGIN = AgentgatewayWebhookPlugin()

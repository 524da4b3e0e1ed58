"""A server that has LiteLLM's generic guardrail API.

POST /beta/litellm_basic_guardrail_api gets texts and answers NONE, BLOCKED or GUARDRAIL_INTERVENED, the last one with
new texts (https://docs.litellm.ai/docs/adding_provider/generic_guardrail_api). All strings of a call are texts: also
those of tool definitions, tool calls and tool results. Their kinds and places, and the facts of pictures and documents,
are in additional_provider_specific_params, under `edge`. With the option `pictures`, images has the pictures as data
URLs.
"""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ...config.part import Text
from ..base import Checked, ServiceTools, Verdict
from ..service_http import ServiceClient, undocumented
from ..service_options import HeaderSecret
from ..service_pictures import PictureWebhookOptions, as_data_url, pictures_of
from ..webhook_headers import webhook_headers

_PATH = "/beta/litellm_basic_guardrail_api"


class LiteLlmWebhookOptions(PictureWebhookOptions):
    """A server with LiteLLM's generic guardrail API."""

    api_key: HeaderSecret | None = None
    """Sent in the header x-api-key."""
    params: dict[Text, Text] = Field(default_factory=dict)
    """Values for additional_provider_specific_params."""


class LiteLlmWebhook:
    def __init__(self, options: LiteLlmWebhookOptions, client: ServiceClient) -> None:
        self._options = options
        self._client = client
        self._path = "" if options.url.endswith(_PATH) else _PATH

    async def check(self, checked: Checked) -> Verdict:
        answer = await self._client.post(self._path, self._body(checked))
        match answer.get("action"):
            case "NONE":
                return Verdict("pass")
            case "BLOCKED":
                reason = answer.get("blocked_reason")
                return Verdict("block", reason if reason in self._options.labels else "blocked")
            case "GUARDRAIL_INTERVENED":
                return _masked(answer, checked)
        raise undocumented("action")

    def _body(self, checked: Checked) -> dict[str, Any]:
        places = [{"kind": piece.kind, "path": piece.path} for piece in checked.pieces]
        media = [
            {"sha256": each.sha256, "media_type": each.media_type, "size": each.size, "path": each.path}
            for each in checked.media
        ]
        edge = {"tenant": checked.tenant, "texts": places, "media": media}
        return {
            "texts": [piece.text for piece in checked.pieces],
            "images": [as_data_url(each) for each in pictures_of(checked)] if self._options.pictures else None,
            "tools": None,
            "tool_calls": None,
            "structured_messages": None,
            "request_data": {"user_api_key_team_id": checked.tenant},
            "input_type": "request" if checked.direction == "request" else "response",
            "litellm_call_id": checked.call_id,
            "litellm_trace_id": checked.call_id,
            "model": checked.model,
            "additional_provider_specific_params": {**self._options.params, "edge": edge},
        }

    async def close(self) -> None:
        await self._client.close()


def _masked(answer: dict[str, Any], checked: Checked) -> Verdict:
    """Only texts can be changed: new pictures or tools would be lost, so they are an error."""
    for name in ("images", "tools", "tool_calls", "structured_messages"):
        if answer.get(name):
            raise undocumented(f"{name}, which were not sent")
    texts = answer.get("texts")
    if not isinstance(texts, list) or len(texts) != len(checked.pieces):
        raise undocumented("texts")
    if not all(isinstance(text, str) for text in texts):
        raise undocumented("texts")
    return Verdict("mask", "masked", tuple(texts))


class LiteLlmWebhookPlugin:
    options = LiteLlmWebhookOptions

    def build(self, options: LiteLlmWebhookOptions, tools: ServiceTools) -> LiteLlmWebhook:
        headers = webhook_headers(options.headers, tools, api_key=("x-api-key", options.api_key))
        return LiteLlmWebhook(options, ServiceClient(options.url, options, headers))


PLUGIN = LiteLlmWebhookPlugin()

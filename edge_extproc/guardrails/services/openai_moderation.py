"""OpenAI's moderation endpoint, and servers that have the same API.

POST /moderations gets texts and answers one result for each, with `flagged` and the flagged `categories`. A picture is
the only input of its request, because all parts of such an input have one result
(https://platform.openai.com/docs/api-reference/moderations). It cannot mask.
"""

from __future__ import annotations

from typing import Any

from ...config.part import Text
from ..base import Checked, ServiceTools, Verdict
from ..service_http import ServiceClient, together, undocumented
from ..service_options import HeaderSecret, ServiceUrl
from ..service_pictures import PictureOptions, as_data_url, pictures_of
from ..webhook_headers import webhook_headers

# Texts in one request. A history of many turns is checked by concurrent requests.
_MAX_INPUTS = 32


class OpenAiModerationOptions(PictureOptions):
    """OpenAI's moderation endpoint."""

    api_key: HeaderSecret
    """The key of the project that is charged with the checks. They are free of charge at OpenAI."""
    url: ServiceUrl = "https://api.openai.com/v1"
    """The URL before /moderations."""
    model: Text = "omni-moderation-latest"
    """The model for moderation."""
    categories: tuple[Text, ...] = ()
    """The categories that count, such as self-harm. Default: all of them."""


class OpenAiModeration:
    def __init__(self, options: OpenAiModerationOptions, client: ServiceClient) -> None:
        self._model = options.model
        self._categories = frozenset(options.categories)
        self._has_pictures = options.pictures is not None
        self._client = client

    async def check(self, checked: Checked) -> Verdict:
        texts = [piece.text for piece in checked.pieces if piece.text.strip()]
        batches: list[list[Any]] = [texts[at : at + _MAX_INPUTS] for at in range(0, len(texts), _MAX_INPUTS)]
        if self._has_pictures:
            batches += [
                [{"type": "image_url", "image_url": {"url": as_data_url(each)}}] for each in pictures_of(checked)
            ]
        labels = await together([self._label(batch) for batch in batches])
        found = next((label for label in labels if label is not None), None)
        return Verdict("pass") if found is None else Verdict("block", found)

    async def _label(self, inputs: list[Any]) -> str | None:
        """The first category that is flagged. `inputs`: texts, or one picture."""
        answer = await self._client.post("/moderations", {"model": self._model, "input": inputs})
        results = answer.get("results")
        if not isinstance(results, list) or len(results) != len(inputs):
            raise undocumented("results")
        labels = [self._flagged(result) for result in results]
        return next((label for label in labels if label is not None), None)

    def _flagged(self, result: Any) -> str | None:
        flagged = result.get("flagged") if isinstance(result, dict) else None
        categories = result.get("categories") if isinstance(result, dict) else None
        if not isinstance(flagged, bool) or not isinstance(categories, dict):
            raise undocumented("results")
        if not flagged:
            return None
        names = [name for name, is_flagged in categories.items() if is_flagged is True]
        if not names and not self._categories:
            return "flagged"
        return next((name for name in names if not self._categories or name in self._categories), None)

    async def close(self) -> None:
        await self._client.close()


class OpenAiModerationPlugin:
    options = OpenAiModerationOptions

    def build(self, options: OpenAiModerationOptions, tools: ServiceTools) -> OpenAiModeration:
        headers = webhook_headers({}, tools, api_key=("authorization", options.api_key), prefix="Bearer ")
        return OpenAiModeration(options, ServiceClient(options.url, options, headers))


PLUGIN = OpenAiModerationPlugin()

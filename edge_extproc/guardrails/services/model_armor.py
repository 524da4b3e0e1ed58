"""Google Model Armor: sanitizeUserPrompt and sanitizeModelResponse of a template.

POST /v1/projects/P/locations/L/templates/T:sanitizeUserPrompt gets a text and answers the result of each filter of the
template (https://cloud.google.com/security-command-center/docs/reference/model-armor/rest/v1/SanitizationResult). A
filter that was skipped, for example because the text is too long for it, gives no verdict.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from ...config.credentials import UpstreamCredentialConfig
from ...config.part import Text
from ...config.quantities import Boolean, Count
from ...config.wrong import wrong
from ..base import Checked, RequestSigner, ServiceTools, Verdict
from ..service_http import ServiceClient, together, undocumented
from ..service_options import PathSegment, ServiceOptions, ServiceUrl
from ..service_texts import joined, portions

_MATCH = "MATCH_FOUND"
_NO_MATCH = "NO_MATCH_FOUND"


def _location(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", value):
        raise wrong("this is not a location", "write one as Google does, such as europe-west4")
    return value


class ModelArmorOptions(ServiceOptions):
    """Google Model Armor."""

    project: PathSegment
    """The project of the template."""
    location: Annotated[Text, AfterValidator(_location)]
    """The location of the template."""
    template: PathSegment
    """The template's id."""
    credential: UpstreamCredentialConfig = Field(default_factory=lambda: UpstreamCredentialConfig(kind="google"))
    """Of kind google. Default: what google-auth finds."""
    mask: Boolean = False
    """Use the de-identified text, if no other filter matches. Each text is then a request of its own. false: such a
    match blocks."""
    max_characters: Count = 10_000
    """The most characters in one request. A longer text is divided at a line break or a space."""
    url: ServiceUrl | None = None
    """Another URL, such as that of a private endpoint. Default: https://modelarmor.LOCATION.rep.googleapis.com."""

    @model_validator(mode="after")
    def _of_google(self) -> ModelArmorOptions:
        if self.credential.kind != "google":
            raise wrong("this credential has no token for Google", "write kind: google", key="credential")
        return self


class ModelArmor:
    def __init__(self, options: ModelArmorOptions, client: ServiceClient) -> None:
        self._path = f"/v1/projects/{options.project}/locations/{options.location}/templates/{options.template}"
        self._mask = options.mask
        self._most = options.max_characters
        self._client = client

    async def check(self, checked: Checked) -> Verdict:
        if not self._mask:
            texts = joined((piece.text for piece in checked.pieces), self._most)
            results = await together([self._sanitize(checked, text) for text in texts])
            label = next((label for label, _ in results if label is not None), None)
            return Verdict("pass") if label is None else Verdict("block", label)
        parts = [(at, part) for at, piece in enumerate(checked.pieces) for part in portions(piece.text, self._most)]
        results = await together([self._sanitize(checked, part) for _, part in parts])
        blocking = next((label for label, new in results if label is not None and new is None), None)
        if blocking is not None:
            return Verdict("block", blocking)
        masking = next((label for label, _ in results if label is not None), None)
        if masking is None:
            return Verdict("pass")
        masked = [""] * len(checked.pieces)
        for (at, part), (_, new) in zip(parts, results, strict=True):
            masked[at] += part if new is None else new
        return Verdict("mask", masking, tuple(masked))

    async def _sanitize(self, checked: Checked, text: str) -> tuple[str | None, str | None]:
        """The filter that matched, and the de-identified text if no other filter matched. (None, None): none did."""
        if not text.strip():
            return None, None
        if checked.direction == "request":
            answer = await self._client.post(f"{self._path}:sanitizeUserPrompt", {"userPromptData": {"text": text}})
        else:
            answer = await self._client.post(
                f"{self._path}:sanitizeModelResponse", {"modelResponseData": {"text": text}}
            )
        result = answer.get("sanitizationResult")
        if not isinstance(result, dict) or result.get("filterMatchState") not in (_MATCH, _NO_MATCH):
            raise undocumented("sanitizationResult")
        filters = result.get("filterResults", {})
        if isinstance(filters, dict):
            entries = list(filters.items())
        elif isinstance(filters, list):
            entries = [("filter", each) for each in filters]
        else:
            raise undocumented("filterResults")
        matched = [(name, entry) for name, entry in entries if _has_match(entry)]
        if not matched:
            # A match outweighs a skipped filter; no match does not.
            if result["filterMatchState"] == _MATCH:
                return "filter", None
            if result.get("invocationResult") != "SUCCESS":
                raise undocumented("invocationResult is not SUCCESS: not all filters were executed")
            return None, None
        new = _deidentified(matched[0][1]) if len(matched) == 1 and self._mask else None
        if new is not None and result.get("invocationResult") != "SUCCESS":
            raise undocumented("invocationResult is not SUCCESS: not all filters were executed")
        return str(matched[0][0]), new

    async def close(self) -> None:
        await self._client.close()


def _has_match(entry: Any) -> bool:
    """Whether any part of a filter's result is a match."""
    return any(state == _MATCH for state in _states(entry))


def _states(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict):
            if "matchState" in each:
                yield each["matchState"]
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)


def _deidentified(entry: Any) -> str | None:
    """The new text of Sensitive Data Protection. None: it only inspects, or the entry is of another filter."""
    value = entry
    for name in ("sdpFilterResult", "deidentifyResult", "data"):
        value = value.get(name) if isinstance(value, dict) else None
    text = value.get("text") if isinstance(value, dict) else None
    return text if isinstance(text, str) else None


class ModelArmorPlugin:
    options = ModelArmorOptions

    def build(self, options: ModelArmorOptions, tools: ServiceTools) -> ModelArmor:
        sign: RequestSigner = tools.signer(options.credential, "google", None)
        url = options.url or f"https://modelarmor.{options.location}.rep.googleapis.com"

        def headers(host: str, path: str, body: bytes) -> tuple[tuple[str, str], ...]:
            return sign("POST", host, path, body)

        return ModelArmor(options, ServiceClient(url, options, headers))


PLUGIN = ModelArmorPlugin()

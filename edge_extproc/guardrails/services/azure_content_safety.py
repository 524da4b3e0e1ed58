"""Azure AI Content Safety: harmful content, blocklists and prompt shields.

POST /contentsafety/text:analyze gets a text of at most 10,000 characters and answers a severity for each category and
the matches of blocklists; image:analyze gets a picture and answers severities. POST /contentsafety/text:shieldPrompt
gets a prompt and documents, and answers whether each is an attack
(https://learn.microsoft.com/en-us/rest/api/contentsafety/text-operations?view=rest-contentsafety-2024-09-01).
A match of a blocklist quotes the text. Only the blocklist's name is read. It cannot mask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator, model_validator

from ...config.credentials import UpstreamCredentialConfig
from ...config.part import Text, one_of
from ...config.quantities import read_integer
from ...config.wrong import wrong
from ..base import Checked, ServiceTools, Verdict
from ..service_http import RequestHeaders, ServiceClient, together, undocumented
from ..service_options import HeaderSecret, ServiceUrl
from ..service_pictures import PictureOptions, as_base64, pictures_of
from ..service_texts import joined
from ..webhook_headers import webhook_headers

# Of a text to analyse, and of a prompt and its documents together.
_MAX_CHARACTERS = 10_000
_MAX_DOCUMENTS = 5
# Of the four levels: 0, 2, 4 and 6.
_MAX_SEVERITY = 6


def _severity(value: object) -> int:
    severity = read_integer(value)
    if not 1 <= severity <= _MAX_SEVERITY:
        raise wrong("this severity is out of range", "write 2 (low), 4 (medium) or 6 (high)")
    return severity


def _api_version(value: str) -> str:
    if not re.fullmatch(r"\d{4}-\d{2}-\d{2}(?:-preview)?", value):
        raise wrong("this is not an api version", "write one as Azure does, such as 2024-09-01")
    return value


class AzureContentSafetyOptions(PictureOptions):
    """Azure AI Content Safety. Give api_key or credential. The check harm judges pictures, too."""

    picture_types: ClassVar[frozenset[str]] = frozenset(
        {"image/bmp", "image/gif", "image/jpeg", "image/png", "image/tiff", "image/webp"}
    )

    url: ServiceUrl
    """The endpoint of the resource, https://NAME.cognitiveservices.azure.com."""
    api_key: HeaderSecret | None = None
    """A key of the resource."""
    credential: UpstreamCredentialConfig | None = None
    """Of kind azure."""
    checks: tuple[Annotated[Literal["harm", "attack"], one_of("harm", "attack")], ...] = ("harm",)
    """harm: categories and blocklists. attack: prompt shields, only for requests."""
    severity: Annotated[int, BeforeValidator(_severity)] = 4
    """The severity of a category that blocks: 2 (low), 4 (medium) or 6 (high), and those above it."""
    categories: tuple[
        Annotated[Literal["Hate", "SelfHarm", "Sexual", "Violence"], one_of("Hate", "SelfHarm", "Sexual", "Violence")],
        ...,
    ] = ()
    """The categories that count. Default: all of them."""
    blocklists: tuple[Text, ...] = ()
    """Names of blocklists of the resource."""
    api_version: Annotated[Text, AfterValidator(_api_version)] = "2024-09-01"
    """The version of the API."""

    @model_validator(mode="after")
    def _one_credential(self) -> AzureContentSafetyOptions:
        if (self.api_key is None) == (self.credential is None):
            raise wrong("there is not exactly one of api_key and credential", "give one of them")
        if self.credential is not None and self.credential.kind != "azure":
            raise wrong("this credential has no token for Azure", "write kind: azure", key="credential")
        if not self.checks:
            raise wrong("there is nothing to check", "write harm or attack", key="checks")
        return self


class AzureContentSafety:
    def __init__(self, options: AzureContentSafetyOptions, client: ServiceClient) -> None:
        self._options = options
        self._client = client

    async def check(self, checked: Checked) -> Verdict:
        calls = []
        if "harm" in self._options.checks:
            calls += [self._harm(text) for text in joined((piece.text for piece in checked.pieces), _MAX_CHARACTERS)]
            if self._options.pictures:
                calls += [self._harm_of_picture(as_base64(each)) for each in pictures_of(checked)]
        if "attack" in self._options.checks and checked.direction == "request":
            calls += [self._attack(prompt, documents) for prompt, documents in _shielded(checked)]
        labels = await together(calls)
        found = next((label for label in labels if label is not None), None)
        return Verdict("pass") if found is None else Verdict("block", found)

    async def _harm(self, text: str) -> str | None:
        body: dict[str, Any] = {"text": text, "outputType": "FourSeverityLevels"}
        if self._options.categories:
            body["categories"] = list(self._options.categories)
        if self._options.blocklists:
            body |= {"blocklistNames": list(self._options.blocklists), "haltOnBlocklistHit": False}
        answer = await self._client.post(self._path("text:analyze"), body)
        matches = answer.get("blocklistsMatch", [])
        if not isinstance(matches, list):
            raise undocumented("blocklistsMatch")
        for match in matches:
            name = match.get("blocklistName") if isinstance(match, dict) else None
            return f"blocklist/{name}" if name in self._options.blocklists else "blocklist"
        return self._category(answer)

    async def _harm_of_picture(self, content: str) -> str | None:
        body: dict[str, Any] = {"image": {"content": content}, "outputType": "FourSeverityLevels"}
        if self._options.categories:
            body["categories"] = list(self._options.categories)
        return self._category(await self._client.post(self._path("image:analyze"), body))

    def _category(self, answer: dict[str, Any]) -> str | None:
        """The first category with a severity that blocks."""
        rows = answer.get("categoriesAnalysis")
        if not isinstance(rows, list):
            raise undocumented("categoriesAnalysis")
        for row in rows:
            category, severity = (row.get("category"), row.get("severity")) if isinstance(row, dict) else (None, None)
            if not isinstance(category, str) or type(severity) is not int:
                raise undocumented("categoriesAnalysis")
            if severity >= self._options.severity:
                return category
        return None

    async def _attack(self, prompt: str, documents: list[str]) -> str | None:
        answer = await self._client.post(
            self._path("text:shieldPrompt"), {"userPrompt": prompt, "documents": documents}
        )
        analysis, of_documents = answer.get("userPromptAnalysis"), answer.get("documentsAnalysis")
        if of_documents is None:
            of_documents = []
        if not isinstance(of_documents, list) or len(of_documents) != len(documents):
            raise undocumented("documentsAnalysis")
        if prompt and _is_attack(analysis):
            return "prompt_attack"
        # Each is read, so that an unreadable one is not passed over.
        attacks = [_is_attack(each) for each in of_documents]
        return "document_attack" if any(attacks) else None

    def _path(self, operation: str) -> str:
        return f"/contentsafety/{operation}?api-version={self._options.api_version}"

    async def close(self) -> None:
        await self._client.close()


def _is_attack(analysis: Any) -> bool:
    detected = analysis.get("attackDetected") if isinstance(analysis, dict) else None
    if not isinstance(detected, bool):
        raise undocumented("attackDetected")
    return detected


def _shielded(checked: Checked) -> Iterable[tuple[str, list[str]]]:
    """Prompts, and documents in groups. What tools and files bring in is a document; the user's text is the prompt. The
    operator's system prompt and the model's own texts are neither."""
    prompts = joined((piece.text for piece in checked.pieces if piece.kind in ("user", "other")), _MAX_CHARACTERS)
    yield from ((prompt, []) for prompt in prompts)
    longest = _MAX_CHARACTERS // _MAX_DOCUMENTS
    foreign = ("tool_result", "tool_definition", "file_name", "url")
    documents = joined((piece.text for piece in checked.pieces if piece.kind in foreign), longest)
    for at in range(0, len(documents), _MAX_DOCUMENTS):
        yield "", documents[at : at + _MAX_DOCUMENTS]


class AzureContentSafetyPlugin:
    options = AzureContentSafetyOptions

    def build(self, options: AzureContentSafetyOptions, tools: ServiceTools) -> AzureContentSafety:
        headers: RequestHeaders
        if options.credential is not None:
            sign = tools.signer(options.credential, "azure", None)

            def signed(host: str, path: str, body: bytes) -> tuple[tuple[str, str], ...]:
                return sign("POST", host, path, body)

            headers = signed
        else:
            headers = webhook_headers({}, tools, api_key=("ocp-apim-subscription-key", options.api_key))
        return AzureContentSafety(options, ServiceClient(options.url, options, headers))


PLUGIN = AzureContentSafetyPlugin()

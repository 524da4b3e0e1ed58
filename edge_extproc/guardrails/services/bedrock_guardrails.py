"""Amazon Bedrock Guardrails: ApplyGuardrail.

POST /guardrail/ID/version/VERSION/apply gets texts or a picture, and their source, and answers `action` with an
assessment for each policy and, if it masks, one output for each text
(https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ApplyGuardrail.html). The assessments quote the
matched text. Only their types are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar
from urllib.parse import quote

from pydantic import AfterValidator, Field, model_validator

from ...config.credentials import UpstreamCredentialConfig
from ...config.part import Text
from ...config.quantities import Count
from ...config.wrong import wrong
from ..base import Checked, Media, RequestSigner, ServiceTools, Verdict
from ..service_http import ServiceClient, together, undocumented
from ..service_options import ServiceUrl
from ..service_pictures import PictureOptions, as_base64, pictures_of, type_of_picture
from ..service_texts import portions


def _guardrail(value: str) -> str:
    arn = r"arn:aws(-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:guardrail/[a-z0-9]+"
    if not re.fullmatch(rf"[a-z0-9]+|{arn}", value) or len(value) > 2048:
        raise wrong("this is not a guardrail", "write its id or its ARN")
    return value


def _version(value: str) -> str:
    if not re.fullmatch(r"[1-9][0-9]{0,7}|DRAFT", value):
        raise wrong("this is not a guardrail's version", 'write a number in quotes, such as "1", or DRAFT')
    return value


def _region(value: str) -> str:
    if not re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", value):
        raise wrong("this is not a region", "write one as AWS does, such as us-east-1")
    return value


class BedrockGuardrailsOptions(PictureOptions):
    """Amazon Bedrock Guardrails. They take pictures as PNG and JPEG."""

    picture_types: ClassVar[frozenset[str]] = frozenset({"image/png", "image/jpeg"})

    guardrail: Annotated[Text, AfterValidator(_guardrail)]
    """The guardrail's id or ARN."""
    version: Annotated[Text, AfterValidator(_version)] = "DRAFT"
    """The guardrail's version."""
    region: Annotated[Text, AfterValidator(_region)]
    """The region of the guardrail."""
    credential: UpstreamCredentialConfig = Field(default_factory=lambda: UpstreamCredentialConfig(kind="aws"))
    """Of kind aws. Default: what botocore finds."""
    url: ServiceUrl | None = None
    """Another URL, such as that of a VPC endpoint. Default: https://bedrock-runtime.REGION.amazonaws.com."""
    max_characters: Count = 25_000
    """The most characters in one request, as the account's quota allows. A longer text is divided at a line break or a
    space."""

    @model_validator(mode="after")
    def _of_aws(self) -> BedrockGuardrailsOptions:
        if self.credential.kind != "aws":
            raise wrong("this credential cannot sign for AWS", "write kind: aws", key="credential")
        return self


class BedrockGuardrails:
    def __init__(self, options: BedrockGuardrailsOptions, client: ServiceClient) -> None:
        self._path = f"/guardrail/{quote(options.guardrail, safe='')}/version/{options.version}/apply"
        self._most = options.max_characters
        self._has_pictures = options.pictures is not None
        self._client = client

    async def check(self, checked: Checked) -> Verdict:
        source = "INPUT" if checked.direction == "request" else "OUTPUT"
        parts = [portions(piece.text, self._most) for piece in checked.pieces]
        requests = list(self._requests(parts))
        contents: list[list[dict[str, Any]]] = [
            [{"text": {"text": parts[at][part]}} for at, part in request] for request in requests
        ]
        if self._has_pictures:
            contents += [[_image(each)] for each in pictures_of(checked)]
        answers = await together([self._apply(source, content) for content in contents])
        blocking = next((label for label, outputs in answers if label is not None and outputs is None), None)
        if blocking is not None:
            return Verdict("block", blocking)
        masking = next((label for label, _ in answers if label is not None), None)
        if masking is None:
            return Verdict("pass")
        for request, (_, outputs) in zip(requests, answers, strict=False):  # then those of the pictures
            if outputs is not None:
                for (at, part), output in zip(request, outputs, strict=True):
                    parts[at][part] = output
        return Verdict("mask", masking, tuple("".join(each) for each in parts))

    def _requests(self, parts: list[list[str]]) -> Iterator[list[tuple[int, int]]]:
        """The places of the parts of each request, which has at most `max_characters`. Blank parts are not sent."""
        batch: list[tuple[int, int]] = []
        length = 0
        for at, of_piece in enumerate(parts):
            for part, text in enumerate(of_piece):
                if not text.strip():
                    continue
                if batch and length + len(text) > self._most:
                    yield batch
                    batch, length = [], 0
                batch.append((at, part))
                length += len(text)
        if batch:
            yield batch

    async def _apply(self, source: str, content: list[dict[str, Any]]) -> tuple[str | None, list[str] | None]:
        """The type of what was found, and the masked texts. (None, None): nothing was found. A type without texts: it
        is blocked."""
        answer = await self._client.post(self._path, {"source": source, "content": content})
        action, assessments = answer.get("action"), answer.get("assessments", [])
        if action == "NONE":
            return None, None
        if action != "GUARDRAIL_INTERVENED" or not isinstance(assessments, list):
            raise undocumented("action")
        found = [each for assessment in assessments for each in _found(assessment)]
        blocked = next((label for effect, label in found if effect == "BLOCKED"), None)
        if blocked is not None:
            return blocked, None
        masked = next((label for effect, label in found if effect == "ANONYMIZED"), None)
        if masked is None:
            return "intervened", None
        outputs = answer.get("outputs")
        if not isinstance(outputs, list) or len(outputs) != len(content):
            raise undocumented("outputs")
        new = [output.get("text") if isinstance(output, dict) else None for output in outputs]
        if not all(isinstance(text, str) for text in new):
            raise undocumented("outputs")
        return masked, [text for text in new if isinstance(text, str)]

    async def close(self) -> None:
        await self._client.close()


def _image(picture: Media) -> dict[str, Any]:
    kind = (type_of_picture(picture) or "").removeprefix("image/")
    return {"image": {"format": kind, "source": {"bytes": as_base64(picture)}}}


def _found(assessment: Any) -> Iterator[tuple[str, str]]:
    """The action and the label of each finding of an assessment."""
    if not isinstance(assessment, dict):
        raise undocumented("assessments")
    for policy, lists in assessment.items():
        for name, rows in lists.items() if isinstance(lists, dict) else ():
            for row in rows if isinstance(rows, list) else ():
                if not isinstance(row, dict) or not isinstance(row.get("action"), str):
                    continue
                # A topic's type is always DENY; its name and that of a pattern come from the guardrail's settings.
                label = row.get("name") if name in ("topics", "regexes") else row.get("type")
                yield row["action"], f"{policy}/{label}" if isinstance(label, str) else policy


class BedrockGuardrailsPlugin:
    options = BedrockGuardrailsOptions

    def build(self, options: BedrockGuardrailsOptions, tools: ServiceTools) -> BedrockGuardrails:
        sign: RequestSigner = tools.signer(options.credential, "bedrock", options.region)
        url = options.url or f"https://bedrock-runtime.{options.region}.amazonaws.com"

        def headers(host: str, path: str, body: bytes) -> tuple[tuple[str, str], ...]:
            return sign("POST", host, path, body)

        return BedrockGuardrails(options, ServiceClient(url, options, headers))


PLUGIN = BedrockGuardrailsPlugin()

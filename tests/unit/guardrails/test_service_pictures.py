"""Pictures that go to the services which judge them, against scripted servers."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from scripted_service import Received, scripted_service
from services_kit import KINDS, service_of, text_check

from edge_extproc.errors import PolicyUnavailable
from edge_extproc.guardrails.base import Checked, Media, Verdict
from edge_extproc.guardrails.body_texts import type_of_bytes

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))
JPEG = b"\xff\xd8\xff" + bytes(range(100))
PDF = b"%PDF-1.7" + bytes(range(100))
PASS = Verdict("pass")


def media_of(raw: bytes, kind: str = "") -> Media:
    return Media(hashlib.sha256(raw).hexdigest(), kind, len(raw), "messages[0].content[1]", type_of_bytes(raw), raw)


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


SEEN = text_check("look", media=(media_of(PNG), media_of(PDF), media_of(b"?!", "image/jpeg")))

PASSES: dict[str, Any] = {
    "litellm_webhook": {"action": "NONE"},
    "openai_moderation": {"results": [{"flagged": False, "categories": {}}]},
    "azure_content_safety": {"categoriesAnalysis": []},
    "bedrock_guardrails": {"action": "NONE"},
}
BLOCKS: dict[str, Any] = {
    "litellm_webhook": {"action": "BLOCKED", "blocked_reason": "nudity"},
    "openai_moderation": {"results": [{"flagged": True, "categories": {"sexual": True}}]},
    "azure_content_safety": {"categoriesAnalysis": [{"category": "Sexual", "severity": 6}]},
    "bedrock_guardrails": {
        "action": "GUARDRAIL_INTERVENED",
        "outputs": [],
        "assessments": [{"contentPolicy": {"filters": [{"type": "SEXUAL", "action": "BLOCKED"}]}}],
    },
}
LABELS = {
    "litellm_webhook": "blocked",
    "openai_moderation": "sexual",
    "azure_content_safety": "Sexual",
    "bedrock_guardrails": "contentPolicy/SEXUAL",
}
PNG_SENT: dict[str, Any] = {
    "litellm_webhook": f"data:image/png;base64,{encoded(PNG)}",
    "openai_moderation": [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{encoded(PNG)}"}}],
    "azure_content_safety": {"content": encoded(PNG)},
    "bedrock_guardrails": {"image": {"format": "png", "source": {"bytes": encoded(PNG)}}},
}


async def verdict_of(kind: str, checked: Checked, **more: Any) -> tuple[Verdict, list[Received]]:
    """The service blocks the PNG, and passes all else."""

    def script(request: Received) -> Any:
        has_picture = encoded(PNG) in json.dumps(request.json)
        return BLOCKS[kind] if has_picture else PASSES[kind]

    async with scripted_service(script) as server:
        service = service_of(kind, **{**KINDS[kind], "url": server.url, **more})
        try:
            return await service.check(checked), server.requests
        finally:
            await service.close()


@pytest.mark.parametrize("kind", PASSES)
async def test_a_picture_is_judged_with_the_texts(kind: str) -> None:
    verdict, requests = await verdict_of(kind, SEEN, pictures="1MiB")
    bodies = json.dumps([request.json for request in requests])

    assert Verdict("block", LABELS[kind]) == verdict
    assert json.dumps(PNG_SENT[kind]) in bodies
    assert encoded(b"?!") in bodies  # by the type that the caller gives, if the bytes show none
    assert encoded(PDF) not in bodies
    assert '"look"' in bodies


@pytest.mark.parametrize("kind", PASSES)
async def test_without_the_option_no_bytes_are_sent(kind: str) -> None:
    verdict, requests = await verdict_of(kind, SEEN)

    assert PASS == verdict
    assert encoded(PNG) not in json.dumps([request.json for request in requests])


async def test_each_picture_is_a_request_of_moderation_and_of_azure() -> None:
    two = text_check("look", media=(media_of(JPEG), media_of(JPEG + b"2")))
    _, of_moderation = await verdict_of("openai_moderation", two, pictures="1MiB")
    _, of_azure = await verdict_of("azure_content_safety", two, pictures="1MiB", categories=["Sexual"])

    assert [1, 1, 1] == [len(request.json["input"]) for request in of_moderation]
    paths = sorted(request.path.partition("?")[0] for request in of_azure)
    assert ["/contentsafety/image:analyze"] * 2 + ["/contentsafety/text:analyze"] == paths
    assert [["Sexual"]] * 3 == [request.json["categories"] for request in of_azure]


async def test_bedrock_masks_the_texts_beside_a_picture() -> None:
    def script(request: Received) -> Any:
        if "image" in request.json["content"][0]:
            return {"action": "NONE"}
        row = {"type": "NAME", "action": "ANONYMIZED"}
        assessments = [{"sensitiveInformationPolicy": {"piiEntities": [row]}}]
        return {"action": "GUARDRAIL_INTERVENED", "outputs": [{"text": "{NAME}"}], "assessments": assessments}

    async with scripted_service(script) as server:
        service = service_of(
            "bedrock_guardrails", **{**KINDS["bedrock_guardrails"], "url": server.url, "pictures": "1KiB"}
        )
        verdict = await service.check(text_check("Ann", media=(media_of(PNG),)))
        await service.close()

    assert Verdict("mask", "sensitiveInformationPolicy/NAME", ("{NAME}",)) == verdict


@pytest.mark.parametrize(
    ("kind", "media", "told"),
    [
        ("litellm_webhook", media_of(PNG + bytes(1000)), "takes at most 1024 bytes of pictures, and these are 1208"),
        ("bedrock_guardrails", media_of(b"GIF89a"), "does not take pictures of the type image/gif"),
        ("azure_content_safety", media_of(b"<svg>", "image/svg+xml"), "pictures of the type image/svg\\+xml"),
    ],
)
async def test_a_picture_that_a_service_cannot_judge_is_no_failure_of_the_service(
    kind: str, media: Media, told: str
) -> None:
    """The rule's `fail` decides, and the circuit stays closed: the caller alone has caused it."""
    async with scripted_service(lambda request: PASSES[kind]) as server:
        service = service_of(kind, **{**KINDS[kind], "url": server.url, "pictures": "1KiB", "failures": 1})
        for _ in range(3):
            with pytest.raises(PolicyUnavailable, match=told):
                await service.check(text_check("look", media=(media,)))
        assert PASS == await service.check(text_check("look"))
        await service.close()

    assert 1 == len(server.requests)


async def test_the_verdict_of_a_picture_is_stored_by_its_hash() -> None:
    async with scripted_service(lambda request: {"action": "NONE"}) as server:
        service = service_of("litellm_webhook", url=server.url, pictures="1MiB")
        for raw in (PNG, PNG, JPEG):
            await service.check(text_check("look", media=(media_of(raw),)))
        await service.close()

    assert 2 == len(server.requests)

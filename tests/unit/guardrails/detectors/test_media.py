"""The detector of pictures and documents: by type, by first bytes, by size and by hash."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from config_kit import mistake
from guarded_kit import stage_of
from guarding import rule
from player import body, headers, talk

from edge_extproc.config.surroundings import Surroundings
from edge_extproc.errors import ConfigError
from edge_extproc.exchange.commands import Continue, ImmediateResponse
from edge_extproc.guardrails.base import Media
from edge_extproc.guardrails.body_texts import type_of_bytes
from edge_extproc.guardrails.detectors.media import PLUGIN, MediaOptions, MediaTypesDetector

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
PDF = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(range(64))
DOCX = b"PK\x03\x04" + bytes(26) + b"word/document.xml" + bytes(range(64))


def detector(base: Path = Path("/nowhere"), **options: Any) -> MediaTypesDetector:
    return PLUGIN.build(MediaOptions.model_validate(options, context=Surroundings({}, base)))


def media(raw: bytes, kind: str) -> Media:
    return Media(hashlib.sha256(raw).hexdigest(), kind, len(raw), "p", type_of_bytes(raw))


@pytest.mark.parametrize(
    ("options", "raw", "kind", "label"),
    [
        ({"allow": ["image/*"]}, PNG, "image/png", None),
        ({"allow": ["image/*"]}, PDF, "application/pdf", "not_allowed_type"),
        ({"allow": ["image/*"]}, PDF, "image/png", "not_allowed_type"),  # the bytes say what it is
        ({"allow": ["image/*"]}, PNG, "application/pdf", "not_allowed_type"),
        ({"allow": ["image/*"]}, b"\x01\x02", "", "not_allowed_type"),
        ({"allow": ["application/octet-stream"]}, b"\x01\x02", "", None),
        ({"deny": ["application/pdf"]}, PDF, "", "denied_type"),
        ({"deny": ["application/pdf"]}, PDF, "IMAGE/PNG", "denied_type"),
        ({"deny": ["*wordprocessingml*"]}, DOCX, "", "denied_type"),
        ({"deny": ["application/pdf"]}, PNG, "image/png", None),
        ({"max_size": "72B"}, PNG, "image/png", None),
        ({"max_size": "71B"}, PNG, "image/png", "too_large"),
        ({"sha256": [hashlib.sha256(PNG).hexdigest().upper()]}, PNG, "image/png", "denied_hash"),
        ({"sha256": ["0" * 64]}, PNG, "image/png", None),
    ],
)
def test_a_file_is_judged_by_its_facts(options: dict[str, Any], raw: bytes, kind: str, label: str | None) -> None:
    assert detector(**options).find_media(media(raw, kind)) == label


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"\xff\xd8\xff\xe0", "image/jpeg"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "image/webp"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
        (b"PK\x03\x04" + bytes(30), "application/zip"),
        (b"\0\0\0\x20ftypmp42", "video/mp4"),
        (b"\0\0\0\x20ftypheic", "image/heic"),
        (b"plain", ""),
        (b"", ""),
    ],
)
def test_the_first_bytes_show_a_type(raw: bytes, kind: str) -> None:
    assert type_of_bytes(raw) == kind


def test_a_file_of_hashes_is_one_of_sha256sum(tmp_path: Path) -> None:
    path = tmp_path / "hashes"
    path.write_text(f"# denied\n\n{hashlib.sha256(PNG).hexdigest()}  a picture.png\n")

    assert detector(tmp_path, sha256_file="hashes").find_media(media(PNG, "")) == "denied_hash"
    path.write_text("nothing\n")
    with pytest.raises(ConfigError, match=r"hashes:1: this line does not begin with a SHA-256"):
        detector(tmp_path, sha256_file="hashes")


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ("detect: {media: {}}, action: block", "this detector would find nothing"),
        ("detect: {media: {sha256: [x]}}, action: block", "this is no SHA-256"),
        ("detect: {media: {deny: [image/png]}}, action: mask", "a picture or a document cannot be masked"),
        ("detect: {media: {deny: [image/png]}}, action: block, on: [reply]", "documents of requests are checked"),
    ],
)
def test_a_mistake_is_one_line(given: str, text: str) -> None:
    assert text in mistake(f"guardrails: {{rules: [{{name: a, {given}}}]}}")


def url_of(raw: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(raw).decode()}"


CHATS: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"type": "image_url", "image_url": {"url": url_of(PDF, "image/png")}},
    "/v1/responses": {"type": "input_image", "image_url": url_of(PDF, "image/png")},
    "/v1/messages": {
        "type": "image",
        "source": {"type": "base64", "media_type": "image/png", "data": base64.b64encode(PDF).decode()},
    },
}


@pytest.mark.parametrize("path", sorted(CHATS))
def test_a_document_of_a_denied_type_blocks_a_call_in_each_format(path: str) -> None:
    found = detector(deny=["application/pdf"])
    call: dict[str, Any] = {"model": "chat", "max_tokens": 5}
    call["input" if "responses" in path else "messages"] = [{"role": "user", "content": [CHATS[path]]}]
    stage = stage_of(rule("block", name="no-documents", detector=found))
    refused = talk(stage.exchange(), headers(path), body(call))[-1]
    passed = talk(stage_of(rule("block", detector=detector(max_size="1MiB"))).exchange(), headers(path), body(call))[-1]

    assert isinstance(refused, ImmediateResponse)
    assert refused.status == 400
    assert "no-documents" in json.loads(refused.body)["error"]["message"]
    assert isinstance(passed, Continue)


def test_a_file_in_a_form_is_judged_and_counted() -> None:
    form = (
        b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nuser_data\r\n'
        b'--b\r\ncontent-disposition: form-data; name="file"; filename="a.pdf"\r\ncontent-type: application/pdf\r\n\r\n'
        + PDF
        + b"\r\n--b--\r\n"
    )
    stage = stage_of(rule("flag", name="documents", detector=detector(deny=["application/pdf"])))
    exchange = stage.exchange()
    head = headers("/v1/files", ("content-type", "multipart/form-data; boundary=b"))
    assert isinstance(talk(exchange, head, body(form))[-1], Continue)
    exchange.closed("cancelled")

    assert [(hit.rule, hit.label, hit.count) for hit in stage.settled[0].guardrails] == [
        ("documents", "denied_type", 1)
    ]

"""Images and files whose base64 or media type deviates from what Anthropic, Bedrock and Gemini accept."""

from __future__ import annotations

import json
from typing import Any

import pytest
import request_validators
from crossings import CHAT, GEMINI, MESSAGES, RESPONSES
from translating import cross, read

from edge_extproc.dialects.inline_data import plain_base64, type_of_image
from edge_extproc.registry import load

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
WEBP = "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA=="
PDF = "JVBERi0xLjQK"
VALIDATORS = {
    MESSAGES: request_validators.anthropic,
    GEMINI: request_validators.gemini_3,
    RESPONSES: request_validators.openai_responses,
}


def shown(url: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}


def asked(url: str) -> dict[str, Any]:
    return {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": url}]}]}


@pytest.mark.parametrize(
    "data",
    [
        PNG,
        PNG.rstrip("="),
        PNG.replace("+", "-").replace("/", "_"),
        "\r\n".join(PNG[at : at + 76] for at in range(0, len(PNG), 76)),
        f" {PNG}\t",
    ],
)
@pytest.mark.parametrize("target", [MESSAGES, GEMINI, RESPONSES])
@pytest.mark.parametrize("source", [CHAT, RESPONSES])
def test_base64_reaches_the_provider_in_its_usual_spelling(source: str, target: str, data: str) -> None:
    url = f"data:image/png;base64,{data}"
    body, dropped = cross(source, target, **(shown(url) if source == CHAT else asked(url)))

    assert PNG in json.dumps(body)
    assert dropped == ()
    assert VALIDATORS[target](body) == []


@pytest.mark.parametrize(
    "named", ["image/jpeg", "image/PNG", "image/png;charset=utf-8", "application/octet-stream", ""]
)
@pytest.mark.parametrize("target", [MESSAGES, GEMINI, RESPONSES])
def test_an_image_has_the_type_that_its_bytes_show(target: str, named: str) -> None:
    body, _ = cross(CHAT, target, **shown(f"data:{named};base64,{PNG}"))

    assert "image/png" in json.dumps(body)
    assert named not in json.dumps(body) or not named
    assert VALIDATORS[target](body) == []


def test_bedrock_gets_the_format_that_the_bytes_show() -> None:
    written = load("dialects", "bedrock_converse").write_chat(
        read(CHAT, **shown(f"data:image/jpeg;base64,{PNG}")), "amazon.nova-pro-v1:0"
    )

    assert json.loads(written.body)["messages"][0]["content"] == [
        {"image": {"format": "png", "source": {"bytes": PNG}}}
    ]


def test_a_file_with_parameters_in_its_type_is_read() -> None:
    file = {"type": "file", "file": {"file_data": f"data:application/pdf;name=a.pdf;base64,{PDF}"}}
    body, _ = cross(CHAT, MESSAGES, messages=[{"role": "user", "content": [file]}])

    assert body["messages"][0]["content"] == [
        {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}}
    ]


@pytest.mark.parametrize(
    ("named", "data", "expected"),
    [
        ("image/png", WEBP, "image/webp"),
        ("image/png", "UklGRhoAAABBVkkgTElTVA", "image/png"),
        ("image/png", "UklGRg", "image/png"),
        ("image/png", "UklGR", "image/png"),
        ("image/png", "R0lGODlhAQABAAAAACw=", "image/gif"),
        ("image/png", "/9j/4AAQSkZJRg==", "image/jpeg"),
        ("image/png", PDF, "application/pdf"),
        ("IMAGE/JPG", "AAAA", "image/jpeg"),
        ("image/heic; x=1", "AAAA", "image/heic"),
    ],
)
def test_a_type_is_that_of_the_first_bytes(named: str, data: str, expected: str) -> None:
    assert type_of_image(named, data) == expected


def test_the_usual_spelling_stays() -> None:
    assert plain_base64(PNG) is PNG or plain_base64(PNG) == PNG

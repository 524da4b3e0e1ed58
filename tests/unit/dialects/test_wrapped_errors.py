"""Errors of a router that hold the error of the provider behind it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from translating import CHAT, MESSAGES, caller_stream, chunk, error, fault_of, stream_events

from edge_extproc.model.reply import Failed

TOO_LONG = "prompt is too long: 210000 tokens > 200000 maximum"


def wrapping(raw: Any, code: int = 400, **more: Any) -> dict[str, Any]:
    metadata = {"raw": raw, "provider_name": "Anthropic"}
    return {"error": {"message": "Provider returned error", "code": code, "metadata": metadata, **more}}


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps({"type": "error", "error": {"type": "invalid_request_error", "message": TOO_LONG}}),
        json.dumps({"message": TOO_LONG}),
        json.dumps({"error": TOO_LONG}),
        json.dumps({"detail": TOO_LONG}),
        {"error": {"message": TOO_LONG}},
        TOO_LONG,
        f" {TOO_LONG}\n",
    ],
)
def test_the_callers_client_gets_the_providers_message(raw: Any) -> None:
    fault = fault_of(CHAT, 400, wrapping(raw))

    assert ("context_length", TOO_LONG) == (fault.kind, fault.message)
    assert error(MESSAGES, fault)[2]["error"] == {"type": "invalid_request_error", "message": TOO_LONG}


@pytest.mark.parametrize(
    ("code", "kind"),
    [("context_length_exceeded", "context_length"), ("content_filter", "content_filter")],
)
def test_the_providers_code_is_read(code: str, kind: str) -> None:
    raw = json.dumps({"error": {"message": "no", "code": code}})

    assert fault_of(CHAT, 400, wrapping(raw)).kind == kind


def test_a_key_of_the_router_is_not_ours() -> None:
    raw = json.dumps({"error": {"message": "bad key", "type": "authentication_error"}})
    fault = fault_of(CHAT, 502, wrapping(raw, 502))

    assert (fault.status, fault.kind, fault.message) == (502, "api", "bad key")


@pytest.mark.parametrize("raw", ["", None, "{}", "[]", 7, json.dumps({"error": {"code": 1}})])
def test_an_error_that_wraps_no_message_keeps_its_own(raw: Any) -> None:
    assert fault_of(CHAT, 400, wrapping(raw)).message == "Provider returned error"


def test_a_page_is_cut() -> None:
    assert len(fault_of(CHAT, 502, wrapping("<" + "x" * 9_000)).message) <= 2_000


def test_a_wait_of_the_provider_is_read() -> None:
    raw = "temporarily rate-limited upstream. Please try again in 20s."

    assert fault_of(CHAT, 429, wrapping(raw, 429)).retry_after == 20


def test_an_error_in_a_stream_is_read_alike() -> None:
    events = stream_events(CHAT, chunk({"content": "x"}), wrapping(TOO_LONG))
    failed = events[-1]

    assert isinstance(failed, Failed)
    assert failed.fault.message == TOO_LONG
    assert caller_stream(MESSAGES, events)[-1]["error"]["message"] == TOO_LONG

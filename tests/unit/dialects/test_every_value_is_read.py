"""No value of a request is overlooked by its reader: where it changes, the Chat changes, or the request is refused.

A Chat is all that a writer of another dialect and a cache key get to see.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, cast

import pytest
from asking import CHAT, CONVERSE, DIALECTS, GEMINI, MESSAGES, PATHS, RESPONSES
from crossings import OTHER_OPERATIONS
from full_requests import APIS, requests_of
from recordings import body, is_of_today, recordings
from unread import unread

from edge_extproc.dialects.base import Dialect
from edge_extproc.model.call import Call, Chat

# Values that say nothing, each with its reason.
SAYS_NOTHING: dict[str, dict[str, str]] = {
    CHAT: {r"messages\[\d+\]\.tool_calls\[\d+\]\.index": "where a call stands in its list, its place says too"},
    RESPONSES: {},
    MESSAGES: {
        r"messages\[\d+\]\.content\[\d+\]\.source\.media_type": "of a text source: text/plain is the only one",
        r"system\[\d+\]\.text": "a line that Anthropic's own client means as a header (x-anthropic-billing-header)",
    },
    GEMINI: {
        r"(systemInstruction|system_instruction)\.role": "the API ignores it",
        r".*(propertyOrdering|property_ordering)\[\d+\]": "it is the order of members, which == does not see",
    },
    CONVERSE: {r"messages\[\d+\]\.content\[\d+\]\.toolResult\.status": "error is the one status that says something"},
}


def overlooked(source: str, told: dict[str, Any]) -> set[str]:
    return {
        path
        for path in unread(DIALECTS[source], told, PATHS[source])
        if not any(re.fullmatch(exempt, path) for exempt in SAYS_NOTHING[source])
    }


@pytest.mark.parametrize("source", DIALECTS)
def test_no_value_of_a_full_request_is_overlooked(source: str) -> None:
    for told in requests_of(source):
        # Of two spellings of one field, the reader takes one.
        once = {
            key: value
            for key, value in told.items()
            if (key, "generation_config" in told) != ("generationConfig", True)
        }
        assert set() == overlooked(source, once), json.dumps(told)[:2000]


@pytest.mark.parametrize("source", DIALECTS)
def test_no_value_of_a_recorded_request_is_overlooked(source: str) -> None:
    read = 0
    for recording in recordings(*APIS[source]):
        if recording["endpoint"].endswith(OTHER_OPERATIONS) or not is_of_today(recording["id"]):
            continue
        try:
            told = json.loads(body(recording["request"]))
        except ValueError:
            continue
        if source in (CHAT, RESPONSES):
            told["model"] = told.get("model") or "m"  # a stored prompt may name it, and a path of Azure's does
        try:
            assert set() == overlooked(source, told), recording["id"]
        except ValueError:  # no request of this format: its own host refused it, too
            assert recording["response"]["status"] >= 400, recording["id"]
            continue
        read += 1
    assert read > 20


class Careless:
    """The reader of another dialect, but for one field."""

    name = CHAT

    def __getattr__(self, name: str) -> Any:
        return getattr(DIALECTS[CHAT], name)

    def read_chat(self, call: Call) -> Chat:
        return replace(DIALECTS[CHAT].read_chat(call), temperature=None)


def test_a_value_that_is_overlooked_is_found() -> None:
    told = {"model": "m", "temperature": 1, "messages": [{"role": "user", "content": "Hi"}]}

    assert ["temperature"] == unread(cast("Dialect", Careless()), told, PATHS[CHAT])

"""Calls in the history whose arguments are no object, at hosts of OpenAI's chat format, which may decode them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from asking import CHAT, RESPONSES, Provider, provider_request
from translating import HI

from edge_extproc.model.host import UNKNOWN_HOST
from edge_extproc.providers.azure import AZURE_HOST
from edge_extproc.providers.openai import OPENAI_HOST
from edge_extproc.providers.openai_compatible import row

DECODING = {"unknown": UNKNOWN_HOST, **{name: row(name).profile for name in ("groq", "mistral", "moonshot", "vllm")}}
OTHERS = {"openai": OPENAI_HOST, "azure": AZURE_HOST}
ODD = ['{"city": "Ro', "[1]", '"Rome"', "Rome"]


def history(caller: str, arguments: str) -> tuple[Any, str]:
    if caller == CHAT:
        call = {"id": "call_12345", "type": "function", "function": {"name": "f", "arguments": arguments}}
        turns = [HI, {"role": "assistant", "content": None, "tool_calls": [call]}]
        result = {"role": "tool", "tool_call_id": "call_12345", "content": "a"}
        return {"model": "m", "messages": [*turns, result]}, "/v1/chat/completions"
    call = {"type": "function_call", "call_id": "call_12345", "name": "f", "arguments": arguments}
    output = {"type": "function_call_output", "call_id": "call_12345", "output": "a"}
    return {"model": "m", "input": [HI, call, output]}, "/v1/responses"


def sent(caller: str, host: Any, arguments: str) -> tuple[str, tuple[str, ...]]:
    body, path = history(caller, arguments)
    raw, dropped = provider_request(caller, body, path, Provider(CHAT, "m", host))
    (call,) = json.loads(raw)["messages"][1]["tool_calls"]
    return call["function"]["arguments"], dropped


PATHS = {CHAT: "messages[1].tool_calls[0].function.arguments", RESPONSES: "input[1].arguments"}


@pytest.mark.parametrize("caller", [CHAT, RESPONSES])
@pytest.mark.parametrize("host", DECODING)
@pytest.mark.parametrize("arguments", ODD)
def test_a_host_that_decodes_arguments_gets_an_object(caller: str, host: str, arguments: str) -> None:
    written, dropped = sent(caller, DECODING[host], arguments)

    assert {"raw_arguments": arguments} == json.loads(written)
    assert PATHS[caller] in dropped


@pytest.mark.parametrize("caller", [CHAT, RESPONSES])
@pytest.mark.parametrize("host", OTHERS)
@pytest.mark.parametrize("arguments", ODD)
def test_openai_gets_the_text_itself(caller: str, host: str, arguments: str) -> None:
    assert (arguments, ()) == sent(caller, OTHERS[host], arguments)


@pytest.mark.parametrize("arguments", ['{"a":1}', '{ "a" : [] }', "{}", "{ }", ""])
def test_arguments_that_are_an_object_keep_their_bytes(arguments: str) -> None:
    assert (arguments, ()) == sent(CHAT, UNKNOWN_HOST, arguments)


def test_null_is_no_arguments() -> None:
    assert "{}" == sent(CHAT, UNKNOWN_HOST, "null")[0] == sent(RESPONSES, UNKNOWN_HOST, "null")[0]
    assert "null" == sent(CHAT, OPENAI_HOST, "null")[0]

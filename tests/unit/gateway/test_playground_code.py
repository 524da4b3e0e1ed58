"""The requests of the playground, as curl and with the SDKs: what is shown is what is sent."""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from edge_extproc.gateway.playground_code import as_curl, as_python, request_of
from edge_extproc.server.admin_playground import FORMATS, PlaygroundCall

URL = "http://127.0.0.1:10000"
PROMPT = "it's $HOME `id` \"quoted\"\n'; rm -rf /; Grüße"


def call(form: str, **more: Any) -> PlaygroundCall:
    return PlaygroundCall.model_validate({"tenant": "acme", "model": "m/1", "format": form, "prompt": PROMPT, **more})


@pytest.mark.parametrize("form", FORMATS)
def test_the_shell_gives_curl_the_body_as_it_is_sent(form: str) -> None:
    request = request_of(call(form), URL)
    words = shlex.split(as_curl(request))

    assert request.url + request.path in words
    assert request.body == json.loads(words[words.index("-d") + 1])
    assert json.dumps(PROMPT) in json.dumps(request.body)


class Recorder:
    """Any attribute and call; remembers the arguments of calls."""

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def __getattr__(self, name: str) -> Recorder:
        return self

    def __call__(self, **arguments: Any) -> Any:
        self._calls.append(arguments)
        return self

    def __iter__(self) -> Any:
        return iter(())


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("form", FORMATS)
def test_the_code_runs_and_calls_the_sdk_with_the_same_fields(
    form: str, stream: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(call(form, stream=stream), URL)
    code = as_python(request, "m/1")
    calls: list[Any] = []
    recorder = Recorder(calls)
    lines = [line for line in code.splitlines() if "import" not in line]
    monkeypatch.setenv("EDGE_KEY", "k")
    exec(  # noqa: S102 - the code is what is tested
        "\n".join(lines),
        {"os": __import__("os"), "openai": recorder, "anthropic": recorder, "genai": recorder, "print": lambda _: None},
    )
    client, sent = calls

    assert "k" == client["api_key"]
    if form == "generate_content":
        assert ("m/1", request.body["contents"]) == (sent["model"], sent["contents"])
        assert request.body["generationConfig"] == sent["config"]
    else:
        assert request.body == sent


def test_a_gemini_model_is_one_segment_of_the_path() -> None:
    assert "/v1beta/models/m%2F1:streamGenerateContent?alt=sse" == request_of(call("generate_content"), URL).path


def test_a_whole_body_is_sent_as_it_is() -> None:
    body = {"model": "x", "messages": [], "stream": True}
    request = request_of(call("messages", body=body, stream=False), URL)

    assert (body, True) == (request.body, request.stream)

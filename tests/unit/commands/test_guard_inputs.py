"""What `guard test` reads from files: texts, bodies of the chat formats, and recorded exchanges."""

from __future__ import annotations

import base64
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from recordings import body, recordings

from edge_extproc.commands.guard_inputs import CallInput, Input, TextInput, path_of, read_inputs
from edge_extproc.errors import StartError


def read(tmp_path: Path, content: str, **more: Any) -> list[Input]:
    (tmp_path / "file").write_text(content)
    given = {"path": None, "as_text": False, "model": None, **more}
    return list(read_inputs((str(tmp_path / "file"),), **given))


def test_what_is_no_json_is_a_text(tmp_path: Path) -> None:
    source = str(tmp_path / "file")

    assert [TextInput(source, "hello\n{not json}\n")] == read(tmp_path, "hello\n{not json}\n")
    assert [TextInput(source, '"a json text"')] == read(tmp_path, '"a json text"')
    assert [TextInput(source, '{"messages": []}')] == read(tmp_path, '{"messages": []}', as_text=True)


def test_a_body_is_a_call_of_its_format(tmp_path: Path) -> None:
    (call,) = read(tmp_path, '{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
    (given,) = read(tmp_path, '{"model": "m", "messages": []}', path="/v1/messages?beta=true")

    assert isinstance(call, CallInput)
    assert "/v1/chat/completions" == call.path
    assert isinstance(given, CallInput)
    assert "/v1/messages?beta=true" == given.path


def test_lines_of_json_are_single_calls(tmp_path: Path) -> None:
    line = '{"model": "m", "input": "hi"}'
    calls = read(tmp_path, f"{line}\n\n{line}\n")

    assert [":1", ":2"] == [call.source.removeprefix(str(tmp_path / "file")) for call in calls]
    assert [line.encode()] * 2 == [call.body for call in calls if isinstance(call, CallInput)]


def test_a_recorded_exchange_is_its_request(tmp_path: Path) -> None:
    exchange = {
        "endpoint": "POST /v1/audio/transcriptions",
        "query": "a=b",
        "request": {
            "headers": {"Content-Type": "multipart/form-data; boundary=x"},
            "body": base64.b64encode(b"--x--").decode(),
            "body_encoding": "base64",
        },
    }
    (call,) = read(tmp_path, json.dumps(exchange))

    assert (
        CallInput(
            str(tmp_path / "file"),
            "/v1/audio/transcriptions?a=b",
            b"--x--",
            (("content-type", "multipart/form-data; boundary=x"),),
        )
        == call
    )


def test_a_given_path_is_that_of_each_call(tmp_path: Path) -> None:
    body = {"model": "m", "messages": []}
    exchange = {"endpoint": "POST /api/v1/chat/completions", "request": {"headers": {}, "body": json.dumps(body)}}
    lines = f"{json.dumps(exchange)}\n{json.dumps(body)}\n"

    calls = read(tmp_path, lines, path="/v1/chat/completions")
    (form,) = read(tmp_path, "--x--", path="/v1/audio/transcriptions")

    assert [("/v1/chat/completions", body)] * 2 == [
        (call.path, json.loads(call.body)) for call in calls if isinstance(call, CallInput)
    ]
    assert CallInput(str(tmp_path / "file"), "/v1/audio/transcriptions", b"--x--") == form


def test_an_unknown_body_needs_a_path(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="give --path, or --text"):
        read(tmp_path, '{"a": 1}')
    with pytest.raises(StartError, match="cannot read /no/such: No such file"):
        list(read_inputs(("/no/such",), None, as_text=False, model=None))


def test_a_dash_is_stdin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"hi")))

    assert [TextInput("-", "hi")] == list(read_inputs(("-",), None, as_text=False, model=None))


@pytest.mark.parametrize(
    ("api", "path"),
    [
        ("chat_completions", "/v1/chat/completions"),
        ("responses", "/v1/responses"),
        ("messages", "/v1/messages"),
        ("generate_content", "/v1beta/models/m:generateContent"),
        ("converse", "/model/m/converse"),
    ],
)
def test_recorded_bodies_are_recognised(api: str, path: str) -> None:
    """A body of Anthropic that could be one of OpenAI is read as that: both have the same texts at the same places."""
    found = []
    for exchange in recordings(api):
        try:
            read = json.loads(body(exchange["request"]))
        except ValueError:
            continue
        if isinstance(read, dict):
            found.append((read, path_of(read, "m")))
    same = ("/v1/chat/completions", "/v1/messages")
    wrong = [read for read, its in found if its != path and not (path == same[1] and its == same[0])]

    assert len(found) > 5
    assert len(wrong) <= len(found) // 20, [sorted(read) for read in wrong[:5]]

"""The requests of the playground: for the gateway's listener, for curl, and with the providers' SDKs in Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pprint import pformat
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    from ..server.admin_playground import PlaygroundCall

KEY_VARIABLE = "EDGE_KEY"
# The header of the key in each format, and the text before it.
_KEY_HEADERS = {"messages": ("x-api-key", ""), "generate_content": ("x-goog-api-key", "")}


@dataclass(frozen=True, slots=True)
class PlaygroundRequest:
    format: str
    url: str
    path: str
    body: dict[str, Any]
    stream: bool

    def headers(self, key: str) -> dict[str, str]:
        name, before = _KEY_HEADERS.get(self.format, ("authorization", "Bearer "))
        more = {"anthropic-version": "2023-06-01"} if self.format == "messages" else {}
        return {name: f"{before}{key}", "content-type": "application/json", **more}


def request_of(call: PlaygroundCall, url: str) -> PlaygroundRequest:
    """`url`: of the listener, without a path."""
    body = call.body if call.body is not None else _body(call)
    if call.format == "generate_content":
        method = "streamGenerateContent?alt=sse" if call.stream else "generateContent"
        path = f"/v1beta/models/{quote(call.model, safe='')}:{method}"
        return PlaygroundRequest(call.format, url, path, body, call.stream)
    paths = {"chat_completions": "/v1/chat/completions", "responses": "/v1/responses", "messages": "/v1/messages"}
    return PlaygroundRequest(call.format, url, paths[call.format], body, bool(body.get("stream")))


def _body(call: PlaygroundCall) -> dict[str, Any]:
    stream = {"stream": True} if call.stream else {}
    message = {"role": "user", "content": call.prompt}
    match call.format:
        case "chat_completions":
            most = {"max_completion_tokens": call.max_tokens}
            return {"model": call.model, "messages": [message], **most, **stream}
        case "responses":
            return {"model": call.model, "input": call.prompt, "max_output_tokens": call.max_tokens, **stream}
        case "messages":
            return {"model": call.model, "max_tokens": call.max_tokens, "messages": [message], **stream}
        case "generate_content":
            contents = [{"role": "user", "parts": [{"text": call.prompt}]}]
            return {"contents": contents, "generationConfig": {"maxOutputTokens": call.max_tokens}}


def as_curl(request: PlaygroundRequest) -> str:
    """The key is in the variable of KEY_VARIABLE."""
    lines = [f"curl {'-N ' if request.stream else ''}{shlex.quote(request.url + request.path)}"]
    for name, value in request.headers(f"${KEY_VARIABLE}").items():
        # In double quotes, so that the shell replaces the variable.
        lines.append(f'  -H "{name}: {value}"')
    lines.append(f"  -d {shlex.quote(json.dumps(request.body))}")
    return " \\\n".join(lines)


def as_python(request: PlaygroundRequest, model: str) -> str:
    key = f'os.environ["{KEY_VARIABLE}"]'
    match request.format:
        case "messages":
            client = f"client = anthropic.Anthropic(base_url={request.url!r}, api_key={key})"
            return _code("import anthropic", client, "client.messages.create", request.body, request.stream)
        case "generate_content":
            method = "generate_content_stream" if request.stream else "generate_content"
            client = f'client = genai.Client(api_key={key}, http_options={{"base_url": {request.url!r}}})'
            # The SDK has one object for all fields of the body but the contents.
            rest = {name: value for name, value in request.body.items() if name != "contents"}
            config = {**rest.pop("generationConfig", {}), **rest}
            arguments = {"model": model, "contents": request.body.get("contents", []), "config": config}
            return _code("from google import genai", client, f"client.models.{method}", arguments, request.stream)
        case _:
            client = f"client = openai.OpenAI(base_url={request.url + '/v1'!r}, api_key={key})"
            method = "responses.create" if request.format == "responses" else "chat.completions.create"
            return _code("import openai", client, f"client.{method}", request.body, request.stream)


def _code(imported: str, client: str, method: str, arguments: Mapping[str, Any], stream: bool) -> str:
    lines = [f"    {name}={pformat(value, width=100, sort_dicts=False)}," for name, value in arguments.items()]
    call = "\n".join([f"{method}(", *(line.replace("\n", "\n    ") for line in lines), ")"])
    use = f"for event in {call}:\n    print(event)" if stream else f"print({call})"
    return f"import os\n\n{imported}\n\n{client}\n{use}\n"

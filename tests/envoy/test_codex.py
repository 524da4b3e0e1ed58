"""OpenAI's Codex, unmodified, at providers of other formats: a shell command, a patch by a grammar tool, a search for
the tools of an MCP server and a call of the tool that it finds, each in a turn of its own. Skipped where Codex is not
installed (`npm install -g @openai/codex`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from gateway import KEY, PEPPER, RunningGateway
from ports import free_port

pytestmark = pytest.mark.envoy
Json = dict[str, Any]
CODEX = shutil.which("codex")
# A model that Codex knows: it gets the grammar tool and the search for tools.
MODEL = "gpt-5.5"
PATCH = '*** Begin Patch\n*** Add File: made.txt\n+h\u00e9llo "q" \\ \U0001f600\n*** End Patch\n'
MADE = 'h\u00e9llo "q" \\ \U0001f600\n'
# What the model does: the end of the name of each tool, and its arguments.
STEPS: list[tuple[str, Json]] = [
    ("exec_command", {"cmd": "echo one"}),
    ("apply_patch", {"input": PATCH}),
    ("tool_search", {"query": "read a file", "limit": 3}),
    ("files__read", {"path": "a.txt"}),
]
SERVER = """
import json, sys
PATH = {"type": "object", "properties": {"path": {"type": "string"}}}
TOOL = {"name": "read", "description": "Reads a file", "inputSchema": PATH}
for line in sys.stdin:
    asked = json.loads(line)
    if "id" not in asked:
        continue
    told = {}
    if asked["method"] == "initialize":
        version = asked["params"]["protocolVersion"]
        named = {"name": "files", "version": "1"}
        told = {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": named}
    elif asked["method"] == "tools/list":
        told = {"tools": [TOOL]}
    elif asked["method"] == "tools/call":
        told = {"content": [{"type": "text", "text": "the content of " + asked["params"]["arguments"]["path"]}]}
    print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": told}), flush=True)
"""


def claude(body: Json) -> tuple[list[str], int, Callable[[str, Json | None], list[Json]]]:
    """The names of the tools, the number of results so far, and what writes the events of a call or of a last word."""
    blocks = [block for turn in body["messages"] if isinstance(turn["content"], list) for block in turn["content"]]
    done = sum(block["type"] == "tool_result" for block in blocks)

    def events(name: str, arguments: Json | None) -> list[Json]:
        is_call = arguments is not None
        start = {"type": "tool_use", "id": f"toolu_{done}", "name": name, "input": {}} if is_call else _text("")
        text = json.dumps(arguments)
        pieces = [text[at : at + 7] for at in range(0, len(text), 7)]
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in pieces]
        if not is_call:
            deltas = [{"type": "text_delta", "text": name}]
        message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "c", "content": [], "usage": USED}
        stop = {"stop_reason": "tool_use" if is_call else "end_turn", "stop_sequence": None}
        return [
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": start},
            *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": stop, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
        ]

    return [tool["name"] for tool in body.get("tools", ())], done, events


USED = {"input_tokens": 3, "output_tokens": 0}


def _text(text: str) -> Json:
    return {"type": "text", "text": text}


def chat(body: Json) -> tuple[list[str], int, Callable[[str, Json | None], list[Json]]]:
    done = sum(message["role"] == "tool" for message in body["messages"])

    def chunk(delta: Json, finish: str | None = None) -> Json:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        return {"id": f"c{done}", "object": "chat.completion.chunk", "created": 1, "model": "q", "choices": [choice]}

    def events(name: str, arguments: Json | None) -> list[Json]:
        if arguments is None:
            return [chunk({"role": "assistant", "content": name}), chunk({}, "stop")]
        call = {"index": 0, "id": f"functions.{name}:{done}", "type": "function"}
        text = json.dumps(arguments)
        pieces = [{"index": 0, "function": {"arguments": text[at : at + 5]}} for at in range(0, len(text), 5)]
        begun = chunk({"tool_calls": [{**call, "function": {"name": name, "arguments": ""}}]})
        return [begun, *(chunk({"tool_calls": [piece]}) for piece in pieces), chunk({}, "tool_calls")]

    return [tool["function"]["name"] for tool in body.get("tools", ())], done, events


def gemini(body: Json) -> tuple[list[str], int, Callable[[str, Json | None], list[Json]]]:
    done = sum("functionResponse" in part for turn in body["contents"] for part in turn["parts"])
    names = [each["name"] for tool in body.get("tools", ()) for each in tool.get("functionDeclarations", ())]

    def events(name: str, arguments: Json | None) -> list[Json]:
        part = {"text": name} if arguments is None else {"functionCall": {"name": name, "args": arguments}}
        candidate = {"index": 0, "content": {"role": "model", "parts": [part]}, "finishReason": "STOP"}
        return [{"candidates": [candidate], "responseId": f"r{done}", "modelVersion": "g"}]

    return names, done, events


SPOKEN = {"claude": claude, "chat": chat, "gemini": gemini}


class Handler(BaseHTTPRequestHandler):
    """A provider that follows STEPS, in the format of the path."""

    protocol_version = "HTTP/1.1"
    asked: list[Json] = []  # noqa: RUF012 - one list for all requests of a test, emptied by the fixture

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append(body)
        kind = "chat" if "chat" in self.path else "claude" if "messages" in self.path else "gemini"
        names, done, events = SPOKEN[kind](body)
        step = STEPS[done] if done < len(STEPS) else None
        name = next((name for name in names if step and name.endswith(step[0])), None)
        told = events(f"All {done} done.", None) if step is None or name is None else events(name, step[1])
        named = [f"event: {event['type']}\n" if "type" in event else "" for event in told]
        lines = [f"{name}data: {json.dumps(event)}\n\n" for name, event in zip(named, told, strict=True)]
        out = "".join([*lines, "data: [DONE]\n\n" if kind == "chat" else ""]).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(out)))
        self.end_headers()
        self.wfile.write(out)

    def log_message(self, format: str, *args: Any) -> None:
        del format, args


@pytest.fixture(scope="module")
def gateway() -> Iterator[RunningGateway]:
    if CODEX is None:
        pytest.skip("codex is not installed: npm install -g @openai/codex")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    kinds = {"claude": ("anthropic", "v1"), "gemini": ("google", "v1beta"), "chat": ("openai_compatible", "v1")}
    providers = "".join(
        f"  {name}: {{kind: {kind}, base_url: '{url}/{path}', api_key: k}}\n" for name, (kind, path) in kinds.items()
    )
    rules = "".join(
        f"      - {{when: {{headers: {{x-host: {name}}}}}, candidates: [{{provider: {name}, model: {model}}}]}}\n"
        for name, model in (("gemini", "gemini-3-flash-preview"), ("chat", "qwen3"))
    )
    text = (
        f"listen: {{port: {free_port()}}}\nadmin: {{port: {free_port()}}}\n"
        f"agent: {{workers: 1, shutdown_grace: 2s}}\nauth: {{pepper: '{PEPPER}'}}\nsockets: {{responses: requests}}\n"
        f"callers: [{{tenant: acme, keys: [{{id: acme-1, key: {KEY}}}]}}]\nproviders:\n{providers}"
        f"models:\n  {MODEL}:\n    candidates: [{{provider: claude, model: claude-sonnet-4-5}}]\n    rules:\n{rules}"
    )
    with RunningGateway(text) as found:
        yield found
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("sockets", [False, True])
@pytest.mark.parametrize("host", SPOKEN)
def test_codex_works_through_a_provider_of_another_format(
    gateway: RunningGateway, host: str, tmp_path: Path, *, sockets: bool
) -> None:
    assert CODEX is not None
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (tmp_path / "server.py").write_text(SERVER)
    (home / "config.toml").write_text(
        f'model = "{MODEL}"\nmodel_provider = "edge"\napproval_policy = "never"\nsandbox_mode = "danger-full-access"\n'
        f'[model_providers.edge]\nname = "edge"\nbase_url = "{gateway.url}/v1"\nenv_key = "EDGE_KEY"\n'
        f'wire_api = "responses"\nsupports_websockets = {str(sockets).lower()}\n'
        f'http_headers = {{ "x-host" = "{host}" }}\n'
        f'[mcp_servers.files]\ncommand = "{sys.executable}"\nargs = ["{tmp_path / "server.py"}"]\n'
    )
    Handler.asked.clear()
    gateway.all_settled()
    before = len(gateway.access_lines())
    run = subprocess.run(
        [CODEX, "exec", "--skip-git-repo-check", "--json", "Do it."],
        cwd=work,
        env={"PATH": os.environ["PATH"], "HOME": str(home), "CODEX_HOME": str(home), "EDGE_KEY": KEY},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    gateway.all_settled()
    lines = gateway.access_lines()[before:]
    shown = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    items = [event["item"] for event in shown if event.get("type") == "item.completed"]

    assert 0 == run.returncode, run.stderr
    assert f"All {len(STEPS)} done." == items[-1]["text"]
    assert MADE == (work / "made.txt").read_text()
    assert len(STEPS) + 1 == len(Handler.asked)
    assert "the content of a.txt" in json.dumps(Handler.asked[-1])
    assert len(STEPS) + 1 == len([line for line in lines if line["operation"] == "chat"])
    assert sockets == any(line["operation"] == "socket" for line in lines)

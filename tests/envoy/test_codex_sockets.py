"""OpenAI's Codex, unmodified, over a WebSocket of the Responses API: shell commands in turns of one session, each
response with its own row. Skipped where Codex is not installed (`npm install -g @openai/codex`)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from gateway import KEY, PEPPER, RunningGateway
from ports import free_port
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

pytestmark = pytest.mark.envoy
Json = dict[str, Any]
CODEX = shutil.which("codex")
MODEL = "gpt-5.5"
COMMANDS = ["echo one > made.txt", "echo two >> made.txt"]
USAGE = {
    "input_tokens": 40,
    "input_tokens_details": {"cached_tokens": 8},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 52,
}


class Provider:
    """Calls the tool for shell commands with each of COMMANDS, then ends."""

    def __init__(self) -> None:
        self.created: list[Json] = []
        self.paths: list[str] = []
        self._steps = 0

    def handle(self, socket: ServerConnection) -> None:
        assert socket.request is not None
        self.paths.append(socket.request.path)
        try:
            for message in socket:
                event = json.loads(message)
                if event["type"] == "response.create":
                    self.created.append(event)
                    for answer in self._answers(event):
                        socket.send(json.dumps(answer))
        except ConnectionClosed:
            pass

    def _answers(self, event: Json) -> list[Json]:
        response = {"id": f"resp_{len(self.created)}", "object": "response", "status": "in_progress", "output": []}
        items = [] if event.get("generate") is False else [self._item(event)]
        done = [{"type": "response.output_item.done", "output_index": 0, "item": item} for item in items]
        ended = {**response, "status": "completed", "output": items, "usage": USAGE, "model": event["model"]}
        return [
            {"type": "response.created", "response": response},
            *done,
            {"type": "response.completed", "response": ended},
        ]

    def _item(self, event: Json) -> Json:
        step, self._steps = self._steps, self._steps + 1
        names = [tool.get("name") for tool in event.get("tools", ())]
        if step < len(COMMANDS) and "exec_command" in names:
            arguments = json.dumps({"cmd": COMMANDS[step]})
            call = {"type": "function_call", "id": f"fc_{step}", "call_id": f"call_{step}"}
            return {**call, "name": "exec_command", "arguments": arguments, "status": "completed"}
        content = [{"type": "output_text", "text": f"All {step} done.", "annotations": []}]
        return {"type": "message", "id": f"msg_{step}", "role": "assistant", "status": "completed", "content": content}


@pytest.fixture
def provider() -> Iterator[tuple[Provider, str]]:
    played = Provider()
    with serve(played.handle, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield played, f"http://127.0.0.1:{server.socket.getsockname()[1]}"
        server.shutdown()
        thread.join(10)


def test_codex_works_over_a_websocket(provider: tuple[Provider, str], tmp_path: Path) -> None:
    if CODEX is None:
        pytest.skip("codex is not installed: npm install -g @openai/codex")
    played, url = provider
    text = (
        f"listen: {{port: {free_port()}}}\nadmin: {{port: {free_port()}}}\n"
        f"agent: {{workers: 1, shutdown_grace: 2s}}\nauth: {{pepper: '{PEPPER}'}}\n"
        f"callers: [{{tenant: acme, keys: [{{id: acme-1, key: {KEY}}}]}}]\n"
        f"providers: {{host: {{kind: openai, base_url: '{url}/v1', api_key: k, sockets: true}}}}\n"
        f"models: {{{MODEL}: [{{provider: host, model: gpt-5-mini}}]}}\n"
    )
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    with RunningGateway(text) as gateway:
        (home / "config.toml").write_text(
            f'model = "{MODEL}"\nmodel_provider = "edge"\napproval_policy = "never"\n'
            f'sandbox_mode = "danger-full-access"\n[model_providers.edge]\nname = "edge"\n'
            f'base_url = "{gateway.url}/v1"\nenv_key = "EDGE_KEY"\nwire_api = "responses"\nsupports_websockets = true\n'
        )
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
        lines = gateway.access_lines()
    shown = [json.loads(line) for line in run.stdout.splitlines() if line.startswith("{")]
    items = [event["item"] for event in shown if event.get("type") == "item.completed"]

    assert 0 == run.returncode, run.stderr
    assert f"All {len(COMMANDS)} done." == items[-1]["text"]
    assert "one\ntwo\n" == (work / "made.txt").read_text()
    assert {"/v1/responses"} == set(played.paths)
    assert {"gpt-5-mini"} == {event["model"] for event in played.created}
    responses = [line for line in lines if line["operation"] == "chat"]
    assert len(played.created) == len(responses)
    assert {("ok", MODEL, 52)} == {(line["outcome"], line["model"], _tokens(line)) for line in responses}
    assert {"socket"} == {line["operation"] for line in lines} - {"chat", "models"}


def _tokens(line: Json) -> int:
    return sum(int(line[f"tokens_{kind}"]) for kind in ("input", "cache_read", "output", "reasoning"))

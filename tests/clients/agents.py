"""Agents with a command line: how each is started without a terminal, and what it prints.

Every run has a home of its own, so that nothing of the user's is read or written.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from clients.formats import Json
from clients.scripted import Call, Turns

SECONDS = 1200  # a busy machine is not a failure
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string"},
        "degrees": {"type": "integer"},
        "tags": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["city", "degrees", "tags"],
    "additionalProperties": False,
}


def environment(more: Mapping[str, str]) -> dict[str, str]:
    """No variable of a provider or a proxy reaches a client by chance."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    return {**kept, "NO_COLOR": "1", "CI": "1", **more}


@dataclass(frozen=True)
class Run:
    """One run of an agent."""

    directory: Path
    """The installation."""
    job: Json
    home: Path
    work: Path

    def program(self, name: str) -> str:
        folder = "node_modules/.bin" if (self.directory / "node_modules").exists() else "venv/bin"
        return str(self.directory / folder / name)

    def start(self, command: list[str], more: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.work,
            env=environment({"HOME": str(self.home), "XDG_DATA_HOME": str(self.home / ".local"), **more}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )


@dataclass(frozen=True)
class Agent:
    turns: Turns
    command: Callable[[Run], tuple[list[str], dict[str, str]]]
    """The command line and the environment."""
    read: Callable[[Run, str], Json]
    """What the agent has seen, from what it printed."""

    def run(self, directory: Path, job: Json, place: Path) -> Json:
        home, work = place / "home", place / "work"
        home.mkdir(parents=True)
        work.mkdir()
        run = Run(directory, job, home, work)
        command, more = self.command(run)
        try:
            done = run.start(command, more)
        except subprocess.TimeoutExpired as error:
            out = (error.stdout or b"")[-2000:]
            return {"error": f"not done after {SECONDS} s: {out!r}"}
        told = f"exit code {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        if done.returncode != 0:
            return {"error": told}
        try:
            return self.read(run, done.stdout)
        except (LookupError, ValueError, OSError) as error:
            return {"error": f"{type(error).__name__}: {error}\n{told}"}


def lines(out: str) -> list[Json]:
    return [json.loads(line) for line in out.splitlines() if line.startswith("{")]


# --- Codex


def _codex(run: Run) -> tuple[list[str], dict[str, str]]:
    job = run.job
    (run.home / "config.toml").write_text(
        f'model = "{job["model"]}"\nmodel_provider = "edge"\n'
        'approval_policy = "never"\nsandbox_mode = "danger-full-access"\n'
        f'[model_providers.edge]\nname = "edge"\nbase_url = "{job["url"]}/v1"\nenv_key = "EDGE_KEY"\n'
        'wire_api = "responses"\n'
    )
    command = [run.program("codex"), "exec", "--skip-git-repo-check", "--json"]
    if job["scenario"] == "structured":
        (run.home / "schema.json").write_text(json.dumps(SCHEMA))
        command += ["--output-schema", str(run.home / "schema.json")]
    return [*command, job["prompt"]], {"CODEX_HOME": str(run.home), "EDGE_KEY": job["key"]}


def _read_codex(run: Run, out: str) -> Json:
    items = [event["item"] for event in lines(out) if event.get("type") == "item.completed"]
    text = [item["text"] for item in items if item["type"] == "agent_message"][-1]
    if run.job["scenario"] == "structured":
        return {"value": json.loads(text)}
    return {"text": text}


PATCH = '*** Begin Patch\n*** Add File: made.txt\n+h\u00e9llo "q" \\ \U0001f600\n*** End Patch\n'
CODEX = Agent(
    (
        (Call("exec_command", {"cmd": "echo o'n'e"}, "one"),),
        (Call("apply_patch", {"input": PATCH}, "made.txt"),),
        (Call("exec_command", {"cmd": "cat made.txt"}, 'h\u00e9llo "q" \\ \U0001f600'),),
    ),
    _codex,
    _read_codex,
)


# --- Claude Code


def _claude_code(run: Run) -> tuple[list[str], dict[str, str]]:
    job = run.job
    command = [run.program("claude"), "-p", job["prompt"], "--output-format", "stream-json", "--verbose"]
    command += ["--include-partial-messages", "--allowedTools", "Bash,Write,Read", "--model", job["model"]]
    if job["scenario"] == "structured":
        command += ["--json-schema", json.dumps(SCHEMA)]
    return command, {
        "ANTHROPIC_BASE_URL": job["url"],
        "ANTHROPIC_AUTH_TOKEN": job["key"],
        "CLAUDE_CONFIG_DIR": str(run.home / ".claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "DISABLE_AUTOUPDATER": "1",
    }


def _read_claude_code(run: Run, out: str) -> Json:
    result = next(event for event in reversed(lines(out)) if event.get("type") == "result")
    if result["is_error"]:
        raise ValueError(f"an error: {result}")
    if run.job["scenario"] == "structured":
        return {"value": result["structured_output"]}
    return {"text": result["result"]}


CLAUDE_CODE = Agent(
    (
        (Call("Bash", {"command": "echo o'n'e", "description": "Says one"}, "one"),),
        (
            Call("Bash", {"command": "echo t'w'o", "description": "Says two"}, "two"),
            Call("Bash", {"command": "echo th'r'ee", "description": "Says three"}, "three"),
        ),
        (Call("Bash", {"command": "printf 'gr\u00fc%s' n", "description": "Says green"}, "gr\u00fcn"),),
    ),
    _claude_code,
    _read_claude_code,
)


# --- Gemini CLI


def _gemini_cli(run: Run) -> tuple[list[str], dict[str, str]]:
    job = run.job
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}, "folderTrust": {"enabled": False}},
        "privacy": {"usageStatisticsEnabled": False},
        "telemetry": {"enabled": False},
        "general": {"enableAutoUpdate": False, "enableAutoUpdateNotification": False},
    }
    (run.home / ".gemini").mkdir()
    (run.home / ".gemini" / "settings.json").write_text(json.dumps(settings))
    command = [run.program("gemini"), "-p", job["prompt"], "-m", job["model"], "--yolo", "-o", "stream-json"]
    return command, {
        "GEMINI_API_KEY": job["key"],
        "GOOGLE_GEMINI_BASE_URL": job["url"],
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
        "GEMINI_CLI_NO_RELAUNCH": "true",
    }


def _read_gemini_cli(run: Run, out: str) -> Json:
    text = ""
    for event in lines(out):
        if event["type"] == "message" and event.get("role") == "assistant":
            text += event["content"]
        elif event["type"] == "tool_use":
            text = ""
        elif event["type"] == "error" or event.get("status") == "error":
            raise ValueError(f"an error: {event}")
    return {"text": text}


GEMINI_CLI = Agent(
    (
        (Call("run_shell_command", {"command": "echo o'n'e", "description": "Says one"}, "one"),),
        (
            Call("run_shell_command", {"command": "echo t'w'o", "description": "Says two"}, "two"),
            Call("run_shell_command", {"command": "echo th'r'ee", "description": "Says three"}, "three"),
        ),
        (Call("run_shell_command", {"command": "printf 'gr\u00fc%s' n", "description": "Says green"}, "gr\u00fcn"),),
    ),
    _gemini_cli,
    _read_gemini_cli,
)


# --- opencode

_OPENCODE = {
    "compatible": ("@ai-sdk/openai-compatible", "/v1"),
    "chat": ("@ai-sdk/openai-compatible", "/v1"),
    "responses": ("@ai-sdk/openai", "/v1"),
    "anthropic": ("@ai-sdk/anthropic", "/v1"),
    "google": ("@ai-sdk/google", "/v1beta"),
}


def _opencode(run: Run) -> tuple[list[str], dict[str, str]]:
    job = run.job
    package, path = _OPENCODE[job["api"]]
    model = {"name": "The model", "tool_call": True, "limit": {"context": 200_000, "output": 8_000}}
    config = {
        "provider": {
            "edge": {
                "npm": package,
                "options": {"baseURL": job["url"] + path, "apiKey": job["key"]},
                "models": {job["model"]: model},
            }
        },
        "model": f"edge/{job['model']}",
        "small_model": f"edge/{job['model']}",
        "autoupdate": False,
        "share": "disabled",
        "permission": {"*": "allow"},
    }
    (run.work / "opencode.json").write_text(json.dumps(config))
    command = [run.program("opencode"), "run", "--format", "json", job["prompt"]]
    homes = {f"XDG_{kind}_HOME": str(run.home / kind.lower()) for kind in ("CONFIG", "CACHE", "DATA", "STATE")}
    return command, {**homes, "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}


def _read_opencode(run: Run, out: str) -> Json:
    errors = [event for event in lines(out) if event["type"] == "error"]
    if errors:
        raise ValueError(f"an error: {errors}")
    return {"text": [event["part"]["text"] for event in lines(out) if event["type"] == "text"][-1]}


OPENCODE = Agent(
    (
        (Call("bash", {"command": "echo o'n'e", "description": "Says one"}, "one"),),
        (
            Call("bash", {"command": "echo t'w'o", "description": "Says two"}, "two"),
            Call("bash", {"command": "echo th'r'ee", "description": "Says three"}, "three"),
        ),
        (Call("bash", {"command": "printf 'gr\u00fc%s' n", "description": "Says green"}, "gr\u00fcn"),),
    ),
    _opencode,
    _read_opencode,
)


# --- aider


def _aider(run: Run) -> tuple[list[str], dict[str, str]]:
    job = run.job
    prefix = {"chat": "openai", "anthropic": "anthropic", "google": "gemini"}[job["api"]]
    command = [run.program("aider"), "--model", f"{prefix}/{job['model']}", "--message", job["prompt"], "--yes-always"]
    command += ["--no-git", "--no-check-update", "--no-show-model-warnings", "--analytics-disable", "--no-pretty"]
    command += ["--no-show-release-notes", "--no-fancy-input", "--no-detect-urls", "--map-tokens", "0"]
    command += ["--edit-format", "ask", "--stream" if job["scenario"] == "stream" else "--no-stream"]
    return command, {
        "OPENAI_API_BASE": f"{job['url']}/v1",
        "OPENAI_API_KEY": job["key"],
        "ANTHROPIC_API_BASE": job["url"],
        "ANTHROPIC_API_KEY": job["key"],
        "GEMINI_API_BASE": f"{job['url']}",
        "GEMINI_API_KEY": job["key"],
        "LITELLM_LOCAL_MODEL_COST_MAP": "true",
        "PYTHONUTF8": "1",
    }


def _read_aider(run: Run, out: str) -> Json:
    return {"text": out}


AIDER = Agent((), _aider, _read_aider)

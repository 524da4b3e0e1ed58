"""The clients of the ring, and how each of them is started."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from clients import agents
from clients.agents import Agent
from clients.formats import Json
from clients.scripted import Call, Turns

HERE = Path(__file__).parent
SCENARIOS = ("plain", "stream", "tools", "structured")
SECONDS = 900

# The model that a caller asks for by each API. The gateway sends every name to the provider of the caller's tenant.
MODELS = {
    "chat": "gpt-5.5",
    "responses": "gpt-5.5",
    "anthropic": "claude-sonnet-4-5",
    "google": "gemini-3-flash-preview",
    "compatible": "our-model",
}
API_TITLES = {
    "chat": "chat completions",
    "responses": "responses",
    "anthropic": "Anthropic messages",
    "google": "Gemini",
    "compatible": "compatible host",
}
# What the model of the tests does in the clients whose tools are ours.
OUR_TURNS: Turns = (
    (Call("look_up", {"city": "Zürich"}, "In Zürich it is 21 °C."),),
    (
        Call("look_up", {"city": "Paris"}, "In Paris it is 21 °C."),
        Call("add", {"a": 19, "b": 23}, "The sum is 42."),
    ),
    (Call("add", {"a": 1, "b": 2}, "The sum is 3."),),
)


@dataclass(frozen=True, eq=False)
class Client:
    package: str
    """Its name in the registry, and in the lock file of the installation."""
    installation: str
    api: str
    program: str | Agent
    """Our file that drives a library, or how an agent is started."""
    not_run: Mapping[str, str] = field(default_factory=dict)
    """Scenarios that the client does not have, and why."""
    not_at: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """The same for one provider and scenario."""
    title: str = ""

    @property
    def label(self) -> str:
        return self.title or self.package

    @property
    def api_title(self) -> str:
        return API_TITLES[self.api]

    @property
    def name(self) -> str:
        return f"{self.label}, {self.api_title}"

    @property
    def turns(self) -> Turns:
        return self.program.turns if isinstance(self.program, Agent) else OUR_TURNS

    def scenarios(self, provider: str) -> list[str]:
        return [name for name in SCENARIOS if name not in self.not_run and (provider, name) not in self.not_at]


def run_library(installation: str, directory: Path, program: str, jobs: list[Json]) -> dict[str, Json]:
    """One process does all jobs."""
    match installation:
        case "npm":
            text = (HERE / "npm" / program).read_text()
            command = ["node", "--input-type=module", "--eval", text]
        case "go":
            command = [str(directory / "clients")]
        case _:
            command = [str(directory / "venv/bin/python"), str(HERE / "python" / program)]
    done = subprocess.run(
        command,
        cwd=directory,
        env=agents.environment({"HOME": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}),
        input=json.dumps(jobs),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    seen = {each["id"]: each for each in map(json.loads, done.stdout.splitlines())}
    if any("error" in each for each in seen.values()):
        print(done.stderr)  # pytest shows it beside the failure
    lost = {"error": f"the client ended with {done.returncode}: {done.stderr[-3000:]}"}
    return {job["id"]: seen.get(job["id"], lost) for job in jobs}


ALWAYS_STREAMS = {"plain": "it always streams"}
NO_SCHEMA = {"structured": "it has no structured output"}
# They fail in the SDK before a request: it refuses `temperature` and clients of httpx. langchain needs that SDK.
UNFIT = "for Anthropic messages, {} does not work with the locked SDK of Anthropic"
UNFIT_LLAMA_INDEX = dict.fromkeys(("plain", "stream", "tools"), UNFIT.format("llama-index-llms-anthropic 0.12.3"))
UNFIT_PYDANTIC_AI = dict.fromkeys(SCENARIOS, UNFIT.format("2.31.1"))
# langchain-ai/langchainjs#10341 says the same of @langchain/google. Requests in Gemini's own format pass as they are.
SPLIT_RESULTS = {("gemini", "tools"): "it sends the results of parallel calls in a turn each, which Google refuses"}

CLIENTS = (
    Client("@openai/codex", "npm", "responses", agents.CODEX, ALWAYS_STREAMS),
    Client("@anthropic-ai/claude-code", "npm", "anthropic", agents.CLAUDE_CODE, ALWAYS_STREAMS),
    Client("@google/gemini-cli", "npm", "google", agents.GEMINI_CLI, {**ALWAYS_STREAMS, **NO_SCHEMA}),
    *(
        Client("opencode-ai", "npm", api, agents.OPENCODE, {**ALWAYS_STREAMS, **NO_SCHEMA})
        for api in ("compatible", "anthropic")
    ),
    *(
        Client("aider-chat", "aider", api, agents.AIDER, {"tools": "it sends no tools", **NO_SCHEMA})
        for api in ("chat", "anthropic")
    ),
    *(
        Client("ai", "npm", api, "ai_sdk.mjs", title="Vercel `ai`")
        for api in ("chat", "responses", "anthropic", "google", "compatible")
    ),
    *(
        Client("langchain", "python", api, "langchain_client.py", title="langchain (Python)")
        for api in ("chat", "responses", "anthropic", "google")
    ),
    *(
        Client("langchain", "npm", api, "langchain.mjs", title="langchain (JavaScript)")
        for api in ("chat", "responses", "anthropic")
    ),
    Client("langchain", "npm", "google", "langchain.mjs", not_at=SPLIT_RESULTS, title="langchain (JavaScript)"),
    *(Client("llama-index-core", "python", api, "llama_index_client.py") for api in ("chat", "responses", "google")),
    Client("llama-index-core", "python", "anthropic", "llama_index_client.py", UNFIT_LLAMA_INDEX),
    *(
        Client("pydantic-ai-slim", "python", api, "pydantic_ai_client.py", title="pydantic-ai")
        for api in ("chat", "responses", "google")
    ),
    Client("pydantic-ai-slim", "python", "anthropic", "pydantic_ai_client.py", UNFIT_PYDANTIC_AI, title="pydantic-ai"),
    *(Client("openai-agents", "python", api, "openai_agents_client.py") for api in ("chat", "responses")),
    *(Client("github.com/openai/openai-go/v3", "go", api, "main.go") for api in ("chat", "responses")),
    Client("github.com/anthropics/anthropic-sdk-go", "go", "anthropic", "main.go"),
)


def version(client: Client) -> str:
    """The locked version."""
    folder = HERE / client.installation
    match client.installation:
        case "npm":
            lock = json.loads((folder / "package-lock.json").read_text())
            return str(lock["packages"][f"node_modules/{client.package}"]["version"])
        case "go":
            pattern, file = rf"^\s*{re.escape(client.package)} v(\S+)", folder / "go.mod"
        case _:
            pattern, file = rf"^{re.escape(client.package)}==(\S+)", folder / "requirements.lock"
    found = re.search(pattern, file.read_text(), re.MULTILINE)
    assert found is not None, f"{client.package} is not in {file}"
    return found[1]

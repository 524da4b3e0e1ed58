"""The whole gateway as a user starts it: `edge-extproc up` with a config of the test's, real Envoy and real workers."""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import fork_server
from ports import free_port

from edge_extproc.accounting import prices

KEY = "edge-test-key-of-tenant-acme"
OTHER_KEY = "edge-test-key-of-tenant-umbrella"
PEPPER = "a pepper for tests alone"
PROGRAM = (sys.executable, "-m", "edge_extproc")
START_SECONDS = 300.0
# A busy machine is not a failure: each wait ends when its condition is true.
PATIENCE = 60.0


def config(openai: str, anthropic: str | None = None, *, more: str = "", models: str = "", workers: int = 1) -> str:
    """Two tenants; `openai` and `anthropic` are the addresses of providers, without /v1. Any model name goes to the
    first by `*`, and to the second by `claude*`."""
    return (
        textwrap.dedent(
            f"""
        listen: {{port: {free_port()}}}
        admin: {{port: {free_port()}}}
        agent: {{workers: {workers}, shutdown_grace: 2s}}
        auth: {{pepper: "{PEPPER}"}}
        callers:
          - {{tenant: acme, keys: [{{id: acme-1, key: {KEY}}}]}}
          - {{tenant: umbrella, models: [only-this], keys: [{{id: umbrella-1, key: {OTHER_KEY}}}]}}
        providers:
          openai: {{kind: openai, base_url: "{openai}/v1", api_key: sk-provider-openai}}
          anthropic: {{kind: anthropic, base_url: "{anthropic or openai}/v1", api_key: sk-ant-provider}}
        """
        )
        + _block(more)
        + "models:\n"
        + textwrap.indent(
            textwrap.dedent(models).strip() + '\n"claude*": [{provider: anthropic}]\n"*": [{provider: openai}]\n', "  "
        )
    )


# For the name of a provider, and of the model that it serves: its configuration (`{url}` is its address) and the
# model's name there, which determines what some formats can express.
MANY = {
    "openai": ("kind: openai, base_url: '{url}/v1', api: chat", "gpt-5-mini"),
    "openai-responses": ("kind: openai, base_url: '{url}/v1', api: responses", "gpt-5-mini"),
    "anthropic": ("kind: anthropic, base_url: '{url}/v1'", "claude-sonnet-4-5"),
    "google": ("kind: google, base_url: '{url}/v1beta'", "gemini-2.5-flash"),
    "vertex-gemini": ("kind: vertex, base_url: '{url}/v1', project: p, region: us-east5", "gemini-2.5-flash"),
    "vertex-claude": ("kind: vertex, base_url: '{url}/v1', project: p, region: us-east5", "claude-sonnet-4-5@20250929"),
    "azure": ("kind: azure, base_url: '{url}', api_version: 2024-10-21, api: chat", "my-deployment"),
    "azure-responses": ("kind: azure, base_url: '{url}', api: responses", "my-deployment"),
    "bedrock-converse": (
        "kind: bedrock, base_url: '{url}', api: converse",
        "anthropic.claude-sonnet-4-5-20250929-v1:0",
    ),
    "bedrock-invoke": ("kind: bedrock, base_url: '{url}', api: invoke", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
    "compatible": ("kind: openai_compatible, base_url: '{url}/api/v1'", "openai/gpt-5-mini"),
}


def many_providers(url: str) -> str:
    """A config with one provider for each of MANY, and one model of the same name that goes to it."""
    providers = "".join(
        f"  {name}: {{{settings.format(url=url)}, api_key: sk-of-{name}}}\n" for name, (settings, _) in MANY.items()
    )
    models = "".join(f"  {name}: [{{provider: {name}, model: '{model}'}}]\n" for name, (_, model) in MANY.items())
    return (
        f"listen: {{port: {free_port()}}}\nadmin: {{port: {free_port()}}}\n"
        f"agent: {{workers: 1, shutdown_grace: 2s}}\nauth: {{pepper: '{PEPPER}'}}\n"
        f"callers: [{{tenant: acme, keys: [{{id: acme-1, key: {KEY}}}]}}]\n"
        "retries: {attempts: 1}\n"
        "endpoints: {/v1/files: openai, /v1/batches: {provider: openai, tenants: [acme]}}\n"
        f"providers:\n{providers}models:\n{models}"
    )


@cache
def _compiled_prices() -> Path:
    """Compiled once a process that runs tests."""
    directory = tempfile.TemporaryDirectory(prefix="edge-prices-")
    atexit.register(directory.cleanup)
    return prices.compiled(Path(directory.name))


def with_prices(state: Path) -> None:
    """The price table as an earlier start has left it: compiling takes as long as the start of a worker."""
    state.mkdir(mode=0o700, exist_ok=True)
    path = _compiled_prices()
    with contextlib.suppress(FileExistsError):
        (state / path.name).hardlink_to(path)


def _block(text: str) -> str:
    return textwrap.dedent(text).strip() + "\n" if text.strip() else ""


class RunningGateway:
    """`with RunningGateway(config(...)) as gateway: gateway.url, gateway.admin, gateway.access_lines()`."""

    def __init__(
        self,
        text: str,
        *,
        verb: str = "up",
        environment: dict[str, str] | None = None,
        program: Sequence[str] = PROGRAM,
        forked: bool | None = None,
    ) -> None:
        """`forked`: whether the process is a fork of one that has imported the modules (fork_server.py). It is, unless
        the test has a program of its own, or variables that Python reads before it imports anything."""
        # A socket's path must be short, and pytest's directories are not.
        self.directory = Path(tempfile.mkdtemp(prefix="edge-"))
        self.path = self.directory / "edge.yaml"
        self.path.write_text(text)
        self._verb = verb
        self._program = program
        self._environment = environment or {}
        if forked is None:
            forked = program == PROGRAM and not any(name.startswith("PYTHON") for name in self._environment)
        self._forked = forked
        self.lines: list[str] = []
        self.process: subprocess.Popen[str] | fork_server.ForkedProgram | None = None
        self._reader: threading.Thread | None = None
        self._ready = threading.Event()

    @property
    def arguments(self) -> list[str]:
        return [self._verb, "--config", str(self.path)]

    def __enter__(self) -> RunningGateway:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        if self._verb == "up":
            with_prices(self.directory / ".edge")
        self.launch()
        self._ready.wait(START_SECONDS)
        if not any(line.startswith("Stop with") for line in self.lines):
            self.stop()
            raise RuntimeError("the gateway did not start:\n" + "\n".join(self.lines[-40:]))

    def launch(self) -> None:
        """Starts the process, and does not wait until it serves."""
        environment = {**os.environ, **self._environment, "PYTHONUNBUFFERED": "1"}
        if self._forked:
            self.process = fork_server.start(self.arguments, self.directory, environment)
        else:
            self.process = subprocess.Popen(
                [*self._program, *self.arguments],
                cwd=self.directory,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def stop(self) -> int:
        """Stops the gateway, and returns its exit code."""
        process = self.process
        if process is None:
            return 0
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if self._reader is not None:
            self._reader.join(5)
        if process.stdout is not None:
            process.stdout.close()
        return code

    def _read(self) -> None:
        assert self.process is not None
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError):
            for line in self.process.stdout:
                self.lines.append(line.rstrip("\n"))
                if line.startswith("Stop with"):
                    self._ready.set()
        self._ready.set()

    # --- what is visible from outside

    def _value(self, section: str) -> str:
        line = next(each for each in self.path.read_text().splitlines() if each.startswith(section))
        return line.partition("port:")[2].strip(" }").split(",")[0].split("}")[0].strip()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._value('listen')}"

    @property
    def admin(self) -> str:
        return f"http://127.0.0.1:{self._value('admin')}"

    def metrics(self) -> str:
        with urlopen(f"{self.admin}/metrics") as answer:
            return str(answer.read().decode())

    def access_lines(self) -> list[dict[str, Any]]:
        """The agent's lines, one for each settled exchange, in order."""
        return [line for line in self._json_lines() if "exchange" in line]

    def check_lines(self) -> list[dict[str, Any]]:
        """The lines of ext_authz, one for each decision."""
        return [line for line in self._json_lines() if "check" in line]

    def envoy_lines(self) -> list[dict[str, Any]]:
        return [line for line in self._json_lines() if "flags" in line]

    def settled(self, count: int, patience: float = PATIENCE) -> list[dict[str, Any]]:
        """Waits until so many exchanges were settled since the start, and returns all of their lines."""
        until(lambda: len(self.access_lines()) >= count, patience)
        return self.access_lines()

    def all_settled(self) -> None:
        """Waits until no request is open and each has its line: lines are written off the path of requests. A booking
        (of a batch, or of embeddings for the semantic cache) has a line and is no request."""

        def is_settled() -> bool:
            lines = self.metrics().splitlines()
            counted = sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("edge_requests_total{"))
            is_idle = "edge_open_requests 0.0" in lines
            return is_idle and counted == sum("booking" not in line for line in self.access_lines())

        until(is_settled)

    def usage(self, *arguments: str) -> list[dict[str, Any]]:
        """The objects that `edge-extproc usage` prints."""
        command = ["usage", "--config", str(self.path), "--format", "json", *arguments]
        printed = fork_server.run(command, self.directory, {**os.environ, **self._environment})
        return [json.loads(line) for line in printed.splitlines()]

    def _json_lines(self) -> Iterator[dict[str, Any]]:
        for line in list(self.lines):
            if line.startswith("{"):
                with contextlib.suppress(ValueError):
                    yield json.loads(line)

    def child(self, *words: str) -> int | None:
        """The process id of the gateway's process with these words in its command line, as it is now."""
        assert self.process is not None
        parent = self.process.pid
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
                with contextlib.suppress(OSError):
                    line = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                    if {word.encode() for word in words} <= set(line):
                        return int(child)
        return None

    def processes(self) -> dict[str, int]:
        """Name to process id, from what `up` has printed."""
        line = next(each for each in self.lines if each.startswith("Healthy"))
        counts = {}
        for part in line.removeprefix("Healthy").split(","):
            name, _, rest = part.strip().partition(" (pid ")
            counts[name] = int(rest.rstrip(")"))
        return counts


def until(condition: Any, patience: float = PATIENCE) -> None:
    """Waits for a condition; fails if it does not come true. Asking costs the gateway time: the pauses grow."""
    deadline, pause = time.monotonic() + patience, 0.01
    while not condition():
        assert time.monotonic() < deadline, "the condition did not come true"
        time.sleep(pause)
        pause = min(pause * 1.3, 0.15)

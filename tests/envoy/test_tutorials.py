"""The tutorials that one machine can do, done as a reader does them: files are saved, commands are run, in their order.

Only ports differ. The rehearsal provider runs in the test instead of in a second terminal.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.request import urlopen

import pytest
import thoroughness
from gateway import until
from ports import free_port

pytestmark = pytest.mark.envoy

FOLDER = Path(__file__).parents[2] / "docs" / "tutorials"
PATIENCE = 90.0
BACKGROUND = re.compile(r"^(?:edge-extproc up|python -m http\.server) .*$", re.MULTILINE)
SAVED = re.compile(r"Save\s+this\s+as\s+`([\w.]+)`.*?^```\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Reader:
    """Reads one tutorial, in a directory of its own. Variables that a command sets hold for the later ones."""

    def __init__(self, name: str, directory: Path, stack: ExitStack) -> None:
        self.ports = {standard: free_port() for standard in ("10000", "10001", "9100", "9200")}
        self.ports["11434"] = self.ports["9100"]
        text = (FOLDER / f"{name}.md").read_text("utf-8")
        for standard, port in self.ports.items():
            text = re.sub(rf"\b{standard}\b", str(port), text)
        self.directory = directory
        own = f"listen: {{port: {self.ports['10000']}}}\nadmin: {{port: {self.ports['10001']}}}\n"
        for file, content in SAVED.findall(text):
            (directory / file).write_text(content if file.endswith(".py") else own + content)
        parts = re.split(r"^### (\d+)\. .*$", text, flags=re.MULTILINE)
        self.steps = dict(zip(map(int, parts[1::2]), parts[2::2], strict=True))
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.variables = {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}
        self._stack = stack
        self._outputs: list[Path] = []
        self._start(f"python -m edge_extproc.rehearsal --port {self.ports['9100']}", "ready on")

    def do(self, step: int) -> str:
        """Runs the commands of a step; returns what they print. Programs that run on are started."""
        printed = ""
        for block in re.findall(r"^```sh\n(.*?)^```$", self.steps[step], re.MULTILINE | re.DOTALL):
            printed += self.run(BACKGROUND.sub("", block))
            for command in BACKGROUND.findall(block):
                self._start(command, "Stop with" if "edge-extproc" in command else "")
        return printed

    def run(self, commands: str) -> str:
        variables = self.directory / "variables"
        script = f"set -ae\n{commands}\nenv -0 > {variables}"
        done = subprocess.run(
            ["bash", "-c", script], cwd=self.directory, env=self.variables, capture_output=True, text=True, check=False
        )
        assert 0 == done.returncode, done.stderr
        self.variables = dict(each.split("=", 1) for each in variables.read_text().split("\0") if "=" in each)
        return done.stdout

    def _start(self, command: str, ready: str) -> None:
        output = self.directory / f"output-{len(self._outputs)}"
        with output.open("w") as file:
            process = subprocess.Popen(
                command.split(), cwd=self.directory, env=self.variables, stdout=file, stderr=subprocess.STDOUT
            )
        self._outputs.append(output)
        self._stack.callback(_stop, process)
        until(lambda: process.poll() is not None or ready in output.read_text(), PATIENCE)
        assert process.poll() is None, output.read_text()

    def printed_by_the_gateway(self) -> str:
        return "".join(output.read_text() for output in self._outputs)

    def url(self, standard: str, path: str) -> str:
        return f"http://127.0.0.1:{self.ports[standard]}{path}"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()  # where SIGINT is ignored, as in a background job, some programs ignore it
    process.wait(30)


@contextmanager
def reading(name: str) -> Iterator[Reader]:
    # A socket's path must be short, and pytest's directories are not.
    directory = Path(tempfile.mkdtemp(prefix="edge-"))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory)
        yield Reader(name, directory, stack)


@thoroughness.long_only("test_failover_under_load.py has failover")
def test_two_providers_with_a_fallback() -> None:
    with reading("fallback") as reader:
        assert "valid, and Envoy accepts" in reader.do(2)

        assert "HTTP/1.1 200 OK" in reader.do(3)
        until(lambda: '"attempts":2' in reader.printed_by_the_gateway())
        assert '"provider":"second"' in reader.printed_by_the_gateway()

        assert "data: [DONE]" in reader.do(4)

        late = reader.do(5)
        assert '"error"' in late
        assert "[DONE]" not in late

        for _ in range(5):
            assert "HTTP/1.1 200 OK" in reader.do(3)
        found = reader.do(6)
        assert 'edge_failovers_total{provider="second"}' in found
        assert 'edge_circuits_open{provider="first"} 1.0' in found


@thoroughness.long_only("test_jwt.py has tokens")
def test_company_tokens() -> None:
    with reading("company-tokens") as reader:
        assert 2 == reader.do(1).strip().count(".")
        reader.do(2)
        until(lambda: _answers(reader.url("9200", "/jwks.json")))
        assert "valid, and Envoy accepts" in reader.do(3)

        assert '"choices"' in reader.do(4)
        until(lambda: '"key":"jwt:ann"' in reader.printed_by_the_gateway())

        found = reader.do(5)
        assert '"id":"assistant"' in found
        assert '"id":"large"' not in found
        assert "the model 'large' is not among those that role analyst allows" in found

        again = reader.steps[5].partition("```sh\n")[2].partition("```")[0]
        assert '"choices"' in reader.run(f"TOKEN=$(python idp.py eve engineer)\n{again}")
        assert "this caller has no configured role" in reader.run(f"TOKEN=$(python idp.py bob)\n{again}")


@thoroughness.long_only("test_limits.py has budgets")
def test_budgets_for_teams() -> None:
    with reading("team-budgets") as reader:
        assert "valid, and Envoy accepts" in reader.do(2)

        within = reader.do(3)
        assert "HTTP/1.1 200 OK" in within
        assert "x-ratelimit-limit-dollars: 0.02" in within

        beyond = reader.do(4)
        assert "HTTP/1.1 429" in beyond
        assert '"code":"budget_exceeded"' in beyond

        assert "HTTP/1.1 403" in reader.do(5)

        until(lambda: "interns,3," in reader.do(6))

        path = reader.directory / "teams.yaml"
        path.write_text(path.read_text().replace("dollars_per_day: 0.02", "dollars_per_day: 0.20"))
        until(lambda: "config_reloaded" in reader.printed_by_the_gateway())
        assert "HTTP/1.1 200 OK" in reader.do(4)

        assert "line for callers[].keys: {id: NAME, hash: 'hmac-sha256:" in reader.do(8)


def test_models_of_your_own() -> None:
    with reading("own-models") as reader:
        # Ollama's port is here another one, and the rehearsal provider wants a key.
        path = reader.directory / "own.yaml"
        address = f'base_url: "{reader.url("11434", "/v1")}", api_key: rehearsal'
        path.write_text(path.read_text().replace("host: ollama}", f"host: ollama, {address}}}"))
        assert "host: ollama, base_url" in path.read_text()
        assert '"choices"' in reader.do(2)
        assert '"type":"message"' in reader.do(3)


def _answers(url: str) -> bool:
    try:
        with urlopen(url) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False

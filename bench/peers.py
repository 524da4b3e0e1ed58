"""Other gateways that a registry has, installed into bench/peers and started before the benchmark's provider."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from . import proc, stand

PATIENCE = 180.0
"""Seconds. LiteLLM alone needs half a minute to start."""
HOME = Path(__file__).parent / "peers"
Started = tuple[str, tuple[int, ...], tuple[tuple[str, str], ...]]
"""The URL, the processes, and headers that its requests need."""


@dataclass(frozen=True, slots=True)
class Peer:
    """`install`: commands that run once, in the peer's directory. `command`: how it is started; {port}, {home} and
    {config} are replaced. `config`: its configuration file, in which {provider} is the base URL."""

    install: tuple[tuple[str, ...], ...]
    command: tuple[str, ...]
    config: Mapping[str, object] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


PEERS = {
    "litellm": Peer(
        install=((sys.executable, "-m", "venv", "."), ("bin/pip", "install", "--quiet", "litellm[proxy]")),
        command=("{home}/bin/litellm", "--config", "{config}", "--host", "127.0.0.1", "--port", "{port}"),
        config={
            "model_list": [
                {
                    "model_name": "gpt-4o-mini",
                    "litellm_params": {"model": "openai/gpt-4o-mini", "api_base": "{provider}", "api_key": "x"},
                }
            ]
        },
        # Its price list is otherwise fetched from the internet at each start. It refuses to start without a key.
        environment=(
            ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
            ("LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY", "true"),
        ),
    ),
    "portkey": Peer(
        install=(("npm", "install", "--silent", "--no-audit", "--no-fund", "@portkey-ai/gateway"),),
        command=(
            "node",
            "{home}/node_modules/@portkey-ai/gateway/build/start-server.js",
            "--headless",
            "--port={port}",
        ),
        headers=(("x-portkey-provider", "openai"), ("x-portkey-custom-host", "{provider}")),
        # It sends no request to a host of this machine unless it is named here.
        environment=(("TRUSTED_CUSTOM_HOSTS", "127.0.0.1,localhost"),),
    ),
}


@contextlib.contextmanager
def running(name: str, provider: str, directory: Path) -> Iterator[Started]:
    """`provider`: the base URL of an OpenAI-compatible provider. Raises SystemExit if the peer cannot be installed or
    does not start."""
    peer, home, port = PEERS[name], HOME / name, stand.free_port()
    installed(name, peer, home)
    config = directory / f"{name}.yaml"
    if peer.config is not None:
        config.write_text(json.dumps(peer.config).replace("{provider}", provider))  # JSON is YAML
    values = {"home": str(home), "port": str(port), "config": str(config), "provider": provider}
    command = [word.format(**values) for word in peer.command]
    with stand._process(command, directory / f"{name}.log", {**os.environ, **dict(peer.environment)}) as process:
        stand._until_open(port, process, PATIENCE)
        headers = tuple((header, value.format(**values)) for header, value in peer.headers)
        yield f"http://127.0.0.1:{port}", proc.tree(process.pid), headers


def installed(name: str, peer: Peer, home: Path) -> None:
    done = home / ".installed"
    if done.exists():
        return
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for command in peer.install:
        result = subprocess.run(_local(command, home), cwd=home, capture_output=True, text=True, check=False)
        if result.returncode:
            raise SystemExit(f"bench: {name} could not be installed:\n{result.stderr[-2000:]}")
    done.touch()


def _local(command: Sequence[str], home: Path) -> list[str]:
    program = home / command[0]
    return [str(program) if program.exists() else command[0], *command[1:]]

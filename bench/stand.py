"""The processes that are measured: a provider that answers at once, plain Envoy before it, and the gateway."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_extproc.envoy_config.validate import envoy_path

from .build import Tools

KEY = "bench-key-of-one-caller"
CHUNKS = 60
CHUNK_MICROSECONDS = 5000
START_SECONDS = 60.0
STOP_SECONDS = 30.0
_FILTERS = "type.googleapis.com/envoy.extensions.filters"

FRAMES = {"openai": CHUNKS + 4, "anthropic": CHUNKS + 5}
"""How many events a stream of the provider's has, by its format."""


@dataclass(frozen=True, slots=True)
class Stand:
    """Everything running. `provider` paces its streams, an event each CHUNK_MICROSECONDS."""

    provider: str
    envoy: str
    gateway: str
    plain_envoy_pid: int
    gateway_envoy_pid: int
    worker_pids: tuple[int, ...]
    supervisor_pid: int
    cold_start: tuple[float, float]
    """Seconds from the command to the ready gateway: in an empty directory, and again."""


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@contextlib.contextmanager
def standing(
    tools: Tools, *, workers: int, more: str = "", envoy: str = "", delay_microseconds: int = 0
) -> Iterator[Stand]:
    """`more` is added to the gateway's configuration, `envoy` to its section of Envoy; the provider waits
    `delay_microseconds` before each reply."""
    directory = Path(tempfile.mkdtemp(prefix="edge-bench-"))
    try:
        with contextlib.ExitStack() as stack:
            provider = free_port()
            arguments = ["-p", str(provider), "-n", str(CHUNKS), "-i", str(CHUNK_MICROSECONDS)]
            arguments += ["-t", str(delay_microseconds)]
            stack.enter_context(_process([str(tools.mock), *arguments], directory / "mock.log"))
            _until_open(provider)
            front = free_port()
            bootstrap = directory / "plain.json"
            bootstrap.write_text(json.dumps(plain_envoy(front, provider)))
            command = [envoy_path(), "--config-path", str(bootstrap), "--log-level", "error"]
            command += ["--concurrency", "1", "--disable-hot-restart"]
            plain = stack.enter_context(_process(command, directory / "plain.log"))
            _until_open(front)
            port, admin = free_port(), free_port()
            path = directory / "edge.yaml"
            path.write_text(config(port, admin, f"http://127.0.0.1:{provider}", workers, envoy) + more)
            with gateway(path, directory / "first.log") as (first, _):
                pass
            again, running = stack.enter_context(gateway(path, directory / "gateway.log"))
            pids = running.pids()
            yield Stand(
                provider=f"http://127.0.0.1:{provider}",
                envoy=f"http://127.0.0.1:{front}",
                gateway=f"http://127.0.0.1:{port}",
                plain_envoy_pid=plain.pid,
                gateway_envoy_pid=pids["envoy"],
                worker_pids=tuple(pid for name, pid in pids.items() if name.startswith("worker")),
                supervisor_pid=running.process.pid,
                cold_start=(first, again),
            )
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def config(port: int, admin: int, provider: str, workers: int, envoy: str = "") -> str:
    """Envoy's own access log is off on both sides; the agent writes its line for each request, as always."""
    return f"""
listen: {{port: {port}}}
admin: {{port: {admin}}}
agent: {{workers: {workers}}}
envoy: {{concurrency: 1, access_log: "off"{envoy and ", "}{envoy}}}
auth: {{pepper: "a pepper for measuring alone"}}
callers: [{{tenant: bench, keys: [{{id: bench, key: {KEY}}}]}}]
providers:
  openai: {{kind: openai, base_url: "{provider}/v1", api_key: x}}
  anthropic: {{kind: anthropic, base_url: "{provider}/v1", api_key: x}}
models:
  gpt-4o-mini: [{{provider: openai}}]
  claude-3-5-haiku-20241022: [{{provider: anthropic}}]
"""


def plain_envoy(port: int, provider: int) -> Mapping[str, Any]:
    """One listener, one route, one cluster, and no filter but the router."""
    return _envoy(port, {"provider": provider}, [])


def envoy_with_processor(port: int, provider: int, processor: int) -> Mapping[str, Any]:
    """The same with an external processor that sees all headers and bodies, as the agent does."""
    modes = {"request_body_mode": "BUFFERED", "response_body_mode": "STREAMED"}
    filter = {
        "name": "envoy.filters.http.ext_proc",
        "typed_config": {
            "@type": f"{_FILTERS}.http.ext_proc.v3.ExternalProcessor",
            "grpc_service": {"envoy_grpc": {"cluster_name": "processor"}, "timeout": "10s"},
            "processing_mode": {"request_header_mode": "SEND", "response_header_mode": "SEND", **modes},
            "allow_mode_override": True,
            "message_timeout": "10s",
        },
    }
    return _envoy(port, {"provider": provider, "processor": processor}, [filter])


def _envoy(port: int, clusters: Mapping[str, int], filters: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    manager = {
        "@type": f"{_FILTERS}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "http_filters": [
            *filters,
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": f"{_FILTERS}.http.router.v3.Router"},
            },
        ],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "provider", "timeout": "0s"}}],
                }
            ]
        },
    }
    return {
        "static_resources": {
            "listeners": [
                {
                    "name": "plain",
                    "address": _address(port),
                    "filter_chains": [
                        {
                            "filters": [
                                {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
                            ]
                        }
                    ],
                }
            ],
            "clusters": [_cluster(name, port) for name, port in clusters.items()],
        }
    }


def _cluster(name: str, port: int) -> Mapping[str, Any]:
    limits = {"max_connections": 4096, "max_pending_requests": 10000, "max_requests": 20000}
    cluster: dict[str, Any] = {
        "name": name,
        "circuit_breakers": {"thresholds": [limits]},
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }
    if name == "processor":
        options = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
        cluster["typed_extension_protocol_options"] = {
            options: {"@type": f"type.googleapis.com/{options}", "explicit_http_config": {"http2_protocol_options": {}}}
        }
    return cluster


def _address(port: int) -> Mapping[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


@contextlib.contextmanager
def _process(
    command: list[str], log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _until_open(port: int, process: subprocess.Popen[bytes] | None = None, patience: float = START_SECONDS) -> None:
    deadline = time.monotonic() + patience
    while True:
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > deadline or (process is not None and process.poll() is not None):
            raise SystemExit(f"bench: nobody listens on port {port}")
        time.sleep(0.01)


@dataclass(frozen=True, slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    healthy: str

    def pids(self) -> dict[str, int]:
        return named_pids(self.healthy)


def named_pids(healthy: str) -> dict[str, int]:
    """Name to process id, from the line `Healthy   worker 0 (pid 12), envoy (pid 13)` of `up`."""
    found = re.findall(r"([^,()]+) \(pid (\d+)\)", healthy.removeprefix("Healthy"))
    return {name.strip(): int(pid) for name, pid in found}


@contextlib.contextmanager
def gateway(path: Path, log: Path) -> Iterator[tuple[float, _Running]]:
    """`edge-extproc up`, and how many seconds it took. Its output goes to a file."""
    began = time.monotonic()
    ready = threading.Event()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_extproc", "up", "--config", str(path)],
            cwd=path.parent,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(Path(__file__).parent.parent)},
        )
    try:
        while b"Stop with" not in (text := log.read_bytes()):
            if process.poll() is not None or time.monotonic() - began > START_SECONDS:
                raise SystemExit(f"bench: the gateway did not start:\n{text.decode(errors='replace')[-2000:]}")
            ready.wait(0.005)
        took = time.monotonic() - began
        healthy = next(line for line in text.decode().splitlines() if line.startswith("Healthy"))
        yield took, _Running(process, healthy)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_SECONDS)

"""What a start costs: `python -m bench.start [--rounds N] [--only NAME]... [--against DIRECTORY] [--json FILE]`.

    version, schema         these commands
    check N, render N,      these commands with a configuration of N providers
    istio N
    up                      the gateway, from the command to the first 200 on its port, with one provider

A command has its CPU time, user and system, with that of its children, and the seconds that it takes. `up` has the
seconds to the first 200, the CPU time of each process until then, and the memory (PSS) of each process when all are
ready. `--against` names the directory of another checkout: its rounds alternate with those of this one, so that other
work on the machine slows both alike. Each number is the median of the rounds; the least CPU time is beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

from . import exchange, growth, proc, stand

HERE = Path(__file__).parent.parent
ISTIO = "1.32"
SIZES = (1, 100, 1000)

Measured: TypeAlias = dict[str, float]
"""The numbers of one start, by name."""


@dataclass(frozen=True, slots=True)
class Checkout:
    """The directory of a checkout, whose package the processes import."""

    name: str
    path: Path

    def environment(self) -> dict[str, str]:
        # The first round writes the bytecode that the next ones read.
        inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        return {**inherited, "PYTHONPATH": str(self.path)}


def command(checkout: Checkout, arguments: Sequence[str], directory: Path) -> Measured:
    """Runs a command to its end."""
    began = time.monotonic()
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_extproc", *arguments],
            cwd=directory,
            env=checkout.environment(),
            stdout=subprocess.DEVNULL,
            stderr=log,
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"bench: {' '.join(arguments)} failed:\n{(directory / 'log').read_text()[-2000:]}")
    return {"cpu": usage.ru_utime + usage.ru_stime, "seconds": time.monotonic() - began}


def up(checkout: Checkout, provider: int, directory: Path) -> Measured:
    """Starts a gateway, and stops it when all its processes are ready."""
    port, admin = stand.free_port(), stand.free_port()
    path, log = directory / "up.yaml", directory / "up.log"
    path.write_text(stand.config(port, admin, f"http://127.0.0.1:{provider}", 1))
    began = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_extproc", "up", "--config", str(path)],
            cwd=directory,
            env={**checkout.environment(), "PYTHONUNBUFFERED": "1"},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        _poll(lambda: is_answered(port), process, log)
        measured = {"seconds": time.monotonic() - began}
        pids = processes(process.pid)
        measured |= {f"cpu of {name}": proc.cpu_seconds(pid) for name, pid in pids.items()}
        measured["cpu"] = sum(proc.cpu_seconds(pid) for pid in pids.values())
        _poll(lambda: b"Stop with" in log.read_bytes(), process, log)
        return measured | {f"MiB of {name}": pss_mib(pid) for name, pid in pids.items()}
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(stand.STOP_SECONDS)


def _poll(condition: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    began, pause = time.monotonic(), threading.Event()
    while not condition():
        if process.poll() is not None or time.monotonic() - began > stand.START_SECONDS:
            raise SystemExit(f"bench: the gateway did not start:\n{log.read_text(errors='replace')[-2000:]}")
        pause.wait(0.01)


def is_answered(port: int) -> bool:
    """Whether a chat has status 200."""
    body = {"model": growth.OPENAI, "messages": [{"role": "user", "content": "Hello"}]}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json.dumps(body).encode(),
        {"authorization": f"Bearer {stand.KEY}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError):
        return False


def processes(pid: int) -> dict[str, int]:
    """The processes of a gateway, by name."""
    return {process_name(Path(f"/proc/{each}/cmdline").read_bytes()): each for each in proc.tree(pid)}


def process_name(command_line: bytes) -> str:
    program, *arguments = command_line.decode().rstrip("\0").split("\0")
    if "worker" in arguments:
        return "worker"
    return "supervisor" if "edge_extproc" in arguments else Path(program).name


def pss_mib(pid: int) -> float:
    """The proportional set size: memory that is shared counts in equal parts for all who share it."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


class _Provider(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length") or 0))
        body = json.dumps(exchange.REPLY).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Writes nothing."""


@contextlib.contextmanager
def providing() -> Iterator[int]:
    """The port of a provider that answers each chat alike."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Provider) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def commands(directory: Path) -> dict[str, tuple[str, ...]]:
    """The arguments of each command, by its name. Writes the configurations."""
    made: dict[str, tuple[str, ...]] = {"version": ("--version",), "schema": ("schema",)}
    for size in SIZES:
        text = growth.config(providers=size)
        plain, mesh = directory / f"envoy-{size}.yaml", directory / f"istio-{size}.yaml"
        plain.write_text(text)
        mesh.write_text(
            text.replace("agent: {", "agent: {tcp: {hosts: [agent.llm.svc], address: 127.0.0.1}, ").replace(
                "envoy: {", f'envoy: {{istio: "{ISTIO}", '
            )
        )
        made[f"check {size}"] = ("check", str(plain))
        made[f"render {size}"] = ("render", "--config", str(plain))
        made[f"istio {size}"] = ("render", "--target", "istio-gateway", "--config", str(mesh))
    return made


def measure(
    checkouts: Sequence[Checkout], rounds: int, only: Sequence[str], show: Callable[[str], object]
) -> dict[str, dict[str, list[Measured]]]:
    """All rounds, by case and checkout."""
    results: dict[str, dict[str, list[Measured]]] = {}
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name, providing() as provider:
        directory = Path(name)
        cases: dict[str, Callable[[Checkout], Measured]] = {
            case: (lambda checkout, arguments=arguments: command(checkout, arguments, directory))  # type: ignore[misc]
            for case, arguments in commands(directory).items()
        }
        cases["up"] = lambda checkout: up(checkout, provider, directory)
        for case, run in cases.items():
            if only and case not in only:
                continue
            for number in range(-1, rounds):  # the first one writes bytecode, and does not count
                for checkout in checkouts:
                    measured = run(checkout)
                    if number >= 0:
                        results.setdefault(case, {}).setdefault(checkout.name, []).append(measured)
            for checkout in checkouts:
                show(line(case, checkout.name, results[case][checkout.name]))
    return results


def line(case: str, checkout: str, measured: Sequence[Measured]) -> str:
    medians = {name: statistics.median(one[name] for one in measured) for name in measured[0]}
    least = min(one["cpu"] for one in measured)
    rest = "  ".join(f"{name} {value:.2f}" for name, value in medians.items() if name not in ("cpu", "seconds"))
    seconds = f"{medians['seconds']:>6.2f} s"
    return f"{case:<12} {checkout:<8} CPU {medians['cpu']:>6.3f} (least {least:.3f})  {seconds}  {rest}".rstrip()


def summary(results: Mapping[str, Mapping[str, Sequence[Measured]]]) -> dict[str, dict[str, Measured]]:
    """The medians, by case and checkout."""
    return {
        case: {
            checkout: {name: statistics.median(one[name] for one in measured) for name in measured[0]}
            for checkout, measured in by_checkout.items()
        }
        for case, by_checkout in results.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", default=[], help="a case, such as 'render 1000'; may be repeated")
    parser.add_argument("--against", type=Path, help="the directory of another checkout")
    parser.add_argument("--json", type=Path, help="where the numbers go")
    options = parser.parse_args()
    other = [Checkout("other", options.against.absolute())] if options.against is not None else []
    results = measure([*other, Checkout("this", HERE)], options.rounds, options.only, print)
    if options.json is not None:
        options.json.write_text(json.dumps(summary(results), indent=1) + "\n")


if __name__ == "__main__":
    main()

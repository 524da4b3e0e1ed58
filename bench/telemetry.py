"""python -m bench.telemetry [--rounds N] [--seconds S] [--rate N]: what tracing adds to the agent's CPU of a request.

Three gateways stand side by side: without `telemetry.otlp`, with it at 0 % and at 100 %. Each is given the same load in
turn, round after round, and the CPU time of its worker is divided by the requests that it was sent.

The load is so many requests a second, alike for all. With `--rate 0` each connection sends as fast as it is answered,
and more is seen than our own work: Envoy makes spans too, which on a machine with few cores slows whoever runs beside
it, and the worker finds fewer messages each time that it reads.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from . import build, load, stand

CASES: dict[str, int | None] = {"off": None, "0 %": 0, "100 %": 100}
CONNECTIONS = 16

# Takes whatever is exported, and throws it away.
_COLLECTOR = """
import grpc
from concurrent import futures
class All(grpc.GenericRpcHandler):
    def service(self, call):
        return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
server = grpc.server(futures.ThreadPoolExecutor(2))
server.add_generic_rpc_handlers((All(),))
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
"""


@contextlib.contextmanager
def collecting() -> Iterator[int]:
    """A collector's port."""
    with subprocess.Popen([sys.executable, "-c", _COLLECTOR], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield int(process.stdout.readline()) if process.stdout is not None else 0
        finally:
            process.terminate()


def _cpu_seconds(pid: int) -> float:
    """Of all threads, by the scheduler's own account: that of /proc/PID/stat is made of samples, a hundred a second."""
    found = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it has just ended
            found += int((task / "schedstat").read_text().split()[0])
    return found / 1e9


def measure(rounds: int, seconds: float, rate: float | None) -> dict[str, list[float]]:
    """Milliseconds of CPU a request, by case and round."""
    tools = build.tools()
    directory = Path(tempfile.mkdtemp(prefix="edge-bench-"))
    found: dict[str, list[float]] = {case: [] for case in CASES}
    try:
        with contextlib.ExitStack() as stack:
            provider, collector = stand.free_port(), stack.enter_context(collecting())
            stack.enter_context(stand._process([str(tools.mock), "-p", str(provider)], directory / "mock.log"))
            stand._until_open(provider)
            body = directory / "body.json"
            body.write_text(json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}))
            running = {}
            for n, (case, sampling) in enumerate(CASES.items()):
                port, at = stand.free_port(), directory / f"{n}"
                at.mkdir()
                text = stand.config(port, stand.free_port(), f"http://127.0.0.1:{provider}", 1)
                if sampling is not None:
                    text += f"telemetry: {{otlp: {{endpoint: 'http://127.0.0.1:{collector}', sampling: {sampling}}}}}\n"
                (at / "edge.yaml").write_text(text)
                _, gateway = stack.enter_context(stand.gateway(at / "edge.yaml", at / "log"))
                url = f"http://127.0.0.1:{port}/v1/chat/completions"
                headers = (("authorization", f"Bearer {stand.KEY}"), ("content-type", "application/json"))
                running[case] = (load.Target(url, body, headers), gateway.pids()["worker 0"])
            for number in range(rounds):
                # There and back again: what gets slower or faster on the way does so for each alike.
                for case in list(running)[:: -1 if number % 2 else 1]:
                    target, pid = running[case]
                    before = _cpu_seconds(pid)
                    done = load.run(
                        tools.loadgen, target, connections=CONNECTIONS, seconds=seconds, warm_up=0.2, rate=rate
                    )
                    if done.errors > CONNECTIONS:
                        raise SystemExit(f"bench: {done.errors} errors with tracing {case}")
                    found[case].append((_cpu_seconds(pid) - before) * 1000 / done.sent)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rate", type=float, default=250.0)
    asked = parser.parse_args()
    found = measure(asked.rounds, asked.seconds, asked.rate or None)
    for case, each in found.items():
        # Each round against its own, since the machine's speed changes from one to the next.
        ratios = sorted(one / off for one, off in zip(each, found["off"], strict=True))
        low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else (ratios * 3)
        print(
            f"tracing {case:>5}: {statistics.median(each):.3f} ms of CPU a request, "
            f"{statistics.median(ratios) - 1:+.1%} in the middle round, half of them {low - 1:+.1%} to {high - 1:+.1%}"
        )


if __name__ == "__main__":
    main()

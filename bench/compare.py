"""python -m bench.compare [--rounds N] [--seconds S] [--rate N] [--peers NAME …] [--peer NAME=URL …] [--output FILE]

Compares the gateway with other programs under the same load on the same machine: a plain Envoy, other gateways, and
another external processor in the same Envoy. The rounds of all contestants alternate, and the results are medians.

    plain Envoy       no filter but the router
    agent             passed on, translated, and answered from the cache
    litellm, portkey  `--peers litellm portkey` installs them from their registries into bench/peers
    agent-router      `--peers agent-router` builds the Go processor of Envoy AI Gateway (needs Go)
    --peer NAME=URL   a gateway that already runs; it must lead to the provider that the output names
    EDGE_BENCH_PROCESSOR
                      the command of an ext_proc server, with {port} for the port that it must listen on

Each contestant is measured with 1, 16 and 64 connections in a closed loop, and with a fixed rate. At a fixed rate,
latency counts from the time at which a request was due, so a slow contestant cannot hide its queue.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shlex
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edge_extproc.envoy_config.validate import envoy_path

from . import agent_router, build, load, peers, proc, stand

CONNECTIONS = (1, 16, 64)
AT_RATE = 64
"""Connections for the load of a fixed rate: enough that a free one is always there."""
PLAIN = "plain Envoy"
AGENT_ROUTER = "agent-router"
_QUESTION = "Tell me, in one short sentence, what a gateway adds to a request, and what it must not add."
_BODY = {
    "messages": [
        {"role": "system", "content": "You are a terse assistant who answers in plain words and never repeats."},
        {"role": "user", "content": _QUESTION + " {N}"},
    ],
    "max_tokens": 100,
    "temperature": 0.2,
}


@dataclass(frozen=True, slots=True)
class Contestant:
    """`pids`: the processes whose CPU time and memory count, by role."""

    name: str
    target: load.Target
    pids: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """One contestant under one load. Times in milliseconds, `cpu_ms` for one request and by role."""

    name: str
    connections: int
    rate: float | None
    """Requests a second. None: a closed loop."""
    per_second: float
    p50: float
    p99: float
    errors: int
    cpu_ms: Mapping[str, float]
    of_plain: float | None = None
    """Requests a second as a part of plain Envoy's in the same round: the rounds' median. None at a fixed rate."""


def measure(
    tools: build.Tools,
    contestants: Sequence[Contestant],
    loads: Sequence[tuple[int, float | None]],
    *,
    rounds: int,
    seconds: float,
) -> list[Measurement]:
    """Every other round is in reverse order, so that a machine that becomes slower does so for all alike."""
    results: dict[tuple[str, int, float | None], list[Measurement]] = {}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for connections, rate in loads:
            for contestant in list(contestants)[:: -1 if number % 2 else 1]:
                one = _once(tools, contestant, connections, rate, seconds)
                results.setdefault((one.name, connections, rate), []).append(one)
    return [_median(each, results[PLAIN, each[0].connections, each[0].rate]) for each in results.values()]


def _once(
    tools: build.Tools, contestant: Contestant, connections: int, rate: float | None, seconds: float
) -> Measurement:
    before = _cpu(contestant)
    seen = load.run(
        tools.loadgen, contestant.target, connections=connections, seconds=seconds, warm_up=seconds / 4, rate=rate
    )
    cpu = {role: 1000 * (now - before[role]) / max(1, seen.sent) for role, now in _cpu(contestant).items()}
    return Measurement(contestant.name, connections, rate, seen.per_second, seen.p50, seen.p99, seen.errors, cpu)


def _cpu(contestant: Contestant) -> dict[str, float]:
    return {role: sum(map(proc.cpu_seconds, pids)) for role, pids in contestant.pids.items()}


def _median(rounds: Sequence[Measurement], plain: Sequence[Measurement]) -> Measurement:
    ratios = [own.per_second / other.per_second for own, other in zip(rounds, plain, strict=True) if other.per_second]
    first = rounds[0]
    return Measurement(
        first.name,
        first.connections,
        first.rate,
        per_second=statistics.median(each.per_second for each in rounds),
        p50=statistics.median(each.p50 for each in rounds),
        p99=statistics.median(each.p99 for each in rounds),
        errors=sum(each.errors for each in rounds),
        cpu_ms={role: statistics.median(each.cpu_ms[role] for each in rounds) for role in first.cpu_ms},
        of_plain=statistics.median(ratios) if first.rate is None and ratios else None,
    )


def table(measurements: Sequence[Measurement]) -> str:
    """One block for each load."""
    lines: list[str] = []
    for connections, rate in dict.fromkeys((each.connections, each.rate) for each in measurements):
        title = f"{connections} connections" if rate is None else f"{rate:g} requests a second"
        lines += [
            "",
            title,
            f"{'':<24} {'req/s':>8} {'of plain':>8} {'p50 ms':>8} {'p99 ms':>8} {'errors':>6}  CPU, ms",
        ]
        for each in measurements:
            if (each.connections, each.rate) == (connections, rate):
                ratio = "" if each.of_plain is None else f"{each.of_plain:.3f}"
                cpu = ", ".join(f"{role} {ms:.3f}" for role, ms in each.cpu_ms.items())
                lines.append(
                    f"{each.name:<24} {each.per_second:>8.0f} {ratio:>8} {each.p50:>8.2f} {each.p99:>8.2f} "
                    f"{each.errors:>6}  {cpu}"
                )
    return "\n".join(lines[1:])


# --- contestants


def gateway(stood: stand.Stand, directory: Path) -> list[Contestant]:
    """Plain Envoy, and the gateway: passed on, translated (from Chat Completions to Messages, and from Messages to Chat
    Completions), and from its cache."""
    roles = {"Envoy": (stood.gateway_envoy_pid,), "agent": stood.worker_pids, "supervisor": (stood.supervisor_pid,)}
    openai, claude = "gpt-4o-mini", "claude-3-5-haiku-20241022"
    return [
        Contestant(PLAIN, _target(stood.envoy, openai, directory, "plain"), {"Envoy": (stood.plain_envoy_pid,)}),
        Contestant("agent, passed on", _target(stood.gateway, openai, directory, "pass"), roles),
        Contestant("agent, translated", _target(stood.gateway, claude, directory, "cross"), roles),
        Contestant("agent, from Messages", _messages(_target(stood.gateway, openai, directory, "messages")), roles),
        Contestant("agent, from the cache", _cached(_target(stood.gateway, openai, directory, "hit")), roles),
    ]


def _target(host: str, model: str, directory: Path, name: str) -> load.Target:
    body = directory / f"{name}.json"
    body.write_text(json.dumps({**_BODY, "model": model}))
    headers = (("authorization", f"Bearer {stand.KEY}"), ("content-type", "application/json"))
    return load.Target(f"{host}/v1/chat/completions", body, headers)


def _messages(target: load.Target) -> load.Target:
    """The same request in the format of Anthropic's Messages."""
    body = json.loads(target.body.read_text())
    system, *messages = body["messages"]
    target.body.write_text(json.dumps({**body, "system": system["content"], "messages": messages}))
    return replace(target, url=target.url.replace("/v1/chat/completions", "/v1/messages"))


def _cached(target: load.Target) -> load.Target:
    """The same request each time, with the temperature that the cache takes."""
    body = {**json.loads(target.body.read_text()), "temperature": 0}
    target.body.write_text(json.dumps(body).replace("{N}", "once"))
    return target


def _other(
    name: str, url: str, directory: Path, pids: Mapping[str, tuple[int, ...]], headers: Sequence[tuple[str, str]]
) -> Contestant:
    target = _target(url.removesuffix("/v1").rstrip("/"), "gpt-4o-mini", directory, name)
    return Contestant(name, replace(target, headers=(*target.headers, *headers)), pids)


@contextlib.contextmanager
def other_processor(provider: str, directory: Path) -> Iterator[list[Contestant]]:
    """Agent Router's processor: passed on, and translated from Messages."""
    with agent_router.running(provider, directory) as (url, roles):
        target = _target(url, "gpt-4o-mini", directory, AGENT_ROUTER)
        translated = _messages(_target(url, "gpt-4o-mini", directory, f"{AGENT_ROUTER}-messages"))
        yield [Contestant(AGENT_ROUTER, target, roles), Contestant(f"{AGENT_ROUTER}, Messages", translated, roles)]


@contextlib.contextmanager
def processor(command: str, provider: str, directory: Path) -> Iterator[Contestant]:
    """Another external processor, in an Envoy with the four phases that ours has."""
    port, front = stand.free_port(), stand.free_port()
    with contextlib.ExitStack() as stack:
        words = shlex.split(command.replace("{port}", str(port)))
        server = stack.enter_context(stand._process(words, directory / "processor.log"))
        stand._until_open(port)
        bootstrap = directory / "processor.json"
        bootstrap.write_text(json.dumps(stand.envoy_with_processor(front, int(provider.rpartition(":")[2]), port)))
        words = [envoy_path(), "--config-path", str(bootstrap), "--log-level", "error"]
        envoy = stack.enter_context(
            stand._process([*words, "--concurrency", "1", "--disable-hot-restart"], directory / "processor-envoy.log")
        )
        stand._until_open(front)
        yield _other(
            "processor", f"http://127.0.0.1:{front}", directory, {"Envoy": (envoy.pid,), "agent": (server.pid,)}, ()
        )


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of one measurement, without its warm-up")
    parser.add_argument("--rate", type=float, default=300.0, help="requests a second of the load of a fixed rate")
    parser.add_argument("--peers", nargs="*", choices=sorted((*peers.PEERS, AGENT_ROUTER)), default=[])
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=URL")
    parser.add_argument("--output", type=Path, help="where the JSON goes")
    parser.add_argument("--plot", type=Path, help="where a picture goes (PNG); needs matplotlib")
    options = parser.parse_args(arguments)
    tools = build.tools()
    with contextlib.ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-bench-")))
        stood = stack.enter_context(stand.standing(tools, workers=1, more="cache: {}\n"))
        contestants = gateway(stood, directory)
        if AGENT_ROUTER in options.peers:
            contestants += stack.enter_context(other_processor(stood.provider, directory))
        for name in (each for each in options.peers if each != AGENT_ROUTER):
            url, pids, headers = stack.enter_context(peers.running(name, f"{stood.provider}/v1", directory))
            contestants.append(_other(name, url, directory, {"agent": pids}, headers))
        for name, _, url in (each.partition("=") for each in options.peer):
            contestants.append(_other(name, url, directory, {}, ()))
        command = os.environ.get("EDGE_BENCH_PROCESSOR")
        if command:
            contestants.append(stack.enter_context(processor(command, stood.provider, directory)))
        print(f"the provider is {stood.provider}/v1", file=sys.stderr)
        loads: list[tuple[int, float | None]] = [(each, None) for each in CONNECTIONS]
        loads.append((AT_RATE, options.rate))
        measurements = measure(tools, contestants, loads, rounds=options.rounds, seconds=options.seconds)
    print(conditions())
    print(table(measurements))
    if options.output is not None:
        result = {"conditions": conditions(), "measurements": [asdict(each) for each in measurements]}
        options.output.write_text(json.dumps(result, indent=1) + "\n")
    if options.plot is not None:
        from . import plot

        plot.requests_per_second(measurements, options.plot)
    return 0


def conditions() -> str:
    """What a reader of the numbers must know of the machine."""
    now = time.strftime("%Y-%m-%d", time.gmtime())
    return (
        f"{now}: {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}, "
        f"load {os.getloadavg()[0]:.1f} at the end; the load generator and the provider share the cores"
    )


if __name__ == "__main__":
    sys.exit(main())

"""python -m bench [--quick] [--soak SECONDS] [--workers N] [--output FILE]"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from . import build, load, proc, report, stand
from .report import CROSS, DIRECT, ENVOY, PASS, WAYS, Cell, Round

HERE = Path(__file__).parent
QUESTION = "Tell me, in one short sentence, what a gateway adds to the way of a request, and what it must not add. {N}"
SYSTEM = "You are a terse assistant who answers in plain words and never repeats the question."


@dataclass(frozen=True, slots=True)
class Settings:
    rounds: int
    seconds: float
    warm_up: float
    connections: tuple[int, ...]
    stream_connections: tuple[int, ...]


FULL = Settings(rounds=3, seconds=4.0, warm_up=1.0, connections=(1, 16, 64), stream_connections=(1, 16))
QUICK = Settings(rounds=2, seconds=0.9, warm_up=0.3, connections=(1, 16, 64), stream_connections=(8,))

_OF_WAY = {DIRECT: "openai", ENVOY: "openai", PASS: "openai", CROSS: "anthropic"}


def targets(stood: stand.Stand, directory: Path) -> dict[tuple[str, bool], load.Target]:
    """By way and whether it streams. Each request is another one: none could be answered from a cache."""
    found = {}
    key = (("authorization", f"Bearer {stand.KEY}"),)
    for way in WAYS:
        model = "claude-3-5-haiku-20241022" if way == CROSS else "gpt-4o-mini"
        host = {DIRECT: stood.provider, ENVOY: stood.envoy}.get(way, stood.gateway)
        for stream in (False, True):
            body = directory / f"{model}-{stream}.json"
            asked = {
                "model": model,
                "messages": [{"role": "system", "content": SYSTEM}, {"role": "user", "content": QUESTION}],
                "max_tokens": 100,
                "temperature": 0.2,
                **({"stream": True} if stream else {}),
            }
            body.write_text(json.dumps(asked))
            found[way, stream] = load.Target(f"{host}/v1/chat/completions", body, key)
    return found


class Bench:
    def __init__(self, tools: build.Tools, stood: stand.Stand, directory: Path) -> None:
        self._tools = tools
        self._stood = stood
        self._targets = targets(stood, directory)

    def measure(self, settings: Settings) -> list[Cell]:
        loads = [(False, c) for c in settings.connections] + [(True, c) for c in settings.stream_connections]
        found: dict[tuple[str, bool, int], list[Round]] = {}
        for number in range(settings.rounds):
            print(f"round {number + 1} of {settings.rounds}", file=sys.stderr)
            for stream, connections in loads:
                for way in WAYS:
                    one = self.one(way, stream, connections, settings.seconds, settings.warm_up)
                    found.setdefault((way, stream, connections), []).append(one)
        return [Cell(*key, tuple(rounds)) for key, rounds in found.items()]

    def one(self, way: str, stream: bool, connections: int, seconds: float, warm_up: float) -> Round:
        before = self._cpu(way)
        seen = load.run(
            self._tools.loadgen,
            self._targets[way, stream],
            connections=connections,
            seconds=seconds,
            warm_up=warm_up,
        )
        envoy, agent, supervisor = (now - then for now, then in zip(self._cpu(way), before, strict=True))
        return Round(seen, envoy, agent, supervisor)

    def _cpu(self, way: str) -> tuple[float, float, float]:
        stood = self._stood
        if way == DIRECT:
            return 0.0, 0.0, 0.0
        if way == ENVOY:
            return proc.cpu_seconds(stood.plain_envoy_pid), 0.0, 0.0
        return (
            proc.cpu_seconds(stood.gateway_envoy_pid),
            sum(map(proc.cpu_seconds, stood.worker_pids)),
            proc.cpu_seconds(stood.supervisor_pid),
        )

    def rss(self) -> float:
        """Of the largest worker, MiB."""
        return max(map(proc.rss_mib, self._stood.worker_pids))

    def soak(self, seconds: float) -> list[tuple[float, float]]:
        """(seconds, MiB of the largest worker), every few seconds under all kinds of load at once after another."""
        began = time.monotonic()
        samples: list[tuple[float, float]] = []
        kinds = [(PASS, False, 16), (CROSS, False, 16), (PASS, True, 32), (CROSS, True, 32)]
        errors = 0
        while (passed := time.monotonic() - began) < seconds:
            for way, stream, connections in kinds:
                errors += self.one(way, stream, connections, 2.0, 0.0).load.errors
            samples.append((time.monotonic() - began, self.rss()))
            print(f"{passed:6.0f} s  {samples[-1][1]:6.1f} MiB  errors: {errors}", file=sys.stderr)
        return samples


def machine() -> dict[str, object]:
    return {
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "load_average_before": os.getloadavg()[0],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="about a minute, for a first look")
    parser.add_argument("--soak", type=float, metavar="SECONDS", help="only watch a worker's memory, for this long")
    parser.add_argument("--workers", type=int, default=1, help="worker processes of the agent (default 1)")
    parser.add_argument("--output", type=Path, help="where the JSON goes (default bench/results/TIME.json)")
    asked = parser.parse_args(arguments)

    now = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
    output = asked.output or HERE / "results" / f"{now}.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    about = {"at": now, "machine": machine(), "workers": asked.workers}
    tools = build.tools()
    with stand.standing(tools, workers=asked.workers) as stood:
        bench = Bench(tools, stood, stood_directory(output))
        rss_start = bench.rss()
        if asked.soak:
            samples = bench.soak(asked.soak)
            later = samples[len(samples) // 4 :]
            told = {**about, "rss_mib": samples, "growth_mib_per_hour": report.growth(later)}
            print(f"RSS of a worker: {rss_start:.1f} MiB at the start, {samples[-1][1]:.1f} MiB at the end; after the")
            print(
                f"first quarter it grew by {later[-1][1] - later[0][1]:+.1f} MiB in {later[-1][0] - later[0][0]:.0f} s"
            )
        else:
            found = report.rows(
                bench.measure(QUICK if asked.quick else FULL),
                {way: stand.FRAMES[of] for way, of in _OF_WAY.items() if way in (PASS, CROSS)},
            )
            rss_end = bench.rss()
            targets_held = report.verdicts(found, max(stood.cold_start), rss_start, rss_end)
            told = {
                **about,
                "cold_start_seconds": stood.cold_start,
                "rss_mib": {"start": rss_start, "end": rss_end},
                **report.as_json(rows=found, targets=targets_held),
            }
            print(report.table(found))
            print("\nTargets")
            for v in targets_held:
                print(f"{'holds' if v.holds else 'MISSED':<7} {v.what}: {v.measured:.2f} (target {v.target:g})")
    output.write_text(json.dumps(told, indent=1) + "\n")
    print(f"\nwritten to {output}", file=sys.stderr)
    return 0


def stood_directory(output: Path) -> Path:
    """Where the requests' bodies lie."""
    directory = output.parent / "bodies"
    directory.mkdir(exist_ok=True)
    return directory


if __name__ == "__main__":
    sys.exit(main())

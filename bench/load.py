"""One run of the load generator."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Target:
    """Where requests go and what they are."""

    url: str
    body: Path
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Load:
    """What came of it. Times in milliseconds; `sent` counts the warm-up too, the rest does not."""

    sent: int
    requests: int
    errors: int
    per_second: float
    p50: float
    p99: float
    first_byte_p50: float
    first_byte_p99: float


def run(
    loadgen: Path,
    target: Target,
    *,
    connections: int,
    seconds: float,
    warm_up: float,
    rate: float | None = None,
    source: str | None = None,
) -> Load:
    """Each connection sends its next request when the answer to the last one has ended; with a `rate`, so many a second
    are sent whatever becomes of them, and times count from when each was due. `source`: from this address."""
    command = [str(loadgen), "-u", target.url, "-b", str(target.body)]
    command += ["-c", str(connections), "-d", f"{seconds:g}", "-w", f"{warm_up:g}"]
    command += ["-r", f"{rate:g}"] if rate is not None else []
    command += ["-s", source] if source is not None else []
    for name, value in target.headers:
        command += ["-H", f"{name}: {value}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=seconds + warm_up + 30)
    return parsed(done.stdout)


def parsed(line: str) -> Load:
    """The generator's line of JSON. What was not answered by the end counts as an error."""
    told = json.loads(line)
    whole, first = told["lat_us"], told["ttfb_us"]
    return Load(
        told["total_sent"],
        told["requests"],
        told["errors"] + told["unfinished"],
        told["rps"],
        whole["p50"] / 1000,
        whole["p99"] / 1000,
        first["p50"] / 1000,
        first["p99"] / 1000,
    )

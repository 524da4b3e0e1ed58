"""A target under libFuzzer: `python tests/fuzz/run.py TARGET [libFuzzer's own arguments]`, as `make fuzz` does.

`TARGET,TARGET` runs several, one after another, each in a process of its own that has the modules of this one: to
instrument them takes longer than a short run. It says on stderr with which status each of them ended.

`--blind` before the targets instruments these alone, and no module of the package: libFuzzer changes the seeds without
knowing which changes lead somewhere new. That is enough for some hundreds of runs, and it begins at once.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import atheris  # noqa: E402 - where its targets are must be said first

BLIND = "--blind"

# What is instrumented tells the fuzzer which bytes lead somewhere new: our own code, not that of libraries.
with atheris.instrument_imports(include=["fuzz_targets" if BLIND in sys.argv else "edge_extproc"]):
    from fuzz_targets import TARGETS


def main() -> None:
    names, *arguments = [each for each in sys.argv[1:] if each != BLIND]
    if "," not in names:
        fuzz(names, arguments)
        return
    statuses = {name: status_of(name, arguments) for name in names.split(",")}
    for name, status in statuses.items():
        print(f"{name} ended with {status}", file=sys.stderr)
    sys.exit(any(statuses.values()))


def status_of(name: str, arguments: list[str]) -> int:
    child = os.fork()
    if not child:
        fuzz(name, arguments)
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fuzz(name: str, arguments: list[str]) -> None:
    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as directory:
        for n, seed in enumerate(target.seeds):
            (Path(directory) / f"seed-{n}").write_bytes(seed)
        atheris.Setup([sys.argv[0], directory, *arguments], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

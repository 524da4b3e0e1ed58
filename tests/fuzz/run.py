"""One target under libFuzzer: `python tests/fuzz/run.py TARGET [libFuzzer's own arguments]`, as `make fuzz` does."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1]), str(Path(__file__).parent)]

import atheris  # noqa: E402 - where its targets are must be said first

# What is instrumented tells the fuzzer which bytes lead somewhere new: our own code, not that of libraries.
with atheris.instrument_imports(include=["edge_extproc"]):
    from fuzz_targets import TARGETS


def main() -> None:
    name, *arguments = sys.argv[1:]
    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix=f"fuzz-{name}-") as directory:
        for n, seed in enumerate(target.seeds):
            (Path(directory) / f"seed-{n}").write_bytes(seed)
        atheris.Setup([sys.argv[0], directory, *arguments], target.run)
        atheris.Fuzz()


if __name__ == "__main__":
    main()

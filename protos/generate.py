"""Compile protos/ into edge_extproc/pb: python protos/generate.py [OUTPUT_DIRECTORY]

The output is committed, so that using or installing the package needs no compiler. It depends on the compiler's
version; the one that wrote the committed files is pinned in pyproject.toml (grpcio-tools) and named in VERSION below.
google.rpc.Status comes from googleapis-common-protos: a copy of our own could not be loaded beside theirs.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

VERSION = "1.85.1"
"""Of grpcio-tools."""

SOURCES = Path(__file__).parent
PACKAGE = Path("edge_extproc", "pb")


def generate(output: Path) -> list[Path]:
    """Write the modules and their stubs below `output`; the files written, relative to it."""
    # Only here, so that a machine without the compiler can still ask for VERSION.
    from grpc_tools import protoc

    protos = sorted(path.relative_to(SOURCES) for path in (SOURCES / PACKAGE).glob("*.proto"))
    arguments = [
        "protoc",
        f"--proto_path={SOURCES}",
        f"--proto_path={files('grpc_tools') / '_proto'}",
        f"--proto_path={site_packages()}",
        f"--python_out={output}",
        f"--pyi_out={output}",
        *map(str, protos),
    ]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed")
    return [path.with_name(path.stem + suffix) for path in protos for suffix in ("_pb2.py", "_pb2.pyi")]


def site_packages() -> Path:
    """Where googleapis-common-protos has put google/rpc/status.proto."""
    found = find_spec("google.rpc.status_pb2")
    if found is None or found.origin is None:
        raise SystemExit("googleapis-common-protos is not installed")
    return Path(found.origin).parents[2]


def main(argv: list[str]) -> None:
    if (found := version("grpcio-tools")) != VERSION:
        raise SystemExit(f"grpcio-tools is {found}; the committed files are written by {VERSION}")
    for path in generate(Path(argv[0]) if argv else SOURCES.parent):
        print(path)


if __name__ == "__main__":
    main(sys.argv[1:])

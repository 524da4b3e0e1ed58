"""`python -m edge_extproc`: the command line of cli.py, and that of a worker, which `up` and `serve` start.

A worker does not import the parser of cli.py, which takes an eighth of its start.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from .errors import exit_code
from .server import garbage
from .telemetry.plain_structlog import import_structlog


def main() -> None:
    if sys.argv[1:2] != ["worker"]:
        from . import cli

        cli.main()
    garbage.collect_later()
    import_structlog()
    try:
        sys.exit(exit_code(lambda: run_worker_command(sys.argv[2:])))
    finally:
        garbage.collect_no_more()


def run_worker_command(arguments: Sequence[str]) -> None:
    from .gateway.config_source import ConfigFollower, ConfigSource, read_local
    from .server.serve import run
    from .worker.main import run_worker

    given = worker_parser().parse_args(arguments)
    source = ConfigSource(
        given.config,
        given.state_dir,
        given.rehearsal_port,
        given.port,
        given.admin_port,
        given.accepted,
        read_local(given.local),
    )
    following = ConfigFollower(source)
    run(run_worker(following.config, given.index, following.newer, versioned_clusters=given.versioned_clusters))


def worker_parser() -> argparse.ArgumentParser:
    """The options are those of `ConfigSource.arguments`."""
    parser = argparse.ArgumentParser(prog="python -m edge_extproc worker", allow_abbrev=False)
    parser.add_argument("--index", type=int, required=True)
    parser.add_argument("--config", type=Path)
    parser.add_argument("--accepted", type=Path)
    parser.add_argument("--versioned-clusters", action="store_true")
    parser.add_argument("--local", default="[]")
    parser.add_argument("--state-dir", type=Path, default=Path())
    for name in ("--rehearsal-port", "--port", "--admin-port"):
        parser.add_argument(name, type=int, default=0)
    return parser


if __name__ == "__main__":
    main()

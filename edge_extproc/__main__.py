"""The program `edge-extproc`, also as `python -m edge_extproc`: the command line of cli.py, and that of a worker.

`up` and `serve` start workers: the first by a fork (gateway/forked_worker.py), the others as `worker`. A worker does
not import the parser of cli.py, which takes an eighth of its start.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__

if TYPE_CHECKING:
    from .gateway.forked_worker import WaitingWorker


def main() -> None:
    open_closed_streams()
    if sys.argv[1:] == ["--version"]:
        # As cli.py, without the import of all that it needs for commands.
        print(__version__)
        return
    from .errors import exit_code
    from .server import garbage
    from .telemetry.plain_structlog import import_structlog

    garbage.collect_later()
    import_structlog()
    try:
        sys.exit(exit_code(run))
    finally:
        garbage.collect_no_more()


def open_closed_streams() -> None:
    """Opens the null device for each of stdin, stdout and stderr that the process was started without. Otherwise the
    next file or socket gets its number, and what is printed goes there."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            null = os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is that of the stream
            os.set_inheritable(null, True)
            setattr(sys, name, open(null, mode))  # noqa: SIM115 - it stays open as long as the process


def run() -> None:
    command, *options = sys.argv[1:] or [""]
    if command == "worker":
        run_worker_command(lambda: options)
    elif command in ("up", "serve") and not _HELP & set(options) and (child := _forked()) is not None:
        run_worker_command(child.arguments)
    else:
        from . import cli

        cli.main()


_HELP = frozenset({"--help", "-h"})


def _forked() -> WaitingWorker | None:
    from .gateway import forked_worker

    return forked_worker.fork()


def run_worker_command(arguments: Callable[[], Sequence[str]]) -> None:
    """`arguments` may wait for them."""
    from .gateway.config_source import ConfigFollower, ConfigSource, read_local
    from .server.serve import run
    from .worker.main import run_worker

    options = worker_parser().parse_args(arguments())
    source = ConfigSource(
        options.config,
        options.state_dir,
        options.rehearsal_port,
        options.port,
        options.admin_port,
        options.accepted,
        read_local(options.local),
    )
    following = ConfigFollower(source)
    run(
        run_worker(
            following.config,
            options.index,
            following.newer,
            versioned_clusters=options.versioned_clusters,
        )
    )


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

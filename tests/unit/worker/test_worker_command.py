"""The command line of a worker, and what its process and the supervisor's do not load."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from config_kit import ENVIRON, SECTIONS

from edge_extproc import __version__
from edge_extproc.__main__ import worker_parser
from edge_extproc.gateway.config_source import ConfigSource


@pytest.mark.parametrize(
    "source",
    [
        ConfigSource(Path("edge.yaml"), Path(".edge")),
        ConfigSource(Path("edge.yaml"), Path(".edge"), accepted=Path("run/accepted.json"), versioned_clusters=True),
        ConfigSource(None, Path("/state"), 1234, 10000, 10001),
        ConfigSource(None, Path("/state"), 0, 1, 2, versioned_clusters=True),
    ],
)
def test_a_worker_reads_what_the_supervisor_writes(source: ConfigSource) -> None:
    given = worker_parser().parse_args(["--index", "3", *source.arguments()])

    assert given.index == 3
    assert (given.config, given.accepted, given.versioned_clusters) == (
        source.path,
        source.accepted,
        source.versioned_clusters,
    )
    if source.path is None:
        assert (given.state_dir, given.rehearsal_port, given.port, given.admin_port) == (
            source.state_dir,
            source.rehearsal_port,
            source.port,
            source.admin_port,
        )


def test_a_mistake_is_one_line(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_extproc", "worker", "--index", "0", "--config", str(tmp_path / "absent")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("edge-extproc: ")
    assert "absent" in line


CODE = """
import sys
from edge_extproc.telemetry.plain_structlog import import_structlog
import_structlog()
{imports}
print(*sorted({unwanted!r} & sys.modules.keys()))
import rich.console, structlog
"""
# Each takes a tenth of the start of a process or more.
UNWANTED = frozenset({"rich", "cyclopts", "cryptography.x509", "grpc", "uvicorn", "starlette", "envoy_data_plane"})


@pytest.mark.parametrize(
    ("imports", "loaded"),
    [
        ("import edge_extproc.__main__, edge_extproc.worker.main", set()),
        # Until the workers are started.
        ("from edge_extproc.gateway import launch, banner, worker_client", set()),
        ("import edge_extproc.envoy_config.dynamic", set()),
        ("import edge_extproc.cli", {"cyclopts"}),
    ],
    ids=["worker", "supervisor", "rendering", "command line"],
)
def test_a_process_does_not_load_what_it_does_not_need(tmp_path: Path, imports: str, loaded: set[str]) -> None:
    (tmp_path / "edge.yaml").write_text("".join(SECTIONS.values()))
    command = [sys.executable, "-c", CODE.format(imports=imports, unwanted=UNWANTED)]
    done = subprocess.run(command, env=ENVIRON, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert loaded == set(done.stdout.split())


def test_the_version_needs_no_import() -> None:
    code = "import sys; sys.argv = ['edge-extproc', '--version']\nfrom edge_extproc import __main__\n"
    code += "__main__.main(); print(*sorted(name for name in sys.modules if name.startswith(('edge_', 'cyclopts'))))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    version, modules = done.stdout.splitlines()
    assert version == __version__
    assert modules.split() == ["edge_extproc", "edge_extproc.__main__"]


@pytest.mark.parametrize(("arguments", "forks"), [(["--help"], False), (["--port", "http"], True)])
def test_only_a_command_that_may_start_a_gateway_forks(arguments: list[str], forks: bool) -> None:
    code = f"import sys; sys.argv = ['edge-extproc', 'up', *{arguments!r}]\nfrom edge_extproc import __main__\n"
    code += "try: __main__.main()\nfinally: print('edge_extproc.gateway.forked_worker' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert str(forks) == done.stdout.splitlines()[-1]

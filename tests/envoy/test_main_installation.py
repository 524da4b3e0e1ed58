"""`up` as `make up` has installed it, and what each of its processes loads."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import thoroughness
from gateway import until
from main_installation import MAKE_UP, environment, loaded_modules
from ports import free_port

pytestmark = pytest.mark.envoy

START_SECONDS = 90.0


@pytest.mark.parametrize(
    "extras",
    [pytest.param(("envoy",), marks=thoroughness.long_only("that of `make up` has more")), MAKE_UP],
    ids="-".join,
)
def test_it_serves_without_other_extras_and_a_worker_loads_no_other_part(
    extras: tuple[str, ...], tmp_path: Path
) -> None:
    output = tmp_path / "output"
    command = [sys.executable, "-m", "edge_extproc", "up", "--state-dir", str(tmp_path / "s")]
    ports = ["--port", str(free_port()), "--admin-port", str(free_port())]
    environ = {
        name: value for name, value in environment(tmp_path, extras).items() if not name.endswith("_API_KEY")
    } | {"PYTHONUNBUFFERED": "1"}
    with output.open("w") as file:
        process = subprocess.Popen([*command, *ports], env=environ, stdout=file, stderr=subprocess.STDOUT)
    try:
        until(lambda: process.poll() is not None or "Stop with" in output.read_text(), START_SECONDS)
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)

    assert "Stop with" in output.read_text(), output.read_text()
    assert ("admin" in extras) == any(line.startswith("Pages ") for line in output.read_text().splitlines())
    (worker,) = loaded_modules(tmp_path, "worker")
    (supervisor,) = loaded_modules(tmp_path, "up")
    assert "edge_extproc.worker.main" in worker
    assert "edge_extproc.gateway.launch" in supervisor
    for loaded in (worker, supervisor):
        assert set() == {name for name in loaded if name.startswith("edge_extproc.rehearsal")}
    assert (
        not {
            "edge_extproc.envoy_config",
            "envoy_data_plane",
            "starlette",
            "uvicorn",
            "cyclopts",
            "rich",
            "sqlalchemy",
            "jinja2",
        }
        & worker
    )
    assert not {"rich", "grpc", "envoy_data_plane", "edge_extproc.envoy_config.typed_messages"} & supervisor

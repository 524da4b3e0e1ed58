"""A gateway that is started with stdin, stdout or stderr closed serves like any other."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import gateway as gateways
import httpx2 as httpx
import pytest
from ports import free_port

from edge_extproc.config.default_models import default_providers, local_hosts

pytestmark = pytest.mark.envoy

# Without these keys and hosts it serves what it simulates.
NO_KEYS = {
    **{key: "" for each in default_providers() for key in each.default.keys},
    **{host.variable: "" for host in local_hosts()},
}
CLOSED = {">&-": (1,), "<&- >&- 2>&-": (0, 1, 2)}


@contextlib.contextmanager
def started(verb: str, redirections: str, directory: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The process and its admin port."""
    admin = free_port()
    command = [sys.executable, "-m", "edge_extproc", verb, "--port", str(free_port()), "--admin-port", str(admin)]
    shown = (directory / "shown").open("wb")
    with (
        shown,
        subprocess.Popen(
            ["sh", "-c", f"exec {shlex.join(command)} {redirections}"],
            cwd=directory,
            env={**os.environ, **NO_KEYS},
            stdin=subprocess.DEVNULL,
            stdout=shown,
            stderr=shown,
        ) as process,
    ):
        try:
            yield process, admin
        finally:
            process.kill()


def is_ready(admin: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{admin}/readyz").status_code == httpx.codes.OK
    except httpx.TransportError:
        return False


@pytest.mark.parametrize(("verb", "redirections"), [*(("serve", each) for each in CLOSED), ("up", "<&- >&- 2>&-")])
def test_a_gateway_without_a_standard_stream_serves(verb: str, redirections: str) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="edge-") as directory,
        started(verb, redirections, Path(directory)) as (process, admin),
    ):
        gateways.until(lambda: process.poll() is not None or is_ready(admin))
        shown = (Path(directory) / "shown").read_text()
        assert process.poll() is None, shown
        for number in CLOSED[redirections]:  # no file or socket of the gateway has taken its place
            assert os.devnull == os.readlink(f"/proc/{process.pid}/fd/{number}")
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(gateways.START_SECONDS)
        assert "Traceback" not in (Path(directory) / "shown").read_text()


def test_a_mistake_is_told_by_the_exit_code_where_nothing_can_be_printed(tmp_path: Path) -> None:
    command = shlex.join([sys.executable, "-m", "edge_extproc", "serve", "--config", "nowhere.yaml"])
    codes = [
        subprocess.run(["sh", "-c", f"exec {command} {each}"], cwd=tmp_path, capture_output=True, check=False)
        for each in CLOSED
    ]

    assert [1] * len(CLOSED) == [each.returncode for each in codes]
    assert [b"nowhere.yaml" in each.stderr for each in codes] == [True, False]
    assert not any(b"Traceback" in each.stderr for each in codes)

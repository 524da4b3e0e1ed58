from __future__ import annotations

import asyncio
import signal
import socket
import urllib.request

import pytest
from providers import rehearsal_process, until

from edge_extproc.rehearsal.__main__ import main, rehearse


def test_the_process_says_when_it_is_ready_and_ends_on_a_signal() -> None:
    with (
        rehearsal_process("--record") as url,
        urllib.request.urlopen(f"{url}/rehearsal/requests", timeout=10) as reply,
    ):
        assert reply.status == 200


async def test_a_signal_ends_it(capfd: pytest.CaptureFixture[str]) -> None:
    said = ""

    def is_ready() -> bool:
        nonlocal said
        said += capfd.readouterr().out
        return "ready on http://127.0.0.1:" in said

    running = asyncio.create_task(rehearse("127.0.0.1", 0, record=False))
    await until(is_ready)
    signal.raise_signal(signal.SIGTERM)
    await running


def test_a_port_that_is_taken_is_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        assert main(["--port", str(port)]) == 1
    assert capsys.readouterr().err.startswith(f"the rehearsal provider cannot listen on 127.0.0.1:{port}: ")


def test_the_help_lists_what_it_can_be_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])

    assert "rehearsal(delay=200ms,status=503)" in capsys.readouterr().out

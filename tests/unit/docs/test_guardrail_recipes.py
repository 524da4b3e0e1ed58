"""What the recipes have their reader paste is good: configurations load and build, commands parse, the webhook runs.

The first `yaml` block is a whole configuration without rules. Each other one is added to it.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from cyclopts import CycloptsError
from services_kit import new_refreshers, service_of, text_check

from edge_extproc.cli import app
from edge_extproc.config import load
from edge_extproc.guardrails.base import Verdict
from edge_extproc.telemetry.guardrail_service_metrics import GuardrailServiceMetrics
from edge_extproc.telemetry.metrics import MetricRegistry
from edge_extproc.worker.wiring.guardrails import build_guardrails

PAGE = Path(__file__).resolve().parents[3] / "docs" / "guardrails-recipes.md"


def blocks(*languages: str) -> list[str]:
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    return [block for language, block in found if language in languages]


def configurations() -> list[str]:
    whole, *rules = blocks("yaml")
    return [whole, *(whole + each for each in rules)]


@pytest.mark.parametrize("text", [pytest.param(text, id=f"{n}") for n, text in enumerate(configurations())])
async def test_a_configuration_is_good(text: str, tmp_path: Path) -> None:
    environ = {name: f"a-secret-of-the-tests-{name}" for name in re.findall(r"env: (\w+)", text)}
    config = load.parse(text, "edge.yaml", environ=environ, base=tmp_path)

    guardrails = build_guardrails(config, new_refreshers(), GuardrailServiceMetrics(MetricRegistry()))

    assert text.count("- name: ") == len(list(config.guardrail_rules()))
    assert ("guardrails:" in text) == (guardrails is not None)
    if guardrails is not None:
        await guardrails.close()


def test_the_commands_are_those_of_the_command_line() -> None:
    written = [line.partition(" < ")[0] for block in blocks("sh") for line in block.splitlines()]
    lines = [line for line in written if not line.startswith("export ")]

    assert len(lines) >= 3
    for line in lines:
        try:
            app.parse_args(shlex.split(line)[1:], exit_on_error=False, print_error=False)
        except CycloptsError as error:
            pytest.fail(f"{line}: {error}")


async def test_the_webhook_of_ones_own_works() -> None:
    (program,) = blocks("python")
    names: dict[str, Any] = {"__name__": "my_guard"}
    # Its last line serves forever. Here a thread does, on a free port.
    head, _, _ = program.rpartition("ThreadingHTTPServer(")
    exec(compile(head, "my_guard.py", "exec"), names)  # noqa: S102 - the program of the page
    server = names["ThreadingHTTPServer"](("127.0.0.1", 0), names["Guard"])
    names["Guard"].log_message = lambda *_: None
    thread = Thread(target=server.serve_forever)
    thread.start()
    service = service_of("litellm_webhook", url=f"http://127.0.0.1:{server.server_address[1]}", labels=["confidential"])
    try:
        passed = await service.check(text_check("hello"))
        masked = await service.check(text_check("hello", "Project Falcon starts"))
        blocked = await service.check(text_check("Strictly confidential: x"))
    finally:
        await service.close()
        server.shutdown()
        server.server_close()
        thread.join()

    assert Verdict("pass") == passed
    assert Verdict("mask", "masked", ("hello", "[project] starts")) == masked
    assert Verdict("block", "confidential") == blocked
    assert len(program.splitlines()) < 32

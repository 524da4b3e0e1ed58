"""How much memory the gateway's own Envoy may use."""

from __future__ import annotations

import os
from pathlib import Path

import config_kit
import pytest

from edge_extproc.envoy_config.bootstrap import bootstrap
from edge_extproc.gateway.own_memory import available, with_memory

MIB = 1 << 20


def test_the_configured_size_is_kept_and_the_default_is_a_share_of_the_machine() -> None:
    assert 64 * MIB == with_memory(config_kit.read("envoy: {memory: 64MiB}\n"), 1024 * MIB).envoy.memory
    assert int(0.6 * 1024 * MIB) == with_memory(config_kit.read(""), 1024 * MIB).envoy.memory
    assert (1 << 32) - 1 == with_memory(config_kit.read(""), 1 << 50).envoy.memory


@pytest.mark.parametrize(("limit", "wanted"), [("1048576\n", MIB), ("max\n", None), (None, None)])
def test_a_container_has_the_memory_of_its_limit(limit: str | None, wanted: int | None, tmp_path: Path) -> None:
    path = tmp_path / "memory.max"
    if limit is not None:
        path.write_text(limit)
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")

    assert (wanted or physical) == available((path,))


def test_a_bootstrap_for_another_machine_has_no_limit_by_default() -> None:
    with_limit = bootstrap(config_kit.read("envoy: {memory: 64MiB}\n"))["overload_manager"]
    without = bootstrap(config_kit.read(""))["overload_manager"]

    assert "actions" not in without
    assert str(64 * MIB) == with_limit["resource_monitors"][0]["typed_config"]["max_heap_size_bytes"]
    assert ["envoy.overload_actions.shrink_heap", "envoy.overload_actions.stop_accepting_requests"] == [
        action["name"] for action in with_limit["actions"]
    ]

"""Each client at each provider, in each of its scenarios.

docs/clients.md is made from tests/clients/results.json, which a run with WRITE_CLIENTS writes.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from gateway import RunningGateway

from clients import install, results, ring
from clients.scripted import Provider
from clients.table import version

pytestmark = [pytest.mark.clients, pytest.mark.envoy]
BATCHES = ring.batches()


@pytest.mark.parametrize("name", BATCHES)
def test_a_client_works_unmodified(name: str, provider: Provider, gateway: RunningGateway, tmp_path: Path) -> None:
    try:
        found = ring.run(BATCHES[name], provider, gateway, tmp_path)
    except install.NotInstalled as reason:
        pytest.skip(str(reason))
    broken = {place: wrong for place, wrong in found.items() if wrong}
    if os.environ.get("WRITE_CLIENTS"):
        results.write(
            results.Result(place.client.name, version(place.client), place.provider, place.scenario, not wrong)
            for place, wrong in found.items()
        )

    assert not broken, "\n\n".join(f"{place}: {problem}" for place, wrong in broken.items() for problem in wrong)

"""One cell of each client that is already installed and starts fast: what `make test` runs of the ring."""

from __future__ import annotations

from pathlib import Path

import pytest
from gateway import RunningGateway

from clients import install, results, ring
from clients.scripted import Provider
from clients.table import CLIENTS

pytestmark = [pytest.mark.envoy, pytest.mark.xdist_group("one cell of each client")]
PASSED = results.read()
# A start of one of these takes ten seconds of a core or more.
SLOW = {
    *("aider-chat", "langchain (Python)", "llama-index-core", "openai-agents", "pydantic-ai"),
    *("@google/gemini-cli", "opencode-ai"),
}
FAST = [label for label in dict.fromkeys(client.label for client in CLIENTS) if label not in SLOW]


def chosen(label: str) -> ring.Place | None:
    """A cell that has passed: with tools if the client has them, and at Gemini if there is one."""
    places = [place for place in ring.places(each for each in CLIENTS if each.label == label) if has_passed(place)]
    return max(places, key=lambda place: (place.scenario == "tools", place.provider == "gemini"), default=None)


def has_passed(place: ring.Place) -> bool:
    return place.scenario in PASSED.get(place.client.name, {"passed": {}})["passed"].get(place.provider, ())


@pytest.mark.parametrize("label", FAST)
def test_a_cell_of_a_client(label: str, provider: Provider, gateway: RunningGateway, tmp_path: Path) -> None:
    place = chosen(label)
    if place is None or not install.is_installed(place.client.installation):
        pytest.skip(f"{label} is not installed, or has not passed yet: make test-clients")

    assert {place: []} == ring.run([place], provider, gateway, tmp_path)

"""One gateway and one rehearsal provider for the tests of a worker process."""

from __future__ import annotations

from collections.abc import Iterator

import gateway as gateways
import providers
import pytest
import replaying
from ports import free_port


@pytest.fixture(scope="session")
def rehearsal_url() -> Iterator[str]:
    with providers.rehearsal_process("--record") as url:
        yield url


@pytest.fixture(scope="session")
def running(rehearsal_url: str) -> Iterator[gateways.RunningGateway]:
    models = """
    chat: [{provider: openai, model: rehearsal}]
    claude: [{provider: anthropic, model: rehearsal}]
    "down": [{provider: down}]
    "down-then-up": [{provider: down}, {provider: openai, model: rehearsal}]
    "503-then-claude": [{provider: openai, model: rehearsal-503}, {provider: anthropic, model: rehearsal}]
    """
    more = """
    retries: {attempts: 3, back_off: {base: 10ms, max: 50ms}}
    limits: {request_body: 8MiB, response_body: 8MiB}
    """
    text = gateways.config(rehearsal_url, more=more, models=models).replace(
        "providers:\n",
        f"providers:\n  down: {{kind: openai, base_url: 'http://127.0.0.1:{free_port()}/v1', api_key: x}}\n",
        1,
    )
    with gateways.RunningGateway(text) as found:
        yield found


@pytest.fixture(scope="session")
def replay() -> Iterator[replaying.Replaying]:
    """What every provider of `many` answers from."""
    with replaying.replaying() as provider:
        yield provider


@pytest.fixture(scope="session")
def many(replay: replaying.Replaying) -> Iterator[gateways.RunningGateway]:
    """One gateway with one provider for each wire format of each kind of host; a model is named as its provider."""
    with gateways.RunningGateway(gateways.many_providers(replay.url)) as found:
        yield found

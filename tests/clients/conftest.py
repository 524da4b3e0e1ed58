"""One scripted provider and one gateway in front of it. The key of a caller determines the provider."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gateway import PEPPER, RunningGateway
from ports import free_port

from clients import ring
from clients.scripted import HOST_PATH, Provider


@pytest.fixture(scope="session")
def provider() -> Iterator[Provider]:
    with Provider() as found:
        yield found
    assert [] == found.stray


@pytest.fixture(scope="session")
def gateway(provider: Provider) -> Iterator[RunningGateway]:
    with RunningGateway(config(provider.url)) as found:
        yield found


def config(url: str) -> str:
    settings = {
        "claude": ("kind: anthropic, base_url: '{url}/v1'", "claude-sonnet-4-5"),
        "gpt": ("kind: openai, base_url: '{url}/v1', profile: {like: openai}", "gpt-5.2"),
        "gemini": ("kind: google, base_url: '{url}/v1beta'", "gemini-3-flash-preview"),
        "host": (
            f"kind: openai_compatible, base_url: '{{url}}{HOST_PATH}', profile: {{like: deepseek}}",
            "deepseek-v4",
        ),
    }
    assert settings.keys() == ring.PROVIDERS.keys()
    callers = "".join(
        f"  - {{tenant: at-{name}, keys: [{{id: {name}-1, key: {ring.key(name)}}}]}}\n" for name in settings
    )
    providers = "".join(
        f"  {name}: {{{text.replace('{url}', url)}, api_key: sk-of-{name}}}\n" for name, (text, _) in settings.items()
    )
    rules = "".join(
        f"      - {{when: {{tenants: [at-{name}]}}, candidates: [{{provider: {name}, model: {model}}}]}}\n"
        for name, (_, model) in settings.items()
    )
    return (
        f"listen: {{port: {free_port()}}}\nadmin: {{port: {free_port()}}}\n"
        f"agent: {{workers: 1, shutdown_grace: 2s}}\nauth: {{pepper: '{PEPPER}'}}\nretries: {{attempts: 1}}\n"
        f"callers:\n{callers}providers:\n{providers}"
        f'models:\n  "*":\n    candidates: [{{provider: claude, model: claude-sonnet-4-5}}]\n    rules:\n{rules}'
    )

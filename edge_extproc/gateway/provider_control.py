"""Providers of the running gateway, for the admin API: what the configuration says of them, probes and prices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from ..config.provider import ProviderConfig
from ..config.schema import Config
from ..model.provider_probe import ProviderPrice, ProviderProbe

if TYPE_CHECKING:
    from ..server.admin_providers import ProviderControl, ProviderFacts
    from .worker_client import WorkerClient


def provider_control(current: Callable[[], Config], workers: Callable[[], Sequence[WorkerClient]]) -> ProviderControl:
    from ..server.admin_providers import ProviderControl

    async def probe(provider: str) -> ProviderProbe | None:
        """By the first worker that answers: it has the credentials of the provider, also those that are fetched."""
        for worker in workers():
            found = await worker.probe(provider)
            if found is not None:
                return found
        return None

    async def prices() -> Sequence[ProviderPrice]:
        for worker in workers():
            found = await worker.prices()
            if found:
                return found
        return ()

    return ProviderControl(lambda: _facts(current()), probe, prices)


def _facts(config: Config) -> Mapping[str, ProviderFacts]:
    from ..server.admin_providers import ProviderFacts

    return {
        name: ProviderFacts(provider.kind, f"{provider.endpoint.host}:{provider.endpoint.port}", _credential(provider))
        for name, provider in config.providers.items()
    }


def _credential(provider: ProviderConfig) -> str:
    if provider.credential is not None:
        return provider.credential.kind
    if provider.api_key is None:
        return "none"
    return "key" if provider.api_key.path is None else "key in a file"

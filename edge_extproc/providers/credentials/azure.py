"""Azure: Entra tokens of an application with a secret, or of the identity that azure-identity finds.

azure-identity is an optional dependency. By default it searches environment variables, workload identity in AKS, the
managed identity, and the login of `az login`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from ...config.extras import Extra
from .api_key import bearer
from .base import Credential, CredentialKind, CredentialSettings, FetchedCredential, RefreshedCredential

SCOPE = "https://cognitiveservices.azure.com/.default"


class AzureCredentialKind(CredentialKind):
    fields = frozenset({"tenant_id", "client_id", "client_secret", "authority", "scope"})

    def check(self, names: Collection[str]) -> tuple[str, str] | None:
        if "client_secret" in names and not {"tenant_id", "client_id"} <= {*names}:
            return "a client_secret needs tenant_id and client_id", "give both"
        if "tenant_id" in names and "client_secret" not in names:
            return "a tenant_id is given without a client_secret", "give one, or leave it out"
        return None

    def required_extra(self, names: Collection[str]) -> Extra | None:
        del names
        return Extra("azure", ("azure.identity",))

    def build(
        self, settings: CredentialSettings, refreshed: RefreshedCredential, clock: Callable[[], float]
    ) -> Credential:
        del clock  # a token says when it ends
        from azure import identity

        options, secret = settings.options, settings.secrets.get("client_secret")
        more = {name: options[name] for name in ("authority",) if name in options}
        make: Callable[[], Any]
        if secret is not None:

            def application() -> Any:
                return identity.ClientSecretCredential(options["tenant_id"], options["client_id"], secret(), **more)

            make = application
        elif "client_id" in options:

            def managed() -> Any:
                return identity.DefaultAzureCredential(
                    managed_identity_client_id=options["client_id"],
                    workload_identity_client_id=options["client_id"],
                    **more,
                )

            make = managed
        else:

            def default() -> Any:
                return identity.DefaultAzureCredential(**more)

            make = default
        return bearer(refreshed(AzureTokens(make, options.get("scope", SCOPE))))


class AzureTokens:
    """Makes a new azure-identity object for each token, because its cache would outlive a changed secret."""

    def __init__(self, make: Callable[[], Any], scope: str) -> None:
        self._make = make
        self._scope = scope

    async def __call__(self) -> FetchedCredential[str]:
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> FetchedCredential[str]:
        with self._make() as credential:
            token = credential.get_token(self._scope)
        return FetchedCredential(token.token, float(token.expires_on))


PLUGIN = AzureCredentialKind()

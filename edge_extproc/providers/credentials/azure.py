"""Azure: Entra tokens of an application with a secret, or of wherever this runs.

azure-identity is an extra. Its own default looks at environment variables, at workload identity in AKS, at the managed
identity and at what `az login` left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from typing import Any

from ...config.extras import Extra
from .api_key import bearer
from .base import Credential, CredentialKind, CredentialSettings, HeldCredential, RefreshedCredential

SCOPE = "https://cognitiveservices.azure.com/.default"


class AzureCredentialKind(CredentialKind):
    fields = frozenset({"tenant_id", "client_id", "client_secret", "authority", "scope"})

    def check(self, given: Collection[str]) -> tuple[str, str] | None:
        if "client_secret" in given and not {"tenant_id", "client_id"} <= {*given}:
            return "a client_secret needs tenant_id and client_id", "give both"
        if "tenant_id" in given and "client_secret" not in given:
            return "a tenant_id has no client_secret to go with", "give one, or leave it out"
        return None

    def required_extra(self, given: Collection[str]) -> Extra | None:
        del given
        return Extra("azure", ("azure.identity",))

    def build(self, settings: CredentialSettings, keep: RefreshedCredential, clock: Callable[[], float]) -> Credential:
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

            def anyone() -> Any:
                return identity.DefaultAzureCredential(**more)

            make = anyone
        return bearer(keep(AzureTokens(make, options.get("scope", SCOPE))))


class AzureTokens:
    """Each token is asked for anew: what azure-identity keeps for itself would outlive a changed secret."""

    def __init__(self, make: Callable[[], Any], scope: str) -> None:
        self._make = make
        self._scope = scope

    async def __call__(self) -> HeldCredential[str]:
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> HeldCredential[str]:
        with self._make() as credential:
            token = credential.get_token(self._scope)
        return HeldCredential(token.token, float(token.expires_on))


PLUGIN = AzureCredentialKind()

"""AWS: signs requests with keys of the configuration, or with the credentials that botocore finds.

botocore searches the usual places: environment variables, profiles (with SSO and assumed roles), the token of a
Kubernetes service account (IRSA), the container's endpoint (ECS, EKS Pod Identity) and the instance's. It is an
optional dependency, runs in a thread, and renews temporary credentials itself when it is called again.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from ...config.extras import Extra
from ...errors import ConfigError
from .base import Credential, CredentialKind, CredentialSettings, FetchedCredential, RefreshedCredential
from .sigv4 import AwsKeys, SigV4

# Seconds between two calls of botocore, which renews credentials ten to fifteen minutes before they expire.
REFRESH_INTERVAL = 60.0


class AwsCredentialKind(CredentialKind):
    fields = frozenset({"access_key_id", "secret_access_key", "session_token", "profile"})

    def check(self, names: Collection[str]) -> tuple[str, str] | None:
        if ("access_key_id" in names) != ("secret_access_key" in names):
            return "access_key_id and secret_access_key belong together", "give both, or neither"
        if "session_token" in names and "access_key_id" not in names:
            return "a session_token is given without keys", "give access_key_id and secret_access_key too"
        if "access_key_id" in names and "profile" in names:
            return "both keys and a profile are given", "leave one of them out"
        return None

    def required_extra(self, names: Collection[str]) -> Extra | None:
        return None if "access_key_id" in names else Extra("aws", ("botocore",))

    def build(
        self, settings: CredentialSettings, refreshed: RefreshedCredential, clock: Callable[[], float]
    ) -> Credential:
        if settings.region is None:
            raise ConfigError(f"provider {settings.provider!r}: AWS signatures need a region; give region")
        secrets = settings.secrets
        keys: Callable[[], AwsKeys]
        if "access_key_id" in secrets:
            token = secrets.get("session_token")

            def given() -> AwsKeys:
                return AwsKeys(
                    secrets["access_key_id"](), secrets["secret_access_key"](), token() if token is not None else None
                )

            keys = given
        else:
            keys = refreshed(AwsCredentialChain(settings.options.get("profile"), clock))
        return SigV4(keys, settings.region, settings.service, clock)


class AwsCredentialChain:
    """Fetches the credentials that botocore finds. Long-lived keys are read again each time, because their file may
    have changed."""

    def __init__(self, profile: str | None, clock: Callable[[], float]) -> None:
        # Named like this because botocore has no types.
        session = importlib.import_module("botocore.session")
        self._session: Callable[[], Any] = lambda: session.Session(profile=profile)
        self._clock = clock
        self._renewable: Any = None

    async def __call__(self) -> FetchedCredential[AwsKeys]:
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> FetchedCredential[AwsKeys]:
        credentials = self._renewable or self._session().get_credentials()
        if credentials is None:
            raise LookupError("AWS has no credentials here")
        frozen = credentials.get_frozen_credentials()
        ends = None
        if hasattr(credentials, "refresh_needed"):  # temporary keys; their expiry has no public attribute
            self._renewable = credentials
            moment = getattr(credentials, "_expiry_time", None)
            ends = moment.timestamp() if isinstance(moment, datetime) else None
        keys = AwsKeys(frozen.access_key, frozen.secret_key, frozen.token)
        return FetchedCredential(keys, ends, self._clock() + REFRESH_INTERVAL)


PLUGIN = AwsCredentialKind()

"""AWS: requests signed with keys from config, or with whatever botocore finds.

botocore looks where every AWS tool does: environment variables, profiles (with SSO and assumed roles), the token of a
Kubernetes service account (IRSA), the container's own endpoint (ECS, EKS Pod Identity) and the instance's. It is an
extra, loaded in a thread, and renews what it finds by itself when asked again.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable, Collection
from datetime import datetime
from typing import Any

from ...config.extras import Extra
from ...errors import ConfigError
from .base import Credential, CredentialKind, CredentialSettings, HeldCredential, RefreshedCredential
from .sigv4 import AwsKeys, SigV4

# botocore renews ten to fifteen minutes ahead of the end; asked each minute, it has many tries before that.
LOOK_AGAIN = 60.0


class AwsCredentialKind(CredentialKind):
    fields = frozenset({"access_key_id", "secret_access_key", "session_token", "profile"})

    def check(self, given: Collection[str]) -> tuple[str, str] | None:
        if ("access_key_id" in given) != ("secret_access_key" in given):
            return "access_key_id and secret_access_key belong together", "give both, or neither"
        if "session_token" in given and "access_key_id" not in given:
            return "a session_token has no keys to go with", "give access_key_id and secret_access_key too"
        if "access_key_id" in given and "profile" in given:
            return "both keys and a profile are given", "leave one of them out"
        return None

    def required_extra(self, given: Collection[str]) -> Extra | None:
        return None if "access_key_id" in given else Extra("aws", ("botocore",))

    def build(self, settings: CredentialSettings, keep: RefreshedCredential, clock: Callable[[], float]) -> Credential:
        if settings.region is None:
            raise ConfigError(f"provider {settings.provider!r}: a signature names a region; give region")
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
            keys = keep(AwsCredentialChain(settings.options.get("profile"), clock))
        return SigV4(keys, settings.region, settings.service, clock)


class AwsCredentialChain:
    """What botocore finds. Long-lived keys are looked for anew each time, since their file may have changed."""

    def __init__(self, profile: str | None, clock: Callable[[], float]) -> None:
        # Named like this because botocore has no types.
        session = importlib.import_module("botocore.session")
        self._session: Callable[[], Any] = lambda: session.Session(profile=profile)
        self._clock = clock
        self._renewed_by_itself: Any = None

    async def __call__(self) -> HeldCredential[AwsKeys]:
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> HeldCredential[AwsKeys]:
        found = self._renewed_by_itself or self._session().get_credentials()
        if found is None:
            raise LookupError("AWS has no credentials here")
        frozen = found.get_frozen_credentials()
        ends = None
        if hasattr(found, "refresh_needed"):  # temporary keys; no public name tells when they end
            self._renewed_by_itself = found
            moment = getattr(found, "_expiry_time", None)
            ends = moment.timestamp() if isinstance(moment, datetime) else None
        keys = AwsKeys(frozen.access_key, frozen.secret_key, frozen.token)
        return HeldCredential(keys, ends, self._clock() + LOOK_AGAIN)


PLUGIN = AwsCredentialKind()

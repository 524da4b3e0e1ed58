"""Google: access tokens of a service account's key file, of workload identity, or of wherever this runs.

google-auth is an extra. Its own default looks at GOOGLE_APPLICATION_CREDENTIALS, at what gcloud left, and at the
metadata server of GCE, GKE and Cloud Run.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC
from pathlib import Path
from typing import Any

import msgspec

from ...config.extras import Extra
from .api_key import bearer
from .base import Credential, CredentialKind, CredentialSettings, HeldCredential, RefreshedCredential

SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class GoogleCredentialKind(CredentialKind):
    fields = frozenset({"file"})

    def required_extra(self, given: Collection[str]) -> Extra | None:
        del given
        return Extra("google", ("google.auth", "requests"))

    def build(self, settings: CredentialSettings, keep: RefreshedCredential, clock: Callable[[], float]) -> Credential:
        del clock  # a token says when it ends
        return bearer(keep(GoogleTokens(settings.options.get("file"))))


class GoogleTokens:
    """`file` is a service account's key or a workload identity's configuration, read anew for each token."""

    def __init__(self, file: str | None) -> None:
        import google.auth
        from google.auth.transport.requests import Request

        self._file = file
        self._default: Callable[..., tuple[Any, Any]] = google.auth.default
        self._request: Callable[[], Any] = Request

    async def __call__(self) -> HeldCredential[str]:
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> HeldCredential[str]:
        found = self._default(scopes=[SCOPE])[0] if self._file is None else _of(Path(self._file))
        found.refresh(self._request())
        # google-auth tells the time of the end in UTC, without saying so.
        ends = found.expiry.replace(tzinfo=UTC).timestamp() if found.expiry is not None else None
        return HeldCredential(found.token, ends)


def _of(path: Path) -> Any:
    """The credentials that a file configures. One that would start a program is refused, as are kinds that no server
    has: a file is not trusted to choose what we run."""
    from google.auth import aws, identity_pool
    from google.oauth2 import service_account

    said = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    source = said.get("credential_source") or {}
    match said.get("type"):
        case "service_account":
            account: Any = service_account.Credentials
            return account.from_service_account_info(said, scopes=[SCOPE])
        case "external_account" if "executable" not in source:
            kind = aws if str(source.get("environment_id", "")).startswith("aws") else identity_pool
            return kind.Credentials.from_info(said, scopes=[SCOPE])
        case _:
            raise ValueError("neither a service account's key nor a workload identity's configuration")


PLUGIN = GoogleCredentialKind()

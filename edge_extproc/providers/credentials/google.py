"""Google: access tokens of a service account's key file, of workload identity, or of the identity that google-auth
finds.

google-auth is an optional dependency. By default it searches GOOGLE_APPLICATION_CREDENTIALS, gcloud's login, and the
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
from .base import Credential, CredentialKind, CredentialSettings, FetchedCredential, RefreshedCredential

SCOPE = "https://www.googleapis.com/auth/cloud-platform"


class GoogleCredentialKind(CredentialKind):
    fields = frozenset({"file"})

    def required_extra(self, names: Collection[str]) -> Extra | None:
        del names
        return Extra("google", ("google.auth", "requests"))

    def build(
        self, settings: CredentialSettings, refreshed: RefreshedCredential, clock: Callable[[], float]
    ) -> Credential:
        del clock  # a token says when it ends
        return bearer(refreshed(GoogleTokens(settings.options.get("file"))))


class GoogleTokens:
    """`file`: a service account's key or a workload identity's configuration. It is read again for each token."""

    def __init__(self, file: str | None) -> None:
        import google.auth
        from google.auth.transport.requests import Request

        self._file = file
        self._default: Callable[..., tuple[Any, Any]] = google.auth.default
        self._request: Callable[[], Any] = Request

    async def __call__(self) -> FetchedCredential[str]:
        return await asyncio.to_thread(self._fetch)

    def _fetch(self) -> FetchedCredential[str]:
        credentials = self._default(scopes=[SCOPE])[0] if self._file is None else _of(Path(self._file))
        credentials.refresh(self._request())
        # google-auth's expiry is a naive time in UTC.
        ends = credentials.expiry.replace(tzinfo=UTC).timestamp() if credentials.expiry is not None else None
        return FetchedCredential(credentials.token, ends)


def _of(path: Path) -> Any:
    """The credentials that a file configures. Raises ValueError for a file that would start a program, and for kinds
    that are not for servers."""
    from google.auth import aws, identity_pool
    from google.oauth2 import service_account

    info = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    source = info.get("credential_source") or {}
    match info.get("type"):
        case "service_account":
            account: Any = service_account.Credentials
            return account.from_service_account_info(info, scopes=[SCOPE])
        case "external_account" if "executable" not in source:
            kind = aws if str(source.get("environment_id", "")).startswith("aws") else identity_pool
            return kind.Credentials.from_info(info, scopes=[SCOPE])
        case _:
            raise ValueError("the file is not a service account's key or a workload identity's configuration")


PLUGIN = GoogleCredentialKind()

"""What a provider takes instead of an API key: keys, tokens and identities of the clouds."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import AfterValidator, model_validator

from .part import ConfigSection, Text, one_of
from .paths import ReadableFile
from .secrets import Secret
from .wrong import wrong

_FIELDS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "aws": frozenset({"access_key_id", "secret_access_key", "session_token", "profile"}),
        "google": frozenset({"file"}),
        "azure": frozenset({"tenant_id", "client_id", "client_secret", "authority", "scope"}),
    }
)


def _authority(value: str) -> str:
    if not value.startswith("https://"):
        raise wrong("this is no authority", "write its URL, such as https://login.microsoftonline.us")
    return value


class UpstreamCredentialConfig(ConfigSection):
    """With the kind alone, the cloud's own library looks where all of its tools do: environment, files, the identity of
    the machine or the pod."""

    kind: Annotated[Literal["aws", "google", "azure"], one_of("aws", "google", "azure")]
    access_key_id: Secret | None = None
    """aws: with secret_access_key, keys to sign with."""
    secret_access_key: Secret | None = None
    session_token: Secret | None = None
    """aws: of temporary keys. Who writes them to files writes them anew in time."""
    profile: Text | None = None
    """aws: of ~/.aws/config, with single sign-on and assumed roles."""
    file: ReadableFile | None = None
    """google: a service account's key, or a workload identity's configuration."""
    tenant_id: Text | None = None
    """azure: with client_id and client_secret, an application."""
    client_id: Text | None = None
    """azure: an application, or a managed identity that the machine has several of."""
    client_secret: Secret | None = None
    authority: Annotated[Text, AfterValidator(_authority)] | None = None
    """azure: of a sovereign cloud."""
    scope: Text | None = None
    """azure: https://cognitiveservices.azure.com/.default where not given."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> UpstreamCredentialConfig:
        for name in sorted(self.model_fields_set - {"kind"} - _FIELDS[self.kind]):
            mine = ", ".join(sorted(_FIELDS[self.kind]))
            raise wrong(f"a credential of kind {self.kind} has no {name}; have {mine}", "leave it out", key=name)
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise wrong("access_key_id and secret_access_key belong together", "give both, or neither")
        if self.access_key_id is None and self.session_token is not None:
            raise wrong("a session_token has no keys to go with", "give access_key_id and secret_access_key too")
        if self.access_key_id is not None and self.profile is not None:
            raise wrong("both keys and a profile are given", "leave one of them out")
        if self.client_secret is not None and (self.tenant_id is None or self.client_id is None):
            raise wrong("a client_secret needs tenant_id and client_id", "give both")
        if self.tenant_id is not None and self.client_secret is None:
            raise wrong("a tenant_id has no client_secret to go with", "give one, or leave it out")
        return self

    def options(self) -> dict[str, str]:
        """What is no secret, by its name."""
        plain = {name: getattr(self, name) for name in _FIELDS[self.kind]}
        return {
            name: str(value) for name, value in plain.items() if value is not None and not isinstance(value, Secret)
        }

    def secrets(self) -> dict[str, Secret]:
        found = {name: getattr(self, name) for name in _FIELDS[self.kind]}
        return {name: value for name, value in found.items() if isinstance(value, Secret)}

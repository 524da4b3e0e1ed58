"""What a provider takes instead of an API key: keys, tokens and identities of a cloud."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, model_validator

from .. import registry
from .part import ConfigSection, Text
from .paths import ReadableFile
from .secrets import Secret
from .wrong import wrong


def _kind(value: str) -> str:
    have = registry.names("providers.credentials")
    if value not in have:
        raise wrong(f"there is no such kind of credential; have {', '.join(have)}", "write one of them")
    return value


def _authority(value: str) -> str:
    if not value.startswith("https://"):
        raise wrong("this is no authority", "write its URL, such as https://login.microsoftonline.us")
    return value


class UpstreamCredentialConfig(ConfigSection):
    """With the kind alone, the cloud's own library looks where all of its tools do: environment, files, the identity of
    the machine or the pod."""

    kind: Annotated[Text, AfterValidator(_kind)]
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

    options: dict[Text, Secret] = Field(default_factory=dict)
    """The fields of a kind from outside the package. Each is handled as a secret."""

    @model_validator(mode="after")
    def _of_its_kind(self) -> UpstreamCredentialConfig:
        kind = registry.load("providers.credentials", self.kind)
        for name in sorted({*self.model_fields_set, *self.options} - {"kind", "options"} - kind.fields):
            have = ", ".join(sorted(kind.fields))
            raise wrong(f"a credential of kind {self.kind} has no {name}; have {have}", "leave it out", key=name)
        for name in sorted(self.options.keys() & UpstreamCredentialConfig.model_fields.keys()):
            raise wrong(f"{name} is no option", f"write {name} beside the kind", key="options")
        mistake = kind.check(self.given())
        if mistake is not None:
            raise wrong(*mistake)
        return self

    def given(self) -> dict[str, object]:
        """The fields that are set, by name."""
        names = sorted(registry.load("providers.credentials", self.kind).fields)
        given = {name: self.options.get(name, getattr(self, name, None)) for name in names}
        return {name: value for name, value in given.items() if value is not None}

    def plain(self) -> dict[str, str]:
        """The given fields that are no secrets, by name."""
        return {name: str(value) for name, value in self.given().items() if not isinstance(value, Secret)}

    def secrets(self) -> dict[str, Secret]:
        """The given secrets, by name."""
        return {name: value for name, value in self.given().items() if isinstance(value, Secret)}

"""Cloud credentials of a provider, used instead of an API key."""

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
        raise wrong("this is not an authority", "write its URL, such as https://login.microsoftonline.us")
    return value


class UpstreamCredentialConfig(ConfigSection):
    """With `kind` alone, the cloud's library searches its usual places: environment, files, the identity of the machine
    or the pod."""

    kind: Annotated[Text, AfterValidator(_kind)]
    """aws, azure or google."""
    access_key_id: Secret | None = None
    """aws: with secret_access_key, keys to sign with."""
    secret_access_key: Secret | None = None
    """aws: the secret of access_key_id."""
    session_token: Secret | None = None
    """aws: for temporary keys. If the keys come from files, replace the files before the keys expire."""
    profile: Text | None = None
    """aws: a profile of ~/.aws/config, also with single sign-on and assumed roles."""
    file: ReadableFile | None = None
    """google: a service account's key, or a workload identity's configuration."""
    tenant_id: Text | None = None
    """azure: with client_id and client_secret, an application."""
    client_id: Text | None = None
    """azure: an application, or one of several managed identities of the machine."""
    client_secret: Secret | None = None
    """azure: the application's secret."""
    authority: Annotated[Text, AfterValidator(_authority)] | None = None
    """azure: the login URL of a sovereign cloud."""
    scope: Text | None = None
    """azure: the default is https://cognitiveservices.azure.com/.default."""

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
        options = {name: self.options.get(name, getattr(self, name, None)) for name in names}
        return {name: value for name, value in options.items() if value is not None}

    def plain(self) -> dict[str, str]:
        """The given fields that are no secrets, by name."""
        return {name: str(value) for name, value in self.given().items() if not isinstance(value, Secret)}

    def secrets(self) -> dict[str, Secret]:
        """The given secrets, by name."""
        return {name: value for name, value in self.given().items() if isinstance(value, Secret)}

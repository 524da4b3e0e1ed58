"""The options that all services of guardrails have."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field

from ..config.part import ConfigSection, Text
from ..config.paths import ReadableFile
from ..config.quantities import Count, Duration, PositiveDuration, Size
from ..config.secrets import Secret
from ..config.wrong import wrong

_LONGEST_TIMEOUT = timedelta(seconds=20)
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
# The gateway sets these headers itself.
_OWN_HEADERS = frozenset(
    {"accept-encoding", "connection", "content-length", "content-type", "host", "transfer-encoding"}
)


def _url(value: str) -> str:
    right = "write http(s)://host[:port]/path, without user, query or fragment"
    try:
        url = urlsplit(value)
        port = url.port
    except ValueError:
        raise wrong("this is not a URL", right, show=False) from None
    if url.username is not None or url.password is not None:
        raise wrong("this URL contains a user or a password", "give a key as api_key", show=False)
    if url.scheme not in ("http", "https") or port == 0 or url.query or url.fragment or re.search(r"[\s?#]", value):
        raise wrong("this is not the URL of a service", right)
    if not url.hostname or not re.fullmatch(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+", url.hostname):
        raise wrong("this URL has no host", right)
    return value.rstrip("/")


def _header_value(secret: Secret) -> Secret:
    # It is sent in a header, where another character would cause an error that does not name this setting.
    if not re.fullmatch(r"[\x20-\x7e]+", secret.reveal()):
        raise wrong("this secret has a character that is not allowed in a header", "give printable ASCII on one line")
    return secret


def _segment(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9:._-]{0,127}", value):
        raise wrong("this cannot be a part of a path", "write the id that the service's console shows")
    return value


def _headers(value: dict[str, Secret]) -> dict[str, Secret]:
    for name in value:
        if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS:
            raise wrong("this header cannot be set", "use another name, such as x-api-key", key=name)
    return value


def _timeout(value: timedelta) -> timedelta:
    if value > _LONGEST_TIMEOUT:
        raise wrong("this time is too long: Envoy waits 30 s for all services of a call", "write 20s or less")
    return value


ServiceUrl = Annotated[Text, AfterValidator(_url)]
HeaderSecret = Annotated[Secret, AfterValidator(_header_value)]
PathSegment = Annotated[Text, AfterValidator(_segment)]
ServiceHeaders = Annotated[dict[Text, HeaderSecret], AfterValidator(_headers)]


class ServiceOptions(ConfigSection):
    """The base of the options of each service."""

    timeout: Annotated[PositiveDuration, AfterValidator(_timeout)] = timedelta(seconds=2)
    """The longest time of one check, with all its requests; at most 20s. Then `fail` of the rule decides."""
    max_text: Size = Field(default="1MiB", validate_default=True)
    """The most bytes of text in one check. A longer text is not sent: `fail` of the rule decides."""
    cache_for: Duration = timedelta(seconds=60)
    """How long a verdict is used again for the same texts of the same tenant. 0s: verdicts are not stored."""
    cache_entries: Count = 1000
    """The most stored verdicts of one worker."""
    failures: Count = 5
    """Failures in a row after which no request is sent for a time. They are counted for each tenant."""
    open_for: PositiveDuration = timedelta(seconds=10)
    """The time without requests after these failures. Then one request is sent as a probe."""
    connections: Count = 64
    """The most connections of one worker to this service."""
    ca: ReadableFile | None = None
    """A PEM file with the authorities that the service's certificate may come from. Default: those of the system."""


class WebhookOptions(ServiceOptions):
    """The options of a server of the operator."""

    url: ServiceUrl
    """The http(s):// URL of the server. Redirects are not followed."""
    headers: ServiceHeaders = Field(default_factory=dict)
    """Headers of each request, such as authorization. Each value is a secret."""
    labels: tuple[Text, ...] = ()
    """The reasons that may be shown in logs, metrics and errors. Another reason could quote the text, so that the label
    is `blocked` or `masked` instead."""

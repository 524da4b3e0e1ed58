"""Who a client certificate is: by its SPIFFE id (or another URI), else by its subject.

Envoy verifies the certificate and writes what it says into x-forwarded-client-cert, after it has removed whatever the
caller sent under that name; config says `auth.mtls` only where Envoy does so (the rendered configuration does).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import translate
from typing import Literal, TypeAlias, get_args

from ..errors import Unauthenticated
from ..model.principal import Principal
from .base import Headers

Reason: TypeAlias = Literal["malformed_certificate", "unknown_certificate"]
REASONS: tuple[Reason, ...] = get_args(Reason)

HEADER = "x-forwarded-client-cert"
_MAX_LENGTH = 8 * 1024
# key=value, where a value with a delimiter in it is in quotes and its quotes are escaped.
_PAIR = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;=\\]*(?:=[^",;\\]*)*)')


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """A row of config: certificates to the caller that they stand for."""

    tenant: str
    uri: str | None = None
    """A glob."""
    subject: str | None = None
    """A glob."""
    team: str | None = None
    user: str | None = None
    """The certificate's URI or subject itself where not given."""
    roles: tuple[str, ...] | None = None


class Certificates:
    def __init__(self, identities: Sequence[CertificateIdentity], tenants: Mapping[str, tuple[str, ...]]) -> None:
        self._rows = tuple(
            (row, re.compile(translate(row.uri or row.subject or "")), tenants[row.tenant]) for row in identities
        )

    def principal_of(self, headers: Headers) -> Principal | None:
        """None where there is no certificate. Raises Unauthenticated for one that stands for nobody here."""
        found = [value for name, value in headers if name == HEADER]
        if not found:
            return None
        if len(found) > 1:
            raise _refused("malformed_certificate", f"the header {HEADER} came more than once")
        pairs = read(found[0])
        uris = {value for name, value in pairs if name == "uri"}
        subjects = {value for name, value in pairs if name == "subject"}
        for row, pattern, models in self._rows:
            matched = [value for value in sorted(uris if row.uri is not None else subjects) if pattern.fullmatch(value)]
            if matched:
                user = row.user or matched[0]
                return Principal(row.tenant, f"mtls:{matched[0]}", models, row.team, user, row.roles)
        raise _refused("unknown_certificate", "the client certificate stands for nobody here")


def read(value: str) -> list[tuple[str, str]]:
    """The pairs of the one element that Envoy writes, keys in lower case. Raises Unauthenticated."""
    wrong = _refused("malformed_certificate", f"the header {HEADER} is not what a proxy writes for one certificate")
    if len(value) > _MAX_LENGTH:
        raise wrong
    pairs: list[tuple[str, str]] = []
    at = 0
    while True:
        match = _PAIR.match(value, at)
        if match is None:
            raise wrong
        inner = match[2]
        if inner.startswith('"'):
            inner = re.sub(r"\\(.)", r"\1", inner[1:-1])
        pairs.append((match[1].lower(), inner))
        at = match.end()
        if at == len(value):
            return pairs
        # A comma would begin a second certificate: that of another hop, whom we do not know.
        if value[at] != ";":
            raise wrong
        at += 1


def _refused(reason: Reason, message: str) -> Unauthenticated:
    error = Unauthenticated(message)
    error.code = reason
    return error

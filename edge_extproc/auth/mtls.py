"""Authentication by client certificates: by their SPIFFE id (or another URI), or by their subject.

Envoy verifies the certificate and writes its identity to x-forwarded-client-cert, after it has removed the caller's own
header of this name. Enable this method only with such an Envoy; the rendered configuration is.
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
# key=value. A value with a delimiter is quoted, with escaped quotes.
_PAIR = re.compile(r'([A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^",;=\\]*(?:=[^",;\\]*)*)')


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """A row of the configuration: a pattern of certificates, and their caller."""

    tenant: str
    uri: str | None = None
    """A glob."""
    subject: str | None = None
    """A glob."""
    team: str | None = None
    user: str | None = None
    """The user; by default the certificate's URI or subject."""
    roles: tuple[str, ...] | None = None


class Certificates:
    def __init__(self, identities: Sequence[CertificateIdentity], tenants: Mapping[str, tuple[str, ...]]) -> None:
        self._rows = tuple(
            (row, re.compile(translate(row.uri or row.subject or "")), tenants[row.tenant]) for row in identities
        )

    def principal_of(self, headers: Headers) -> Principal | None:
        """The caller with this certificate, or None without one. Raises Unauthenticated if no row matches."""
        values = [value for name, value in headers if name == HEADER]
        if not values:
            return None
        if len(values) > 1:
            raise _refused("malformed_certificate", f"the header {HEADER} was sent more than once")
        pairs = read(values[0])
        uris = {value for name, value in pairs if name == "uri"}
        subjects = {value for name, value in pairs if name == "subject"}
        for row, pattern, models in self._rows:
            matched = [value for value in sorted(uris if row.uri is not None else subjects) if pattern.fullmatch(value)]
            if matched:
                user = row.user or matched[0]
                return Principal(row.tenant, f"mtls:{matched[0]}", models, row.team, user, row.roles)
        raise _refused("unknown_certificate", "the client certificate is not known here")


def read(value: str) -> list[tuple[str, str]]:
    """The pairs of the one element that Envoy writes, with lower-case keys. Raises Unauthenticated."""
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
        # A comma begins the certificate of another, unknown hop.
        if value[at] != ";":
            raise wrong
        at += 1


def _refused(reason: Reason, message: str) -> Unauthenticated:
    error = Unauthenticated(message)
    error.code = reason
    return error

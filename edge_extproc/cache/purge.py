"""What to purge, as an operator writes it: {"tenant": "acme", "model": "gpt-4o", "key": "…", "shared": true}.

What is given together must all fit. Nothing given would be everything: that has to be said, {"all": true}. Pure.
"""

from __future__ import annotations

import msgspec

from ..errors import BadRequest
from .base import PurgeSelection

_DIGEST_BYTES = 32


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    tenant: str | None = None
    model: str | None = None
    key: str | None = None
    """In hexadecimal, as x-edge-cache-key tells it."""
    shared: bool = False
    all: bool = False


_decode = msgspec.json.Decoder(_Wanted).decode


def read_selection(body: bytes) -> PurgeSelection:
    """Raises BadRequest that says what would be right."""
    try:
        wanted = _decode(body)
    except (ValueError, RecursionError) as error:  # all that msgspec raises
        raise BadRequest(
            "this selects nothing: it must be a JSON object; give any of tenant, model, key and shared, or all; "
            "the first three are strings, the others true or false"
        ) from error
    given = bool(wanted.tenant or wanted.model or wanted.key or wanted.shared)
    if given == wanted.all:
        raise BadRequest('give any of tenant, model, key and shared; or {"all": true} alone')
    return PurgeSelection(wanted.tenant or None, wanted.shared, wanted.model or None, _digest(wanted.key))


def write_selection(selection: PurgeSelection) -> bytes:
    """As `read_selection` reads it."""
    given: dict[str, str | bool | None] = {
        "tenant": selection.tenant,
        "model": selection.model,
        "key": selection.digest.hex() if selection.digest is not None else None,
        "shared": selection.shared,
    }
    return msgspec.json.encode({name: value for name, value in given.items() if value} or {"all": True})


def _digest(key: str | None) -> bytes | None:
    if not key:
        return None
    try:
        found = bytes.fromhex(key)
    except ValueError:
        found = b""
    if len(found) != _DIGEST_BYTES:
        raise BadRequest("this key is none; x-edge-cache-key of a reply tells one, 64 digits of 0-9a-f", param="key")
    return found

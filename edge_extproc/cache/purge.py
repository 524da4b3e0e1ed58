"""Reads and writes the JSON of a purge selection: {"tenant": "acme", "model": "gpt-4o", "key": "…", "shared": true}.

An entry must match all fields that are set. To select everything, {"all": true} must be written: an empty object is
refused. This module does no IO.
"""

from __future__ import annotations

import msgspec

from ..errors import BadRequest
from .base import PurgeSelection

_DIGEST_BYTES = 32


class _Selection(msgspec.Struct, forbid_unknown_fields=True):
    tenant: str | None = None
    model: str | None = None
    key: str | None = None
    """In hexadecimal, as in the response header x-edge-cache-key."""
    shared: bool = False
    all: bool = False


_decode = msgspec.json.Decoder(_Selection).decode


def read_selection(body: bytes) -> PurgeSelection:
    """Raises BadRequest, whose text says what is valid."""
    try:
        selection = _decode(body)
    except (ValueError, RecursionError) as error:  # all that msgspec raises
        raise BadRequest(
            "the selection must be a JSON object; give any of tenant, model, key and shared, or all; "
            "the first three are strings, the others true or false"
        ) from error
    has_fields = bool(selection.tenant or selection.model or selection.key or selection.shared)
    if has_fields == selection.all:
        raise BadRequest('give any of tenant, model, key and shared; or {"all": true} alone')
    return PurgeSelection(selection.tenant or None, selection.shared, selection.model or None, _digest(selection.key))


def write_selection(selection: PurgeSelection) -> bytes:
    """The JSON that `read_selection` reads."""
    fields: dict[str, str | bool | None] = {
        "tenant": selection.tenant,
        "model": selection.model,
        "key": selection.digest.hex() if selection.digest is not None else None,
        "shared": selection.shared,
    }
    return msgspec.json.encode({name: value for name, value in fields.items() if value} or {"all": True})


def _digest(key: str | None) -> bytes | None:
    if not key:
        return None
    try:
        digest = bytes.fromhex(key)
    except ValueError:
        digest = b""
    if len(digest) != _DIGEST_BYTES:
        raise BadRequest("key must be 64 hexadecimal digits, as in a reply's x-edge-cache-key header", param="key")
    return digest

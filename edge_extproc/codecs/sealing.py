"""Encrypts blocks for a store outside of this process.

AES-256-GCM with a random nonce. The tenant and the id of the record are authenticated with each block, so a block that
somebody copied to another record cannot be read there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_VERSION = b"\x01"
_NAME_BYTES, _NONCE_BYTES = 4, 12
CONVERSATIONS = b"edge-extproc conversations"
IDEMPOTENT_REPLIES = b"edge-extproc replies of idempotency keys"
"""Purposes: the key of one purpose does not decrypt blocks of another one."""


class UnreadableBlock(Exception):
    """The block was changed, belongs to another record, or was encrypted with a key that is not configured."""


class BlockCipher:
    """`secrets`: the texts of the keys. The first one encrypts, all of them decrypt."""

    def __init__(self, secrets: Sequence[str], purpose: bytes = CONVERSATIONS) -> None:
        keys = [HKDF(SHA256(), 32, None, purpose).derive(secret.encode()) for secret in secrets]
        self._by_name = {hashlib.sha256(key).digest()[:_NAME_BYTES]: AESGCM(key) for key in keys}
        self._name = next(iter(self._by_name))

    def seal(self, tenant: str, id: str, block: bytes) -> bytes:
        nonce = os.urandom(_NONCE_BYTES)
        return _VERSION + self._name + nonce + self._by_name[self._name].encrypt(nonce, block, _owner(tenant, id))

    def open(self, tenant: str, id: str, sealed: bytes) -> bytes:
        """Raises UnreadableBlock."""
        version, rest = sealed[:1], sealed[1:]
        cipher = self._by_name.get(rest[:_NAME_BYTES])
        if version != _VERSION or cipher is None:
            raise UnreadableBlock
        nonce, text = rest[_NAME_BYTES : _NAME_BYTES + _NONCE_BYTES], rest[_NAME_BYTES + _NONCE_BYTES :]
        try:
            return cipher.decrypt(nonce, text, _owner(tenant, id))
        except (InvalidTag, ValueError):
            raise UnreadableBlock from None

    def open_or_none(self, tenant: str, id: str, sealed: bytes) -> bytes | None:
        """None: see UnreadableBlock."""
        try:
            return self.open(tenant, id, sealed)
        except UnreadableBlock:
            return None


def _owner(tenant: str, id: str) -> bytes:
    return f"{len(tenant)}:{tenant}:{id}".encode(errors="surrogatepass")

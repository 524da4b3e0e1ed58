"""The ids of sessions, and of events of streams, that callers get: the server's own id with a signature.

The signature binds an id to the server, the tenant and the key (or the user of a token) of the caller that made the
session. Nothing is stored, and all workers and gateways with the same pepper accept it.
"""

from __future__ import annotations

import base64
import hmac
import re

from ..model.principal import Principal

_PURPOSE = b"edge mcp session v1"
# The specification permits visible ASCII.
_VISIBLE = re.compile(r"[\x21-\x7e]{1,512}")
_IN_HEADER = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]{0,510}[\x21-\x7e])?")
# No id of a session has a line end.
_EVENT = "event\n"
_MAC_BYTES = 24


class SessionSeal:
    """`pepper`: from the configuration, which all workers and replicas share."""

    def __init__(self, pepper: bytes) -> None:
        self._key = hmac.digest(pepper, _PURPOSE, "sha256")

    def seal(self, server: str, principal: Principal, session: str) -> str | None:
        """The caller's id of a session. The same for the same session. None: the server's id is not valid."""
        if _VISIBLE.fullmatch(session) is None:
            return None
        return f"{session}.{self._mac(server, principal, session)}"

    def open(self, server: str, principal: Principal, sealed: str) -> str | None:
        """The server's id. None: this caller has no such session at this server."""
        session, _, mac = sealed.rpartition(".")
        expected = self._mac(server, principal, session)
        if not hmac.compare_digest(mac.encode(errors="surrogatepass"), expected.encode()):
            return None
        return session

    def seal_event(self, server: str, principal: Principal, event: str) -> str | None:
        """The caller's id of an event of a stream. None: the server's id cannot be in a header."""
        if _IN_HEADER.fullmatch(event) is None:
            return None
        return f"{event}.{self._mac(server, principal, _EVENT + event)}"

    def open_event(self, server: str, principal: Principal, sealed: str) -> str | None:
        """The server's id. None: this caller has got no such event of this server."""
        event, _, mac = sealed.rpartition(".")
        expected = self._mac(server, principal, _EVENT + event)
        return event if hmac.compare_digest(mac.encode(errors="surrogatepass"), expected.encode()) else None

    def _mac(self, server: str, principal: Principal, session: str) -> str:
        parts = (server, principal.tenant, principal.key_id, session)
        text = b"".join(f"{len(part)}:{part}".encode(errors="surrogatepass") for part in parts)
        return base64.urlsafe_b64encode(hmac.digest(self._key, text, "sha256")[:_MAC_BYTES]).decode()

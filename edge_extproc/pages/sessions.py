"""Sessions of the admin pages: cookies, CSRF tokens, the one-time link and the limit of sign-in attempts.

A session is in the memory of the supervisor, with the credential that the user has presented. The cookie has its id,
its end and a signature. So a credential never returns to the browser, and a session ends with the process, at its end,
when the user signs out, and when the API no longer accepts the credential.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address

# A working day.
LIFETIME = 8 * 3600
# Of the one-time link. Logs that collect the output of `up` are kept longer, and more people read them.
LINK_SECONDS = 3600
# Of users at one time; each has a few hundred bytes. The oldest session ends for one more.
MOST_SESSIONS = 1000
# A person who mistypes needs fewer. A token has at least 16 characters, so this is only a second defence.
MOST_FAILURES, FAILURE_SECONDS = 5, 60.0
_MOST_PEERS = 10_000


@dataclass(frozen=True, slots=True)
class PageSession:
    id: str
    expires: int
    """Unix time."""
    credential: str = field(repr=False)
    id_token: str | None = field(default=None, repr=False)
    """Of an identity provider. None: the user has signed in with a credential."""


class Sessions:
    """`port`: browsers send a cookie to all ports of a host, so its name has the port. `secure`: browsers send the
    cookie only by TLS, or to their own machine. `now`: Unix time."""

    def __init__(self, port: int, *, secure: bool, now: Callable[[], float]) -> None:
        self._key = secrets.token_bytes(32)
        self._now = now
        self._sessions: OrderedDict[str, PageSession] = OrderedDict()
        prefix = "__Host-" if secure else ""
        self.secure = secure
        self.cookie = f"{prefix}edge-session-{port}"
        self.sign_in_cookie = f"{prefix}edge-sign-in-{port}"
        self.oidc_cookie = f"{prefix}edge-oidc-{port}"

    def begin(self, credential: str, id_token: str | None = None) -> tuple[PageSession, str]:
        """The session, and the value of its cookie."""
        session = PageSession(secrets.token_urlsafe(32), int(self._now()) + LIFETIME, credential, id_token)
        self._sessions[session.id] = session
        while len(self._sessions) > MOST_SESSIONS:
            self._sessions.popitem(last=False)
        return session, f"{session.id}.{session.expires}.{self._signature('session', session.id, session.expires)}"

    def find(self, cookie: str) -> PageSession | None:
        """The session of a cookie's value."""
        session_id, _, rest = cookie.partition(".")
        expires, _, signature = rest.partition(".")
        if not _same(signature, self._signature("session", session_id, expires)):
            return None
        session = self._sessions.get(session_id)
        if session is not None and session.expires <= self._now():
            self.end(session)
            return None
        return session

    def end(self, session: PageSession) -> None:
        self._sessions.pop(session.id, None)

    def csrf_token(self, session: PageSession) -> str:
        """For each form of a session."""
        return self._signature("form", session.id)

    def is_csrf_token(self, session: PageSession, presented: str) -> bool:
        return _same(presented, self.csrf_token(session))

    def sign_in_token(self, cookie: str) -> str:
        """For the form of the sign-in page. `cookie`: the random value of its cookie."""
        return self._signature("sign-in", cookie)

    def is_sign_in_token(self, cookie: str, presented: str) -> bool:
        return bool(cookie) and _same(presented, self.sign_in_token(cookie))

    def _signature(self, purpose: str, *values: object) -> str:
        text = "\0".join((purpose, *map(str, values)))
        return hmac.new(self._key, _encoded(text), hashlib.sha256).hexdigest()


class OneTimeLink:
    """Signs one user in without a token. `credential` is known to this process alone. `now`: seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.token = secrets.token_urlsafe(32)
        self.credential = secrets.token_urlsafe(32)
        self._now = now
        self._expires = now() + LINK_SECONDS
        self._is_used = False

    def use(self, presented: str) -> bool:
        """Whether the token is right, this is its first use, and it is in time."""
        if self._is_used or self._now() >= self._expires or not _same(presented, self.token):
            return False
        self._is_used = True
        return True


class SignInAttempts:
    """Limits failed attempts to sign in, by address. `now`: seconds."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def wait(self, peer: str) -> int:
        """Seconds until the address may try again; 0: now."""
        failures = self._failures.get(_network(peer))
        if failures is None or len(failures) < MOST_FAILURES:
            return 0
        return max(0, int(failures[0] + FAILURE_SECONDS - self._now() + 0.999))

    def add_failure(self, peer: str) -> None:
        network = _network(peer)
        failures = self._failures.setdefault(network, deque(maxlen=MOST_FAILURES))
        failures.append(self._now())
        self._failures.move_to_end(network)
        while len(self._failures) > _MOST_PEERS:
            self._failures.popitem(last=False)


def _network(peer: str) -> str:
    """A host has a whole /64 of IPv6."""
    try:
        address = ip_address(peer)
    except ValueError:
        return peer
    return str(int(address) >> 64) if isinstance(address, IPv6Address) and address.ipv4_mapped is None else peer


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(_encoded(one), _encoded(other))


def _encoded(text: str) -> bytes:
    """Of any text that a header or a form can hold."""
    return text.encode("utf-8", "surrogatepass")

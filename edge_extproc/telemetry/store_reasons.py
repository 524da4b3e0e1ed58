"""Translates errors of Redis or Valkey into reasons for the log, worded for the operator who repairs them.

The text of an error is never shown. It may quote the address, the command, or a password.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator

from redis import exceptions as redis

# The reasons, by the first word of the server's error reply.
_REPLIES = {
    "WRONGPASS": "wrong user or password",
    "NOAUTH": "it requires a password, and none is configured",
    "NOPERM": "the ACL of this user does not permit the command or the keys",
    "READONLY": "it is a read-only replica",
    "LOADING": "it is loading its data",
    "OOM": "it is out of memory",
    "MISCONF": "it refuses writes, since it cannot save to its disk",
    "MASTERDOWN": "it is a replica that has lost its primary",
    "CLUSTERDOWN": "its cluster is down",
    "NOREPLICAS": "it refuses writes, since it has too few replicas",
}

# The text after NOAUTH, whose first word redis-py removes: for a command, and for HELLO.
_NO_PASSWORD = ("Authentication required", "HELLO must be called")

# The order matters: some classes are subclasses of others.
_ERRORS: tuple[tuple[type[BaseException], str], ...] = (
    (redis.AuthenticationError, _REPLIES["WRONGPASS"]),
    (redis.NoPermissionError, _REPLIES["NOPERM"]),
    (redis.ReadOnlyError, _REPLIES["READONLY"]),
    (redis.BusyLoadingError, _REPLIES["LOADING"]),
    (redis.OutOfMemoryError, _REPLIES["OOM"]),
    (redis.MasterDownError, _REPLIES["MASTERDOWN"]),
    (redis.ClusterDownError, _REPLIES["CLUSTERDOWN"]),
    (ssl.SSLCertVerificationError, "TLS: its certificate is not trusted"),
    (ssl.SSLError, "TLS: the handshake failed"),
    (socket.gaierror, "its host name has no address"),
    (ConnectionRefusedError, "connection refused"),
    (FileNotFoundError, "there is no such socket"),
    (PermissionError, "its socket cannot be opened"),
    (TimeoutError, "timed out"),
    (redis.TimeoutError, "timed out"),
    (ConnectionError, "the connection was lost"),
)


def reason_of(error: BaseException) -> str:
    """The reason for an exception of redis-py, or of the operating system below it."""
    causes = list(_chain(error))
    for each in causes:
        if isinstance(each, redis.AuthenticationError) and str(each).startswith(_NO_PASSWORD):
            return _REPLIES["NOAUTH"]
    for kind, reason in _ERRORS:
        if any(isinstance(each, kind) for each in causes):
            return reason
    if isinstance(error, redis.ConnectionError):
        return "the connection was lost"
    if isinstance(error, redis.ResponseError):
        return reason_of_reply(str(error))
    return type(error).__name__


def reason_of_reply(text: str) -> str:
    """The reason for an error reply of the server. For an unknown error it has the first word only."""
    word = text.partition(" ")[0]
    return _REPLIES.get(
        word, f"it answers with {word}" if word.isalpha() and word.isupper() else "it answers with an error"
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and its causes, the error first."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or at.__context__

"""What no server of a test can be brought to; tests/valkey/test_reasons.py has the rest."""

from __future__ import annotations

import ssl

import pytest
from redis import exceptions as redis

from edge_extproc.telemetry.store_reasons import reason_of, reason_of_reply


def wrapped(cause: BaseException) -> BaseException:
    """As redis-py wraps what the operating system raises."""
    try:
        try:
            raise cause
        except OSError:
            raise redis.ConnectionError("Error 1 connecting to secret-host:6379") from None
    except redis.ConnectionError as error:
        return error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (wrapped(ssl.SSLCertVerificationError("secret")), "TLS: its certificate is not trusted"),
        (wrapped(ssl.SSLError("secret")), "TLS: the handshake failed"),
        (wrapped(ConnectionResetError("secret")), "the connection was lost"),
        (wrapped(PermissionError("secret")), "its socket cannot be opened"),
        (redis.TimeoutError("secret"), "timed out"),
        (redis.ConnectionError("secret"), "the connection was lost"),
        (redis.BusyLoadingError("secret"), "it is loading its data"),
        (redis.ResponseError("WRONGTYPE secret"), "it answers with WRONGTYPE"),
        (redis.RedisError("secret"), "RedisError"),
    ],
)
def test_an_error_is_told_without_its_text(error: BaseException, reason: str) -> None:
    assert reason == reason_of(error)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("READONLY You can't write against a read only replica.", "it is a read-only replica"),
        ("WRONGPASS secret", "wrong user or password"),
        ("BUSYGROUP secret", "it answers with BUSYGROUP"),
        ("secret0 more", "it answers with an error"),
        ("", "it answers with an error"),
    ],
)
def test_a_reply_is_told_by_its_first_word(text: str, reason: str) -> None:
    assert reason == reason_of_reply(text)

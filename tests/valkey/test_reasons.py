"""Why a store cannot be used, as the limiter and the cache say it, of a real server in each of these states."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from ports import free_port
from valkeys import Valkey

from edge_extproc.cache.l2 import CacheStoreError
from edge_extproc.cache.redis import RedisCacheSettings
from edge_extproc.cache.redis import RedisCacheStore as CacheStore
from edge_extproc.limits.base import LimitStoreDown
from edge_extproc.limits.redis import RedisLimitStore as LimitStore
from edge_extproc.limits.store_connection import StoreConnection, transport_of

SECRET = "not-the-password"


@contextmanager
def closed() -> Iterator[str]:
    yield f"redis://:{SECRET}@127.0.0.1:{free_port()}/0"


@contextmanager
def no_host() -> Iterator[str]:
    yield f"redis://:{SECRET}@no-such-host.invalid:6379/0"


@contextmanager
def no_socket() -> Iterator[str]:
    yield "unix:///nowhere/valkey.sock"


@contextmanager
def wrong_password() -> Iterator[str]:
    with Valkey("--requirepass", "the-password-of-this-server") as valkey:
        yield f"redis://:{SECRET}@127.0.0.1:{valkey.port}/0"


@contextmanager
def no_password() -> Iterator[str]:
    with Valkey("--requirepass", "the-password-of-this-server") as valkey:
        yield f"redis://127.0.0.1:{valkey.port}/0"


@contextmanager
def forbidden() -> Iterator[str]:
    with Valkey("--user", *f"reader on >{SECRET} ~* +ping +get +client +select +hello".split()) as valkey:
        yield f"redis://reader:{SECRET}@127.0.0.1:{valkey.port}/0"


@contextmanager
def replica() -> Iterator[str]:
    with Valkey() as primary, Valkey("--replicaof", f"127.0.0.1 {primary.port}") as valkey:
        yield f"redis://127.0.0.1:{valkey.port}/0"


@contextmanager
def full() -> Iterator[str]:
    with Valkey("--maxmemory", "1kb", "--maxmemory-policy", "noeviction") as valkey:
        yield f"redis://127.0.0.1:{valkey.port}/0"


@contextmanager
def frozen() -> Iterator[str]:
    with Valkey() as valkey:
        valkey.pause()
        yield f"redis://127.0.0.1:{valkey.port}/0"
        valkey.go_on()


STATES = [
    (closed, "connection refused"),
    (no_host, "its host name has no address"),
    (no_socket, "there is no such socket"),
    (wrong_password, "wrong user or password"),
    (no_password, "it requires a password, and none is configured"),
    (forbidden, "the ACL of this user does not permit the command or the keys"),
    (replica, "it is a read-only replica"),
    (full, "it is out of memory"),
    (frozen, "timed out"),
]


@pytest.mark.parametrize(("state", "reason"), STATES)
async def test_limits_and_cache_say_why(state, reason) -> None:
    timeout = 0.5 if state is frozen else 20.0
    with state() as url:
        for way in (transport_of, lambda _: None):
            limits = LimitStore(StoreConnection(url, timeout, way))
            with pytest.raises(LimitStoreDown) as found:
                await limits.check_writable()
            assert reason == str(found.value)
            await limits.close()
        cache = CacheStore(RedisCacheSettings(url=url, timeout=timeout))
        with pytest.raises(CacheStoreError) as told:
            await cache.check_writable()
        assert reason == told.value.reason
        await cache.close()

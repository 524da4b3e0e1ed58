"""The system's certificate authorities, which a client of HTTP reads when it is made.

Reading them takes 20 to 60 ms of CPU. Most calls of the tests have a client of their own, and few are by TLS. Here
each process reads them once.
"""

from __future__ import annotations

import functools
import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import httpcore2


@contextmanager
def read_once() -> Iterator[None]:
    """The clients of httpx2, and of the SDKs that use it, have one context for each of the variables' values."""
    read = httpcore2.default_ssl_context

    @functools.cache
    def context(trusts_environment: bool, *variables: str | None) -> ssl.SSLContext:
        return read(_trust_env=trusts_environment)

    def default_ssl_context(*, _trust_env: bool = True) -> ssl.SSLContext:
        return context(_trust_env, os.environ.get("SSL_CERT_FILE"), os.environ.get("SSL_CERT_DIR"))

    httpcore2.default_ssl_context = default_ssl_context
    try:
        yield
    finally:
        httpcore2.default_ssl_context = read

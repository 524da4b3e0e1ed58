"""Sends one request to a provider that costs nothing: for its list of models, or for any answer if it has none.

It waits for the network, so an event loop runs it in a thread.
"""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import httpx2 as httpx

from .. import registry
from ..config.provider import ProviderConfig
from ..errors import EdgeError
from ..model.provider_probe import ProbeState, ProviderProbe
from .base import Provider, UpstreamCall

_PATIENCE = 5.0


def probe(provider: Provider, settings: ProviderConfig, *, with_credential: bool) -> ProviderProbe:
    """`with_credential`: a configured `credential` has been fetched, so the request can use it. A key is always
    used."""
    path = registry.load("providers", settings.kind).models_path
    name, url = provider.name, settings.endpoint
    headers: Mapping[str, str] = {}
    address = settings.url
    try:
        if path is not None and (settings.credential is None or with_credential):
            request = provider.request(UpstreamCall("passed", "passed", "", False, path, b"", "GET"))
            headers = dict((*request.defaults, *request.headers))
            host = f"[{url.host}]" if ":" in url.host else url.host
            address = f"{'https' if url.tls else 'http'}://{host}:{url.port}{request.path}"
        # Envoy reads no proxy from the environment, so neither does this.
        with httpx.Client(verify=_trust(settings), timeout=_PATIENCE, trust_env=False) as client:
            started, now = time.perf_counter(), time.time()
            response = client.get(address, headers=headers)
            seconds = time.perf_counter() - started
    except (httpx.HTTPError, OSError, EdgeError) as error:
        return ProviderProbe(name, "fail", f"{name} at {url.host}:{url.port}: {reason(error)}")
    skew = _skew(response.headers.get("date"), now)
    took = round(seconds * 1000)
    state: ProbeState
    if headers:
        has_secret = settings.api_key is not None or settings.credential is not None
        state, message = _judged(name, response.status_code, took, has_secret=has_secret)
    else:
        state, message = "ok", f"{name} answers in {took} ms; its credential was not tried"
    return ProviderProbe(name, state, message, seconds, response.status_code, skew)


def _judged(name: str, status: int, took: int, *, has_secret: bool) -> tuple[ProbeState, str]:
    if status in (401, 403):
        return "fail", f"{name} refuses {'its key' if has_secret else 'a call without a key'} ({status})"
    if status in (404, 405):
        return "ok", f"{name} answers in {took} ms; it has no list of models to try the key with"
    if status >= 300:
        return "warn", f"{name} answers with status {status}"
    return "ok", f"{name} answers in {took} ms" + (" and accepts the key" if has_secret else "")


def _trust(settings: ProviderConfig) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(settings.tls.ca) if settings.tls.ca is not None else None)


def _skew(date: str | None, now: float) -> float | None:
    try:
        return now - parsedate_to_datetime(date).timestamp() if date is not None else None
    except ValueError:
        return None


def reason(error: BaseException) -> str:
    """Why a host cannot be reached, without the text of a library."""
    at: BaseException | None = error
    reasons: tuple[tuple[type[BaseException], str], ...] = (
        (ssl.SSLCertVerificationError, "its certificate is not trusted; see tls.ca"),
        (socket.gaierror, "its name has no address"),
        (ConnectionRefusedError, "connection refused"),
        (httpx.TimeoutException, "no answer"),
        (TimeoutError, "no answer"),
        (ssl.SSLError, "no TLS there"),
    )
    causes = []
    while at is not None and at not in causes:
        causes.append(at)
        at = at.__cause__ or at.__context__
    for kind, text in reasons:
        if any(isinstance(each, kind) for each in causes):
            return text
    return error.message if isinstance(error, EdgeError) else f"cannot be reached ({type(error).__name__})"

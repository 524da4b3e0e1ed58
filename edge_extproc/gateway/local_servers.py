"""Finds model servers on this machine, for the built-in configuration.

A server is used only if it answers at once and lists at least one model in OpenAI's format. Other hosts are never
looked for.
"""

from __future__ import annotations

import http.client
from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

import msgspec

from ..config.default_models import LocalHost, LocalServer, local_hosts

# Seconds. It is a server on this machine, and it only lists what it has.
_PATIENCE = 1.0
_LONGEST_LIST = 1 << 20
_LOOPBACK = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - addresses that a server listens at
_MOST_MODELS = 50


class _Card(msgspec.Struct):
    id: str


class _Cards(msgspec.Struct):
    data: list[_Card]


def find(environ: Mapping[str, str]) -> tuple[LocalServer, ...]:
    """The servers that answer now."""
    return tuple(_answering(environ))


def _answering(environ: Mapping[str, str]) -> Iterator[LocalServer]:
    for host in local_hosts():
        url = address(host, environ)
        models = _models(url) if url is not None else ()
        if url is not None and models:
            yield LocalServer(host.name, host.kind, url, models)


def address(host: LocalHost, environ: Mapping[str, str]) -> str | None:
    """Where the host would answer. None: it is switched off by an empty variable, or its address is not a URL or not on
    this machine."""
    from_environment = environ.get(host.variable)
    if from_environment is None:
        return host.url
    default = urlsplit(host.url)
    try:
        url = urlsplit(from_environment if "://" in from_environment else f"http://{from_environment}")
        port = url.port or (443 if url.scheme == "https" else default.port)
    except ValueError:
        return None
    name = _LOOPBACK.get(url.hostname or "", url.hostname or "")
    if not from_environment or url.scheme != "http" or name not in ("127.0.0.1", "::1", "localhost"):
        return None
    return f"http://{f'[{name}]' if ':' in name else name}:{port}{default.path}"


def _models(url: str) -> tuple[str, ...]:
    split = urlsplit(url)
    connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=_PATIENCE)
    try:
        connection.request("GET", f"{split.path}/models")
        response = connection.getresponse()
        body = response.read(_LONGEST_LIST)
        cards = msgspec.json.decode(body, type=_Cards).data if response.status == http.client.OK else []
    except (OSError, http.client.HTTPException, msgspec.DecodeError, UnicodeDecodeError):
        return ()  # nothing listens there, or something else does
    finally:
        connection.close()
    names = [card.id for card in cards if card.id and card.id.isprintable() and not set(card.id) & set("*?[]")]
    return tuple(dict.fromkeys(names))[:_MOST_MODELS]

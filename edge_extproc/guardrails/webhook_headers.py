"""The configured headers of requests to a service. Their values are secrets, which files may replace."""

from __future__ import annotations

from collections.abc import Mapping

from ..config.secrets import Secret
from .base import ServiceTools
from .service_http import RequestHeaders


def webhook_headers(
    headers: Mapping[str, Secret],
    tools: ServiceTools,
    *,
    api_key: tuple[str, Secret | None] | None = None,
    prefix: str = "",
) -> RequestHeaders:
    """`api_key`: a header and its secret, if there is one. `prefix`: the text before that secret."""
    values = {name.lower(): tools.current(secret) for name, secret in headers.items()}
    name, secret = api_key if api_key is not None else ("", None)
    key = tools.current(secret) if secret is not None else None

    def current(host: str, path: str, body: bytes) -> list[tuple[str, str]]:
        del host, path, body
        pairs = [(header, value()) for header, value in values.items()]
        if key is not None:
            pairs.append((name, prefix + key()))
        return pairs

    return current

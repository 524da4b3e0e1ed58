"""OAuth for MCP servers: the metadata of a protected resource (RFC 9728), and where a refusal says it is.

A client without a token gets status 401 and the address of the metadata, which names the issuers. A token is for this
gateway if one of `auth.jwt.audiences` is its audience; authentication checks that before anything of this package runs.
A server may accept fewer of them.
"""

from __future__ import annotations

import re

from ...codecs.json_values import encode
from ...errors import BadRequest, Unauthenticated
from ...model.principal import Principal
from ..commands import ImmediateResponse, Pairs
from ..mcp_settings import McpServer, McpSettings
from ..phases import Received

PATH, WELL_KNOWN = "/mcp/", "/.well-known/oauth-protected-resource/mcp/"
# It is written into a header and into JSON.
_HOST = re.compile(r"[A-Za-z0-9._-]+(?::\d{1,5})?|\[[0-9A-Fa-f:.]+\](?::\d{1,5})?")


def check_audience(server: McpServer, principal: Principal) -> None:
    """Raises Unauthenticated if the caller's token is for another server: who has got it there could use it here."""
    if server.audiences and principal.audiences is not None and not {*server.audiences} & {*principal.audiences}:
        error = Unauthenticated("the token is not for this MCP server (aud)")
        error.code = "wrong_audience"
        raise error


def own_url(settings: McpSettings, received: Received) -> str | None:
    """The gateway's URL. None: the request names no host."""
    if settings.url is not None:
        return settings.url
    host = received.values.get(":authority") or received.values.get("host") or ""
    scheme = received.values.get("x-forwarded-proto") or received.values.get(":scheme") or "http"
    if _HOST.fullmatch(host) is None or scheme not in ("http", "https"):
        return None
    return f"{scheme}://{host}"


def challenge(settings: McpSettings, received: Received, server: str, error: Unauthenticated) -> Pairs:
    """The header of a refusal with status 401."""
    url = own_url(settings, received)
    if not settings.issuers or url is None:
        return (("www-authenticate", "Bearer"),)
    parts = [f'resource_metadata="{url}{WELL_KNOWN}{server}"']
    if error.code != "missing_api_key":
        parts.insert(0, 'error="invalid_token"')
    return (("www-authenticate", f"Bearer {', '.join(parts)}"),)


def metadata(settings: McpSettings, received: Received, server: str) -> ImmediateResponse:
    url = own_url(settings, received)
    if url is None:
        raise BadRequest("the request names no host")
    body = {
        "resource": f"{url}{PATH}{server}",
        "authorization_servers": list(settings.issuers),
        "bearer_methods_supported": ["header"],
    }
    # If the URL is what the request says, a store must not keep it for others.
    cached = "public, max-age=300" if settings.url is not None else "no-store"
    headers = (("content-type", "application/json"), ("cache-control", cached))
    return ImmediateResponse(200, headers, encode(body), "edge_mcp_metadata")

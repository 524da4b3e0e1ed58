"""What becomes of WebSocket sessions."""

from __future__ import annotations

from typing import Annotated, Literal

from .part import ConfigSection, one_of


class SocketsConfig(ConfigSection):
    responses: Annotated[Literal["provider", "requests"], one_of("provider", "requests")] = "provider"
    """Sessions of OpenAI's Responses API. provider: they go to the first provider with `sockets` that has the API.
    requests: each response becomes a request to this gateway, for providers of every kind."""

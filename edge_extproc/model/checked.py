"""The decision of ext_authz about one request, for logs and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AuthzDecision:
    """Contains no secret: all fields may be logged."""

    result: Literal["allowed", "denied", "unavailable"]
    """unavailable: a service that the decision needs was unreachable."""
    status: int | None
    """The HTTP status of a refusal."""
    code: str | None
    """The stable error code of a refusal."""
    reason: str | None
    """The message to the caller."""
    started_at: float
    """Unix time, seconds."""
    duration: float
    """Seconds."""
    tenant: str | None = None
    """None, like `team`, `user` and `key_id`, if the caller was not authenticated."""
    team: str | None = None
    user: str | None = None
    key_id: str | None = None
    method: str = ""
    host: str | None = None
    path: str = ""
    """Without the query."""
    operation: str | None = None
    """The operation of the route, for policies; None if the path belongs to no API."""
    request_id: str | None = None

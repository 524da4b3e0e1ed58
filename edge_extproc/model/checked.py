"""What ext_authz decided about one request, for logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class AuthzDecision:
    """Holds no secret: all of it may go to logs."""

    result: Literal["allowed", "denied", "unavailable"]
    """unavailable: nobody could decide."""
    status: int | None
    """Of a refusal."""
    code: str | None
    """Our stable word for a refusal."""
    reason: str | None
    """What the caller was told."""
    started_at: float
    """Unix time, seconds."""
    duration: float
    """Seconds."""
    tenant: str | None = None
    """None where nobody proved who it was, as with `team`, `user` and `key_id`."""
    team: str | None = None
    user: str | None = None
    key_id: str | None = None
    method: str = ""
    host: str | None = None
    path: str = ""
    """Without the query."""
    operation: str | None = None
    """What the route is in the words of policies; None where it is none of ours."""
    request_id: str | None = None

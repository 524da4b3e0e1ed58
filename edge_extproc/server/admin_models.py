"""The request and response bodies of the admin API."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

LABEL = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$"
POSITION = r"^[0-9]{1,15}\.[A-Za-z0-9._-]{1,64}$"
"""Of a row in the ledger."""
_LONGEST_OVERLAP = 30 * 24 * 3600
MOST = 1000


# --- bodies


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_Label = Annotated[str, Field(pattern=LABEL)]
# Control characters are excluded because PostgreSQL cannot store all of them.
_Pattern = Annotated[str, Field(min_length=1, max_length=256, pattern=r"^[^\x00-\x1f]+$")]


class NewKey(Body):
    tenant: _Label
    id: _Label | None = None
    """A label, which may appear in logs and metrics. Generated if it is not given."""
    team: _Label | None = None
    user: _Label | None = None
    note: Annotated[str, Field(max_length=500, pattern=r"^[^\x00]*$")] = ""
    models: Annotated[list[_Pattern], Field(min_length=1, max_length=100)] = ["*"]
    roles: Annotated[list[_Label], Field(max_length=32)] = []
    expires: datetime | None = None

    @field_validator("expires")
    @classmethod
    def _zoned(cls, value: datetime | None) -> datetime | None:
        if value is not None and value.tzinfo is None:
            raise ValueError("a time needs its zone, such as 2027-01-31T00:00:00Z")
        return value


class Rotation(Body):
    overlap_seconds: Annotated[int, Field(ge=0, le=_LONGEST_OVERLAP)] = 0
    """How long the old key stays valid."""


class PurgeBody(Body):
    tenant: _Label | None = None
    model: _Pattern | None = None
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The value of x-edge-cache-key."""
    shared: bool = False
    """The replies that all tenants share: in addition to those of `tenant`, or alone without one. It needs the right to
    manage all tenants."""


class ShownKey(Body):
    id: str
    tenant: str
    source: Literal["api", "config"]
    team: str | None = None
    user: str | None = None
    note: str = ""
    models: list[str] = ["*"]
    roles: list[str] = []
    created: datetime | None = None
    expires: datetime | None = None
    revoked: datetime | None = None
    old_key_until: datetime | None = None


class MadeKey(ShownKey):
    key: str
    """The key itself. It is shown only once; the gateway stores only its digest."""


class ShownLimit(Body):
    """One limit of a budget. Money is US dollars as text."""

    limit: str
    """The key of the allowance."""
    maximum: str | int
    used: str | int | None
    """In the current window, by calls that have ended. Of the name `*`: the holder that has used the largest share.
    None: no worker could read it."""
    reserved: str | int | None
    """By calls in progress."""
    left: str | int | None
    until: datetime | None
    """The end of the current window."""
    forecast: str | int | None = None
    """Of an hour, a day or a month: what will be used at its end if it goes on as on average since its beginning. None:
    the window is another one, or less than a twentieth of it has passed."""


class ShownBudget(Body):
    tenant: str
    level: Literal["tenant", "team", "user", "key"]
    name: str
    source: Literal["api", "config"]
    allowance: dict[str, Any]
    limits: list[ShownLimit] = []
    """The use of each limit; not of the caps of runs."""


class ShownAuditLine(Body):
    number: int
    at: datetime
    actor: str
    role: str
    action: str
    tenant: str | None
    target: str
    detail: dict[str, Any]


class ShownGuardrailCount(Body):
    """What one guardrail rule found."""

    rule: str
    label: str
    """What it is, as email: never a part of a text."""
    action: str
    mode: str
    direction: str
    calls: int
    findings: int
    """Places in the texts of these calls."""


class ShownGuardrailDay(Body):
    """What one rule found on one UTC day."""

    day: str
    rule: str
    action: str
    mode: str
    calls: int
    findings: int


class ShownGuardrailRule(Body):
    """A rule of the configuration."""

    rule: str
    detector: str
    """The name of the detector or of the service."""
    directions: list[str]
    action: str
    mode: str
    tenant: str | None
    """None: the rule is for all tenants."""
    level: str | None
    name: str | None
    """Of the tenant, team, user or key that has the rule."""


class ErrorDetail(Body):
    code: str
    message: str


class ErrorBody(Body):
    error: ErrorDetail

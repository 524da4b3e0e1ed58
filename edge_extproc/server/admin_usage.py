"""The routes of the admin API that read the ledger: sums of usage, single requests, and what the ledger refused."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from fastapi.responses import StreamingResponse

from ..model.explanation import Explanation
from ..store.ledger import (
    DIMENSIONS,
    Dimension,
    Ledger,
    UsageFilter,
    UsageTotal,
    as_csv,
    as_json_lines,
    as_row,
    without_formula,
)
from ..store.quarantine import Quarantine
from ..store.usage_query import dearest
from .admin_access import AdminIdentity, Caller, read_in_thread, read_parts
from .admin_errors import AdminRefused
from .admin_models import DAY, LABEL, MOST, POSITION, Body, ShownGuardrailCount, ShownGuardrailDay
from .admin_requests import ExplainedRequest, ShownRequest, explained_request, position, shown_request

_TEXT = {"schema": {"type": "string"}}
_EXPORTS = dict.fromkeys(("text/csv", "application/x-ndjson"), _TEXT)
# The columns of a report after the dimension, as CSV.
_REPORTED = ("requests", "failed", "cache_hits", "tokens", "cost", "unpriced", "saved_tokens", "saved_cost")
_ROWS_OF_A_CHUNK = 100
# The id of an exchange, as workers make it.
_EXCHANGE = r"^[A-Za-z0-9._-]{1,64}$"


class ShownRequests(Body):
    """A page of requests, newest first."""

    requests: list[ShownRequest]
    next: str | None
    """The value of `before` for the next page. None: this is the last one."""


class ShownReport(Body):
    """The costs by one dimension."""

    rows: list[dict[str, Any]]
    """The dearest groups first, or the newest days in their order. The fields are those of /usage."""
    groups: int
    """The number of all groups."""
    total: dict[str, Any]
    """The sums of all groups."""


class ShownRefusedRow(Body):
    at: datetime
    reason: str
    tenant: str | None
    line: str


def add_usage_routes(router: APIRouter, ledger: Ledger, quarantined: Quarantine) -> None:
    @router.get("/usage")
    async def usage(
        admin: Caller,
        where: Annotated[UsageQuery, Depends()],
        by: Annotated[list[Dimension], Query(max_length=len(DIMENSIONS))] = ["tenant", "model"],  # noqa: B006 - FastAPI copies it
    ) -> list[dict[str, Any]]:
        """Sums of usage. Costs are US dollars as text."""
        totals = await read_in_thread(ledger.totals, by, where.filter(admin))
        return [as_row(total) for total in totals]

    @router.get("/usage/report", response_model=ShownReport, responses={200: {"content": {"text/csv": _TEXT}}})
    async def report(
        admin: Caller,
        where: Annotated[UsageQuery, Depends()],
        by: Dimension = "tenant",
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
        form: Annotated[Literal["csv", "json"], Query(alias="format")] = "json",
    ) -> Any:
        """Sums of usage by one dimension: of the dearest groups, and of all. The CSV format has all groups."""
        if form == "csv":
            groups = await read_in_thread(_ranked, ledger, by, where.filter(admin))
            return StreamingResponse(read_parts(_report_csv(groups, by)), media_type="text/csv; charset=utf-8")
        return await read_in_thread(_report, ledger, by, where.filter(admin), limit)

    @router.get("/usage/export", response_class=StreamingResponse, responses={200: {"content": _EXPORTS}})
    async def export(
        admin: Caller,
        where: Annotated[UsageQuery, Depends()],
        form: Annotated[Literal["csv", "json"], Query(alias="format")] = "csv",
    ) -> StreamingResponse:
        """Single requests. The JSON format has one object per line."""
        rows = ledger.rows(where.filter(admin))
        text = in_parts(as_csv(rows) if form == "csv" else as_json_lines(rows))
        # Before the status is sent: the database may be down.
        first = await read_in_thread(next, text, "")
        media_type = "text/csv; charset=utf-8" if form == "csv" else "application/x-ndjson"
        return StreamingResponse(read_parts(itertools.chain((first,), text)), media_type=media_type)

    @router.get("/guardrails")
    async def guardrails(admin: Caller, where: Annotated[UsageQuery, Depends()]) -> list[ShownGuardrailCount]:
        """What each guardrail rule found, by label and action. A rule in shadow mode has its own rows."""
        counts = await read_in_thread(ledger.guardrail_counts, where.filter(admin))
        return [ShownGuardrailCount(**count._asdict()) for count in counts]

    @router.get("/guardrails/history")
    async def guardrail_history(admin: Caller, where: Annotated[UsageQuery, Depends()]) -> list[ShownGuardrailDay]:
        """What each guardrail rule found on each day."""
        days = await read_in_thread(ledger.guardrail_days, where.filter(admin))
        return [ShownGuardrailDay(**each._asdict()) for each in days]

    @router.get("/usage/quarantine")
    async def quarantine(
        admin: Caller,
        tenant: Annotated[str | None, Query(pattern=LABEL)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 100,
    ) -> list[ShownRefusedRow]:
        """Rows that the ledger of this gateway refused, newest first. They are in no sum."""
        rows = await read_in_thread(quarantined.entries, admin.scope(tenant), limit)
        return [
            ShownRefusedRow(
                at=datetime.fromtimestamp(r.at_ms / 1000, UTC), reason=r.reason, tenant=r.tenant, line=r.line
            )
            for r in rows
        ]

    # --- single requests

    @router.get("/requests")
    async def requests(
        admin: Caller,
        where: Annotated[UsageQuery, Depends()],
        before: Annotated[str | None, Query(pattern=POSITION)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    ) -> ShownRequests:
        """Settled requests, newest first. `before` is the `next` of the previous page."""
        start = None if before is None else position(before)
        # One more row shows whether there is another page.
        rows = await read_in_thread(ledger.newest, where.filter(admin), start, limit + 1)
        shown = [shown_request(row) for row in rows[:limit]]
        last = rows[limit - 1] if len(rows) > limit else None
        return ShownRequests(requests=shown, next=None if last is None else f"{last['started_ms']}.{last['exchange']}")

    @router.get("/requests/{exchange}")
    async def request(exchange: Annotated[str, Path(pattern=_EXCHANGE)], admin: Caller) -> ExplainedRequest:
        """One settled request, and why it went so. A request of another tenant does not exist for a user who is bound
        to a tenant."""
        row, explanation = await read_in_thread(_explained, ledger, exchange)
        if row is None or admin.tenant not in (None, row["tenant"]):
            raise AdminRefused(404, "unknown_request", f"the ledger has no request {exchange!r}")
        return explained_request(row, explanation, of_all_tenants=admin.tenant is None)


class UsageQuery:
    """The filter of a ledger query, from its parameters."""

    def __init__(
        self,
        tenant: Annotated[str | None, Query(pattern=LABEL)] = None,
        team: Annotated[str | None, Query(max_length=256)] = None,
        user: Annotated[str | None, Query(max_length=256)] = None,
        key: Annotated[str | None, Query(max_length=256)] = None,
        model: Annotated[str | None, Query(max_length=256)] = None,
        response_model: Annotated[str | None, Query(max_length=256)] = None,
        provider: Annotated[str | None, Query(max_length=256)] = None,
        run: Annotated[str | None, Query(max_length=256)] = None,
        session: Annotated[str | None, Query(max_length=256)] = None,
        outcome: Annotated[str | None, Query(max_length=32)] = None,
        status: Annotated[int | None, Query(ge=0, le=999)] = None,
        cache: Annotated[str | None, Query(max_length=32)] = None,
        first_day: Annotated[str | None, Query(pattern=DAY)] = None,
        last_day: Annotated[str | None, Query(pattern=DAY)] = None,
    ) -> None:
        names = {
            "team": team,
            "user": user,
            "key": key,
            "model": model,
            "response_model": response_model,
            "provider": provider,
            "run": run,
            "session": session,
            "outcome": outcome,
            "cache": cache,
        }
        for name, value in names.items():
            if value is not None and "\0" in value:
                raise AdminRefused(400, "invalid_request", f"{name}: a name cannot contain a zero byte")
        for day in (first_day, last_day):
            if day is not None:
                try:
                    date.fromisoformat(day)
                except ValueError:
                    raise AdminRefused(400, "invalid_request", f"{day} is not a date of the calendar") from None
        self._filter = UsageFilter(tenant=tenant, **names, status=status, first_day=first_day, last_day=last_day)

    def filter(self, admin: AdminIdentity) -> UsageFilter:
        return replace(self._filter, tenant=admin.scope(self._filter.tenant))


def _ranked(ledger: Ledger, by: Dimension, where: UsageFilter) -> list[UsageTotal]:
    """The dearest groups first; days in their order."""
    groups = ledger.totals([by], where)
    return groups if by == "day" else dearest(groups)


def _report(ledger: Ledger, by: Dimension, where: UsageFilter, limit: int) -> ShownReport:
    found = ledger.ranking(by, where, limit)
    total = as_row(found.total)
    return ShownReport(
        rows=[as_row(group) for group in found.top],
        groups=found.groups,
        total={name: total[name] for name in _REPORTED},
    )


def _report_csv(groups: Sequence[UsageTotal], by: Dimension) -> Iterator[str]:
    columns = (by, *_REPORTED)
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for start in range(0, max(1, len(groups)), _ROWS_OF_A_CHUNK):
        for row in map(as_row, groups[start : start + _ROWS_OF_A_CHUNK]):
            writer.writerow([without_formula(row[name]) for name in columns])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


def in_parts(lines: Iterator[str]) -> Iterator[str]:
    """The lines, some together: each part is made in a thread, and a change of threads takes longer than a line."""
    while part := "".join(itertools.islice(lines, _ROWS_OF_A_CHUNK)):
        yield part


def _explained(ledger: Ledger, exchange: str) -> tuple[dict[str, Any] | None, Explanation | None]:
    return ledger.row(exchange), ledger.explanation(exchange)

"""Conversations in the ledger: the requests of one run, or of one session, together."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from sqlalchemy import ColumnElement, Connection, Engine, and_, false, func, or_, select

from .journal import dollars
from .ledger import LedgerPosition
from .tables import usage
from .usage_query import TOKENS, half_sum, halves, one_if

ConversationKind: TypeAlias = Literal["run", "session"]
# Rows that one page of conversations reads.
_MOST_SCANNED = 5_000


class Conversation(NamedTuple):
    """The sums of the requests of one run, or of one session. Times are Unix time in milliseconds."""

    kind: ConversationKind
    id: str
    tenant: str
    first_ms: int
    last_ms: int
    requests: int
    failed: int
    tokens: dict[str, int]
    cost: Decimal
    unpriced: int


class Conversations:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def newest(
        self, by: ConversationKind, tenant: str | None, before: LedgerPosition | None, most: int
    ) -> tuple[list[Conversation], LedgerPosition | None]:
        """The conversations with the newest requests, newest first, and the place from which to go on: None if there
        are no more. `before`: only those whose newest request is older. A page may have less than `most`, because it
        reads a bounded number of rows."""
        column, found = usage.c[by], dict[tuple[str, str], None]()
        conditions = [column.is_not(None), *([usage.c.tenant == tenant] if tenant is not None else [])]
        if before is not None:
            older = (usage.c.started_ms < before.started_ms) | (usage.c.exchange < before.exchange)
            conditions += [usage.c.started_ms <= before.started_ms, older]
        newest = (
            select(usage.c.tenant, column, usage.c.started_ms, usage.c.exchange)
            .where(*conditions)
            .order_by(usage.c.started_ms.desc(), usage.c.exchange.desc())
            .limit(_MOST_SCANNED)
        )
        with self._engine.connect() as connection:
            rows, last = connection.execute(newest).all(), None
            for of, name, started_ms, exchange in rows:
                if (of, name) not in found and len(found) == most:
                    break
                found[of, name] = None
                last = LedgerPosition(started_ms, exchange)
            else:
                last = last if len(rows) == _MOST_SCANNED else None
            totals = _totals(connection, by, list(found), before) if found else {}
        return [totals[key] for key in found if key in totals], last


def _totals(
    connection: Connection, by: ConversationKind, names: Sequence[tuple[str, str]], before: LedgerPosition | None
) -> dict[tuple[str, str], Conversation]:
    """The sums of these conversations, without those that were on an earlier page."""
    column = usage.c[by]
    on_earlier_page: ColumnElement[bool] = false()
    if before is not None:
        on_earlier_page = or_(
            usage.c.started_ms > before.started_ms,
            and_(usage.c.started_ms == before.started_ms, usage.c.exchange >= before.exchange),
        )
    by_tenant: dict[str, list[str]] = {}
    for tenant, name in names:
        by_tenant.setdefault(tenant, []).append(name)
    # For each tenant a part of the index.
    of = or_(*[and_(usage.c.tenant == tenant, column.in_(some)) for tenant, some in by_tenant.items()])
    statement = (
        select(
            usage.c.tenant,
            column.label("name"),
            func.min(usage.c.started_ms).label("first_ms"),
            func.max(usage.c.started_ms).label("last_ms"),
            func.count().label("requests"),
            func.sum(one_if(usage.c.outcome != "ok")).label("failed"),
            func.sum(one_if(usage.c.unpriced)).label("unpriced"),
            *(half for name in (*TOKENS, "cost") for half in halves(name)),
        )
        .where(of)
        .group_by(usage.c.tenant, column)
        .having(func.max(one_if(on_earlier_page)) == 0)
    )
    return {
        (row["tenant"], row["name"]): Conversation(
            by,
            row["name"],
            row["tenant"],
            row["first_ms"],
            row["last_ms"],
            int(row["requests"]),
            int(row["failed"]),
            {name: half_sum(row, name) for name in TOKENS},
            dollars(half_sum(row, "cost")),
            int(row["unpriced"]),
        )
        for row in connection.execute(statement).mappings()
    }

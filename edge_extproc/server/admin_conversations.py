"""The routes of the admin API for conversations: the requests of one run or of one session together."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Query

from ..store.conversations import Conversation, ConversationKind, Conversations
from ..store.ledger import Ledger, LedgerPosition, UsageFilter
from .admin_access import Caller, read_in_thread
from .admin_models import LABEL, MOST, POSITION, Body
from .admin_requests import ShownPromptCache, ShownRequest, position, request_fields, shown_prompt_cache


class ShownConversation(Body):
    """The sums of the requests of one run or session. Money is US dollars as text."""

    kind: ConversationKind
    id: str
    tenant: str
    first: datetime
    last: datetime
    """When its newest request began."""
    requests: int
    failed: int
    tokens: dict[str, int]
    """By kind. Kinds do not overlap."""
    cost: str
    unpriced: int
    """Requests without a known price. They are not in `cost`."""


class ShownConversations(Body):
    """A page of conversations, those with the newest requests first."""

    conversations: list[ShownConversation]
    next: str | None
    """The value of `before` for the next page. None: this is the last one."""


class ShownTurn(ShownRequest):
    prompt_cache: ShownPromptCache | None
    """None: nobody has asked for it, the usage is not known, or it is older than `store.keep_explanations`."""


class ShownTurns(Body):
    """A page of the requests of one conversation, newest first."""

    turns: list[ShownTurn]
    next: str | None
    """The value of `before` for the next page. None: this is the last one."""


_Id = Annotated[str, Query(min_length=1, max_length=256, pattern=r"^[^\x00]*$")]


def add_conversation_routes(router: APIRouter, ledger: Ledger) -> None:
    of_ledger = Conversations(ledger.engine)

    @router.get("/conversations")
    async def conversations(
        admin: Caller,
        by: ConversationKind = "run",
        tenant: Annotated[str | None, Query(pattern=LABEL)] = None,
        before: Annotated[str | None, Query(pattern=POSITION)] = None,
        limit: Annotated[int, Query(ge=1, le=100)] = 50,
    ) -> ShownConversations:
        """The runs or the sessions with the newest requests. A page can be short although there is a next one."""
        start = None if before is None else position(before)
        found, last = await read_in_thread(of_ledger.newest, by, admin.scope(tenant), start, limit)
        return ShownConversations(conversations=[_conversation(each) for each in found], next=_next(last))

    @router.get("/conversations/turns")
    async def turns(
        admin: Caller,
        id: _Id,
        by: ConversationKind = "run",
        tenant: Annotated[str | None, Query(pattern=LABEL)] = None,
        before: Annotated[str | None, Query(pattern=POSITION)] = None,
        limit: Annotated[int, Query(ge=1, le=MOST)] = 50,
    ) -> ShownTurns:
        """The requests of one run, with those of the runs that are a part of it, or of one session; and how much of its
        prompt each has read from the provider's prompt cache."""
        start = None if before is None else position(before)
        of_tenant = UsageFilter(tenant=admin.scope(tenant))
        where = replace(of_tenant, run=id) if by == "run" else replace(of_tenant, session=id)
        rows, more = await read_in_thread(_turns, ledger, where, start, limit)
        last = rows[-1] if more else None
        return ShownTurns(
            turns=[ShownTurn(**row) for row in rows],
            next=None if last is None else f"{int(last['at'].timestamp() * 1000)}.{last['exchange']}",
        )


def _turns(
    ledger: Ledger, where: UsageFilter, start: LedgerPosition | None, limit: int
) -> tuple[list[dict[str, Any]], bool]:
    """The fields of the turns of a page, and whether there are more."""
    rows = ledger.newest(where, start, limit + 1)
    some = rows[:limit]
    explained = ledger.explanations([row["exchange"] for row in some])
    turns = []
    for row in some:
        found = explained.get(row["exchange"])
        turns.append({**request_fields(row), "prompt_cache": shown_prompt_cache(found.prompt_cache if found else None)})
    return turns, len(rows) > limit


def _next(last: LedgerPosition | None) -> str | None:
    return None if last is None else f"{last.started_ms}.{last.exchange}"


def _conversation(c: Conversation) -> ShownConversation:
    return ShownConversation(
        kind=c.kind,
        id=c.id,
        tenant=c.tenant,
        first=datetime.fromtimestamp(c.first_ms / 1000, UTC),
        last=datetime.fromtimestamp(c.last_ms / 1000, UTC),
        requests=c.requests,
        failed=c.failed,
        tokens=c.tokens,
        cost=format(c.cost.normalize(), "f"),
        unpriced=c.unpriced,
    )

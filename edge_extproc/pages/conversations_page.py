"""The requests of one run or session together: what they have cost, and why a prompt cache missed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from starlette.responses import Response

from .charts import BarChart, bar_chart
from .explanation import prompt_cache_in_words
from .rendering import money
from .visit import Handler, Visit

KINDS = ("run", "session")
_PAGE = 50
_MIN_SLOTS = 12


async def conversations(visit: Visit) -> Response:
    kind = next((each for each in KINDS if each in visit.query), None)
    if kind is not None:
        return await _turns(visit, kind, visit.query[kind])
    by = visit.query.get("by", "run")
    tenant, before = visit.query.get("tenant"), visit.query.get("before")
    found = await visit.api.get("/conversations", {"by": by, "tenant": tenant, "before": before, "limit": _PAGE})
    return visit.page(
        "conversations.html",
        by=by,
        kinds=KINDS,
        tenant=tenant or "",
        is_first=before is None,
        conversations=[{**each, "prompt": _prompt(each["tokens"])} for each in found["conversations"]],
        next=found["next"],
    )


async def _turns(visit: Visit, kind: str, name: str) -> Response:
    tenant, before = visit.query.get("tenant"), visit.query.get("before")
    query = {"by": kind, "id": name, "tenant": tenant, "before": before, "limit": _PAGE}
    found = await visit.api.get("/conversations/turns", query)
    turns = [
        {**each, "prompt": _prompt(each["tokens"]), "why": prompt_cache_in_words(each["prompt_cache"])}
        for each in found["turns"]
    ]
    lost = [Decimal(each["prompt_cache"]["dollars"] or 0) for each in found["turns"] if each["prompt_cache"]]
    return visit.page(
        "conversation.html",
        kind=kind,
        name=name,
        tenant=tenant or "",
        is_first=before is None,
        turns=turns,
        next=found["next"],
        chart=_chart(found["turns"]),
        cost=str(sum((Decimal(each["cost"] or 0) for each in turns), Decimal())),
        lost=str(sum(lost, Decimal())),
        lost_tokens=sum(each["prompt_cache"]["lost"] for each in turns if each["prompt_cache"]),
        prompt=sum(each["prompt"] for each in turns),
        read=sum(each["tokens"]["cache_read"] for each in turns),
    )


def _prompt(tokens: Mapping[str, int]) -> int:
    """The tokens of the prompt."""
    return sum(
        tokens[name] for name in ("input", "cache_read", "cache_write", "cache_write_1h", "input_audio", "input_image")
    )


def _chart(turns: list[dict[str, Any]]) -> BarChart:
    """The sum of the costs up to each turn of the page, oldest first, and what the lost tokens of the turn cost."""
    bars, total = [], Decimal()
    for turn in reversed(turns):
        lost = turn["prompt_cache"]["dollars"] if turn["prompt_cache"] else None
        total += Decimal(turn["cost"] or 0)
        at = datetime.fromisoformat(turn["at"])
        bars.append(
            (f"{at:%H:%M:%S}: {money(turn['cost'])}, {money(str(total))} so far", float(total), float(lost or 0))
        )
    return bar_chart(bars, _MIN_SLOTS)


PAGES: Mapping[tuple[str, str], Handler] = {("GET", "/conversations"): conversations}

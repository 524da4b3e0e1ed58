"""The sums of each UTC day, from which most reports are answered.

A row of the ledger is in one group of each grouping, and is added to it in the transaction that adds the row. The
column `summed` of the row says so: a report adds the rows without it. These are rows of an older version, until they
are summed (upkeep.py), and rows with numbers that are too large for a sum.

A group has at least one row of its day, so a grouping never has more groups than the ledger has rows. Users, keys and
runs are as many as the callers want; CALLS has none of them, and its groups are bounded by the configuration and by the
models of the providers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from operator import add, itemgetter
from typing import Any

import msgspec
from sqlalchemy import Connection

from ..model.settlement import BOOKED, HITS
from .bulk import insert_many
from .tables import SUMMED, usage_sums
from .usage_query import AMOUNTS, HALF, MONEY, UsageFilter

# Of a row, in this order.
PARTS = (
    *("day", "tenant", "team", "user", "key", "model", "upstream_model", "response_model", "provider"),
    *("operation", "outcome", "run", "run_parent", "cache", "unpriced"),
    *AMOUNTS,
)
_AT = {name: index for index, name in enumerate(PARTS)}
COUNTED = AMOUNTS[: -len(MONEY)]
"""The columns with counts, which are summed as they are."""
_FIRST_COUNT, _FIRST_MONEY = _AT[COUNTED[0]], _AT[MONEY[0]]
MOST_COUNT = 1 << 32
"""Of a row that is summed. Those of an exchange are far lower (model/plausible.py). A sum of 2^31 rows has 64 bits."""
_encode = msgspec.json.Encoder().encode

Row = tuple[Any, ...]
"""The values of PARTS."""


@dataclass(frozen=True, slots=True)
class Grouping:
    """What the rows of a group have in common, besides their day. `number`: in the database."""

    number: int
    names: tuple[str, ...]
    values: Any = field(init=False)
    """Of a row: the day, and those of `names`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "values", itemgetter(*(_AT[name] for name in ("day", *self.names))))

    def answers(self, by: Collection[str], where: UsageFilter) -> bool:
        return {*by, *where.given} <= {"day", *self.names}


_CALL = ("model", "upstream_model", "response_model", "provider", "operation", "outcome")
CALLS = Grouping(1, ("tenant", "team", *_CALL))
CALLERS = Grouping(2, ("tenant", "team", "user", "key"))
RUNS = Grouping(3, ("tenant", "run", "run_parent"))
CALLS_OF_CALLERS = Grouping(4, ("tenant", "team", "user", "key", *_CALL))
GROUPINGS = (CALLS, CALLERS, RUNS, CALLS_OF_CALLERS)
"""Those with the fewest groups first."""


def grouping_of(by: Collection[str], where: UsageFilter) -> Grouping | None:
    """The smallest grouping that answers a report. None: only the rows do."""
    return next((each for each in GROUPINGS if each.answers(by, where)), None)


def can_be_summed(row: Row) -> bool:
    return all(-MOST_COUNT < count < MOST_COUNT for count in row[_FIRST_COUNT:_FIRST_MONEY])


@dataclass(slots=True)
class _Sums:
    grouping: Grouping
    groups: dict[Row, Sequence[int]] = field(default_factory=dict)


def add_to_sums(connection: Connection, rows: Iterable[Row]) -> None:
    """Adds rows to the groups of all groupings."""
    every = [_Sums(grouping) for grouping in GROUPINGS]
    for row in rows:
        amounts = tuple(_amounts(row))
        for sums in every:
            group = sums.grouping.values(row)
            before = sums.groups.get(group)
            sums.groups[group] = amounts if before is None else tuple(map(add, before, amounts))
    # In one order, so that replicas that add to the same groups at the same time wait for each other in a line.
    values = sorted((each for sums in every for each in _values(sums)), key=_order)
    if values:
        _upsert(connection, values)


_order = itemgetter(0, 1, 2)


def _amounts(row: Row) -> Iterator[int]:
    """Of the columns `rows` and SUMMED."""
    yield 1
    yield int(row[_AT["operation"]] not in BOOKED)
    yield int(row[_AT["outcome"]] != "ok")
    yield int(row[_AT["cache"]] in HITS)
    yield int(row[_AT["unpriced"]])
    yield from row[_FIRST_COUNT:_FIRST_MONEY]
    for amount in row[_FIRST_MONEY:]:
        yield from divmod(amount or 0, HALF)


_GROUP_NAMES = tuple(dict.fromkeys(name for grouping in GROUPINGS for name in grouping.names))
_COLUMNS = ("kind", "day", "digest", *_GROUP_NAMES, "rows", *SUMMED)


def _values(sums: _Sums) -> Iterator[Row]:
    """Of _COLUMNS."""
    number, names = sums.grouping.number, sums.grouping.names
    for group, amounts in sums.groups.items():
        by_name = dict(zip(names, group[1:], strict=True))
        digest = hashlib.blake2b(_encode(group[1:]), digest_size=16).digest()
        yield (number, group[0], digest, *map(by_name.get, _GROUP_NAMES), *amounts)


def _upsert(connection: Connection, values: Sequence[Row]) -> None:
    quote = connection.dialect.identifier_preparer.quote
    columns = map(quote, ("rows", *SUMMED))
    raised = ", ".join(f"{name} = usage_sums.{name} + excluded.{name}" for name in columns)
    insert_many(connection, usage_sums, _COLUMNS, values, f"ON CONFLICT (kind, day, digest) DO UPDATE SET {raised}")

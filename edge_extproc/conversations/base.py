"""The port of the store of conversations, and the steps by which a dialect uses it.

A record has an id and a list of blocks. The store knows no wire format: a dialect writes the blocks and reads them. The
tenant is a part of every key, so no tenant reads or changes a record of another one.

A dialect does no IO. It describes its work as a generator of steps (`Read`, `Write`, `Append`, `ReplaceBlock`,
`Delete`). The exchange performs each step in the store and sends the result back into the generator.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

import structlog

from ..errors import EdgeError
from ..model.frozen_dataclass import frozen_dataclass

T = TypeVar("T")

Blocks: TypeAlias = tuple[bytes, ...]


@frozen_dataclass
class Bounds:
    """The bounds of the records of one tenant. If one is exceeded, the records that were not used for the longest time
    are removed."""

    entries: int
    size: int
    """Bytes."""
    ttl: float
    """Seconds. A record expires if it was not used for this time."""


@frozen_dataclass
class Read:
    """The result is a list with the blocks of each record, or None for a record that does not exist."""

    ids: tuple[str, ...]


@frozen_dataclass
class Write:
    """Creates or replaces a record. There is no result."""

    id: str
    block: bytes


@frozen_dataclass
class Append:
    """Adds a block to a record. The result is whether the record exists."""

    id: str
    block: bytes


@frozen_dataclass
class ReplaceBlock:
    """Replaces one block of a record. The result is whether the record has the block `before` in this place."""

    id: str
    at: int
    """The position of the block in its record."""
    before: bytes
    block: bytes


@frozen_dataclass
class Delete:
    """The result is whether the record existed."""

    id: str


StoreStep: TypeAlias = Read | Write | Append | ReplaceBlock | Delete
StoreSteps: TypeAlias = Generator[StoreStep, Any, T]
"""A generator that yields steps, gets their results, and returns a T."""


class ConversationStore(Protocol):
    """Each method raises PolicyUnavailable if the store cannot be used. `write`, `append` and `replace` raise TooLarge
    for a record that exceeds the bound of its tenant alone."""

    @property
    def down(self) -> str | None:
        """Why the last operation failed. None: it did not."""
        ...

    async def read(self, tenant: str, ids: Sequence[str]) -> list[Blocks | None]: ...

    async def write(self, tenant: str, id: str, block: bytes) -> None: ...

    async def append(self, tenant: str, id: str, block: bytes) -> bool: ...

    async def replace(self, tenant: str, id: str, at: int, before: bytes, block: bytes) -> bool: ...

    async def delete(self, tenant: str, id: str) -> bool: ...

    def not_stored(self, tenant: str, error: EdgeError) -> None:
        """Logs that a reply could not be stored. Its caller got it all the same."""
        ...

    async def close(self) -> None: ...


Operation: TypeAlias = Literal["read", "write", "append", "replace", "delete"]
Result: TypeAlias = Literal["done", "missed", "too_large", "error"]
Removal: TypeAlias = Literal["expired", "room"]
"""Why the store itself removed a record: it was not used for its time, or another one needed its room."""


RemovalListener: TypeAlias = Callable[[Removal, int], None]
"""Called when the store itself removes records, with their number."""


def ignore_removal(why: Removal, records: int) -> None:
    """A `RemovalListener` that does nothing."""


class StoreListener(Protocol):
    """Counts what the store does."""

    def performed(self, operation: Operation, result: Result, records: int, size: int) -> None:
        """`records`: how many had this result. `size`: the bytes of the blocks that were read or written."""
        ...

    def removed(self, why: Removal, records: int) -> None: ...

    def not_stored(self, error: EdgeError) -> None:
        """A reply could not be stored."""
        ...


def log_not_stored(tenant: str, error: EdgeError) -> None:
    structlog.get_logger().warning("conversation_not_stored", tenant=tenant, reason=error.message)


async def perform(store: ConversationStore, tenant: str, steps: StoreSteps[T]) -> T:
    """Performs the steps for a tenant, and returns what the generator returns. Raises what a step raises, or what the
    generator raises."""
    result: Any = None
    while True:
        try:
            step = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        match step:
            case Read():
                result = await store.read(tenant, step.ids) if step.ids else []
            case Write():
                await store.write(tenant, step.id, step.block)
                result = None
            case Append():
                result = await store.append(tenant, step.id, step.block)
            case ReplaceBlock():
                result = await store.replace(tenant, step.id, step.at, step.before, step.block)
            case Delete():
                result = await store.delete(tenant, step.id)

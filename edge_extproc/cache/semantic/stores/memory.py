"""The store in the memory of each worker (../memory_store.py)."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field

from ....config.extras import Extra
from ....config.part import ConfigSection
from ....config.quantities import Count, Size
from ....config.secrets import Secret
from ..base import VectorStore, VectorStorePlugin


class MemoryStoreOptions(ConfigSection):
    """Each worker has its own records."""

    entries: Count = 10_000
    """The most questions in one worker."""
    size: Size = Field(default="64MiB", validate_default=True)
    """The most bytes in one worker, with the replies."""


class _MemoryPlugin:
    options = MemoryStoreOptions

    def required_extra(self, options: MemoryStoreOptions) -> Extra | None:
        del options
        return None

    def build(self, options: MemoryStoreOptions, secret: Callable[[Secret], Callable[[], str]]) -> VectorStore:
        from ..memory_store import MemoryVectorStore  # not before a worker needs it: numpy is in an extra

        del secret
        return MemoryVectorStore(options.entries, options.size)


PLUGIN: VectorStorePlugin = _MemoryPlugin()

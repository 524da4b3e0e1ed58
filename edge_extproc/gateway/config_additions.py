"""Providers and models that the admin API adds to the configuration of the running gateway."""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING

from ..config.load import names_in
from ..model.managed import Additions

if TYPE_CHECKING:
    from ..store.managed import Section
    from .reload import ConfigReloader


class ConfigAdditions:
    """The `AdditionControl` of the admin API."""

    def __init__(self, reloader: ConfigReloader) -> None:
        self._reloader = reloader

    @property
    def is_permitted(self) -> bool:
        return self._reloader.config.admin.additions is not None and self._reloader.origin.path is not None

    def in_force(self) -> Additions:
        """Also those that the file replaces."""
        return self._reloader.additions

    async def names_of_file(self, section: Section) -> frozenset[str]:
        return await asyncio.to_thread(_names, self._reloader.text, section)

    async def apply(self, additions: Additions) -> str | None:
        """Returns why they cannot be applied; None if they are in force."""
        outcome, error = await self._reloader.add(additions)
        if outcome == "restart_needed":
            return f"{error}; add it to the configuration file instead"
        return error


_names = lru_cache(maxsize=4)(names_in)

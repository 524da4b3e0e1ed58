"""The section `store`: the database of the ledger and of the admin API."""

from __future__ import annotations

from datetime import timedelta

from .part import ConfigSection
from .quantities import PositiveDuration
from .secrets import Secret


class StoreConfig(ConfigSection):
    database: Secret | None = None
    """postgresql://user:password@host/name, for several replicas. Default: SQLite in <state_dir>/edge.db."""
    every: PositiveDuration = timedelta(seconds=1)
    """The interval at which settlements are moved from the workers' journals to the ledger."""
    keep: PositiveDuration = timedelta(days=400)
    """How long the ledger keeps a request."""
    explain: bool = True
    """Whether the ledger has why each request went as it did: its limits, candidates, attempts and costs. It takes
    about 1 KB for each request."""
    keep_explanations: PositiveDuration = timedelta(days=7)
    """How long the ledger keeps it."""

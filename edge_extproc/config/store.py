"""What config says of the database: the usage ledger, and what the admin API manages."""

from __future__ import annotations

from datetime import timedelta

from .part import ConfigSection
from .quantities import PositiveDuration
from .secrets import Secret


class StoreConfig(ConfigSection):
    database: Secret | None = None
    """postgresql://user:password@host/name for several replicas; SQLite in <state_dir>/edge.db where not given."""
    every: PositiveDuration = timedelta(seconds=1)
    """How often settled requests go from the workers' journals to the ledger."""
    keep: PositiveDuration = timedelta(days=400)
    """How long the ledger keeps a request."""

"""The section `records`: what workers and gateways must know together about earlier requests."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from pydantic import AfterValidator

from .limits import redis_url
from .part import ConfigSection
from .quantities import PositiveDuration
from .secrets import Secret


class RecordsConfig(ConfigSection):
    """The store of records: the owners of objects at a provider's account, the accounts that made encrypted
    reasoning, and the replies of requests with an Idempotency-Key."""

    url: Annotated[Secret, AfterValidator(redis_url)] | None = None
    """A Redis or Valkey that writes to disk, for several gateways. Default: limiter.url if limiter.replicas is auto
    or more than 1, otherwise the file records.db in the state directory, for all workers of a machine."""
    timeout: PositiveDuration = timedelta(seconds=1)
    """The longest time of one operation of the Redis."""

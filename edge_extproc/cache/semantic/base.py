"""The ports of the semantic cache: embedders, verifiers and stores of vectors.

An embedder makes a vector of a text. A store keeps the vectors of earlier questions, with their replies, and returns
the nearest ones of one partition. A verifier compares two questions in one respect; all of them must agree before a
reply is used. A file of `embedders`, `verifiers` or `stores` that exports PLUGIN is one of them.

A partition is a keyed hash of the owner, the model, its candidates, and the whole call but its last text of the user.
So questions of two owners never meet, and neither do questions under two system prompts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from ...config.secrets import Secret
from ...model.frozen_dataclass import frozen_dataclass
from ...model.usage import Usage
from ..base import CacheEntry, PurgeSelection, TierCounts
from ..key import CacheKey
from .questions import Question

if TYPE_CHECKING:  # a configuration may be read where the packages of the extra are not installed
    import numpy as np

    from ...config.extras import Extra

Vector: TypeAlias = "np.ndarray[tuple[int], np.dtype[np.float32]]"
"""Of length 1, so that the product of two is their cosine."""


class SemanticFailure(Exception):
    """An embedder or a store did not answer. `why` is a metric label of a small fixed set: unreachable, slow, refused,
    full, answer, bug. `reason` is for logs, without secrets and texts of callers."""

    def __init__(self, why: str, reason: str = "") -> None:
        super().__init__(why)
        self.why = why
        self.reason = reason or why


# --- embedders


class Embedder(Protocol):
    """Makes vectors of texts."""

    @property
    def identity(self) -> str:
        """Names the embedder and its model. Vectors of two identities cannot be compared, so it is part of the
        partition."""
        ...

    async def embed(self, texts: Sequence[str], tenant: str) -> Sequence[Vector]:
        """One vector for each text. `tenant`: on whose behalf, for the ledger. Raises SemanticFailure."""
        ...

    async def close(self) -> None: ...


@frozen_dataclass
class EmbeddingUse:
    """One request to a provider of embeddings, for the ledger."""

    tenant: str
    provider: str
    """The id of the provider in the price list."""
    model: str
    usage: Usage
    seconds: float


@frozen_dataclass
class EmbedderTools:
    """What an embedder gets from the worker."""

    secret: Callable[[Secret], Callable[[], str]]
    """Gives the present value of a secret; one from a file is read again when the file changes."""
    meter: Callable[[EmbeddingUse], None]
    """Charges a request that costs money."""


class EmbedderPlugin(Protocol):
    """PLUGIN of a file in `embedders`."""

    @property
    def options(self) -> type[Any]:
        """The section of the configuration: a ConfigSection."""
        ...

    def required_extra(self, options: Any) -> Extra | None:
        """The extra with the packages that it needs."""
        ...

    def build(self, options: Any, tools: EmbedderTools) -> Embedder:
        """Raises ConfigError if the options cannot work."""
        ...


# --- verifiers


class Verifier(Protocol):
    """PLUGIN of a file in `verifiers`: compares two questions in one respect. It is pure. It refuses when in doubt: a
    refusal costs one call to a provider, a wrong agreement gives a caller a wrong reply."""

    def agree(self, asked: Question, known: Question) -> bool:
        """Whether the reply to `known` may answer `asked`, in this respect."""
        ...


# --- stores


@frozen_dataclass
class SemanticRecord:
    """One question with its reply."""

    key: CacheKey
    """Of the call that the reply was for. It is what a purge selects by."""
    partition: bytes
    text: str
    """The last text of the user."""
    vector: Vector
    entry: CacheEntry
    answer: str
    """The beginning of the reply's text, to compare with another reply in shadow mode."""
    expires: float
    """Unix time, seconds."""


@frozen_dataclass
class Neighbour:
    """A record near to a question."""

    record: SemanticRecord
    similarity: float
    """The cosine of both vectors."""


class VectorStore(Protocol):
    """Keeps records. All methods but `counts` raise SemanticFailure and nothing else."""

    @property
    def shared(self) -> bool:
        """Whether other processes use the same records."""
        ...

    @property
    def down(self) -> str | None:
        """Why the store is not used now. None: it is used."""
        ...

    async def nearest(self, partition: bytes, vector: Vector, count: int, now: float) -> Sequence[Neighbour]:
        """At most `count` records of this partition that have not expired, nearest first. `now`: Unix time, seconds."""
        ...

    async def put(self, record: SemanticRecord, now: float) -> None:
        """A record with the same key and partition is replaced."""
        ...

    async def purge(self, selection: PurgeSelection) -> int:
        """Returns the number of removed records."""
        ...

    def counts(self) -> TierCounts:
        """What this process holds in memory."""
        ...

    async def close(self) -> None: ...


class VectorStorePlugin(Protocol):
    """PLUGIN of a file in `stores`."""

    @property
    def options(self) -> type[Any]:
        """The section of the configuration: a ConfigSection."""
        ...

    def required_extra(self, options: Any) -> Extra | None:
        """The extra with the packages that it needs."""
        ...

    def build(self, options: Any, secret: Callable[[Secret], Callable[[], str]]) -> VectorStore:
        """`secret`: as in EmbedderTools. Raises ConfigError if the options cannot work."""
        ...


# --- what the worker counts


class SemanticListener(Protocol):
    """Receives the events of the semantic cache, for metrics."""

    def semantic_looked_up(self, result: str, seconds: float) -> None:
        """`result`: hit, miss (no question is near), refused (a verifier refused the nearest), shadowed, off, slow or
        failed."""
        ...

    def semantic_refused(self, verifier: str) -> None:
        """A verifier refused a question that was near enough."""
        ...

    def semantic_hit(self, model: str, tenant: str) -> None: ...

    def semantic_failed(self, part: str, why: str) -> None:
        """`part`: embedder or store."""
        ...

    def semantic_compared(self, model: str, tenant: str, *, agreed: bool, how: str) -> None:
        """A comparison in shadow mode. `how`: exact or embedding."""
        ...

    def semantic_estimate(self, model: str, tenant: str, rate: float, low: float, high: float, *, is_off: bool) -> None:
        """The estimated share of false hits with its interval, and whether it turned the cache off."""
        ...

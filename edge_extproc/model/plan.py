"""Whom we try, in order, and how each try ended."""

from __future__ import annotations

from dataclasses import field
from typing import Literal, TypeAlias

from .noun import noun
from .usage import Usage


@noun
class Candidate:
    """One provider and the name under which it knows the model."""

    provider: str
    model: str
    dialect: str = ""
    """The wire format in which config wants it asked; empty: whichever fits the call best."""
    weight: int = field(default=1, compare=False)
    """Its share where calls are spread; at least 1."""


@noun
class Fallback:
    """Whom to ask where a candidate cannot answer this very call, and another model may."""

    context_length: tuple[Candidate, ...] = ()
    content_filter: tuple[Candidate, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.context_length or self.content_filter)


NO_FALLBACK = Fallback()


@noun
class Plan:
    """The candidates of one exchange, best first; never empty.

    Attempt N goes to candidate N, later ones to the last one.
    """

    candidates: tuple[Candidate, ...]
    strategy: str = "failover"
    guarded: bool = False
    """An answer is held back until its first token, so that a failure before it can be tried elsewhere."""
    tries: int = 0
    """At most so many; 0: as many as Envoy's configuration says."""
    once: bool = False
    """The caller forbade to send this call twice: only a connection that never came about is tried again."""
    try_timeout: float | None = None
    """Seconds that one try may take until its answer begins; None: what Envoy's configuration says."""
    hedged: bool = False
    """After `try_timeout` the next candidate is asked too, and the first to answer wins."""
    fallback: Fallback = NO_FALLBACK
    probes: tuple[Candidate, ...] = ()
    """Of the candidates, those whose circuit is half open and for which this exchange is the one probe."""

    def at(self, attempt: int) -> Candidate:
        """The candidate of the given attempt, counted from 1 as Envoy does."""
        return self.candidates[min(max(attempt, 1), len(self.candidates)) - 1]

    def asked(self, attempt: int, provider: str | None) -> Candidate:
        """The same where it is known, by its endpoint, which provider Envoy has chosen."""
        counted = self.at(attempt)
        if provider is None or counted.provider == provider:
            return counted
        return next((c for c in self.candidates if c.provider == provider), counted)


NO_HOST = "no_host"
"""The reason of a try for which Envoy had no address: nothing was sent, and Envoy does not go on to the next one."""

Verdict: TypeAlias = Literal["ok", "failed", "unknown"]


@noun
class AttemptResult:
    """One try, as far as it teaches something of its candidate."""

    candidate: Candidate
    verdict: Verdict
    """failed: the provider's fault (or that of the way to it). unknown: nobody can tell, as when the caller left."""
    status: int | None = None
    reason: str = ""
    """Our word for the failure: holds no text of a provider's."""
    first_token: float | None = None
    """Seconds from the beginning of the try to the first byte of a streamed answer."""
    duration: float | None = None
    """Seconds from the beginning of the try to its end."""
    stream: bool = False
    usage: Usage | None = None
    """What the reply used, or what had been seen of it."""
    retry_after: float | None = None
    """For how many seconds a provider that failed wants to be left alone; None where it did not say."""

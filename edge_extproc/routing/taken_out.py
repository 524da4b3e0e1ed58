"""Providers that an admin has taken out: they get no new attempts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..errors import Unavailable
from ..model.frozen_dataclass import frozen_dataclass
from ..model.managed import ManagedState
from ..model.plan import Candidate, Fallback

_NEVER = float("inf")


@frozen_dataclass
class TakenOutProviders:
    until: Mapping[str, float]
    """By the name of a provider: the Unix time from which it is used again."""

    def __bool__(self) -> bool:
        return bool(self.until)

    def has(self, provider: str, now: float) -> bool:
        return now < self.until.get(provider, 0.0)

    def used(self, candidates: Sequence[Candidate], now: float) -> Sequence[Candidate]:
        """The candidates of other providers. Raises Unavailable if there are none."""
        rest = tuple(each for each in candidates if not self.has(each.provider, now))
        if not rest:
            names = ", ".join(dict.fromkeys(each.provider for each in candidates))
            raise Unavailable(f"an admin of this gateway has taken out the providers of this model: {names}")
        return rest

    def used_fallback(self, fallback: Fallback, now: float) -> Fallback:
        return Fallback(
            tuple(each for each in fallback.context_length if not self.has(each.provider, now)),
            tuple(each for each in fallback.content_filter if not self.has(each.provider, now)),
        )


NONE_TAKEN_OUT = TakenOutProviders({})


def taken_out_of(managed: ManagedState) -> TakenOutProviders:
    if not managed.taken_out:
        return NONE_TAKEN_OUT
    return TakenOutProviders(
        {each.provider: _NEVER if each.until_ms is None else each.until_ms / 1000 for each in managed.taken_out}
    )

"""Shadow mode: of some would-be hits, the provider is called all the same, and both replies are compared.

The share of replies that differ is an estimate of the share of false hits. It has a Wilson interval, which is right for
small counts too. It is kept for each model and tenant, over the last comparisons. If it exceeds a bound, the semantic
cache is off for that model and tenant, until enough later comparisons show that it is below. This module does no IO.
"""

from __future__ import annotations

import math
import re
from collections import OrderedDict, deque

from ...model.content import Text
from ...model.frozen_dataclass import frozen_dataclass
from ...model.reply import Reply

# Of the normal distribution: 95 % lie within.
_Z = 1.959964
# Pairs of model and tenant. Callers can choose model names, so there may be any number.
_MOST_ESTIMATES = 4096
# Characters of a reply that are kept for comparisons.
_MOST_CHARACTERS = 4000
# A reply of at most so many characters is a fact rather than prose: its numbers must be equal.
_SHORT = 160
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_SPACE = re.compile(r"\s+")


@frozen_dataclass
class ShadowSettings:
    share: float
    """Of would-be hits, from 0 to 1."""
    agreement: float
    """The least cosine of two replies that agree."""
    max_false_hits: float
    """The highest estimated share of false hits, from 0 to 1."""
    min_compared: int
    """Comparisons before the estimate may turn anything off."""
    window: int
    """The last comparisons, of which the estimate is made."""


@frozen_dataclass
class ShareEstimate:
    """An estimated share, with the interval that contains the real one with a probability of 95 %."""

    rate: float
    low: float
    high: float


def wilson(count: int, total: int) -> ShareEstimate:
    """Of `count` among `total`. Without any comparison, nothing is known: 0 to 1.

    E. B. Wilson, Probable Inference, the Law of Succession, and Statistical Inference, JASA 22 (1927).
    """
    if total == 0:
        return ShareEstimate(0.0, 0.0, 1.0)
    share, square = count / total, _Z * _Z
    centre = share + square / (2 * total)
    spread = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total * total))
    scale = 1 + square / total
    return ShareEstimate(share, max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale))


class _Comparisons:
    __slots__ = ("is_off", "last")

    def __init__(self, window: int) -> None:
        self.last: deque[bool] = deque(maxlen=window)
        self.is_off = False


class FalseHitEstimates:
    """The estimates by model and tenant."""

    def __init__(self, settings: ShadowSettings) -> None:
        self.settings = settings
        self._by_name: OrderedDict[tuple[str, str], _Comparisons] = OrderedDict()

    def is_off(self, model: str, tenant: str) -> bool:
        """Whether too many of the would-be hits were false."""
        comparisons = self._by_name.get((model, tenant))
        return comparisons is not None and comparisons.is_off

    def add(self, model: str, tenant: str, *, agreed: bool) -> tuple[ShareEstimate, bool]:
        """Adds one comparison. Returns the new estimate, and whether the cache is off now."""
        comparisons = self._by_name.get((model, tenant))
        if comparisons is None:
            while len(self._by_name) >= _MOST_ESTIMATES:
                self._by_name.popitem(last=False)
            comparisons = self._by_name[model, tenant] = _Comparisons(self.settings.window)
        comparisons.last.append(agreed)
        total = len(comparisons.last)
        estimate = wilson(comparisons.last.count(False), total)
        if comparisons.is_off:
            # It needs more to be on again than to stay on, so that it does not change with each comparison.
            comparisons.is_off = estimate.high > self.settings.max_false_hits
        else:
            comparisons.is_off = total >= self.settings.min_compared and estimate.rate > self.settings.max_false_hits
        return estimate, comparisons.is_off


def answer_of(reply: Reply) -> str:
    """The beginning of a reply's text."""
    texts = (part.text for choice in reply.choices[:1] for part in choice.parts if isinstance(part, Text))
    return "\n".join(texts)[:_MOST_CHARACTERS]


def are_equal(one: str, other: str) -> bool:
    """Whether two replies differ in white space and case alone."""
    return _plain(one) == _plain(other)


def have_other_numbers(one: str, other: str) -> bool:
    """Whether two short replies name different numbers."""
    if max(len(one), len(other)) > _SHORT:
        return False
    return set(_NUMBER.findall(one)) != set(_NUMBER.findall(other))


def _plain(text: str) -> str:
    return _SPACE.sub(" ", text).strip().casefold()

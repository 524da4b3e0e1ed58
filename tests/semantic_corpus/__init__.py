"""Pairs of questions for the semantic cache: paraphrases, and pairs that are near in words and far in meaning.

The corpus has two parts. Verifiers and thresholds may be changed by what `tuning` shows. `held_out` has other templates
and other words, and only measures: nothing may be changed because of one of its pairs. All sentences were written for
it. `pairs(part)` makes the same pairs each time.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from . import held_out, tuning

Part = Literal["tuning", "held_out"]

# Pairs of one kind, at most.
MOST_OF_A_KIND = 140
MOST_PARAPHRASES = 420
PARAPHRASE = "paraphrase"


@dataclass(frozen=True)
class Pair:
    kind: str
    one: str
    other: str

    @property
    def means_the_same(self) -> bool:
        return self.kind == PARAPHRASE


def pairs(part: Part) -> list[Pair]:
    source = tuning if part == "tuning" else held_out
    made: list[Pair] = []
    for kind, templates in source.ADVERSARIAL.items():
        every = sorted({pair for template in templates for pair in _filled(template, source.WORDS)})
        made += [Pair(kind, *pair) for pair in _some(every, MOST_OF_A_KIND, f"{part} {kind}")]
    every = sorted({pair for group in source.PARAPHRASES for pair in _paraphrased(group, source.WORDS)})
    made += [Pair(PARAPHRASE, *pair) for pair in _some(every, MOST_PARAPHRASES, part)]
    return made


def wordings(part: Part) -> list[list[str]]:
    """Each question of the part with all of its wordings, the commonest first."""
    source = tuning if part == "tuning" else held_out
    made = []
    for group in source.PARAPHRASES:
        slots = _slots(*group)
        for values in itertools.product(*(source.WORDS[name] for name in slots)):
            value = dict(zip(slots, values, strict=True))
            made.append([each.format(**value) for each in group])
    return made


def _some(every: list[tuple[str, str]], most: int, seed: str) -> list[tuple[str, str]]:
    return random.Random(seed).sample(every, min(most, len(every)))


def _slots(*templates: str) -> list[str]:
    """The names of the slots: {thing}, or {thing2} for another value of the same list."""
    names = {part.partition("}")[0] for template in templates for part in template.split("{")[1:]}
    return sorted(names)


def _filled(template: tuple[str, str], words: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    """Both sentences with the same values. A second slot of a list has a value that differs from the first's."""
    slots = _slots(*template)
    for values in itertools.product(*(words[name.rstrip("2")] for name in slots)):
        value = dict(zip(slots, values, strict=True))
        if any(value[name] == value.get(name + "2") for name in slots):
            continue
        one, other = (each.format(**value) for each in template)
        if one != other:
            yield one, other


def _paraphrased(group: Sequence[str], words: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for one, other in itertools.combinations(group, 2):
        yield from _filled((one, other), words)

"""PYTHONPATH=tests python docs/semantic_tables.py: writes the tables of docs/semantic-cache.md.

What an embedder alone, and the verifiers, decide on the corpus in tests/semantic_corpus.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from semantic_corpus import PARAPHRASE, Pair, Part, pairs, wordings

from edge_extproc import registry
from edge_extproc.cache.semantic.base import Vector, Verifier
from edge_extproc.cache.semantic.questions import Question
from edge_extproc.cache.semantic.static_embedder import load
from edge_extproc.config.semantic import VERIFIERS, SemanticCacheConfig

PAGE = Path(__file__).resolve().parent / "semantic-cache.md"
THRESHOLDS = (0.7, 0.8, 0.9, 0.95)
SIMILARITY: float = SemanticCacheConfig.model_fields["similarity"].default
NEIGHBOURS: int = SemanticCacheConfig.model_fields["neighbours"].default
PARTS: tuple[Part, ...] = ("tuning", "held_out")


@dataclass(frozen=True)
class Decision:
    pair: Pair
    similarity: float
    refusing: frozenset[str]
    """The verifiers that refuse the pair."""

    @property
    def is_hit(self) -> bool:
        return self.similarity >= SIMILARITY and not self.refusing


EMBEDDERS: Mapping[str, Callable[[], Callable[[str], Vector]]] = {"static": lambda: load().vector}
"""Those that need no network. An endpoint's model is measured by the same function."""


@cache
def decisions(embedder: str, part: Part) -> Sequence[Decision]:
    vector = EMBEDDERS[embedder]()
    verifiers: dict[str, Verifier] = {name: registry.load(VERIFIERS, name) for name in registry.names(VERIFIERS)}
    made = []
    for pair in pairs(part):
        one, other = Question(pair.one), Question(pair.other)
        refusing = frozenset(name for name, verifier in verifiers.items() if not verifier.agree(one, other))
        made.append(Decision(pair, float(vector(pair.one) @ vector(pair.other)), refusing))
    return made


def _share(count: int, total: int) -> str:
    return f"{100 * count / total:.0f} %"


def by_embedder() -> str:
    rows = [
        "| embedder | decides | wrong hits among other meanings | paraphrases that hit |",
        "|---|---|---|---|",
    ]
    for name in EMBEDDERS:
        held_out = decisions(name, "held_out")
        same = [each for each in held_out if each.pair.means_the_same]
        other = [each for each in held_out if not each.pair.means_the_same]
        for threshold in THRESHOLDS:
            wrong, right = (sum(each.similarity >= threshold for each in some) for some in (other, same))
            rows.append(
                f"| {name} | cosine of at least {threshold} alone | {_share(wrong, len(other))} | "
                f"{_share(right, len(same))} |"
            )
        wrong, right = (sum(each.is_hit for each in some) for some in (other, same))
        rows.append(
            f"| {name} | cosine of at least {SIMILARITY}, and all verifiers | {wrong} of {len(other):,} | "
            f"{right} of {len(same):,} ({_share(right, len(same))}) |"
        )
    return "\n".join(rows)


def by_kind() -> str:
    rows = [
        "| kind | pairs, tuning | hits | pairs, held out | hits | held out, hits without `words` |",
        "|---|---|---|---|---|---|",
    ]
    of_parts = [decisions("static", part) for part in PARTS]
    for kind in dict.fromkeys(each.pair.kind for each in of_parts[1]):
        cells = [kind]
        for some in of_parts:
            of_kind = [each for each in some if each.pair.kind == kind]
            cells += [str(len(of_kind)), str(sum(each.is_hit for each in of_kind))]
        lax = sum(
            each.pair.kind == kind and each.similarity >= SIMILARITY and each.refusing <= {"words"}
            for each in of_parts[1]
        )
        rows.append(f"| {' | '.join([*cells, str(lax)])} |")
    return "\n".join(rows)


def by_verifier() -> str:
    rows = ["| verifier | refuses, of other meanings | refuses, of paraphrases |", "|---|---|---|"]
    held_out = decisions("static", "held_out")
    totals = Counter(each.pair.kind == PARAPHRASE for each in held_out)
    for name in registry.names(VERIFIERS):
        refused = Counter(each.pair.kind == PARAPHRASE for each in held_out if name in each.refusing)
        rows.append(f"| `{name}` | {_share(refused[False], totals[False])} | {_share(refused[True], totals[True])} |")
    return "\n".join(rows)


CALLS = 3000
EXPONENTS = (0.8, 1.0, 1.2)


def by_traffic() -> str:
    """Calls whose questions follow Zipf's law, and so do the wordings of a question."""
    rows = [
        "| exponent | exact cache | with the semantic cache | wrong |",
        "|---|---|---|---|",
    ]
    vector = cache(EMBEDDERS["static"]())
    for exponent in EXPONENTS:
        chance = random.Random("traffic")  # noqa: S311 - not for security
        questions = wordings("held_out")
        chance.shuffle(questions)
        weights = [rank**-exponent for rank in range(1, len(questions) + 1)]
        alone = hits = wrong = 0
        seen: set[str] = set()  # by an exact cache without a semantic one
        known: dict[str, int] = {}
        matrix = np.empty((CALLS, 256), np.float32)
        for number in chance.choices(range(len(questions)), weights, k=CALLS):
            texts = questions[number]
            (text,) = chance.choices(texts, [1 / rank for rank in range(1, len(texts) + 1)])
            alone += text in seen
            seen.add(text)
            if text in known:
                hits += 1
                continue
            similarities = matrix[: len(known)] @ vector(text)
            names, hit = list(known), None
            for row in np.argsort(similarities)[::-1][:NEIGHBOURS]:
                if similarities[row] >= SIMILARITY and _agree(text, names[row]):
                    hit = known[names[row]]
                    break
            if hit is None:  # as in the gateway, only a reply of the provider is stored
                matrix[len(known)] = vector(text)
                known[text] = number
            else:
                hits += 1
                wrong += hit != number
        rows.append(f"| {exponent} | {_share(alone, CALLS)} | {_share(hits, CALLS)} | {wrong} |")
    return "\n".join(rows)


@cache
def _question(text: str) -> Question:
    return Question(text)


def _agree(one: str, other: str) -> bool:
    verifiers = (registry.load(VERIFIERS, name) for name in registry.names(VERIFIERS))
    return all(each.agree(_question(one), _question(other)) for each in verifiers)


def page() -> str:
    """The page with the current tables."""
    text = PAGE.read_text("utf-8")
    tables = {"embedders": by_embedder, "kinds": by_kind, "verifiers": by_verifier, "traffic": by_traffic}
    for name, table in ((name, write()) for name, write in tables.items()):
        begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"
    return text


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")

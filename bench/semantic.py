"""python -m bench.semantic: the processor time of a lookup in the semantic cache, by its parts.

It uses the static embedder, the store in memory, all verifiers, and the questions of tests/semantic_corpus. The unit is
milliseconds of one core.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from semantic_corpus import wordings

from edge_extproc import registry
from edge_extproc.cache.base import CacheEntry
from edge_extproc.cache.key import CacheKey
from edge_extproc.cache.semantic.base import SemanticRecord
from edge_extproc.cache.semantic.memory_store import MemoryVectorStore
from edge_extproc.cache.semantic.questions import Question
from edge_extproc.cache.semantic.static_embedder import load
from edge_extproc.config.semantic import VERIFIERS

REPEATS = 2000
SIZES = (200, 1000, 10_000)
PARTITION = b"p" * 32


def milliseconds(work: Callable[[int], object]) -> float:
    began = time.process_time()
    for number in range(REPEATS):
        work(number)
    return (time.process_time() - began) / REPEATS * 1000


def main() -> None:
    embedder, chance = load(), random.Random(1)  # noqa: S311 - not for security
    questions = [text for group in wordings("held_out") for text in group]
    verifiers = [registry.load(VERIFIERS, name) for name in registry.names(VERIFIERS)]
    print(
        f"{len(questions)} questions of {sum(len(q.split()) for q in questions) / len(questions):.0f} words on average"
    )
    for length in (1, 4):
        texts = [" ".join(chance.choices(questions, k=length)) for _ in range(200)]
        words = sum(len(text.split()) for text in texts) / len(texts)
        spent = milliseconds(lambda number, texts=texts: embedder.vector(texts[number % 200]))
        print(f"embed a question of {words:.0f} words: {spent:.3f} ms")
    known = [Question(text) for text in questions]

    def verify(number: int) -> bool:
        asked = Question(questions[number % len(questions)])
        other = known[number % len(known)]
        return all(each.agree(asked, other) for each in verifiers)

    print(f"verify one question: {milliseconds(verify):.3f} ms")
    for size in SIZES:
        store = MemoryVectorStore(size, 1 << 30)
        entry = CacheEntry("openai_chat", b"{}", "openai", "gpt", 0.0)

        async def fill(store: MemoryVectorStore = store, size: int = size, entry: CacheEntry = entry) -> None:
            for number in range(size):
                text = f"{questions[number % len(questions)]} {number}"
                key = CacheKey("tenant/a", "m", number.to_bytes(32, "big"))
                record = SemanticRecord(key, PARTITION, text, embedder.vector(text), entry, "", 1e12)
                await store.put(record, 0.0)

        asyncio.run(fill())
        asked = embedder.vector(questions[0])

        async def search(store: MemoryVectorStore = store, asked: object = asked) -> float:
            began = time.process_time()
            for _ in range(200):
                await store.nearest(PARTITION, asked, 5, 0.0)  # type: ignore[arg-type]
            return (time.process_time() - began) / 200 * 1000

        print(f"search {size} questions of one partition: {asyncio.run(search()):.3f} ms")


if __name__ == "__main__":
    main()

"""An embedder: it counts letters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge_extproc.cache.semantic.base import Embedder, EmbedderPlugin, EmbedderTools, Vector
from edge_extproc.config.extras import Extra
from edge_extproc.config.part import ConfigSection
from edge_extproc.config.quantities import Count


class LettersOptions(ConfigSection):
    """Counts of letters."""

    letters: Count = 26
    """How many letters are counted."""


class Letters:
    def __init__(self, letters: int) -> None:
        self.identity = f"letters/{letters}"
        self._letters = letters

    async def embed(self, texts: Sequence[str], tenant: str) -> Sequence[Vector]:
        del tenant
        return [self._vector(text) for text in texts]

    def _vector(self, text: str) -> Vector:
        counts = np.ones(self._letters, np.float32)
        for sign in text.lower():
            counts[ord(sign) % self._letters] += 1
        return counts / np.float32(np.sqrt(counts @ counts))

    async def close(self) -> None:
        """Nothing is open."""


class LettersPlugin:
    options = LettersOptions

    def required_extra(self, options: LettersOptions) -> Extra | None:
        del options
        return None

    def build(self, options: LettersOptions, tools: EmbedderTools) -> Embedder:
        del tools
        return Letters(options.letters)


PLUGIN: EmbedderPlugin = LettersPlugin()

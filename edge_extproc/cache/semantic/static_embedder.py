"""Vectors of words, averaged: the weights and the tokens are files in the package wordllama, and are read directly.

wordllama itself is not imported, and nothing is downloaded. The weights (16 MB) are mapped, so all workers share them.
Numbers, negations and the order of words hardly change such a vector: what decides is the verifiers.
"""

from __future__ import annotations

import importlib.util
import json
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from ...errors import ConfigError
from .base import Vector

_PACKAGE = "wordllama"
_WEIGHTS, _TOKENS = "weights/l2_supercat_256.safetensors", "tokenizers/l2_supercat_tokenizer_config.json"
_TENSOR = "embedding.weight"


class StaticEmbedder:
    """The `Embedder`. A question of 64 words takes about 0.2 ms."""

    identity = "static/l2_supercat_256"

    def __init__(self, tokenizer: Tokenizer, weights: np.ndarray[tuple[int, int], np.dtype[np.float16]]) -> None:
        self._tokenizer = tokenizer
        self._weights = weights

    async def embed(self, texts: Sequence[str], tenant: str) -> Sequence[Vector]:
        del tenant
        return [self.vector(text) for text in texts]

    def vector(self, text: str) -> Vector:
        ids = self._tokenizer.encode(text, add_special_tokens=False).ids
        rows = self._weights.take(ids, axis=0)
        total: Vector = rows.sum(axis=0, dtype=np.float32)
        length = float(np.sqrt(total @ total))
        return total / np.float32(length) if length else total

    async def close(self) -> None:
        """The map of the weights ends with the process."""


def load() -> StaticEmbedder:
    """Raises ConfigError if the files are not as they should be."""
    try:
        folder = _folder()
        return StaticEmbedder(Tokenizer.from_file(str(folder / _TOKENS)), _mapped(folder / _WEIGHTS))
    except (OSError, ValueError, KeyError, struct.error) as error:
        raise ConfigError(
            f"the weights of cache.semantic.embedder.static cannot be read from the package {_PACKAGE}: {error}"
        ) from error


def _folder() -> Path:
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise OSError("it has no files")
    return Path(spec.submodule_search_locations[0])


def _mapped(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.float16]]:
    """The tensor of a safetensors file: the length of a JSON header in 8 bytes, the header, and the numbers.

    https://huggingface.co/docs/safetensors
    """
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size:
            raise ValueError("the header is longer than the file")
        tensor = json.loads(file.read(length))[_TENSOR]
    rows, columns = tensor["shape"]
    if tensor["dtype"] != "F16":
        raise ValueError(f"the numbers are {tensor['dtype']}, not F16")
    offset = 8 + length + tensor["data_offsets"][0]
    return np.memmap(path, dtype="<f2", mode="r", offset=offset, shape=(rows, columns))

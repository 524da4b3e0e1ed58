"""The embedder within the gateway (../static_embedder.py)."""

from __future__ import annotations

from ....config.extras import Extra
from ....config.part import ConfigSection
from ..base import Embedder, EmbedderPlugin, EmbedderTools

_EXTRA = Extra("semantic", ("numpy", "tokenizers", "wordllama"))


class StaticEmbedderOptions(ConfigSection):
    """Averaged vectors of words, within the gateway."""


class _StaticPlugin:
    options = StaticEmbedderOptions

    def required_extra(self, options: StaticEmbedderOptions) -> Extra:
        del options
        return _EXTRA

    def build(self, options: StaticEmbedderOptions, tools: EmbedderTools) -> Embedder:
        from ..static_embedder import load  # not before a worker needs it: its packages are in an extra

        del options, tools
        return load()


PLUGIN: EmbedderPlugin = _StaticPlugin()

"""Embedders: each file with a PLUGIN is one kind, by its name in `cache.semantic.embedder`."""

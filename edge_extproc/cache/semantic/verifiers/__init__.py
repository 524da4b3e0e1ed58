"""Verifiers: each file with a PLUGIN compares two questions in one respect, by its name in `cache.semantic.verify`."""

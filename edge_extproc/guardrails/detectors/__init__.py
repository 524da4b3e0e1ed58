"""Detectors: each finds one kind of text. They use no network."""

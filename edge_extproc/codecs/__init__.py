"""Bytes to frames and back: no meaning, no IO, bounded memory, never decoding the past again."""

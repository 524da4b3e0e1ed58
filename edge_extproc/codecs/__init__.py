"""Framings and encodings: bytes to frames and back. The codecs do no IO, use bounded memory, process each byte once,
and know nothing of the content."""

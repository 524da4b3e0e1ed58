"""The bytes of images and files in a request: the spelling of their base64, and the type that they show.

Hosts of OpenAI's formats decode base64 leniently and find the type of an image in its bytes. Anthropic and Bedrock
refuse base64 in another spelling, and an image whose bytes show another type than the request says.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from types import MappingProxyType

URL_SAFE = str.maketrans("-_", "+/")
_BLANKS = str.maketrans("", "", " \t\r\n")

# The first bytes of each type, in base64.
_BEGINNINGS: Mapping[str, str] = MappingProxyType(
    {"/9j/": "image/jpeg", "iVBORw0KGgo": "image/png", "R0lGOD": "image/gif", "JVBERi0": "application/pdf"}
)
_RIFF = "UklGR"  # WebP, and other formats
_RIFF_HEADER = 16
"""Characters of base64 for the twelve bytes of a RIFF header."""


def plain_base64(data: str) -> str:
    """The same bytes in the standard alphabet, with padding and without white space."""
    if "\n" in data or " " in data or "\r" in data or "\t" in data:
        data = data.translate(_BLANKS)
    if "-" in data or "_" in data:
        data = data.translate(URL_SAFE)
    return data + "=" * (-len(data) % 4)


def type_of_image(media_type: str, data: str) -> str:
    """The type of an image or a PDF, by its first bytes. `media_type`: what the request says, for bytes that show none
    of the types that all providers accept. The result is in lower case, without parameters."""
    for beginning, shown in _BEGINNINGS.items():
        if data.startswith(beginning):
            return shown
    if data.startswith(_RIFF) and _is_webp(data[:_RIFF_HEADER]):
        return "image/webp"
    named = media_type.lower().partition(";")[0].strip()
    return "image/jpeg" if named == "image/jpg" else named


def _is_webp(header: str) -> bool:
    try:
        return base64.b64decode(header).endswith(b"WEBP")
    except binascii.Error:
        return False

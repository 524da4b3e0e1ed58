"""Finds pictures, documents and audio by their type, their size and their hash. Their content is not read.

The type of a file is what the caller says, and what its first bytes say: both must be allowed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate
from typing import Annotated, ClassVar

from pydantic import AfterValidator, model_validator

from ...config.part import ConfigSection, Text
from ...config.paths import ReadableFile
from ...config.quantities import Size
from ...config.wrong import wrong
from ...errors import ConfigError
from ..base import Finding, Media, TextKind

_SHA256 = re.compile(r"[0-9a-f]{64}")
_UNKNOWN = "application/octet-stream"


def _hashes(value: tuple[str, ...]) -> tuple[str, ...]:
    for each in value:
        if not _SHA256.fullmatch(each.lower()):
            raise wrong("this is no SHA-256", "write 64 hexadecimal digits")
    return tuple(each.lower() for each in value)


class MediaOptions(ConfigSection):
    """The types, sizes and hashes of pictures, documents, audio and other files in requests."""

    finds_media: ClassVar[bool] = True

    allow: tuple[Text, ...] = ()
    """The allowed media types, or globs: image/*. Default: all. A file of an unknown type is
    application/octet-stream."""
    deny: tuple[Text, ...] = ()
    """Media types that are found, or globs: application/pdf. By the caller's word or by the first bytes of the file."""
    max_size: Size | None = None
    """The most bytes of one file. A larger one is found."""
    sha256: Annotated[tuple[Text, ...], AfterValidator(_hashes)] = ()
    """The SHA-256 of files that are found."""
    sha256_file: ReadableFile | None = None
    """A file with further ones, one at the beginning of each line, as sha256sum writes them."""

    @model_validator(mode="after")
    def _some(self) -> MediaOptions:
        if not (self.allow or self.deny or self.max_size or self.sha256 or self.sha256_file):
            raise wrong("this detector would find nothing", "give allow, deny, max_size, sha256 or sha256_file")
        return self


class MediaTypesDetector:
    """A MediaDetector. In texts it finds nothing."""

    def __init__(self, options: MediaOptions, hashes: frozenset[str]) -> None:
        self._allow = _matcher(options.allow)
        self._deny = _matcher(options.deny)
        self._max_size = options.max_size
        self._hashes = hashes

    @property
    def longest(self) -> int:
        return 0

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        del text, kind
        return ()

    def find_media(self, media: Media) -> str | None:
        if media.sha256 in self._hashes:
            return "denied_hash"
        types = {each for each in (media.media_type.lower(), media.type_of_bytes) if each} or {_UNKNOWN}
        if self._deny is not None and any(map(self._deny.match, types)):
            return "denied_type"
        if self._allow is not None and not all(map(self._allow.match, types)):
            return "not_allowed_type"
        if self._max_size is not None and media.size > self._max_size:
            return "too_large"
        return None


def _matcher(patterns: Sequence[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(translate(pattern.lower()) for pattern in patterns)) if patterns else None


class MediaPlugin:
    """The detector `media`."""

    options = MediaOptions

    def build(self, options: MediaOptions) -> MediaTypesDetector:
        return MediaTypesDetector(options, frozenset(options.sha256) | _read_hashes(options))


def _read_hashes(options: MediaOptions) -> frozenset[str]:
    path = options.sha256_file
    if path is None:
        return frozenset()
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as exc:
        raise ConfigError(f"{path}: the file cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path}: the file is no text in UTF-8") from exc
    found = set()
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            value = line.split()[0].lower().lstrip("\\")
            if not _SHA256.fullmatch(value):
                raise ConfigError(f"{path}:{number}: this line does not begin with a SHA-256 of 64 hexadecimal digits")
            found.add(value)
    return frozenset(found)


PLUGIN = MediaPlugin()

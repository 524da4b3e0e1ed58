"""`Secret`, a text that is never shown, and the files in which the gateway stores generated secrets.

repr(), str(), format(), logs, pickles and JSON of a Secret do not contain its value.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationInfo
from pydantic_core import CoreSchema, core_schema

from .surroundings import surroundings
from .wrong import wrong

KEY_PREFIX = "edge-"
# Bytes. A key has some hundred, the file of a service account a few thousand.
MAX_SECRET_FILE = 64 * 1024

_RIGHT = "give {env: NAME}, {file: path}, or text with ${NAME} in it"


class Secret:
    """A text that only `reveal()` returns."""

    __slots__ = ("_value", "path")

    def __init__(self, value: str, path: Path | None = None) -> None:
        self._value = value
        self.path = path
        """The file that it was read from, which may be replaced."""

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "***"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash(self._value)

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a secret is not pickled: let the other process read the configuration itself")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_plain_validator_function(
            _read,
            serialization=core_schema.plain_serializer_function_ser_schema(_refuse, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        def only(name: str) -> dict[str, Any]:
            return {
                "type": "object",
                "properties": {name: {"type": "string"}},
                "required": [name],
                "additionalProperties": False,
            }

        return {"title": "Secret", "anyOf": [{"type": "string"}, only("env"), only("file")]}


def _refuse(secret: Secret) -> NoReturn:
    del secret
    raise TypeError("a secret is not written as JSON")


def _read(value: object, info: ValidationInfo[Any]) -> Secret:
    around = surroundings(info)
    origin_file: Path | None = None
    match value:
        case str():
            text, origin = value, "the secret"
        case {"env": str(name), **rest} if not rest:
            if name not in around.environ:
                raise wrong(f"environment variable {name} is not set", "set it, or give {file: path}")
            text, origin = around.environ[name], f"environment variable {name}"
        case {"file": str(path), **rest} if not rest:
            origin_file = around.base / path
            text, origin = _text_of(origin_file), f"file {path}"
        case _:
            raise wrong("this is not a secret", _RIGHT)
    if not text:
        raise wrong(f"{origin} is empty", _RIGHT)
    return Secret(text, origin_file)


def _text_of(path: Path) -> str:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_SECRET_FILE + 1)
    except OSError as exc:
        raise wrong(f"file {path} cannot be read: {exc.strerror}", "give the path of a file that holds it") from None
    if len(raw) > MAX_SECRET_FILE:
        raise wrong(f"file {path} is over {MAX_SECRET_FILE // 1024} KiB", "give a file that holds only the secret")
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        # from None: the decoder's error contains the bytes.
        text = None
    if text is None:
        raise wrong(f"file {path} is not UTF-8 text", "give a file that holds only the secret")
    # Editors and `echo` end a file with a line break, which is not a part of the secret.
    return text.removesuffix("\n").removesuffix("\r")


def generate_key() -> str:
    """A new key: 256 random bits."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def ensure_file(path: Path, make: Callable[[], str]) -> str:
    """The content of the file. If it does not exist, it is created atomically, with mode 0600. If two processes do this
    at the same time, both get the content that the first one wrote."""
    try:
        return path.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        pass
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes the file with mode 0600.
    handle, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(make() + "\n")
            file.flush()
            os.fsync(file.fileno())
        # Unlike rename, link does not replace a file that another process has created meanwhile.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        os.unlink(draft)
    return path.read_text(encoding="utf-8").strip()

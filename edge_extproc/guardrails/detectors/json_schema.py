"""Finds texts that are not JSON of a schema: structured replies whose provider does not keep to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import orjson

from ...config.extras import GUARDRAILS, Extra
from ...config.part import ConfigSection
from ...config.paths import ReadableFile
from ...errors import ConfigError
from ..base import Finding, TextKind

if TYPE_CHECKING:
    from jsonschema_rs import Validator

# A text is JSON only as a whole, so a stream holds all of it.
_WHOLE_TEXT = 1 << 30


class JsonSchemaOptions(ConfigSection):
    """JSON of a schema. Use it for the kind assistant of replies that are JSON, with action: block or flag."""

    schema_file: ReadableFile
    """A JSON schema. References to other documents are not followed."""


class JsonSchemaDetector:
    def __init__(self, validator: Validator) -> None:
        self._validator = validator

    @property
    def longest(self) -> int:
        return _WHOLE_TEXT

    def find(self, text: str, kind: TextKind) -> Sequence[Finding]:
        del kind
        if not text:
            return ()
        try:
            document = orjson.loads(text)
        except (orjson.JSONDecodeError, UnicodeEncodeError):
            return (Finding(0, len(text), "invalid_json"),)
        return () if self._validator.is_valid(document) else (Finding(0, len(text), "schema_violation"),)


class JsonSchemaPlugin:
    """The detector `json_schema`."""

    options = JsonSchemaOptions

    def required_extra(self, options: JsonSchemaOptions) -> Extra | None:
        del options
        return GUARDRAILS

    def build(self, options: JsonSchemaOptions) -> JsonSchemaDetector:
        GUARDRAILS.require("the detector json_schema")
        import jsonschema_rs

        path = options.schema_file
        try:
            schema = orjson.loads(path.read_bytes())
        except OSError as exc:
            raise ConfigError(f"{path}: the file cannot be read: {exc.strerror}") from exc
        except orjson.JSONDecodeError as exc:
            raise ConfigError(f"{path}: this is not JSON: {exc}") from exc
        try:
            validator = jsonschema_rs.validator_for(schema, retriever=_refused)
        except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as exc:
            raise ConfigError(f"{path}: this is no JSON schema, or it refers to another document") from exc
        return JsonSchemaDetector(validator)


def _refused(uri: str) -> Any:
    raise ValueError(f"{uri} is another document")


PLUGIN = JsonSchemaPlugin()

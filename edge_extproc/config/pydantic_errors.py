"""Our own texts for pydantic's errors: what is wrong; how to correct it.

Pydantic's texts change with its version. The types of its errors and their contexts are a public interface:
https://docs.pydantic.dev/latest/errors/validation_errors/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from . import wrong

_MAPPING = "this is not a mapping; write keys and values below it"
_LIST = "this is not a list; write [one] or one item a line after -"
_TEXT = "this is not text; write it in quotes"
_WHOLE = "this is not a whole number; write one in digits"
_NUMBER = "this is not a number; write one in digits"
_BOOLEAN = "this is not a boolean; write true or false"
_DATE = "this is not a date; write 2027-01-31"
_DATETIME = "this is not a point in time; write 2027-01-31T00:00:00Z"

_WORDS: Mapping[str, str] = MappingProxyType(
    {
        "missing": "this key is missing; add it",
        "extra_forbidden": "there is no such key; remove it",
        "model_type": _MAPPING,
        "model_attributes_type": _MAPPING,
        "dataclass_type": _MAPPING,
        "dict_type": _MAPPING,
        "mapping_type": _MAPPING,
        "list_type": _LIST,
        "tuple_type": _LIST,
        "set_type": _LIST,
        "frozen_set_type": _LIST,
        "string_type": _TEXT,
        "int_type": _WHOLE,
        "int_parsing": _WHOLE,
        "int_parsing_size": "this number has too many digits; write a smaller one",
        "int_from_float": _WHOLE,
        "float_type": _NUMBER,
        "float_parsing": _NUMBER,
        "decimal_type": _NUMBER,
        "decimal_parsing": _NUMBER,
        "finite_number": "this number is not finite; write one in digits",
        "bool_type": _BOOLEAN,
        "bool_parsing": _BOOLEAN,
        "date_type": _DATE,
        "date_parsing": _DATE,
        "date_from_datetime_parsing": _DATE,
        "date_from_datetime_inexact": _DATE,
        "datetime_type": _DATETIME,
        "datetime_parsing": _DATETIME,
        "datetime_from_date_parsing": _DATETIME,
        "timezone_aware": "this point in time has no zone; end it with Z",
        "json_invalid": "this is not JSON; send a JSON object",
        "greater_than": "this is too small; write more than {gt}",
        "greater_than_equal": "this is too small; write {ge} or more",
        "less_than": "this is too large; write less than {lt}",
        "less_than_equal": "this is too large; write {le} or less",
        "string_too_short": "this text is too short; write {min_length} characters or more",
        "string_too_long": "this text is too long; write {max_length} characters or fewer",
        "string_pattern_mismatch": "this text does not match {pattern}; write one that does",
        "too_short": "there are too few items; give {min_length} or more",
        "too_long": "there are too many items; give {max_length} or fewer",
        "literal_error": "this value is not allowed; write {expected}",
        "enum": "this value is not allowed; write {expected}",
    }
)
_OTHER = "this value is not allowed here; see the documentation of this key"


def words(kind: str, context: Mapping[str, Any]) -> str:
    """The text for an error's `type` and `ctx`."""
    if kind == wrong.TYPE:
        return f"{context['what']}; {context['right']}"
    if kind == "value_error":  # raised by our own validators
        return str(context["error"])
    return _WORDS.get(kind, _OTHER).format_map(context)


def in_one_line(errors: Iterable[Any]) -> str:
    """All errors of one object, each with its path. The values are not included, because they may be secrets."""
    return "; ".join(
        f"{'.'.join(str(at) for at in each['loc'])}: {words(each['type'], each.get('ctx', {}))}" for each in errors
    )

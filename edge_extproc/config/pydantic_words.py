"""Pydantic's errors in our own words: what is wrong; what would be right.

The sentences of a library change with its version. Its types of errors, and their contexts, are its interface:
https://docs.pydantic.dev/latest/errors/validation_errors/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from . import wrong

_MAPPING = "this is no mapping; write keys and values below it"
_LIST = "this is no list; write [one] or one item a line after -"
_TEXT = "this is no text; write it in quotes"
_WHOLE = "this is no whole number; write one in digits"
_NUMBER = "this is no number; write one in digits"
_BOOLEAN = "this is no boolean; write true or false"
_DATE = "this is no date; write 2027-01-31"
_DATETIME = "this is no point in time; write 2027-01-31T00:00:00Z"

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
        "json_invalid": "this is no JSON; send a JSON object",
        "greater_than": "this is too small; write more than {gt}",
        "greater_than_equal": "this is too small; write {ge} or more",
        "less_than": "this is too large; write less than {lt}",
        "less_than_equal": "this is too large; write {le} or less",
        "string_too_short": "this text is too short; write {min_length} characters or more",
        "string_too_long": "this text is too long; write {max_length} characters or fewer",
        "string_pattern_mismatch": "this text has another form; write one that fits {pattern}",
        "too_short": "there are too few items; give {min_length} or more",
        "too_long": "there are too many items; give {max_length} or fewer",
        "literal_error": "this value is not allowed; write {expected}",
        "enum": "this value is not allowed; write {expected}",
    }
)
_OTHER = "this value is not allowed here; see the documentation of this key"


def words(kind: str, context: Mapping[str, Any]) -> str:
    """Of an error's `type` and `ctx`."""
    if kind == wrong.TYPE:
        return f"{context['what']}; {context['right']}"
    if kind == "value_error":  # a validator of ours
        return str(context["error"])
    return _WORDS.get(kind, _OTHER).format_map(context)


def in_one_line(errors: Iterable[Any]) -> str:
    """All errors of one object, each with its path. What was sent is not repeated: it may be a secret."""
    return "; ".join(
        f"{'.'.join(str(at) for at in each['loc'])}: {words(each['type'], each.get('ctx', {}))}" for each in errors
    )

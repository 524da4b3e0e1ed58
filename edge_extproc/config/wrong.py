"""The error of a validator: what is wrong, and how to correct it.

load.py adds the place in the file and the value.
"""

from __future__ import annotations

from pydantic_core import PydanticCustomError

TYPE = "edge"


def wrong(what: str, right: str, *, key: str | None = None, show: bool = True) -> PydanticCustomError:
    """Builds the error. `what` must not contain the value, which may be a secret from an environment variable. `key`:
    the part of the value that is wrong. `show`: whether the message may contain the value as it is written in the
    file."""
    # The text is a value of the context, so that braces in it are not placeholders.
    return PydanticCustomError(TYPE, "{what}; {right}", {"what": what, "right": right, "key": key, "show": show})

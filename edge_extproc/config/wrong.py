"""What a check of a configuration says: what is wrong, and what would be right.

It knows neither where in the file the value stands nor what it is; load.py adds both.
"""

from __future__ import annotations

from pydantic_core import PydanticCustomError

TYPE = "edge"


def wrong(what: str, right: str, *, key: str | None = None, show: bool = True) -> PydanticCustomError:
    """The error that a validator raises. `what` never holds the value: it may come from an environment variable that
    holds a secret. `key` names the part of the value that is meant; `show` is whether the value, as it is written in
    the file, may stand in the error."""
    # The text goes through the context, so that a brace in it is no placeholder.
    return PydanticCustomError(TYPE, "{what}; {right}", {"what": what, "right": right, "key": key, "show": show})

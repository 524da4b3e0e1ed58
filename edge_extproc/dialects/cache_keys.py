"""The field `prompt_cache_key` of OpenAI's formats.

OpenAI and Azure refuse a key of more than 64 characters (`string_above_max_length`; elizaOS/eliza#31720 shows it behind
OpenRouter). A key only has to be the same for requests with a common prefix, so a longer one is replaced with its hash.
"""

from __future__ import annotations

import hashlib
import re

from ..model.content import Json

CACHE_KEY = "prompt_cache_key"
LONGEST = 64

_LONG = re.compile(rb'"prompt_cache_key"\s*:\s*"(?:[^"\\]|\\.){%d}' % (LONGEST + 1))


def may_have_long_key(raw: bytes) -> bool:
    """Whether a body may have a key that is too long. Only then it is decoded."""
    return b'"prompt_cache_key"' in raw and _LONG.search(raw) is not None


def accepted_key(key: Json) -> Json:
    """The key, or its hash if it is too long. Other values are unchanged: the host reports the error."""
    if not isinstance(key, str) or len(key) <= LONGEST:
        return key
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()

"""The arguments of a streamed tool call, of hosts that send them more than once.

Some hosts send all arguments so far in each chunk (NousResearch/hermes-agent#35718), some repeat the whole arguments at
the end (anomalyco/opencode#17339, elizaOS/eliza#16973), some send `{}` before the arguments (microsoft/autogen#7549).
Clients append the pieces of a stream, so that each would get invalid JSON.
"""

from __future__ import annotations

from ..turns import arguments_of

_WATCHED_LIMIT = 1024 * 1024
"""Characters of the arguments of one call. Longer ones pass unwatched."""
_NESTS = ":[,"
"""After these, an object of the same beginning can be a value within the arguments."""


class SentArguments:
    """The arguments of one call so far."""

    __slots__ = ("_cumulative", "_held", "_length", "_texts")

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._length = 0
        self._held = ""
        """An empty object at the beginning, which later arguments replace."""
        self._cumulative = False
        """Whether the host was seen to send all arguments so far."""

    def new_of(self, text: str) -> str:
        """The part of a delta that the caller has not got. The text is not empty."""
        if self._held:
            if text.lstrip().startswith("{"):
                self._held = ""
            else:
                held, self._held = self._held, ""
                text = held + text
        if not self._length and text.strip() == "{}":
            self._held = text
            return ""
        if self._length and text[0] == "{" and len(text) * 2 >= self._length and self._is_watched():
            before = "".join(self._texts)
            if self._repeats(before, text):
                new = text[len(before) :] if text.startswith(before) else ""
                self._texts, self._length = [before + new], len(before) + len(new)
                return new
        self._length += len(text)
        if self._is_watched():
            self._texts.append(text)
        else:
            self._texts.clear()
        return text

    def rest(self) -> str:
        """What is held back at the end."""
        held, self._held = self._held, ""
        return held

    def _is_watched(self) -> bool:
        return self._length <= _WATCHED_LIMIT

    def _repeats(self, before: str, text: str) -> bool:
        if text.startswith(before) and len(text) > len(before):
            self._cumulative = self._cumulative or before.rstrip()[-1] not in _NESTS
            return self._cumulative
        if text == before and self._cumulative:
            return True
        if not text.rstrip().endswith("}"):
            return False
        sent = arguments_of(before)
        return sent is not None and sent == arguments_of(text)

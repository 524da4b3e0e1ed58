"""What a chat loses on its way into another dialect, by the names in which its caller would look for it."""

from __future__ import annotations

from ..model.content import Extras


class Dropping:
    """A crossing: `dropped` grows as the chat is written."""

    def __init__(self) -> None:
        self.dropped: set[str] = set()

    def _drop_if(self, path: str, condition: object) -> None:
        if condition:
            self.dropped.add(path)

    def _drop_extras(self, extras: Extras, path: str) -> None:
        """What has a value: a None is a note."""
        self.dropped.update(f"{path}.{key}" if path else key for key, value in extras.items() if value is not None)

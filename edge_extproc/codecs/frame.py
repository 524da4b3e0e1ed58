"""The type of a frame of a streamed reply, for all framings."""

from __future__ import annotations

from ..model.frozen_dataclass import frozen_dataclass


@frozen_dataclass
class Frame:
    data: bytes
    """The payload: for SSE the data lines joined by LF, without the field name."""
    raw: bytes
    """All bytes of the frame, unchanged, with its delimiter. The concatenation of all frames' `raw` is the stream."""
    event: str = ""
    """The SSE event name, or the event type of an AWS frame; empty if there is none."""

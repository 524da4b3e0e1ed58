"""The names of all dialects together, as a gateway has them."""

from __future__ import annotations

from edge_extproc.model.wire_names import WireNames
from edge_extproc.registry import load, names

EVERY_NAME = WireNames.of_all(load("dialects", name).wire_names for name in names("dialects"))

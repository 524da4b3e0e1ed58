"""A worker's snapshot is made beside its event loop."""

from __future__ import annotations

import threading

from edge_extproc.server.introspect import METRICS, Introspection
from edge_extproc.server.rpc import Unary


async def test_a_snapshot_is_made_in_another_thread():
    made_in: list[int] = []

    def snapshot() -> bytes:
        made_in.append(threading.get_ident())
        return b"counts"

    metrics = Introspection(snapshot).methods[METRICS]
    assert isinstance(metrics, Unary)
    assert b"counts" == await metrics.run(b"")
    assert threading.get_ident() not in made_in

"""A worker's snapshot is made beside its event loop."""

from __future__ import annotations

import threading

from edge_extproc.app import Told


async def test_a_snapshot_is_made_in_another_thread():
    made_in: list[int] = []

    def snapshot() -> bytes:
        made_in.append(threading.get_ident())
        return b"counts"

    assert b"counts" == await Told(snapshot)._metrics()
    assert threading.get_ident() not in made_in

"""The real Valkey, once for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import running_valkey as valkeys


@pytest.fixture(scope="session")
def valkey() -> Iterator[valkeys.RunningValkey]:
    with valkeys.running() as server:
        yield server

"""istiod is built once for all of these tests."""

from __future__ import annotations

import istiod_kit
import pytest


@pytest.fixture(scope="session", autouse=True)
def _built() -> None:
    istiod_kit.build()

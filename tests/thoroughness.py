"""How much a run tries: `make test` some of what `make test-long` tries.

Hypothesis chooses other examples in each run, so a run of fewer of them is no run of the same few.
"""

from __future__ import annotations

import pytest
from hypothesis import settings

# The part of a long run's examples that an ordinary run tries, and the least of them.
PART = 8
LEAST = 3

# A slow machine is no failure: how fast something is, bench/ measures.
settings.register_profile("long", deadline=None, max_examples=100)
settings.register_profile("short", deadline=None, max_examples=100 // PART)

_long = False


def pytest_addoption(parser: pytest.Parser) -> None:
    """`conftest.py` passes it on."""
    parser.addoption("--long", action="store_true", help="run what takes long as well, on all examples")


def pytest_configure(config: pytest.Config) -> None:
    """`conftest.py` passes it on, before any test module is read."""
    global _long
    _long = config.getoption("long")
    settings.load_profile("long" if _long else "short")


def is_long() -> bool:
    return _long


def long_only(reason: str) -> pytest.MarkDecorator:
    """Of a test that is in `make test-long` alone. `reason`: what of it `make test` has anyway."""
    return pytest.mark.skipif(not _long, reason=f"make test-long runs it; {reason}")


def examples(count: int) -> int:
    """How many examples a test tries for which `count` are many."""
    return count if _long else max(LEAST, count // PART)

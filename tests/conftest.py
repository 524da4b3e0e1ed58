"""What holds for every ring of tests."""

import exchange_report
import pytest
import xdist_groups
from hypothesis import settings

# A slow machine is no failure: how fast something is, bench/ measures.
settings.register_profile("edge", deadline=None)
settings.load_profile("edge")


def pytest_configure(config: pytest.Config) -> None:
    xdist_groups.register(config)
    if not hasattr(config, "workerinput"):  # a worker of xdist reports to the one that started it
        config.pluginmanager.register(exchange_report.Ran())

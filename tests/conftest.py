"""What holds for every ring of tests."""

import gc
from collections.abc import Generator, Iterator

import cells
import exchange_report
import no_skips
import plain_logs  # noqa: F401 # for its effect
import progress
import pytest
import thoroughness
import trust_store
import xdist_groups

from edge_extproc.envoy_config.typed_messages import typed_messages


def pytest_addoption(parser: pytest.Parser) -> None:
    cells.pytest_addoption(parser)
    thoroughness.pytest_addoption(parser)
    progress.pytest_addoption(parser)
    no_skips.pytest_addoption(parser)


def pytest_configure(config: pytest.Config) -> None:
    thoroughness.pytest_configure(config)
    xdist_groups.register(config)
    no_skips.pytest_configure(config)
    if not hasattr(config, "workerinput"):  # a worker of xdist reports to the one that started it
        config.pluginmanager.register(exchange_report.Ran())
        if config.getoption("progress_lines"):
            config.pluginmanager.register(progress.Progress(config))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is imported stays: looking for garbage in it takes an eighth of the time of collection."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def certificate_authorities() -> Iterator[None]:
    with trust_store.read_once():
        yield


@pytest.fixture(scope="session", autouse=True)
def envoys_types() -> Iterator[None]:
    """Each message that a test renders is compared with Envoy's types."""
    with typed_messages():
        yield

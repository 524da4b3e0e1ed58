"""Calls of the admin API that wait for the database."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from running_postgres import postgres_url
from sqlalchemy import Engine, text

from edge_extproc.server.admin_access import DatabaseThreads
from edge_extproc.server.admin_errors import AdminRefused
from edge_extproc.store.database import reach
from edge_extproc.store.running_query import RunningQuery

ENDLESS = {
    "sqlite": "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
    "postgresql": "SELECT pg_sleep(3600)",
}


async def test_a_database_that_does_not_answer_ends_the_call_and_holds_no_thread_of_the_loop() -> None:
    threads, answers = DatabaseThreads(2, 0.01), threading.Event()
    begun: list[str] = []

    def hanging() -> None:
        begun.append(threading.current_thread().name)
        answers.wait()

    try:
        # Two begin, and the others wait for a thread.
        for _ in range(4):
            with pytest.raises(AdminRefused, match="has not answered") as refused:
                await threads.call(hanging)
            assert (503, "store_slow") == (refused.value.status, refused.value.code)
        assert 2 == len(begun)
        assert all(name.startswith("admin-database") for name in begun)
        assert not (await asyncio.to_thread(threading.current_thread)).name.startswith("admin-database")
    finally:
        answers.set()


async def test_a_call_returns_what_its_function_returns_and_raises_what_it_raises() -> None:
    threads, variable = DatabaseThreads(1, 60.0), contextvars.ContextVar[str]("variable")
    variable.set("of the request")

    assert "of the request" == await threads.call(variable.get)
    with pytest.raises(TimeoutError, match="its own"):
        await threads.call(_failing, "its own")


def _failing(reason: str) -> None:
    raise TimeoutError(reason)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    engine = reach(f"sqlite:///{tmp_path}/edge.db" if request.param == "sqlite" else postgres_url())
    yield engine
    engine.dispose()


def endless_query(engine: Engine, begun: threading.Event, ended: threading.Event) -> Callable[[], None]:
    def run() -> None:
        try:
            with engine.connect() as connection:
                begun.set()
                connection.execute(text(ENDLESS[engine.dialect.name])).all()
        finally:
            ended.set()

    return run


def answer(engine: Engine) -> int | None:
    with engine.connect() as connection:
        return connection.scalar(text("SELECT 42"))


async def test_a_read_whose_reader_is_gone_is_stopped_and_frees_its_thread(engine: Engine) -> None:
    threads, begun, ended = DatabaseThreads(1, 600.0), threading.Event(), threading.Event()
    reading = asyncio.ensure_future(threads.read(endless_query(engine, begun, ended)))
    # One that waits for the thread never begins.
    waiting = asyncio.ensure_future(threads.read(answer, engine))
    await asyncio.to_thread(begun.wait)
    waiting.cancel()
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading

    await asyncio.to_thread(ended.wait)
    # The same connection serves the next one.
    assert 42 == await threads.read(answer, engine)
    assert 1 == engine.pool.checkedin()  # type: ignore[attr-defined]  # of the pools of both


class Forgetful:
    """A connection to PostgreSQL that gets its statement after the first requests to end it."""

    def __init__(self) -> None:
        self.requests = 0
        self.query = RunningQuery()

    def cancel_safe(self, timeout: float) -> None:
        self.requests += 1
        if self.requests == 3:
            # As the thread of the statement does. `stop` has the lock now.
            threading.Thread(target=self.query.detach).start()


def test_a_request_to_end_a_statement_that_comes_too_early_is_repeated() -> None:
    connection = Forgetful()
    connection.query.attach(connection)
    connection.query.stop()

    assert connection.requests >= 3
    connection.query.stop()
    assert connection.query.is_stopped


class Unreachable:
    """A connection to a server that no longer answers."""

    requests = 0

    def cancel_safe(self, timeout: float) -> None:
        self.requests += 1
        raise ConnectionError


def test_a_server_that_cannot_be_reached_is_asked_once() -> None:
    connection, query = Unreachable(), RunningQuery()
    query.attach(connection)
    query.stop()

    assert 1 == connection.requests


async def test_a_read_that_takes_too_long_is_stopped(engine: Engine) -> None:
    threads, begun, ended = DatabaseThreads(1, 0.05), threading.Event(), threading.Event()
    with pytest.raises(AdminRefused, match=r"has not answered for 0\.05 s$") as refused:
        await threads.read(endless_query(engine, begun, ended))

    assert "store_slow" == refused.value.code
    await asyncio.to_thread(ended.wait)


async def test_a_change_is_not_stopped(engine: Engine) -> None:
    threads, release, ended = DatabaseThreads(1, 600.0), threading.Event(), threading.Event()
    begun = threading.Event()
    found: list[int | None] = []

    def change() -> None:
        with engine.connect() as connection:
            begun.set()
            release.wait()
            found.append(connection.scalar(text("SELECT 42")))
        ended.set()

    changing = asyncio.ensure_future(threads.call(change))
    await asyncio.to_thread(begun.wait)
    changing.cancel()
    release.set()
    await asyncio.to_thread(ended.wait)

    assert [42] == found


async def test_threads_of_reports_yield_the_processor() -> None:
    threads = DatabaseThreads(1, 60.0, niceness=3)

    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    before = niceness()
    assert max(before, 3) == await threads.read(niceness)
    assert before == niceness()


async def test_parts_are_read_in_a_thread_each() -> None:
    threads = DatabaseThreads(1, 60.0)
    names: list[str] = []

    def parts() -> Iterator[str]:
        for part in ("a", "b"):
            names.append(threading.current_thread().name)
            yield part

    assert ["a", "b"] == [part async for part in threads.read_parts(parts())]
    assert all(name.startswith("admin-database") for name in names)
